"""A handler's result with options of NATS."""

from __future__ import annotations

from typing import Any

from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.response import Response

__all__ = ("NatsResponse",)


class NatsResponse(Response):
    """A handler's result together with headers, ids and a stream.

    Args:
        body: what is encoded, or `bytes`, which are sent untouched.
        headers: added to the publisher's, and over them.
        correlation_id: by default the one of the message that is handled.
        content_type: by default the one that the body's type gives.
        stream: the stream that has to store and confirm what the publishers send.
    """

    def __init__(
        self,
        body: Any = None,
        *,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        content_type: str | None = None,
        stream: str | None = None,
    ) -> None:
        super().__init__(
            body,
            headers=headers,
            correlation_id=correlation_id,
            content_type=content_type,
            options={"stream": stream},
        )
