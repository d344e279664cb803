"""A handler's result with options of NATS."""

from __future__ import annotations

from typing import Any, ClassVar

from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.response import Response
from typing_extensions import Unpack

from .options import ResponseOptions, stream_name

__all__ = ("NatsResponse",)


class NatsResponse(Response):
    """A handler's result together with headers, ids and a stream.

    Args:
        body: what is encoded, or `bytes`, which are sent untouched.
        headers: added to the publisher's, and over them.
        correlation_id: by default the one of the message that is handled.
        content_type: by default the one that the body's type gives.
        options: of this message, over those of the publisher; their meaning is in `ResponseOptions`.

    Raises:
        SetupError: an option does not exist, or its value is not of the declared type.
    """

    declaration: ClassVar[type | None] = ResponseOptions

    def __init__(
        self,
        body: Any = None,
        *,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        content_type: str | None = None,
        **options: Unpack[ResponseOptions],
    ) -> None:
        super().__init__(
            body, headers=headers, correlation_id=correlation_id, content_type=content_type, options=options
        )
        if "stream" in self.options:
            self.options["stream"] = stream_name(self.options["stream"])
