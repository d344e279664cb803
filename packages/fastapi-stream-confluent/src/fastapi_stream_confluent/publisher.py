"""One publisher of Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.topic import TopicPublisher, check_publish
from typing_extensions import Never

from .options import KafkaPublisherOptions
from .subscription import BINDING

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ("KafkaPublisher",)


class KafkaPublisher(TopicPublisher):
    """Publishes to one topic: decorator of a handler, and object."""

    declaration: ClassVar[type] = KafkaPublisherOptions
    binding: ClassVar[tuple[str, str]] = BINDING

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
        """Publish a value with the publisher's options, those that are given here over them.

        The arguments, the result and the errors are those of `KafkaBroker.publish`; `topic` is by default
        the publisher's.
        """
        if unknown:
            check_publish(topic, unknown)
        given = {"key": key, "partition": partition, "timestamp_ms": timestamp_ms}
        result = await self.send(
            message,
            address=topic or None,
            headers=headers,
            correlation_id=correlation_id,
            reply_to=reply_to or None,
            options={name: value for name, value in given.items() if value is not None},
        )
        return cast("Message", result)
