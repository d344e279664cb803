"""Options of subscribers, publishers, brokers and routers: each is declared once, as a key of a `TypedDict`.

`Annotated[type, Option(default, meaning)]` is the declaration. Decorators take the dictionaries by PEP 692
(`**options: Unpack[...]`), `resolve` fills in the defaults, and the documentation prints `declared`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args

from fastapi import params
from typing_extensions import TypedDict, get_type_hints

from .context import ContextRepo
from .errors import SetupError
from .headers import HeaderInput
from .keywords import unknown_option
from .option_type import OptionType, annotated, show
from .policy import AckPolicy
from .quantity import Amount, Count, Name, Pause, Seconds, Size
from .replies import ReplyPolicy
from .security import BaseSecurity

__all__ = (
    "BrokerOptions",
    "Count",
    "Option",
    "PublisherOptions",
    "Seconds",
    "SubscriberOptions",
    "check_given",
    "declared",
    "resolve",
)

Fields: TypeAlias = set[Any] | frozenset[Any] | Mapping[Any, Any] | Sequence[Any]
"""Names of fields, and of fields in them, as pydantic takes them."""
if TYPE_CHECKING or sys.version_info >= (3, 11):
    LoggerAdapter: TypeAlias = logging.LoggerAdapter[Any]
else:  # there it takes no parameter at run time
    LoggerAdapter = logging.LoggerAdapter

_SECRET = ("password", "token", "secret", "credential", "jwt", "seed")


@dataclass(frozen=True)
class Option:
    """The declaration of one option.

    Attributes:
        default: its value when it is not given.
        meaning: what it does, with its unit and where the default comes from.
        secret: whether its value is never shown; so is that of options of a type of credentials, or with a name of one.
    """

    default: Any
    meaning: str
    secret: bool = False


@cache
def declared(options: type) -> Mapping[str, Option]:
    """Return every option of a declaration, inherited ones first.

    Raises:
        SetupError: a key of the declaration carries no `Option`.
    """
    found: dict[str, Option] = {}
    for name, hint in _hints(options).items():
        extras = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Option)]
        if not extras:
            raise SetupError(
                options.__name__, f"{name!r} has no Option", "declare it as Annotated[type, Option(default, meaning)]"
            )
        found[name] = extras[0]
    return found


@cache
def _hints(options: type) -> Mapping[str, Any]:
    return get_type_hints(options, include_extras=True)


@cache
def _type_of(options: type, name: str) -> OptionType:
    """Return what an option takes; made only for options that somebody gives."""
    hint, *extras = get_args(_hints(options)[name])
    return OptionType(annotated(hint, [extra for extra in extras if not isinstance(extra, Option)]))


def check_given(options: type, given: Mapping[str, Any], subject: str, besides: Iterable[str] = ()) -> None:
    """Check what was given against a declaration.

    Args:
        options: the `TypedDict` class.
        given: what the user passed.
        subject: who takes the options, for the error.
        besides: what it takes that is no option: one of these may have been meant.

    Raises:
        SetupError: an option does not exist, or its value is not of the declared type.
    """
    known = declared(options)
    for name, value in given.items():
        if name not in known:
            raise unknown_option(name, [*besides, *known], subject)
        kind = _type_of(options, name)
        if not kind.takes(value):
            raise _wrong_value(name, value, kind, known[name], subject)


def _wrong_value(name: str, value: Any, kind: OptionType, option: Option, subject: str) -> SetupError:
    secret = option.secret or kind.is_secret or any(word in name for word in _SECRET)
    shown = f"<{type(value).__name__}, not shown>" if secret else show(value)
    choices = kind.choices
    close = None if secret else kind.closest(value)
    return SetupError(
        subject,
        f"{name}={shown} is {'not' if len(choices) == 1 else 'none of'} {', '.join(choices)}",
        f"use {close}" if close else f"it means: {option.meaning}",
    )


def resolve(options: type, given: Mapping[str, Any], subject: str) -> dict[str, Any]:
    """Return all options of a declaration: what was given, the same objects, and defaults for the rest.

    Args:
        options: the `TypedDict` class.
        given: what the user passed.
        subject: who takes the options, for the error.

    Raises:
        SetupError: an option does not exist, or its value is not of the declared type.
    """
    check_given(options, given, subject)
    return {name: given.get(name, option.default) for name, option in declared(options).items()}


class SubscriberOptions(TypedDict, total=False):
    """Options of every subscriber."""

    dependencies: Annotated[Sequence[params.Depends], Option((), "run before the handler, after those of the routers")]
    ack_policy: Annotated[
        AckPolicy, Option(AckPolicy.NACK_ON_ERROR, "when a message is acknowledged, and what a failing handler means")
    ]
    max_workers: Annotated[
        Count | None, Option(None, "messages handled at the same time; None is the broker's default")
    ]
    prefetch_bytes: Annotated[
        Size,
        Option(
            64 * 1024 * 1024,
            "most bytes, bodies and headers, that are fetched and not finished; one message may be larger",
        ),
    ]
    no_reply: Annotated[bool, Option(False, "do not answer to `reply_to`; the same as `replies='off'`")]
    replies: Annotated[
        ReplyPolicy | None,
        Option(None, "which `reply_to` is answered: 'off', 'inbox', 'plain', 'any' or patterns; None is the broker's"),
    ]
    title: Annotated[str | None, Option(None, "name of the operation in the document; None is the handler's name")]
    description: Annotated[
        str | None, Option(None, "text of the operation in the document; None is the handler's docstring")
    ]
    include_in_schema: Annotated[bool, Option(True, "show the subscriber in the document")]
    response_model: Annotated[
        Any, Option(..., "type of the result, as in FastAPI: None switches it off; by default the return annotation")
    ]
    response_model_include: Annotated[Fields | None, Option(None, "as in FastAPI")]
    response_model_exclude: Annotated[Fields | None, Option(None, "as in FastAPI")]
    response_model_by_alias: Annotated[bool, Option(True, "as in FastAPI")]
    response_model_exclude_unset: Annotated[bool, Option(False, "as in FastAPI")]
    response_model_exclude_defaults: Annotated[bool, Option(False, "as in FastAPI")]
    response_model_exclude_none: Annotated[bool, Option(False, "as in FastAPI")]


class PublisherOptions(TypedDict, total=False):
    """Options of every publisher."""

    headers: Annotated[
        HeaderInput | None, Option(None, "headers of every message; those of a `Response` or a call win")
    ]
    reply_to: Annotated[Name | None, Option(None, "where answers to the messages are expected")]
    title: Annotated[str | None, Option(None, "name of the operation in the document")]
    description: Annotated[str | None, Option(None, "text of the operation in the document")]
    schema: Annotated[Any, Option(None, "type of the payload in the document; None is the handler's response model")]
    include_in_schema: Annotated[bool, Option(True, "show the publisher in the document")]


class BrokerOptions(TypedDict, total=False):
    """Options of every broker, and so of every router."""

    graceful_timeout: Annotated[
        Pause | None,
        Option(15.0, "seconds that `stop()` waits for running handlers; None waits for ever"),
    ]
    startup_timeout: Annotated[Seconds, Option(10.0, "seconds that `start()` tries to reach a broker that is away")]
    publish_timeout: Annotated[
        Seconds, Option(10.0, "seconds that `publish()` waits for a confirmation or for a broker that is away")
    ]
    id_generator: Annotated[Callable[[], str] | None, Option(None, "makes correlation ids; None makes random UUIDs")]
    context: Annotated[ContextRepo | None, Option(None, "shared context; None makes one of its own")]
    logger: Annotated[
        logging.Logger | LoggerAdapter | EllipsisType | None,
        Option(..., "where the broker logs; None switches it off; by default `fastapi_stream.<broker>`"),
    ]
    log_level: Annotated[Amount, Option(logging.INFO, "level of the line for each handled message")]
    log_input: Annotated[
        bool, Option(False, "show up to 200 characters of an invalid value in the log; it may be somebody's data")
    ]
    replies: Annotated[
        ReplyPolicy, Option("plain", "which `reply_to` is answered: 'off', 'inbox', 'plain', 'any' or patterns")
    ]
    security: Annotated[BaseSecurity | None, Option(None, "credentials and TLS")]
    specification_url: Annotated[
        Name | Sequence[Name] | None,
        Option(None, "server address in the document; None is the connection's without credentials"),
    ]
    protocol: Annotated[Name | None, Option(None, "protocol name in the document; None is the broker's")]
    protocol_version: Annotated[Name | None, Option(None, "protocol version in the document")]
    description: Annotated[str | None, Option(None, "text of the server in the document")]
    specification_tags: Annotated[Sequence[Any], Option((), "tags of the server in the document")]
