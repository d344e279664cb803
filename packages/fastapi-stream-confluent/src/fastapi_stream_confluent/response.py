"""What a handler may return."""

from __future__ import annotations

from typing import Any

from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.response import Response

__all__ = ("KafkaResponse",)


class KafkaResponse(Response):
    """A handler's result together with headers, ids and what Kafka knows of a message.

    Args:
        body: what is encoded, or `bytes`, which are sent untouched. None is a tombstone.
        headers: added to the publisher's, and over them; a list value is a repeated header.
        correlation_id: by default the one of the message that is handled.
        content_type: by default the one that the body's type gives.
        key: by default the publisher's.
        partition: by default the key decides.
        timestamp_ms: milliseconds since 1970; by default now.
    """

    def __init__(
        self,
        body: Any = None,
        *,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        content_type: str | None = None,
        key: bytes | str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        super().__init__(
            body,
            headers=headers,
            correlation_id=correlation_id,
            content_type=content_type,
            options={"key": key, "partition": partition, "timestamp_ms": timestamp_ms},
        )
