"""One connection to Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from fastapi_stream_core.asyncapi.description import ServerDescription
from fastapi_stream_core.broker import Broker
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.shown_address import without_credentials
from fastapi_stream_core.topic import check_publish
from fastapi_stream_core.topic_reply import name_refusal
from fastapi_stream_core.topic_servers import servers_of
from typing_extensions import Never, Unpack

from .config import ClientConfig, check_producer, client_config, producer_config
from .declaration import KafkaDeclarations
from .options import KafkaBrokerOptions
from .response import KafkaResponse
from .security import is_secure
from .transport import KafkaTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message
    from fastapi_stream_core.message import StreamMessage

__all__ = ("KafkaBroker",)


class KafkaBroker(KafkaDeclarations, Broker):
    """One connection to a Kafka cluster, on confluent-kafka.

    Args:
        bootstrap_servers: `host:port` of one or more servers, as a list or separated by commas; the port is by
            default 9092.
        options: see `KafkaBrokerOptions`.

    Raises:
        SetupError: an address or an option does not exist, does not fit the others, or the security is of another
            broker.
    """

    name: ClassVar[str] = "confluent"
    declaration: ClassVar[type] = KafkaBrokerOptions
    response_type = KafkaResponse
    never_answered = frozenset({"partition"})

    def __init__(
        self, bootstrap_servers: str | Iterable[str] = "localhost", **options: Unpack[KafkaBrokerOptions]
    ) -> None:
        self.hosts = servers_of(bootstrap_servers, "Kafka")
        super().__init__(",".join(self.hosts), options)
        if self.options["config"] is not None:
            self.options["config"] = ClientConfig(self.options["config"])
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
        topic: str = "",
        *,
        key: bytes | str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        **unknown: Never,
    ) -> Message:
        """Publish a message and wait until all in-sync replicas have it (`acks="all"`).

        Args:
            message: a value to encode, `bytes`, or a `KafkaResponse` with options of its own. None is a null
                value; with a key that is a tombstone.
            topic: where to.
            key: messages of one key go to one partition, and stay in order.
            partition: by default the key decides; without a key any.
            timestamp_ms: milliseconds since 1970; by default now.
            headers: text or bytes; a list is a repeated header.
            correlation_id: by default a new one.
            reply_to: the topic where an answer is expected.
            unknown: refused by its name.

        Returns:
            The client's message, with `partition()`, `offset()` and `timestamp()`.

        Raises:
            NotStarted: the broker is not started.
            BrokerUnavailable: no confirmation within `publish_timeout`. The message does not arrive any more if it
                was never sent; it may have arrived if only its confirmation is missing.
            PublishError: Kafka has no such key, partition number or timestamp, and nothing was sent; or it refused the
                message: it is too large, or the partition does not exist.
            SetupError: no topic is given, or something that does not exist.
        """
        if unknown or not topic:
            check_publish(topic, unknown)
        given = None
        if key is not None or partition is not None or timestamp_ms is not None:
            given = {"key": key, "partition": partition, "timestamp_ms": timestamp_ms}
        outgoing = self.outgoing(
            message, topic, headers=headers, correlation_id=correlation_id, reply_to=reply_to or None, options=given
        )
        return cast("Message", await self.deliver(outgoing))
