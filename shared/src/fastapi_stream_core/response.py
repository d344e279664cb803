"""What a handler may return and what goes to the wire."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import SetupError
from .headers import HeaderInput, SentHeader
from .keywords import unknown_option
from .option_type import show
from .options import check_given, declared

if TYPE_CHECKING:
    from typing_extensions import Never

__all__ = ("Outgoing", "Response", "own_options", "refuse_unused", "texts")

OF_ALL = ("body", "headers", "correlation_id", "content_type")
"""What every `Response` takes."""


class Response:
    """A handler's result together with headers and ids; a broker's package adds its own options.

    Body, headers, ids and content type go wherever the result goes. The options of a broker's own class go to what is
    published through that broker; one that has no effect anywhere is an error when the result is published.

    Args:
        body: what is encoded, or `bytes`, which are sent untouched. None is published as an empty body.
        headers: added to the publisher's, and over them; a list value is a repeated header.
        correlation_id: by default the one of the message that is handled.
        content_type: by default the one that the body's type gives.
        options: the broker's own options of this message, by the names of its `publish()`.
        unknown: refused by its name.

    Attributes:
        declaration: the `TypedDict` of these options, where a package has one.

    Raises:
        SetupError: an option does not exist, its value is not of the declared type, the headers are no mapping, or the
            correlation id or the content type is no text.
    """

    declaration: ClassVar[type | None] = None

    def __init__(
        self,
        body: Any = None,
        *,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        content_type: str | None = None,
        options: Mapping[str, Any] | None = None,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            raise unknown_option(name, OF_ALL, type(self).__name__)
        if options and self.declaration is not None:
            check_given(self.declaration, options, type(self).__name__, OF_ALL)
        if headers is not None and not isinstance(headers, Mapping):
            raise SetupError(type(self).__name__, f"headers={show(headers)} is no mapping", "give values by name")
        if (correlation_id is not None and type(correlation_id) is not str) or (
            content_type is not None and type(content_type) is not str
        ):
            correlation_id, content_type = texts(
                type(self).__name__, correlation_id=correlation_id, content_type=content_type
            )
        self.body = body
        self.headers = headers
        self.correlation_id = correlation_id
        self.content_type = content_type
        self.options = {name: value for name, value in options.items() if value is not None} if options else {}

    @classmethod
    def plain(cls, body: Any) -> Response:
        """Return a result with nothing of its own; one for each message that is published, so without the checks."""
        made = object.__new__(Response)
        made.body = body
        made.headers = made.correlation_id = made.content_type = None
        made.options = {}
        return made


def texts(subject: str, **values: object) -> Iterator[str | None]:
    """Yield values as plain texts, those of enumerations too, whose format is another one; None stays None.

    Raises:
        SetupError: one of them is no text.
    """
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise SetupError(
                subject,
                f"{type(value).__name__} is given as {name.replace('_', ' ')}",
                "give a text; the message comes first, then where to"
                if name == "address"
                else "give a text: str() of it",
            )
        yield None if value is None else str.__str__(value)


def own_options(response: Response, own: type[Response], besides: Iterable[str] = ()) -> Mapping[str, Any]:
    """Return the options of a response that a broker knows.

    Args:
        response: of any broker, or of the core, whose options go by their names.
        own: the broker's own class.
        besides: names that the broker knows and its class does not have.
    """
    known = own.declaration
    if response.declaration is not None:
        return response.options if response.declaration is known else {}
    names = {*besides, *(declared(known) if known is not None else ())}
    return {name: value for name, value in response.options.items() if name in names}


def refuse_unused(response: Response, used: Container[str], places: Iterable[str]) -> None:
    """Refuse a response with an option that has no effect.

    Args:
        response: what is published.
        used: the options that have one.
        places: where it is published.

    Raises:
        SetupError: there is such an option.
    """
    for name, value in response.options.items():
        if name not in used:
            raise SetupError(
                type(response).__name__,
                f"{name}={show(value)} has no effect at {' or '.join(places)}",
                "leave it out, or publish where there is such an option",
            )


@dataclass(slots=True)
class Outgoing:
    """One message on its way to the transport.

    Attributes:
        address: topic, routing key, subject, channel, list or stream.
        body: the bytes of the wire.
        headers: the user's headers, flat: text or bytes, or typed (`Broker.typed_headers`); the transport adds the
            technical ones: content type, correlation id, reply address.
        content_type: of the body; None when there is none to declare. That of an empty body tells `""` from None.
        correlation_id: always there.
        reply_to: where an answer is expected.
        options: the broker's own options by the names of its `publish()`; only those that were given.
        is_null: whether the body stands for None (a tombstone, where the broker has such a thing).
        is_answer: whether it answers a message, whose sender chose the address.
    """

    address: str
    body: bytes
    correlation_id: str
    headers: list[tuple[str, SentHeader]] = field(default_factory=list)
    content_type: str | None = None
    reply_to: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    is_null: bool = False
    is_answer: bool = False

    def wire_headers(self) -> list[tuple[str, SentHeader]]:
        """Return the headers of brokers that carry everything in headers; the user's win over the technical ones."""
        technical: list[tuple[str, SentHeader]] = []
        if self.content_type:
            technical.append(("content-type", self.content_type))
        if self.correlation_id:
            technical.append(("correlation_id", self.correlation_id))
        if self.reply_to:
            technical.append(("reply_to", self.reply_to))
        if not self.headers:
            return technical
        given = {name.lower() for name, _ in self.headers}
        return [pair for pair in technical if pair[0] not in given] + self.headers
