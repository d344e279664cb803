"""What is declared on a broker and on a router."""

from __future__ import annotations

from fastapi_stream_core.declaration import Declaring
from typing_extensions import Unpack

from .options import RedisPublisherOptions, RedisSubscriberOptions
from .publisher import RedisPublisher
from .schema import ListSub, PubSub, StreamSub, target_of
from .subscription import RedisSubscription

__all__ = ("RedisDeclarations",)


class RedisDeclarations(Declaring):
    """Declares subscribers and publishers."""

    def subscriber(
        self,
        channel: str | PubSub | None = None,
        *,
        list: str | ListSub | None = None,
        stream: str | StreamSub | None = None,
        **options: Unpack[RedisSubscriberOptions],
    ) -> RedisSubscription:
        """Declare a subscriber of a channel, a list or a stream; use it as a decorator.

        Channels and lists deliver at most once: a message is gone when its handler fails or the process dies. Streams
        with a group deliver at least once. A stream without a group is read from the start of the subscriber on; what
        fails is handled again as long as the process lives.

        Args:
            channel: name of a channel, a template such as `users.{uid}`, a pattern with `*`, or an object.
            list: key of a list, or an object.
            stream: key of a stream that is read without a group, or an object.
            options: their meaning and defaults are in `RedisSubscriberOptions`.

        Raises:
            SetupError: not exactly one of channel, list and stream is named, or an option does not exist.
        """
        target = target_of("subscriber", channel, list, stream)
        return self.declare_subscriber(RedisSubscription(self, target, options))

    def publisher(
        self,
        channel: str | PubSub | None = None,
        *,
        list: str | ListSub | None = None,
        stream: str | StreamSub | None = None,
        **options: Unpack[RedisPublisherOptions],
    ) -> RedisPublisher:
        """Declare a publisher to a channel, a list or a stream; use it as a decorator, or call its `publish()`.

        Args:
            channel: name of a channel.
            list: key of a list; messages go to its right end.
            stream: key of a stream, or an object, whose `maxlen` is used.
            options: their meaning and defaults are in `RedisPublisherOptions`.

        Raises:
            SetupError: not exactly one of channel, list and stream is named, or an option does not exist.
        """
        target = target_of("publisher", channel, list, stream)
        return self.declare_publisher(RedisPublisher(self, target, options))
