"""One connection to a broker, with its subscribers and publishers."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from .codec import decode, encode
from .context import ContextRepo
from .declaration import Declaring
from .errors import NotStarted, SetupError, WrongEventLoop
from .handler import registration
from .headers import HeaderInput, header_pairs
from .identifier import checked, new_id
from .injection import Injected
from .life import Life, Phase
from .options import BrokerOptions, resolve
from .ping import answers
from .quantity import check_timeout
from .replies import Replies
from .report import Report
from .response import Outgoing, Response, own_options, refuse_unused, texts
from .shown_address import without_credentials

if TYPE_CHECKING:
    from types import TracebackType

    from fastapi import FastAPI

    from .app_life import AppLife
    from .asyncapi.description import ServerDescription
    from .message import StreamMessage
    from .publisher import Publisher
    from .subscription import Subscription
    from .transport import Transport

__all__ = ("Broker",)

Self = TypeVar("Self", bound="Broker")


class Broker(Injected, Declaring):
    """One connection to a broker. Several routers may share it.

    A broker's package derives its own class: the options, the transport, a typed `publish()`.

    Attributes:
        name: short name of the broker; the default logger is `fastapi_stream.<name>`.
        declaration: the `TypedDict` of the broker's options.
        options: every option, defaults filled in.
        app: the FastAPI app whose overrides and state apply: the one that the broker runs for, or else the last one
            that included a router of it.
        state: the state of the lifespan, for the requests of messages; the same as HTTP's.
        app_life: that of the app: who asks for a request waits for its startup, and its brokers end together.
        context: the shared context.
        report: log and counters.
    """

    injected_as = "broker"
    name: ClassVar[str]
    declaration: ClassVar[type] = BrokerOptions

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self.options = resolve(self.declaration, options, type(self).__name__)
        Replies(self.options["replies"], self, type(self).__name__)  # one that can't be is refused here
        self._shown_address = without_credentials(address)
        self.app: FastAPI | None = None
        self.state: Mapping[str, Any] = {}
        self.app_life: AppLife | None = None
        self.overrides_provider: Any = None
        self.context: ContextRepo = self.options["context"] or ContextRepo()
        self.logger = self._make_logger()
        self.log_level: int = self.options["log_level"]
        self.report = Report(self.logger, self.options["log_input"])
        generator: Callable[[], str] | None = self.options["id_generator"]
        self.new_id = new_id if generator is None else checked(generator, type(self).__name__)
        self._subscribers: list[Subscription] = []
        self._publishers: list[Publisher] = []
        self._homes: list[Declaring] = []
        self._life = Life(self)
        self._published: Callable[[str], list[StreamMessage]] | None = None

    @property
    def address(self) -> str:
        """Where the broker is, as it is shown: without credentials."""
        return self._shown_address

    @address.setter
    def address(self, address: str) -> None:
        self._shown_address = without_credentials(address)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    def _make_logger(self) -> logging.Logger | logging.LoggerAdapter[Any]:
        given = self.options["logger"]
        if given is None:
            silent = logging.Logger(f"fastapi_stream.{self.name}", logging.CRITICAL + 1)
            silent.disabled = True
            return silent
        if given is ...:
            return logging.getLogger(f"fastapi_stream.{self.name}")
        return cast("logging.Logger | logging.LoggerAdapter[Any]", given)

    # What a broker's package says.

    @abstractmethod
    def transport(self) -> Transport:
        """Return a new connection to the real broker, not started."""

    @abstractmethod
    def servers(self) -> list[ServerDescription]:
        """Describe the servers for the document, without credentials."""

    response_type: ClassVar[type[Response]] = Response
    """The broker's own class of responses."""

    never_answered: ClassVar[frozenset[str]] = frozenset()
    """Options of a response that have no effect on an answer, which goes to the address that the sender chose."""

    typed_headers: ClassVar[bool] = False
    """Whether headers on the wire have types, so that numbers and times given to `publish()` keep theirs."""

    has_inboxes: ClassVar[bool] = False
    """Whether there are addresses that only a client that waits for an answer can own."""

    def is_inbox(self, reply_to: str) -> bool:
        """Tell whether only a client that waits for an answer can own this address."""
        return False

    async def reply_refusal(self, reply_to: str) -> str | None:
        """Return why an address is not plain, so that by default no answer goes there; None when it is.

        An answer to a plain address reaches whoever listens there, and changes nothing else at the broker.
        """
        return None

    def reply_options(self, message: StreamMessage, reply_to: str) -> tuple[str, Mapping[str, Any]]:
        """Return address and options of an answer to `reply_to`; they win over those of the response."""
        return reply_to, {}

    # Declarations.

    @property
    def broker(self) -> Broker:
        return self

    @property
    def subscribers(self) -> list[Subscription]:
        """All subscribers, those of routers and nested routers included, in the order of declaration."""
        return [*self._subscribers, *(one for home in self._homes for one in home.broker_subscribers())]

    @property
    def publishers(self) -> list[Publisher]:
        """All publishers, those of routers and nested routers included, in the order of declaration."""
        return [*self._publishers, *(one for home in self._homes for one in home.broker_publishers())]

    def refuse_late(self, subject: str) -> None:
        """Refuse what can only be declared before the start.

        Raises:
            SetupError: the broker is started.
        """
        if self._life.phase is not Phase.STOPPED:
            raise SetupError(
                subject,
                f"the {type(self).__name__} is started, so it would never consume",
                "declare it before the start",
            )

    def refuse_idle_publishers(self) -> None:
        """Refuse publishers that would never publish.

        Raises:
            SetupError: a publisher decorates a function that is the handler of no subscriber.
        """
        decorated = ((publisher, function) for publisher in self.publishers for function in publisher.handlers)
        for publisher, function in decorated:
            known = registration(function)
            if not known.is_heard:
                name = getattr(function, "__name__", "a function")
                problem = f"{name!r} is no subscriber's handler: nothing is published"
                remedy = "call `await publisher.publish(...)` where a route or a function has something to publish"
                if known.inner is not None and known.inner.is_handler:
                    problem = f"{name!r} wraps a subscriber's handler, and messages do not pass through what wraps it"
                    remedy = "write your decorator beneath @router.subscriber(...), or the publisher beneath yours"
                raise SetupError(f"publisher({publisher.address!r})", problem, remedy)

    def check_agreement(self) -> None:
        """Refuse declarations that contradict each other at the broker; a package says which do, if any.

        Raises:
            SetupError: there are some.
        """

    @property
    def dependency_overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]:
        """The overrides of the app, or of the router's `dependency_overrides_provider`."""
        provider = self.overrides_provider or self.app
        return provider.dependency_overrides if provider is not None else {}

    # Life.

    @property
    def running(self) -> bool:
        """Whether the broker is started: connected, with every subscription positioned."""
        return self._life.phase is Phase.RUNNING

    async def start(self) -> None:
        """Connect and subscribe; return when every subscription is positioned. Starting again does nothing.

        Callers that start at the same time share one start; when all of them are cancelled it is undone. Handlers
        start from the context variables of the first one.

        Raises:
            BrokerUnavailable: the broker was away for `startup_timeout` seconds.
            StartInterrupted: the broker was stopped meanwhile, or stops and waits for the handler that calls this.
            WrongEventLoop: the broker is started on another event loop.
        """
        await self._life.start()

    async def stop(self) -> None:
        """Take no new messages, finish those that run (`graceful_timeout`), settle, flush and close.

        A start that is going on is undone. A stop goes on when its caller is cancelled; stopping again waits for it.

        In a handler of this broker, and in what a handler started, the stop begins and nobody waits for it: it is the
        stop that waits for the handler, whose message is settled as ever. To wait for the end, stop it from outside.
        """
        await self._life.stop()

    async def __aenter__(self: Self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def ping(self, timeout: float = 3.0) -> bool:
        """Tell whether the broker answers within `timeout` seconds; False when it is not started.

        Raises:
            SetupError: the timeout is not more than 0, or no number.
            WrongEventLoop: the broker is started on another event loop.
        """
        check_timeout("ping()", timeout)
        life = self._life
        if life.run is None or life.transport is not life.run.transport:
            return False
        if life.loop is not None and not _runs(life.loop):
            raise WrongEventLoop(type(self).__name__)
        return await answers(life.run.transport, timeout, self.report)

    # Publishing.

    def outgoing(
        self,
        message: Any,
        address: str,
        *,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        content_type: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Outgoing:
        """Encode a value, or a `Response` with its own options, for the wire.

        Raises:
            EncodeError: the value can't be encoded.
            PublishError: a header can't be sent.
            SetupError: the address, the correlation id, `reply_to` or the content type is no text, or the response
                has an option that the broker does not know.
        """
        if (
            type(address) is not str
            or (correlation_id is not None and type(correlation_id) is not str)
            or (reply_to is not None and type(reply_to) is not str)
            or (content_type is not None and type(content_type) is not str)
        ):
            subject = f"{type(self).__name__}.publish"
            found, correlation_id, reply_to, content_type = texts(
                subject, address=address, correlation_id=correlation_id, reply_to=reply_to, content_type=content_type
            )
            if found is None:
                raise SetupError(subject, "None is given as address", "give a text; the message comes first")
            address = found
        given = {name: value for name, value in options.items() if value is not None} if options else {}
        if isinstance(message, Response):
            headers = {**(message.headers or {}), **(headers or {})}
            correlation_id = correlation_id or message.correlation_id
            content_type = content_type or message.content_type
            if message.options:
                taken = own_options(message, self.response_type)
                refuse_unused(message, taken, (repr(address),))
                given = {**taken, **given}
            message = message.body
        body, encoded_type = encode(message)
        return Outgoing(
            address,
            body,
            correlation_id or self.new_id(),
            header_pairs(headers, address, self.typed_headers) if headers else [],
            None if message is None else content_type or encoded_type,
            reply_to,
            given,
            message is None,
        )

    def deliver(self, outgoing: Outgoing) -> Awaitable[Any]:
        """Give a finished message to the transport, and return what waits for the confirmation.

        Raises:
            NotStarted: the broker is not started.
            WrongEventLoop: the broker is started on another event loop; nothing was sent.
            BrokerUnavailable: no confirmation within `publish_timeout`.
        """
        life = self._life
        transport = life.transport
        if transport is None:
            raise NotStarted(type(self).__name__, self)
        if life.loop is not None and not _runs(life.loop):
            raise WrongEventLoop(type(self).__name__)
        return transport.publish(outgoing)

    def answered(self, response: Response) -> Mapping[str, Any]:
        """Return the options of a response that have an effect on an answer."""
        options = own_options(response, self.response_type)
        return {name: value for name, value in options.items() if name not in self.never_answered}

    async def reply(
        self, message: StreamMessage, reply_to: str, response: Response, body: bytes, content_type: str | None
    ) -> None:
        """Answer a message at the address that it asks for."""
        address, options = self.reply_options(message, reply_to)
        await self.deliver(
            Outgoing(
                address,
                body,
                response.correlation_id or message.correlation_id,
                header_pairs(response.headers, address, self.typed_headers),
                None if response.body is None else response.content_type or content_type,
                None,
                {**self.answered(response), **options} if response.options else options,
                response.body is None,
                True,
            )
        )

    def published(self, address: str) -> list[StreamMessage]:
        """Return what was published to an address under a test broker, the oldest first.

        Raises:
            NotStarted: there is no test broker.
        """
        if self._published is None:
            raise NotStarted(f"Test{type(self).__name__}")
        return self._published(address)

    def decode_outgoing(self, outgoing: Outgoing) -> Any:
        """Decode what was published, for mocks."""
        return decode(outgoing.body, outgoing.content_type)


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether this is the event loop that runs here."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
