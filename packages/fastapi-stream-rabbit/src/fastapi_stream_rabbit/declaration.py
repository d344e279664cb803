"""What is declared on a broker and on a router."""

from __future__ import annotations

from fastapi_stream_core.declaration import Declaring
from typing_extensions import Unpack

from .options import RabbitPublisherOptions, RabbitSubscriberOptions
from .publisher import RabbitPublisher
from .schema import RabbitExchange, RabbitQueue
from .subscription import RabbitSubscription

__all__ = ("RabbitDeclarations",)


class RabbitDeclarations(Declaring):
    """Declares subscribers and publishers."""

    def subscriber(
        self,
        queue: str | RabbitQueue = "",
        exchange: str | RabbitExchange | None = None,
        **options: Unpack[RabbitSubscriberOptions],
    ) -> RabbitSubscription:
        """Declare a subscriber of a queue; use it as a decorator.

        The queue is declared when the broker starts, and bound to the exchange if there is one. Subscribers of the same
        queue share its messages.

        Args:
            queue: name of a durable classic queue, or an object.
            exchange: name of a direct exchange, or an object; by default the default exchange, which routes by the
                queue's name.
            options: their meaning and defaults are in `RabbitSubscriberOptions`.

        Raises:
            SetupError: no queue is named, an option does not exist, or an address is wrong.
        """
        return self.declare_subscriber(RabbitSubscription(self, queue, exchange, options))

    def publisher(
        self,
        queue: str | RabbitQueue = "",
        exchange: str | RabbitExchange | None = None,
        **options: Unpack[RabbitPublisherOptions],
    ) -> RabbitPublisher:
        """Declare a publisher; use it as a decorator, or call its `publish()`.

        Args:
            queue: name or object of the queue; its routing key is used. It is not declared.
            exchange: name of a direct exchange, or an object, declared when the broker starts; by default the default
                exchange, which routes by the queue's name.
            options: their meaning and defaults are in `RabbitPublisherOptions`.

        Raises:
            SetupError: an option does not exist, or neither a queue nor an exchange is named.
        """
        return self.declare_publisher(RabbitPublisher(self, queue, exchange, options))
