"""What is declared on a broker and on a router, written once."""

from __future__ import annotations

from fastapi_stream_core.declaration import Declaring
from typing_extensions import Unpack

from .options import KafkaPublisherOptions, KafkaSubscriberOptions
from .publisher import KafkaPublisher
from .subscription import KafkaSubscription

__all__ = ("KafkaDeclarations",)


class KafkaDeclarations(Declaring):
    """Base of `KafkaBroker` and `KafkaRouter`."""

    def subscriber(self, *topics: str, **options: Unpack[KafkaSubscriberOptions]) -> KafkaSubscription:
        """Declare a subscriber; the result is the decorator of its handler.

        Args:
            topics: what is read; or `pattern=`, or `partitions=`.
            options: see `KafkaSubscriberOptions`.

        Raises:
            SetupError: an option does not exist or does not fit the others.
        """
        return self.declare_subscriber(KafkaSubscription(self, topics, options))

    def publisher(self, topic: str = "", **options: Unpack[KafkaPublisherOptions]) -> KafkaPublisher:
        """Declare a publisher: a decorator that publishes a handler's results, and an object with `publish()`.

        Args:
            topic: where it publishes to.
            options: see `KafkaPublisherOptions`.

        Raises:
            SetupError: an option does not exist, or there can be no such topic.
        """
        return self.declare_publisher(KafkaPublisher(self, topic, options))
