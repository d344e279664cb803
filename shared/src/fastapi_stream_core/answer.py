"""What becomes of a handler's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import BrokerUnavailable, ReplyRefused, StreamError
from .identifier import SHORT, goes_on
from .replies import Replies
from .response import Response, refuse_unused

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
        options, self._broker = subscription.options, subscription.broker
        policy = "off" if options["no_reply"] else options["replies"] or self._broker.options["replies"]
        self._policy = Replies(policy, self._broker, subscription.label)
        self.replies = self._policy.on
        self._encode = subscription.plan.encode
        self._report = subscription.broker.report

    async def send(self, message: StreamMessage, result: Any) -> None:
        """Send the result for one message; a result of None only to who waits for it.

        None is no result, whatever the response model says: it is not published, and whoever waits for an answer gets
        an empty one. `Response(None)` is published, as an empty body.

        Raises:
            BrokerUnavailable: the broker is away.
            SetupError: it has an option that has no effect on anything that is sent.
            Exception: it is not what the response model says, or a publisher could not publish it.
        """
        reply_to = message.reply_to if self.replies else None
        if result is None and reply_to is None:
            return
        response = result if isinstance(result, Response) else Response.plain(result)
        if response.options:
            self._check_options(response)
        body, content_type = self._encode(response.body)
        if reply_to is not None:
            await self._reply(message, reply_to, response, body, content_type)
        if result is None:
            return
        correlation_id = response.correlation_id or message.correlation_id
        # Most are short, and asked for no more than that.
        if (correlation_id[SHORT:] or not correlation_id.isprintable()) and not response.correlation_id:
            correlation_id = correlation_id if goes_on(correlation_id) else self._broker.new_id()
        for publisher in self.publishers:
            await publisher.deliver(publisher.outgoing(response, body, content_type, correlation_id))

    def _check_options(self, response: Response) -> None:
        """Refuse options that have no effect at any publisher, nor on an answer where answers are sent.

        Raises:
            SetupError: there is one.
        """
        used = {name for one in self.publishers for name in one.taken(response)}
        places = [repr(one.address) for one in self.publishers]
        if self.replies:
            used.update(self._broker.answered(response))
            places.append("an answer")
        refuse_unused(response, used, places)

    async def _reply(
        self, message: StreamMessage, reply_to: str, response: Response, body: bytes, content_type: str | None
    ) -> None:
        """Answer one message. The sender chose the address: one that can't be answered is no failure of the handler.

        Raises:
            BrokerUnavailable: the broker is away.
        """

        async def send() -> None:
            refusal = await self._policy.refusal(reply_to)
            if refusal is not None:
                raise ReplyRefused(reply_to, refusal)
            await self._broker.reply(message, reply_to, response, body, content_type)

        try:
            try:
                await send()
            except BrokerUnavailable:
                if not await self._broker.ping():
                    raise
                # It is there: what is away may be no more than the address, and with it nobody else has to wait.
                await send()
        except BrokerUnavailable as error:
            if not await self._broker.ping():
                raise
            self._report.reply_refused(message, error)
        except StreamError as error:
            self._report.reply_refused(message, error)
