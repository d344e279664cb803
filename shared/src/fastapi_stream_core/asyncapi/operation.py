"""Subscribers and publishers are read here: what the document says of each, before the schemas exist."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .payload import Header, Payload, headers_of, item_type, published
from .schema import Schemas, logger

if TYPE_CHECKING:
    from ..broker import Broker
    from ..publisher import Publisher
    from ..subscription import Subscription
    from .description import ChannelDescription
    from .visibility import Visibility

__all__ = ("Operation", "guarded", "read_operations")

T = TypeVar("T")


@dataclass
class Operation:
    """One subscriber or publisher.

    Attributes:
        broker: whose it is.
        source: the subscriber or the publisher.
        channels: where it receives from or sends to.
        payloads: of its messages, one for each kind of message.
        replies: payloads of the answers.
        path_params: fields that are read from the address.
        handler: the function of a subscriber; None for a publisher.
    """

    broker: Broker
    source: Subscription | Publisher
    channels: Sequence[ChannelDescription]
    payloads: Sequence[Payload]
    replies: Sequence[Payload] = ()
    path_params: Sequence[Any] = ()
    handler: Callable[..., Any] | None = None

    @property
    def action(self) -> str:
        return "send" if self.handler is None else "receive"

    @property
    def title(self) -> str:
        """What the user calls it; empty for nothing."""
        return self.source.options["title"] or ""

    @property
    def reply_to(self) -> str:
        """Where a publisher expects answers; empty for nowhere."""
        return self.source.options.get("reply_to") or ""

    @property
    def handler_name(self) -> str:
        return self.title or getattr(self.handler, "__name__", "") or "receive"

    def documentation(self) -> tuple[str, str]:
        """Return summary and description: the first line of the docstring and the rest.

        What follows a form feed is not shown, as in FastAPI.
        """
        if given := self.source.options["description"]:
            return "", given
        docstring = (getattr(self.handler, "__doc__", None) or "") if self.handler is not None else ""
        summary, _, text = inspect.cleandoc(docstring.partition("\f")[0]).partition("\n")
        return summary.strip(), text.strip()


def read_operations(broker: Broker, schemas: Schemas, visibility: Visibility) -> list[Operation]:
    """Return what is shown of a broker, subscribers first; the types are noted in `schemas`."""
    found: list[Operation] = []
    for subscription in filter(visibility.shows, broker.subscribers):
        found += guarded("a subscriber", partial(_subscriber, broker, subscription, schemas))
    results = guarded("the results of the handlers", partial(_results, broker))
    for publisher in filter(visibility.shows, broker.publishers):
        found += guarded("a publisher", partial(_publisher, broker, publisher, schemas, results))
    return found


def guarded(subject: str, read: Callable[[], list[T]]) -> list[T]:
    """Read one declaration; one that fails must not take the document away."""
    try:
        return read()
    except Exception as error:
        logger.warning("AsyncAPI: %s is left out: %s: %s", subject, type(error).__name__, error)
        return []


def _subscriber(broker: Broker, source: Subscription, schemas: Schemas) -> list[Operation]:
    if not source.handlers:
        return []
    handler, plan = source.handlers[0], source.plan
    subject = f"handler {getattr(handler, '__name__', handler)!r}"
    type_ = item_type(plan.payload) if source.batch else plan.payload
    headers = headers_of(plan.header_params, schemas, subject)
    payload = Payload(type_, "validation", headers).note(schemas, f"the payload of {subject}")
    results = [] if source.options["no_reply"] else [one for one in published(plan.result_type) if one is not Any]
    replies = [Payload(one, "serialization").note(schemas, f"the result of {subject}") for one in results]
    return [Operation(broker, source, source.describe(), [payload], replies, plan.path_params, handler)]


def _publisher(
    broker: Broker, source: Publisher, schemas: Schemas, results: list[tuple[list[Publisher], Any]]
) -> list[Operation]:
    channels = source.describe()
    subject = f"the payload of publisher {channels[0].name!r}" if channels else "a publisher"
    sent = [source.options["schema"]]
    if sent == [None]:
        decorated = [type_ for publishers, type_ in results if source in publishers]
        sent = [one for type_ in decorated for one in published(type_)]
    types: list[Any] = []
    for one in map(item_type, sent) if source.options.get("batch") else sent:
        if one is not Any and one not in types:
            types.append(one)
    text = schemas.add(str, "serialization", subject)
    headers = [Header(str(name), text, False) for name in source.options["headers"] or ()]
    payloads = [Payload(one, "serialization", headers).note(schemas, subject) for one in types or [None]]
    return [Operation(broker, source, channels, payloads)]


def _results(broker: Broker) -> list[tuple[list[Publisher], Any]]:
    return [
        (one.registration.publishers, one.plan.result_type)
        for one in broker.subscribers
        if one.registration is not None
    ]
