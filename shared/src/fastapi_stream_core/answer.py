"""What becomes of a handler's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .response import Response

if TYPE_CHECKING:
    from .message import StreamMessage
    from .subscription import Subscription

__all__ = ("Answer",)


class Answer:
    """Sends results to whoever waits for them, then to the publishers.

    Attributes:
        publishers: where every result goes, the one nearest to the handler first.
        replies: whether `reply_to` of a message is answered.
    """

    def __init__(self, subscription: Subscription) -> None:
        registration = subscription.registration
        self.publishers = registration.publishers if registration is not None else []
        self.replies: bool = not subscription.options["no_reply"]
        self._encode = subscription.plan.encode
        self._broker = subscription.broker

    async def send(self, message: StreamMessage, result: Any) -> None:
        """Send the result for one message; a result of None only to who waits for it.

        Raises:
            Exception: it is not what the response model says, or could not be published.
        """
        response = result if isinstance(result, Response) else Response(result)
        body, content_type = self._encode(response.body)
        reply_to = message.reply_to if self.replies else None
        correlation_id = response.correlation_id or message.correlation_id
        if reply_to is not None:
            await self._broker.reply(message, reply_to, response, body, content_type)
        if result is None:
            return
        for publisher in self.publishers:
            await publisher.deliver(publisher.outgoing(response, body, content_type, correlation_id))
