"""Where results go on Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.address import refuse_parameters
from fastapi_stream_core.asyncapi.description import ChannelDescription
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.options import check_given, declared
from fastapi_stream_core.publisher import Publisher
from fastapi_stream_core.response import Response, own_options, refuse_unused
from typing_extensions import Unpack

from .options import PUBLISH, PublishOptions, RedisPublisherOptions
from .response import RedisResponse
from .schema import ListSub, PubSub, StreamSub, Target, idle_options, target_of
from .subscription import BINDINGS

if TYPE_CHECKING:
    from .declaration import RedisDeclarations

__all__ = ("RedisPublisher", "check_response", "check_sent", "kind_option")


class RedisPublisher(Publisher):
    """One publisher to a channel, a list or a stream.

    Attributes:
        target: where messages go.
    """

    declaration = RedisPublisherOptions
    sent_options = tuple(declared(PublishOptions))
    response_type = RedisResponse

    def __init__(self, home: RedisDeclarations, target: Target, options: Mapping[str, Any]) -> None:
        self.target = target
        super().__init__(home, target.name, options)
        if isinstance(target, PubSub):  # a cluster reads the braces of keys
            refuse_parameters(target.name)
        check_sent(target, {"maxlen": options["maxlen"]} if "maxlen" in options else {}, f"publisher({target.name!r})")
        if idle := idle_options(target, publishing=True):
            raise SetupError(
                f"publisher({target.name!r})",
                f"{', '.join(idle)} of {type(target).__name__} are for subscribers",
                "leave them out to publish",
            )
        self._fixed = {**kind_option(target), **self._fixed}

    def taken(self, response: Response) -> Mapping[str, Any]:
        options = super().taken(response)
        if isinstance(self.target, StreamSub):
            return options
        return {name: value for name, value in options.items() if name != "maxlen"}

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
        """Publish a value as `RedisBroker.publish()` does, with the publisher's options below those that are given."""
        given: dict[str, Any] = dict(options)
        address: str | None = None
        target = self.target
        if not (channel is None and list is None and stream is None):
            target = target_of("publish()", channel, list, stream)
        check_sent(target, options, "publish()")
        if isinstance(message, Response) and message.options:
            check_response(target, message)
            given = {**message.options, **given}
            message = Response(
                message.body,
                headers=message.headers,
                correlation_id=message.correlation_id,
                content_type=message.content_type,
            )
        if target is not self.target:
            address, given = target.name, {**kind_option(target), **given}
        return await self.send(
            message,
            address=address,
            headers=headers,
            correlation_id=correlation_id,
            reply_to=reply_to,
            options={name: value for name, value in given.items() if value is not None},
        )

    def describe(self) -> list[ChannelDescription]:
        kind = str(self._fixed["kind"])
        return [
            ChannelDescription(
                self.address,
                self.address,
                kind="" if kind == "channel" else kind,
                parameters=self.target.template.names if isinstance(self.target, PubSub) else (),
                channel_bindings=BINDINGS,
                operation_bindings=BINDINGS,
                extensions={"x-redis-type": kind},
            )
        ]


def check_sent(target: Target, options: Mapping[str, Any], subject: str) -> None:
    """Check the options of what is published.

    Raises:
        SetupError: an option does not exist, is of the wrong type, or has no effect there.
    """
    if options:
        check_given(PublishOptions, options, subject, PUBLISH)
    if options.get("maxlen") is not None and not isinstance(target, StreamSub):
        raise SetupError(
            subject,
            f"maxlen={options['maxlen']} has no effect: {target.name!r} is a {kind_option(target)['kind']}",
            "only a stream has a length to keep; leave maxlen out",
        )


def check_response(target: Target, response: Response) -> None:
    """Check the options of a response that is published.

    Raises:
        SetupError: one of them is of another broker, or has no effect there.
    """
    refuse_unused(response, own_options(response, RedisResponse), (repr(target.name),))
    check_sent(target, response.options, type(response).__name__)


def kind_option(target: Target) -> dict[str, Any]:
    """Return what the transport has to know of the place that a message goes to."""
    if isinstance(target, StreamSub):
        return {"kind": "stream"} if target.maxlen is None else {"kind": "stream", "maxlen": target.maxlen}
    return {"kind": "list" if isinstance(target, ListSub) else "channel"}
