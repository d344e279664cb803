"""One connection to NATS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, overload
from urllib.parse import urlsplit

from fastapi_stream_core.asyncapi.description import ServerDescription
from fastapi_stream_core.broker import Broker
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.option_type import show
from fastapi_stream_core.security import BaseSecurity
from fastapi_stream_core.shown_address import is_readable, without_credentials
from nats.js.api import PubAck
from typing_extensions import Unpack

from .agreement import check_agreement
from .declaration import NatsDeclarations
from .options import NatsBrokerOptions, checked_timeout, refuse_unknown, stream_name
from .response import NatsResponse
from .schema import JStream
from .security import NatsToken, NatsUserPassword, connect_options
from .subject import fault, is_word
from .transport import NatsTransport

if TYPE_CHECKING:
    from fastapi_stream_core.message import StreamMessage

__all__ = ("NatsBroker",)

CALLBACKS = ("error_cb", "disconnected_cb", "reconnected_cb", "discovered_server_cb", "closed_cb")


def _texts(servers: object) -> list[str]:
    """Return the addresses that were given, one or several.

    Raises:
        SetupError: something else was given.
    """
    given = [servers] if isinstance(servers, str) else servers
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray, Mapping)):
        kind = show(given) if given is None else type(given).__name__
        raise SetupError("NatsBroker", f"servers= is {kind}, no address", "give an address or a list of them")
    texts = list(given)
    for one in texts:
        if not isinstance(one, str):
            kind = type(one).__name__
            raise SetupError("NatsBroker", f"servers= has a {kind}, which is no address", "give texts only")
    return texts


def is_async(callback: object) -> bool:
    """Tell whether calling an object makes a coroutine."""
    while isinstance(callback, partial):
        callback = callback.func
    return iscoroutinefunction(callback) or iscoroutinefunction(vars(type(callback)).get("__call__"))


class NatsBroker(NatsDeclarations, Broker):
    """One connection to NATS, with its subscribers and publishers.

    Args:
        servers: one address or several, with credentials or without.
        options: see `NatsBrokerOptions`.

    Raises:
        SetupError: an option does not exist, or the security object is none of NATS.
    """

    name = "nats"
    declaration = NatsBrokerOptions
    response_type = NatsResponse
    never_answered = frozenset({"stream"})
    encrypted: bool
    """Whether TLS was asked for, by `tls://`, `wss://` or the security object: nothing is sent without it."""

    def __init__(
        self, servers: str | Iterable[str] = ("nats://localhost:4222",), **options: Unpack[NatsBrokerOptions]
    ) -> None:
        self._addresses = [one.strip() for address in _texts(servers) for one in address.split(",") if one.strip()]
        if not self._addresses:
            raise SetupError("NatsBroker", "there is no server", "give an address such as 'nats://localhost:4222'")
        for address in self._addresses:
            self._check(address, options.get("security"))
        super().__init__(", ".join(self._addresses), cast("Mapping[str, Any]", options))
        self._connect_options = connect_options(self.options["security"])
        self._check_options()
        schemes = {address.partition("://")[0] for address in self._addresses if "://" in address}
        self.encrypted = "tls" in self._connect_options or not schemes.isdisjoint(("tls", "wss"))
        if self.encrypted and "ws" in schemes:
            raise SetupError("NatsBroker", "TLS was asked for, and an address begins with ws://", "write wss://")

    def _check(self, address: str, security: BaseSecurity | None) -> None:
        shown = without_credentials(address)
        wrong = SetupError("NatsBroker", f"{shown!r} is no address", "write it as 'nats://localhost:4222'")
        try:
            url = urlsplit(address if "://" in address else f"nats://{address}")
            usable = is_readable(address) and is_word(address) and url.hostname is not None and url.port != 0
        except ValueError:
            raise wrong from None
        if not usable or url.scheme not in ("nats", "tls", "ws", "wss"):
            raise wrong
        if url.scheme in ("nats", "tls") and (url.path.strip("/") or url.query or url.fragment):
            raise SetupError(
                "NatsBroker",
                f"{shown!r} has more than host and port, which nothing would read",
                "give credentials before the host or by security=, and ask for TLS with tls://",
            )
        if url.username is not None and security is not None and type(security) is not BaseSecurity:
            raise SetupError(
                "NatsBroker",
                f"there are credentials in the address of {shown!r} and in security=",
                "give them in one place",
            )

    def _check_options(self) -> None:
        for name in CALLBACKS:
            callback = self.options[name]
            if callback is not None and not is_async(callback):
                raise SetupError("NatsBroker", f"{name}={show(callback)} is not async", "write it as `async def`")
        prefix: str = self.options["inbox_prefix"]
        if wrong := fault(prefix) or (None if prefix.isascii() else "nats-py finds no inbox that is not ASCII"):
            raise SetupError(
                "NatsBroker",
                f"inbox_prefix={show(prefix)} is no subject: {wrong}",
                "leave it out",
            )

    def check_agreement(self) -> None:
        check_agreement(self)

    def transport(self) -> NatsTransport:
        return NatsTransport(self)

    @overload
    async def publish(
        self,
        message: Any = None,
        subject: str = "",
        headers: HeaderInput | None = None,
        reply_to: str = "",
        correlation_id: str | None = None,
        stream: Literal[None] = None,
        timeout: float | None = None,
    ) -> None: ...

    @overload
    async def publish(
        self,
        message: Any = None,
        subject: str = "",
        headers: HeaderInput | None = None,
        reply_to: str = "",
        correlation_id: str | None = None,
        *,
        stream: JStream | str,
        timeout: float | None = None,
    ) -> PubAck: ...

    async def publish(
        self,
        message: Any = None,
        subject: str = "",
        headers: HeaderInput | None = None,
        reply_to: str = "",
        correlation_id: str | None = None,
        stream: JStream | str | None = None,
        timeout: float | None = None,
        **unknown: object,
    ) -> PubAck | None:
        """Publish a message.

        On NATS core there is no confirmation: the message is written to a living connection, and is lost when that
        breaks before the server has read it. With `stream` the server confirms that the message is stored. While
        the server is away both wait; a message for which `BrokerUnavailable` was raised after it had been written
        may have been stored, one that only waited for a connection was not sent.

        Args:
            message: what is encoded; `bytes` are sent untouched. A `NatsResponse` brings its own options.
            subject: where to, without wildcards.
            headers: a list value is a repeated header.
            reply_to: where an answer is expected.
            correlation_id: by default a new one.
            stream: the stream that has to store the message, or its name; only the name of the object counts.
            timeout: seconds to wait for a connection and a confirmation; by default `publish_timeout`.

        Returns:
            The stream's confirmation with the sequence of the message; None on NATS core.

        Raises:
            NotStarted: the broker is not started.
            BrokerUnavailable: no connection, or no confirmation, within `timeout`.
            PublishError: no stream takes the subject, the stream confirms nothing (`no_ack`), the user may not publish
                there, or the server refused the message or would refuse it.
            SetupError: an option does not exist, `stream` names none, or `timeout` is no number of seconds.
        """
        refuse_unknown(unknown)
        outgoing = self.outgoing(
            message,
            subject,
            headers=headers,
            correlation_id=correlation_id,
            reply_to=reply_to or None,
            options=None
            if stream is None and timeout is None
            else {"stream": stream_name(stream), "timeout": checked_timeout(timeout)},
        )
        return cast("PubAck | None", await self.deliver(outgoing))

    has_inboxes: ClassVar[bool] = True

    def is_inbox(self, reply_to: str) -> bool:
        prefixes = (f"{self.options['inbox_prefix']}.", "_INBOX.")
        return reply_to.startswith(prefixes) and fault(reply_to) is None

    async def reply_refusal(self, reply_to: str) -> str | None:
        if reply_to.startswith("$"):
            return "subjects that begin with $ are the server's own, JetStream's API among them"
        return fault(reply_to)

    def reply_options(self, message: StreamMessage, reply_to: str) -> tuple[str, Mapping[str, Any]]:
        # The response's stream is where its publishers store it; an answer goes to who asked.
        return reply_to, {"stream": None}

    def servers(self) -> list[ServerDescription]:
        options = self.options
        shown = options["specification_url"]
        addresses = self._addresses if shown is None else [shown] if isinstance(shown, str) else list(shown)
        return [self._server(address) for address in addresses]

    def _server(self, address: str) -> ServerDescription:
        options = self.options
        url = urlsplit(address if "://" in address else f"nats://{address}")
        host = url.netloc.rpartition("@")[2]
        scheme = None if options["security"] is None else options["security"].scheme
        if scheme is None and url.username is not None:
            scheme = (NatsToken if url.password is None else NatsUserPassword).scheme
        return ServerDescription(
            host=host if url.port or url.scheme in ("ws", "wss") else f"{host}:4222",
            protocol=options["protocol"] or "nats",
            pathname=url.path if url.path != "/" else "",
            protocol_version=options["protocol_version"],
            description=options["description"],
            security={} if scheme is None else {str(scheme["type"]): scheme},
            tags=options["specification_tags"],
        )
