"""Where results go: decorator and object in one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, cast

from .codec import encode
from .errors import PublishError, SetupError
from .field_type import is_type
from .handler import Handler, registration
from .headers import HeaderInput, SentHeader, header_pairs
from .option_type import show
from .options import PublisherOptions, resolve
from .response import Outgoing, Response, own_options, refuse_unused, texts

if TYPE_CHECKING:
    from unittest.mock import MagicMock

    from .asyncapi.description import ChannelDescription
    from .broker import Broker
    from .declaration import Declaring

__all__ = ("Publisher",)

P = ParamSpec("P")
R = TypeVar("R")


class Publisher(ABC):
    """One publisher: `@router.publisher(...)` sends a handler's result, `await publisher.publish(...)` anything.

    A broker's package derives its own class, names its declaration of options and types `publish()`.

    Attributes:
        declaration: the `TypedDict` of the publisher's options.
        sent_options: options of the declaration that go with every message, by the names of `Broker.publish()`.
        response_type: the broker's own class of responses.
        address: where it publishes to.
        options: every option, defaults filled in.
        mock: under a test broker, called with the decoded body of each message that it published.
    """

    declaration: ClassVar[type] = PublisherOptions
    sent_options: ClassVar[tuple[str, ...]] = ()
    response_type: ClassVar[type[Response]] = Response

    def __init__(self, home: Declaring, address: str, options: Mapping[str, Any]) -> None:
        if not isinstance(address, str):
            raise SetupError("publisher", f"{show(address)} is no address", "give it as text")
        self.home = home
        address = str.__str__(address)  # that of an enumeration is formatted as something else
        self.address = address
        self.options = resolve(self.declaration, options, f"publisher({address!r})")
        if self.options["headers"]:
            check_headers(self.options["headers"], f"publisher({address!r})")
        if not is_type(self.options["schema"]):
            raise SetupError(
                f"publisher({address!r})",
                f"schema={show(self.options['schema'])} is no type",
                "give the class of the payload, or a type such as list[Order]",
            )
        self.mock: MagicMock | None = None
        self._fixed = {name: self.options[name] for name in self.sent_options if self.options[name] is not None}
        self._decorated: list[Callable[..., Any]] = []

    def __call__(self, function: Callable[P, R] | Handler[P, R]) -> Handler[P, R]:
        """Publish the results of `function` here whenever it handles a message. It stays the same function."""
        known = registration(function)
        known.publish_to(self)
        self._decorated.append(known.function)
        return cast("Handler[P, R]", known.function)

    @property
    def broker(self) -> Broker:
        """The broker that it publishes through: that of the outermost router."""
        return self.home.broker

    @property
    def handlers(self) -> list[Callable[..., Any]]:
        """The functions whose results go here."""
        return list(self._decorated)

    @abstractmethod
    def describe(self) -> list[ChannelDescription]:
        """Describe the channel for the document."""

    def taken(self, response: Response) -> Mapping[str, Any]:
        """Return the options of a response that have an effect here: none of those of another broker."""
        return own_options(response, self.response_type, self.sent_options)

    def outgoing(self, response: Response, body: bytes, content_type: str | None, correlation_id: str) -> Outgoing:
        """Make the message for one result, with what the publisher adds to it."""
        options = {**self._fixed, **self.taken(response)} if response.options else self._fixed
        return Outgoing(
            self.address,
            body,
            correlation_id,
            merge_headers(self.options["headers"], response.headers, self.address, self.broker.typed_headers),
            None if response.body is None else response.content_type or content_type,
            self.options["reply_to"],
            options,
            response.body is None,
        )

    async def send(
        self,
        message: Any,
        *,
        address: str | None = None,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Publish a value with the publisher's options, those that are given here over them.

        Returns:
            What `Broker.publish()` returns.

        Raises:
            SetupError: the value is a response with an option that has no effect here, or the address, the correlation
                id or `reply_to` is no text.
        """
        if (
            (address is not None and type(address) is not str)
            or (correlation_id is not None and type(correlation_id) is not str)
            or (reply_to is not None and type(reply_to) is not str)
        ):
            address, correlation_id, reply_to = texts(
                f"{type(self).__name__}.publish", address=address, correlation_id=correlation_id, reply_to=reply_to
            )
        response = message if isinstance(message, Response) else Response(message)
        taken = self.taken(response)
        refuse_unused(response, taken, (repr(self.address),))
        merged = Response(
            response.body,
            headers={**(response.headers or {}), **(headers or {})},
            content_type=response.content_type,
            options=taken,
        )
        body, content_type = encode(merged.body)
        outgoing = self.outgoing(
            merged, body, content_type, correlation_id or response.correlation_id or self.broker.new_id()
        )
        if options:
            outgoing.options = {**outgoing.options, **options}
        outgoing.address = address or outgoing.address
        outgoing.reply_to = reply_to or outgoing.reply_to
        return await self.deliver(outgoing)

    def deliver(self, outgoing: Outgoing) -> Awaitable[Any]:
        """Give a finished message to the broker, and return what waits for the confirmation."""
        delivering = self.broker.deliver(outgoing)
        return delivering if self.mock is None else self._deliver_and_show(outgoing, delivering, self.mock)

    async def _deliver_and_show(self, outgoing: Outgoing, delivering: Awaitable[Any], mock: Any) -> Any:
        result = await delivering
        mock(self.broker.decode_outgoing(outgoing))
        return result


def check_headers(headers: HeaderInput, subject: str) -> None:
    """Refuse headers that can't be sent.

    Raises:
        SetupError: it is so.
    """
    try:
        header_pairs(headers)
    except PublishError as error:
        raise SetupError(subject, error.reason, "give text, bytes, numbers or times by name") from None


def merge_headers(
    base: HeaderInput | None, over: HeaderInput | None, address: str, typed: bool
) -> list[tuple[str, SentHeader]]:
    """Return the headers of two sources, the names of the second one over the same names of the first."""
    above = header_pairs(over, address, typed) if over else []
    if not base:
        return above
    names = {name.lower() for name, _ in above}
    return header_pairs({name: one for name, one in base.items() if name.lower() not in names}, address, typed) + above
