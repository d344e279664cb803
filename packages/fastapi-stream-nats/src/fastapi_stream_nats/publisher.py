"""A publisher on NATS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fastapi_stream_core.address import refuse_parameters
from fastapi_stream_core.asyncapi.description import ChannelDescription
from fastapi_stream_core.declaration import Declaring
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.option_type import show
from fastapi_stream_core.publisher import Publisher
from nats.js.api import PubAck
from typing_extensions import Never

from .options import NatsPublisherOptions, checked_timeout, refuse_unknown, stream_name
from .response import NatsResponse
from .schema import JStream
from .subject import fault

__all__ = ("NATS_BINDING", "NatsPublisher")

NATS_BINDING: Mapping[str, Any] = {"bindingVersion": "0.1.0"}


class NatsPublisher(Publisher):
    """One publisher.

    Attributes:
        stream: the stream that stores the messages; None is NATS core.
    """

    declaration = NatsPublisherOptions
    sent_options = ("timeout",)
    response_type = NatsResponse

    def __init__(self, home: Declaring, subject: str, options: Mapping[str, Any]) -> None:
        if not isinstance(subject, str):
            raise SetupError("publisher()", f"subject={show(subject)} is no text", "name one subject")
        super().__init__(home, subject, options)
        refuse_parameters(subject)
        if wrong := fault(subject):
            raise SetupError(
                f"publisher({subject!r})",
                f"{subject!r} is no subject of a message: {wrong}",
                "name one subject, such as 'users.created'",
            )
        self.stream = JStream.of(self.options["stream"])
        if self.stream is not None and self.stream.no_ack:
            raise SetupError(
                f"publisher({subject!r})",
                f"the stream {self.stream.name!r} confirms nothing (no_ack), and a publisher waits for that",
                "leave no_ack out, or publish without stream=",
            )
        if self.stream is not None:
            self._fixed["stream"] = self.stream.name

    async def publish(
        self,
        message: Any = None,
        subject: str = "",
        headers: HeaderInput | None = None,
        reply_to: str = "",
        correlation_id: str | None = None,
        stream: JStream | str | None = None,
        timeout: float | None = None,
        **unknown: Never,
    ) -> PubAck | None:
        """Publish a value with the publisher's options; what is given here goes before them.

        Returns:
            What `NatsBroker.publish()` returns, with the same guarantees and errors.
        """
        refuse_unknown(unknown)
        sent = await self.send(
            message,
            address=subject or None,
            headers=headers,
            correlation_id=correlation_id,
            reply_to=reply_to or None,
            options={
                name: value
                for name, value in (("stream", stream_name(stream)), ("timeout", checked_timeout(timeout)))
                if value is not None
            },
        )
        return cast("PubAck | None", sent)

    def describe(self) -> list[ChannelDescription]:
        extensions = {} if self.stream is None else {"x-stream": self.stream.name}
        return [
            ChannelDescription(
                address=self.address,
                name=self.address,
                operation_bindings={"nats": {**NATS_BINDING, **extensions}},
            )
        ]
