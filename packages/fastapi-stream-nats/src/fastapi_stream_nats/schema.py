"""What a subscriber may name besides a subject: a stream, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, TypeAlias, get_type_hints

from annotated_types import Ge, Le
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.keywords import check_keywords
from fastapi_stream_core.option_type import OptionType, show
from fastapi_stream_core.quantity import Count, Seconds
from nats.js.api import (
    DiscardPolicy,
    Placement,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamSource,
)

from .subject import fault

__all__ = ("JStream", "PullSub", "covering", "forbidden", "matches", "overlaps")


Limit: TypeAlias = Annotated[int, Ge(-1), Le(2**63 - 1)]
"""As the server takes it; -1 is none."""
Lasting: TypeAlias = Annotated[float, Ge(0), Le(9_223_372_036)]
"""Seconds; in the server's nanoseconds 64 bits."""


def forbidden(name: str) -> bool:
    """Tell whether the server can't take a name for a stream or a consumer."""
    return not name.isprintable() or not name or bool(set(name) & set(">*. /\\"))


@cache
def _types(kind: type) -> dict[str, OptionType]:
    return {name: OptionType(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}


def _check_fields(one: JStream | PullSub, subject: str) -> None:
    """Check the values that a dataclass was made with.

    Raises:
        SetupError: one of them is of another type than it should be.
    """
    made: Any = type(one)
    types = _types(made)
    for field in fields(one):
        value = getattr(one, field.name)
        if value is field.default:
            continue
        kind = types[field.name]
        if not kind.takes(value):
            close = kind.closest(value)
            choices = ", ".join(kind.choices)
            raise SetupError(
                subject,
                f"{field.name}={show(value)} is none of {choices}",
                f"use {close}" if close else "change it or leave it out",
            )


@check_keywords
@dataclass(frozen=True, eq=False)
class JStream:
    """A JetStream stream.

    With `declare` it is created at start, or gets the subjects that it lacks: `subjects`, and those of every
    subscriber and publisher that names the stream. What is None here is left to the server when the stream is
    created, and is left as it is when the stream exists.

    Attributes:
        name: the stream.
        description: text.
        subjects: subjects to keep besides those that are collected.
        retention: how long messages are kept; the server's default is `LIMITS`.
        max_consumers: most consumers; the server's default is no limit.
        max_msgs: most messages; the server's default is no limit.
        max_bytes: most bytes; the server's default is no limit.
        discard: what is dropped when a limit is reached; the server's default is `OLD`.
        max_age: seconds for which a message is kept; the server's default is for ever.
        max_msgs_per_subject: most messages of one subject; the server's default is no limit.
        max_msg_size: most bytes of one message; the server's default is no limit of its own.
        storage: `FILE`, the server's default, or `MEMORY`.
        num_replicas: copies in a cluster; the server's default is 1.
        no_ack: do not confirm what is published; `publish(stream=...)` does not work with it.
        duplicate_window: seconds in which a repeated `Nats-Msg-Id` is recognised; the server's default is 120.
        placement: where in a cluster.
        mirror: the stream that this one copies; it has no subjects then.
        sources: streams that this one collects.
        sealed: nothing can be added or deleted any more.
        deny_delete: messages can't be deleted.
        deny_purge: the stream can't be purged.
        allow_rollup_hdrs: a header may replace all older messages.
        republish: where stored messages are published again.
        allow_direct: replicas may answer reads.
        mirror_direct: mirrors may answer reads.
        allow_msg_schedules: messages may be scheduled; needs server 2.12.
        declare: create or update the stream at start. Otherwise it has to exist.
    """

    name: str
    description: str | None = None
    subjects: Sequence[str] | None = None
    retention: RetentionPolicy | None = None
    max_consumers: Limit | None = None
    max_msgs: Limit | None = None
    max_bytes: Limit | None = None
    discard: DiscardPolicy | None = None
    max_age: Lasting | None = None
    max_msgs_per_subject: Limit | None = None
    max_msg_size: Limit | None = None
    storage: StorageType | None = None
    num_replicas: Limit | None = None
    no_ack: bool | None = None
    duplicate_window: Lasting | None = None
    placement: Placement | None = None
    mirror: StreamSource | None = None
    sources: list[StreamSource] | None = None
    sealed: bool | None = None
    deny_delete: bool | None = None
    deny_purge: bool | None = None
    allow_rollup_hdrs: bool | None = None
    republish: RePublish | None = None
    allow_direct: bool | None = None
    mirror_direct: bool | None = None
    allow_msg_schedules: bool | None = None
    declare: bool = True

    def __post_init__(self) -> None:
        _check_fields(self, f"JStream({show(self.name)})")
        for subject in self.subjects or ():
            if wrong := fault(subject, wildcards=True):
                raise SetupError(f"JStream({self.name!r})", f"{subject!r} is no subject: {wrong}", "change subjects=")
        if forbidden(self.name):
            raise SetupError(
                f"JStream({self.name!r})", "a stream's name has no dots, wildcards, slashes or spaces", "rename it"
            )

    @property
    def is_mere_name(self) -> bool:
        """Whether nothing is said of the stream but its name and subjects."""
        given = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        return set(given) <= {"name", "subjects"}

    @classmethod
    def of(cls, stream: JStream | str | None) -> JStream | None:
        """Return a stream that was given by name or as an object."""
        return cls(stream) if isinstance(stream, str) else stream

    def config(self, base: StreamConfig, subjects: Iterable[str]) -> StreamConfig:
        """Return the configuration: `base`, with what is set here and the subjects over it."""
        given = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name not in ("declare", "subjects") and getattr(self, one.name) is not None
        }
        kept = None if self.mirror is not None else list(subjects)
        return base.evolve(**given, subjects=kept)


@check_keywords
@dataclass(frozen=True)
class PullSub:
    """Read a stream by asking the server for messages, instead of having them pushed.

    Requests stand at the server all the time, so that a message is delivered as soon as it is stored.

    Attributes:
        batch_size: most messages that this subscriber claims at once: waiting, running and asked for. None follows
            the pace of the handler, 500 at most, so that nothing is claimed for long before it is handled. With
            `batch` it is the most messages of one list, 100 by default.
        timeout: with `batch`, the seconds that a list waits for more messages before it is handled as it is.
            Otherwise the seconds after which a request is renewed, 1 at least.
        batch: the handler takes a list of messages.
    """

    batch_size: Count | None = None
    timeout: Seconds = 5.0
    batch: bool = False

    def __post_init__(self) -> None:
        _check_fields(self, "PullSub")


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a subject, or everything that a second pattern stands for, is matched by a pattern."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or given[index] == ">" or (token not in ("*", given[index])):
            return False
    return len(wanted) == len(given)


def overlaps(pattern: str, other: str) -> bool:
    """Tell whether there may be a subject that both patterns match."""
    tokens, others = pattern.split("."), other.split(".")
    for token, its in zip(tokens, others, strict=False):
        if ">" in (token, its):
            return True
        if token != its and "*" not in (token, its):
            return False
    return len(tokens) == len(others)


def covering(subjects: Iterable[str]) -> list[str]:
    """Leave out the subjects that others contain: a stream may not have both."""
    unique = list(dict.fromkeys(subjects))
    return [one for one in unique if not any(other != one and matches(other, one) for other in unique)]
