"""What a handler may return."""

from __future__ import annotations

from fastapi_stream_core.topic import TopicResponse

__all__ = ("KafkaResponse",)


class KafkaResponse(TopicResponse):
    """A handler's result together with headers, ids and what Kafka knows of a message: key, partition, timestamp.

    The arguments are those of `TopicResponse`.
    """
