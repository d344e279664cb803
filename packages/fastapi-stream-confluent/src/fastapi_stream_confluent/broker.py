"""One connection to Kafka."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from fastapi_stream_core.asyncapi.description import ServerDescription
from fastapi_stream_core.broker import Broker
from fastapi_stream_core.errors import SetupError, shorten
from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.shown_address import without_credentials
from fastapi_stream_core.topic_reply import name_refusal
from typing_extensions import Unpack

from .config import check_producer, client_config, producer_config
from .declaration import KafkaDeclarations
from .options import KafkaBrokerOptions
from .security import is_secure
from .transport import KafkaTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message
    from fastapi_stream_core.message import StreamMessage

__all__ = ("KafkaBroker",)

DEFAULT_PORT = 9092
LAST_PORT = 65535
SCHEMES = ("", "kafka", "plaintext")
_HOST = re.compile(r"[\w.-]+|\[[0-9a-fA-F:.%]+\]")


class KafkaBroker(KafkaDeclarations, Broker):
    """One connection to a Kafka cluster, on confluent-kafka.

    Args:
        bootstrap_servers: `host:port` of one or more servers, as a list or separated by commas; the port is by
            default 9092.
        options: see `KafkaBrokerOptions`.

    Raises:
        SetupError: an option does not exist, does not fit the others, or the security is of another broker.
    """

    name: ClassVar[str] = "confluent"
    declaration: ClassVar[type] = KafkaBrokerOptions

    def __init__(
        self, bootstrap_servers: str | Iterable[str] = "localhost", **options: Unpack[KafkaBrokerOptions]
    ) -> None:
        given = bootstrap_servers.split(",") if isinstance(bootstrap_servers, str) else list(bootstrap_servers)
        if not given:
            raise SetupError("bootstrap_servers", "no server is given", "give at least one 'host:port'")
        self.hosts = [with_port(one.strip()) for one in given]
        super().__init__(",".join(self.hosts), options)
        self._client_config: Mapping[str, Any] = client_config(",".join(self.hosts), self.options)
        if self.options["enable_idempotence"] and self.options["acks"] not in ("all", -1):
            raise SetupError(
                type(self).__name__,
                f"enable_idempotence=True does not go with acks={self.options['acks']!r}",
                "leave acks out, or set enable_idempotence=False",
            )
        check_producer(producer_config(self), type(self).__name__)

    def transport(self) -> KafkaTransport:
        return KafkaTransport(self)

    async def reply_refusal(self, reply_to: str) -> str | None:
        transport = self._life.transport
        if isinstance(transport, KafkaTransport):
            return await transport.reply_topics.refusal(reply_to)
        return name_refusal(reply_to)  # in memory every topic is there

    def reply_options(self, message: StreamMessage, reply_to: str) -> tuple[str, Mapping[str, Any]]:
        # The response's partition is one of the topic that its publishers send to.
        return reply_to, {"partition": None}

    def servers(self) -> list[ServerDescription]:
        options = self.options
        url = options["specification_url"]
        shown = self.hosts if url is None else [url] if isinstance(url, str) else list(url)
        security = options["security"]
        scheme = None if security is None else security.scheme
        return [
            ServerDescription(
                without_credentials(one).rpartition("://")[2],
                options["protocol"] or ("kafka-secure" if self._secure else "kafka"),
                protocol_version=options["protocol_version"],
                description=options["description"],
                security={} if scheme is None else {type(security).__name__: scheme},
                tags=options["specification_tags"],
            )
            for one in shown
        ]

    @property
    def _secure(self) -> bool:
        return is_secure(self.options["security"]) or "SSL" in str(self._client_config.get("security.protocol")).upper()

    async def publish(  # noqa: PLR0913 (options, each by its name)
        self,
        message: Any,
        topic: str,
        *,
        key: bytes | str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
    ) -> Message:
        """Publish a message and wait until all in-sync replicas have it (`acks="all"`).

        Args:
            message: a value to encode, `bytes`, or a `KafkaResponse` with options of its own. None is a null
                body, with a key a tombstone.
            topic: where to.
            key: messages of one key go to one partition, and stay in order.
            partition: by default the key decides; without a key any.
            timestamp_ms: milliseconds since 1970; by default now.
            headers: text or bytes; a list is a repeated header.
            correlation_id: by default a new one.
            reply_to: the topic where an answer is expected.

        Returns:
            The client's message, with `partition()`, `offset()` and `timestamp()`.

        Raises:
            NotStarted: the broker is not started.
            BrokerUnavailable: no confirmation within `publish_timeout`. The message does not arrive any more if it
                was never sent; it may have arrived if only its confirmation is missing.
            PublishError: Kafka refused the message: it is too large, or the partition does not exist.
        """
        given = None
        if key is not None or partition is not None or timestamp_ms is not None:
            given = {"key": key, "partition": partition, "timestamp_ms": timestamp_ms}
        outgoing = self.outgoing(
            message, topic, headers=headers, correlation_id=correlation_id, reply_to=reply_to or None, options=given
        )
        return cast("Message", await self.deliver(outgoing))


def with_port(host: str) -> str:
    """Return `host:port`, without a scheme.

    Raises:
        SetupError: there is more than host and port, such as credentials, which Kafka's addresses have not.
    """
    scheme, _, server = host.rpartition("://")
    name, _, port = server.rpartition(":")
    if not (name and port.isdigit()):
        name, port = server, str(DEFAULT_PORT)
    if without_credentials(host) != host or "/" in server:
        raise SetupError(
            "bootstrap_servers",
            f"{without_credentials(host)!r} came with more than host and port, or can't be read",
            "give 'host:port', and credentials by security=SASLPlaintext(...)",
        )
    if scheme not in SCHEMES:
        raise SetupError(
            "bootstrap_servers",
            f"{host!r} is the address of something else than Kafka",
            "give 'host:port', and TLS by security=BaseSecurity(use_ssl=True)",
        )
    if _HOST.fullmatch(name) is None or not 0 < int(port) <= LAST_PORT:
        raise SetupError(
            "bootstrap_servers", f"{shorten(host)} is no 'host:port'", "give 'host:port', such as 'kafka:9092'"
        )
    return f"{name}:{port}"
