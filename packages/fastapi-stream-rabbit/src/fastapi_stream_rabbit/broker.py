"""One connection to RabbitMQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.asyncapi.description import ServerDescription
from fastapi_stream_core.broker import Broker
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.keywords import unknown_option
from fastapi_stream_core.option_type import show
from fastapi_stream_core.options import check_given
from fastapi_stream_core.security import BaseSecurity
from fastapi_stream_core.shown_address import is_readable, without_credentials
from typing_extensions import Unpack
from yarl import URL

from .agreement import check_agreement
from .connection import Address
from .declaration import RabbitDeclarations
from .inbox import has_form_of_inbox, is_inbox
from .options import PUBLISH, PublishOptions, RabbitBrokerOptions
from .response import RabbitResponse
from .schema import RabbitExchange, RabbitQueue, exchange_of, routing_of
from .security import secured
from .table import ForeignText

if TYPE_CHECKING:
    from fastapi_stream_core.message import StreamMessage

    from .transport import RabbitTransport

__all__ = ("DEFAULT_URL", "RabbitBroker")

DEFAULT_URL = "amqp://guest:guest@localhost:5672/"
HEARTBEAT_SECONDS = 20
TLS = ("cafile", "capath", "cadata", "keyfile", "certfile", "no_verify_ssl")
NUMBERS = ("heartbeat", "timeout", "no_verify_ssl")
VIRTUAL_HOST = 127
"""Characters that the client library takes."""
QUERY = (
    *TLS,
    *("auth", "heartbeat", "timeout", "name", "interleave", "happy_eyeballs_delay"),
)
"""What the client library reads in the query of a URL; it logs all of it."""


class RabbitBroker(RabbitDeclarations, Broker):
    """One connection to RabbitMQ, with its subscribers and publishers.

    Args:
        url: `amqp://` or `amqps://`, with credentials and virtual host.
        options: their meaning and defaults are in `RabbitBrokerOptions`.

    Raises:
        SetupError: the URL is none of RabbitMQ, or an option does not exist.
    """

    name = "rabbit"
    typed_headers = True
    declaration = RabbitBrokerOptions
    response_type = RabbitResponse
    never_answered = frozenset({"exchange"})

    def __init__(self, url: str | URL | None = DEFAULT_URL, **options: Unpack[RabbitBrokerOptions]) -> None:
        super().__init__("", options)
        self._address = _address(DEFAULT_URL if url is None else url, self.options)
        self.address = self._address.shown

    @property
    def virtualhost(self) -> str:
        """The virtual host."""
        return _virtualhost(self._address.url)

    def check_agreement(self) -> None:
        check_agreement(self)

    def transport(self) -> RabbitTransport:
        # The client library is imported when there is something to connect to.
        from .transport import RabbitTransport

        return RabbitTransport(self, self._address)

    def servers(self) -> list[ServerDescription]:
        options = self.options
        given = options["specification_url"]
        urls = [given] if isinstance(given, str) else list(given or [self._address.shown])
        return [self._server(URL(without_credentials(url if "://" in url else f"amqp://{url}"))) for url in urls]

    def _server(self, url: URL) -> ServerDescription:
        options = self.options
        security: BaseSecurity | None = options["security"]
        scheme = security.scheme if security is not None else {"type": "userPassword"}
        path = url.raw_path
        return ServerDescription(
            host=f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}",
            protocol=options["protocol"] or url.scheme,
            pathname="" if path == "/" else path,
            protocol_version=options["protocol_version"] or "0.9.1",
            description=options["description"],
            security={} if scheme is None else {str(scheme["type"]): scheme},
            tags=options["specification_tags"],
        )

    has_inboxes = True

    def is_inbox(self, reply_to: str) -> bool:
        return is_inbox(reply_to)

    async def reply_refusal(self, reply_to: str) -> str | None:
        if isinstance(reply_to, ForeignText):
            return "it is no text"
        if has_form_of_inbox(reply_to) and not is_inbox(reply_to):
            return "RabbitMQ did not make this address of direct reply-to"
        return "it names an exchange, and a plain address is a queue" if "|" in reply_to else None

    def reply_options(self, message: StreamMessage, reply_to: str) -> tuple[str, Mapping[str, Any]]:
        queue, _, exchange = reply_to.partition("|")
        # The response's own exchange is where its publishers send it, not where somebody waits for an answer.
        options: dict[str, Any] = {"exchange": exchange_of(exchange, declare=False) if exchange else None}
        channel = self.options["default_channel"]
        if has_form_of_inbox(reply_to) or (channel is not None and channel.on_return_raises):
            # Of an inbox RabbitMQ always says that no queue takes it, and who asked may be gone: no failure of ours.
            options["mandatory"] = False
        return queue, options

    async def publish(
        self,
        message: Any = None,
        queue: str | RabbitQueue = "",
        exchange: str | RabbitExchange | None = None,
        *,
        routing_key: str = "",
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        **options: Unpack[PublishOptions],
    ) -> Any:
        """Publish one message and wait for RabbitMQ's confirmation.

        While the broker is away it waits at most `publish_timeout` seconds. A message whose confirmation got lost with
        the connection is sent again with the same `message_id`, so it may arrive twice; after `BrokerUnavailable` it
        may still have arrived. Nothing that was not written to the socket is sent later.

        Args:
            message: `bytes` are sent untouched, `str` as text, everything else as JSON; or a `Response`.
            queue: name or object of the queue; its routing key is used.
            exchange: name of an exchange that exists, or an object, which is declared; by default the default
                exchange, which routes to the queue of that name.
            routing_key: instead of the queue's.
            headers: a list value is a repeated header.
            correlation_id: by default a new one.
            reply_to: the queue that answers go to, or `"queue|exchange"`.
            options: of the message; their meaning and defaults are in `PublishOptions`.

        Returns:
            The confirmation frame; None when no queue takes the message, or when confirmations are off.

        Raises:
            BrokerUnavailable: no confirmation in time, or a queue that is full and rejects what is published.
            PublishError: RabbitMQ refused the message, the exchange does not exist, or no queue takes a mandatory
                message of a channel with `on_return_raises`.
            SetupError: an option does not exist, or its value is not of the declared type.
        """
        if options:
            check_given(PublishOptions, options, "publish()", PUBLISH)
        target = exchange_of(exchange, declare=False)
        given: dict[str, Any] = {**options, "exchange": None if target.is_default else target}
        name = queue.name if isinstance(queue, RabbitQueue) else queue
        outgoing = self.outgoing(
            message,
            f"{routing_key or name or target.name or 'the default exchange'}",
            headers=headers,
            correlation_id=correlation_id,
            reply_to=reply_to,
            content_type=given.pop("content_type", None),
            options=given,
        )
        outgoing.address = routing_of(queue, outgoing.options.get("exchange", target), routing_key, "publish")
        return await self.deliver(outgoing)


def _address(given: str | URL, options: Mapping[str, Any]) -> Address:
    """Return where to connect, from the URL and the options over it."""
    if not isinstance(given, (str, URL)) or given == "":
        kind = "the URL is empty" if given == "" else f"url= is a {type(given).__name__}, no URL"
        raise SetupError("RabbitBroker", kind, f"write it like {DEFAULT_URL}")
    url = _parsed(given)
    if url is None:
        raise SetupError(
            "RabbitBroker",
            f"the URL of {without_credentials(str(given))!r} can't be read",
            f"write it like {DEFAULT_URL}, with special characters of the password escaped",
        )
    if url.scheme not in ("amqp", "amqps") or not (url.host or options["host"]):
        raise SetupError(
            "RabbitBroker", f"{without_credentials(str(given))!r} is no URL of RabbitMQ", f"write it like {DEFAULT_URL}"
        )
    for name in url.query:
        if name not in QUERY:
            raise unknown_option(name, dict.fromkeys(QUERY), "the query of RabbitBroker's URL")
        if name in NUMBERS and not (url.query[name].isascii() and url.query[name].isdigit()):
            raise SetupError(
                "RabbitBroker", f"{name} in the URL is no whole number", f"write it like {DEFAULT_URL}?heartbeat=20"
            )
    url = url.with_fragment(None)
    if options["host"]:
        url = _with_host(url, options["host"])
    if options["port"]:
        url = url.with_port(options["port"])
    if options["virtualhost"]:
        url = url.with_path("/" + options["virtualhost"].removeprefix("/"), keep_query=True)
    if not _is_text(options["virtualhost"] or ""):
        raise SetupError("RabbitBroker", f"virtualhost={show(options['virtualhost'])} is no UTF-8", "use another one")
    if len(_virtualhost(url)) > VIRTUAL_HOST:
        raise SetupError(
            "RabbitBroker", f"the virtual host has more than {VIRTUAL_HOST} characters", "use one with a shorter name"
        )
    url, ssl_context = secured(url, options["security"])
    _check_tls(url, options["ssl_options"], ssl_context is not None)
    shown = url.with_user(None).with_query(None)
    properties = dict(options["client_properties"] or {})
    query: dict[str, Any] = {
        name: str(int(value) if isinstance(value, bool) else value)
        for name, value in (options["ssl_options"] or {}).items()
    }
    heartbeat = options["heartbeat"] or properties.pop("heartbeat", None)
    if heartbeat is not None or "heartbeat" not in url.query:
        query["heartbeat"] = str(heartbeat or HEARTBEAT_SECONDS)
    return Address(url.update_query(query), str(shown), ssl_context, properties, options["timeout"])


def _check_tls(url: URL, ssl_options: Mapping[str, Any] | None, has_context: bool) -> None:
    """Check that what is said of TLS has an effect.

    Raises:
        SetupError: the connection would not be encrypted, or would not use the files that are given.
    """
    for name in ssl_options or ():
        if name not in TLS:
            raise unknown_option(name, dict.fromkeys(TLS), "ssl_options of RabbitBroker")
    if not ssl_options and not any(name in url.query for name in TLS):
        return
    if url.scheme != "amqps":
        raise SetupError(
            "RabbitBroker",
            "TLS is asked for by files, and amqp:// does not encrypt",
            "write amqps://, or use security=BaseSecurity(use_ssl=True)",
        )
    if has_context:
        raise SetupError(
            "RabbitBroker",
            "security has a TLS context, which makes files for TLS meaningless",
            "load the files into the context, or leave one of the two out",
        )


def _parsed(given: str | URL) -> URL | None:
    """Return the URL; None when it can't be read, for certain or at all: the parser's error would quote a part."""
    if isinstance(given, URL):
        return given
    try:
        return URL(given) if is_readable(given) else None
    except ValueError:
        return None


def _with_host(url: URL, host: str) -> URL:
    """Return the URL with another host.

    Raises:
        SetupError: it is none.
    """
    try:
        return url.with_host(host)
    except ValueError:
        raise SetupError("RabbitBroker", f"host={show(host)} is no name of a host", "give a name or a number") from None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _virtualhost(url: URL) -> str:
    return url.path[1:] or "/"
