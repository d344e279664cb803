"""One connection to Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi_stream_core.asyncapi.description import ServerDescription
from fastapi_stream_core.broker import Broker
from fastapi_stream_core.errors import SetupError, shorten
from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.option_type import show
from fastapi_stream_core.response import Response
from fastapi_stream_core.security import BaseSecurity
from fastapi_stream_core.shown_address import is_readable, without_credentials
from typing_extensions import Unpack

from .declaration import RedisDeclarations
from .options import PublishOptions, RedisBrokerOptions
from .publisher import check_response, check_sent, kind_option
from .query import check_query
from .response import RedisResponse
from .schema import ListSub, PubSub, StreamSub, target_of
from .security import check_security
from .wire import MessageFormat

if TYPE_CHECKING:
    from fastapi_stream_core.message import StreamMessage
    from fastapi_stream_core.transport import Transport

__all__ = ("DEFAULT_URL", "RedisBroker")

DEFAULT_URL = "redis://localhost:6379"
SCHEMES = ("redis", "rediss", "unix")


class RedisBroker(RedisDeclarations, Broker):
    """One connection to Redis for publishing, with its subscribers, each on a connection of its own, and publishers.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, with credentials and the number of the database.
        options: their meaning and defaults are in `RedisBrokerOptions`.

    Raises:
        SetupError: the URL is none of Redis, or an option does not exist.
    """

    name = "redis"
    declaration = RedisBrokerOptions
    response_type = RedisResponse
    never_answered = frozenset({"maxlen"})

    def __init__(self, url: str = DEFAULT_URL, **options: Unpack[RedisBrokerOptions]) -> None:
        if not isinstance(url, str) or not url:
            given: Any = url
            problem = "the URL is empty" if given == "" else f"url={'None' if given is None else type(given)} is no URL"
            raise SetupError("RedisBroker", problem, f"give one such as {DEFAULT_URL!r}")
        url = url if "://" in url else f"redis://{url}"
        scheme = url.partition("://")[0]
        if scheme not in SCHEMES:
            raise SetupError(
                "RedisBroker", f"a URL with {shorten(scheme)} as its scheme is none of Redis", "begin it with redis://"
            )
        super().__init__("", options)
        check_security(self.options["security"], scheme)
        if scheme == "unix":
            for name in ("host", "port", "socket_keepalive", "socket_keepalive_options"):
                if options.get(name) is not None:
                    raise SetupError(
                        "RedisBroker",
                        f"{name}= has no effect on a unix:// socket",
                        f"leave {name}= out, or use redis://",
                    )
        try:
            self.message_format = MessageFormat(self.options["message_format"])
        except ValueError as error:
            raise SetupError(
                "RedisBroker", f"message_format={self.options['message_format']!r} does not exist", "use binary or raw"
            ) from error
        self._url = url
        address = _address(url, self.options) if is_readable(url) and url.isprintable() else None
        if address is None:
            raise SetupError(
                "RedisBroker",
                f"the URL of {without_credentials(url)!r} can't be read",
                "check host and port, and escape special characters of the password",
            )
        database = urlsplit(url).path.removeprefix("/")
        if scheme != "unix" and database and not (database.isascii() and database.isdigit()):
            raise SetupError(
                "RedisBroker",
                f"{without_credentials(url)!r} names no database by its path",
                "write its number, as in 'redis://localhost:6379/1', or leave the path out",
            )
        check_query(url, options)
        _check_client_name(self.options["client_name"])
        _check_client_name(dict(parse_qsl(urlsplit(url).query)).get("client_name"))
        self.address = address

    def transport(self) -> Transport:
        # The client library is imported when there is something to connect to.
        from .transport import RedisTransport

        return RedisTransport(self)

    def servers(self) -> list[ServerDescription]:
        given = self.options["specification_url"]
        urls = [given] if isinstance(given, str) else list(given or [self.address])
        return [self._server(without_credentials(url if "://" in url else f"redis://{url}")) for url in urls]

    def _server(self, url: str) -> ServerDescription:
        options = self.options
        parts = urlsplit(url)
        security: BaseSecurity | None = options["security"]
        scheme = security.scheme if security is not None else None
        if scheme is None and "@" in urlsplit(self._url).netloc:
            scheme = {"type": "userPassword"}
        return ServerDescription(
            host=parts.netloc if parts.port or not parts.hostname else f"{parts.netloc}:6379",
            protocol=options["protocol"] or parts.scheme,
            pathname="" if parts.path == "/" else parts.path,
            protocol_version=options["protocol_version"],
            description=options["description"],
            security={} if scheme is None else {str(scheme["type"]): scheme},
            tags=options["specification_tags"],
        )

    async def reply_refusal(self, reply_to: str) -> str | None:
        if not reply_to:
            return "it is empty"
        return "channels that begin with __ are Redis' own" if reply_to.startswith("__") else None

    def reply_options(self, message: StreamMessage, reply_to: str) -> tuple[str, Mapping[str, Any]]:
        return reply_to, {"kind": "channel"}

    async def publish(
        self,
        message: Any = None,
        channel: str | PubSub | None = None,
        *,
        list: str | ListSub | None = None,
        stream: str | StreamSub | None = None,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        **options: Unpack[PublishOptions],
    ) -> Any:
        """Publish one message and wait for Redis' answer. Concurrent calls share their way to the server.

        While the server is away it waits at most `publish_timeout` seconds. A message whose answer got lost with the
        connection is sent again, so it may arrive twice; after `BrokerUnavailable` it may still have arrived. What
        was not written to the socket by then is never sent.

        Args:
            message: `bytes` are sent untouched, `str` as text, everything else as JSON; or a `Response`.
            channel: name of a channel. Whoever listens now gets the message, and nobody later.
            list: key of a list; the message goes to its right end.
            stream: key of a stream, or an object, whose `maxlen` is used.
            headers: a list value is a repeated header.
            correlation_id: by default a new one.
            reply_to: the channel that answers go to.
            options: of the message; their meaning and defaults are in `PublishOptions`.

        Returns:
            How many subscribers of the channel got it, how long the list is, or the entry's id (`bytes`).

        Raises:
            BrokerUnavailable: no answer in time.
            PublishError: Redis refused the message: the key holds something else, or the user may not write there.
            SetupError: not exactly one of channel, list and stream is named, or an option is wrong.
        """
        target = target_of("publish()", channel, list, stream)
        check_sent(target, options, "publish()")
        if isinstance(message, Response) and message.options:
            check_response(target, message)
        return await self.deliver(
            self.outgoing(
                message,
                target.name,
                headers=headers,
                correlation_id=correlation_id,
                reply_to=reply_to,
                options={**kind_option(target), **options},
            )
        )


def _check_client_name(name: str | None) -> None:
    if name is not None and not (name.isascii() and name.isprintable() and " " not in name):
        raise SetupError(
            "RedisBroker",
            f"client_name={show(name)} is none that Redis takes",
            "give ASCII without blanks, as 'my-app'",
        )


def _address(url: str, options: Mapping[str, Any]) -> str | None:
    """Return where the server is, as it is shown: without credentials and parameters; None when it can't be read."""
    try:
        parts = urlsplit(url)
        port = options["port"] or parts.port or 6379
    except ValueError:  # its text holds a part of the URL
        return None
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    security: BaseSecurity | None = options["security"]
    scheme = "rediss" if security is not None and security.use_ssl else parts.scheme
    host = options["host"] or parts.hostname or "localhost"
    if not host.isprintable() or " " in host:
        return None
    path = parts.path if options["db"] is None else f"/{options['db']}"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path.rstrip('/')}"
