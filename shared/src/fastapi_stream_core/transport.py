"""The seam under a broker: what a client library, or the memory, has to do for the core.

A broker's package implements `Transport` and `Source`; nothing else in it touches the client library.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dispatch import Dispatcher
    from .message import StreamMessage
    from .response import Outgoing
    from .subscription import Subscription

__all__ = ("Source", "Transport")


class Source(ABC):
    """Delivers the messages of one subscription and settles them; one object for one life of the client's consumer.

    The order of calls: `start`, then `fetch` again and again while messages are settled, then `stop`, `release`,
    `flush` and `close`. After an error out of `start` or `fetch` the core calls `close` and asks the transport
    for a new source.

    Attributes:
        subscription: whose options it follows.
        dispatcher: who handles the messages; set by the core before `start`.
        redelivers: whether the broker itself delivers a message again after `nack`. Otherwise the core keeps the
            message, unsettled at the broker, and handles it again after the delay.
        window: most messages that are fetched and not finished.
        at_once: most messages of one fetch; a fetch of so many says that there are more.
        adaptive: whether fetching claims messages for a time; then only as many are fetched as the handler can do.
        pace: factor on the delays before another delivery; the memory does not wait.
        cancellable: whether `fetch` may be cancelled at a stop without losing what it took from the broker.
        awaits: whether nothing that it reads exists yet; the subscription backs off meanwhile.
        most_deliveries: how often the broker delivers a message; one that fails then is rejected.
        settles: whether the broker knows acknowledgements at all. Without them a message that fails is
            logged and gone: at most once.
        gone: whether the broker has taken back what was fetched and not acknowledged, as it does when the connection
            is lost: it delivers it again, and the core does not.
        broken: whether nothing more comes, so that `fetch` gives what is here still, if anything, and raises.
    """

    redelivers: bool = False
    most_deliveries: int = sys.maxsize
    settles: bool = True
    awaits: bool = False
    gone: bool = False
    broken: bool = False
    pace: float = 1.0
    cancellable: bool = False
    window: int = 500
    at_once: int = sys.maxsize
    adaptive: bool = False

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.dispatcher: Dispatcher

    @abstractmethod
    async def start(self) -> None:
        """Subscribe; return when the subscription is positioned, so that whatever is published next arrives."""

    @abstractmethod
    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        """Wait for messages and return them, at most `limit`.

        May return none after a while. It has to suspend at least once when there is nothing. It returns soon
        after `stop`. The core cancels it only after `stop`: at once when the source is `cancellable`, otherwise when
        it has not returned within three seconds.

        Raises:
            Exception: the consumer is broken; the core makes a new source after a backoff.
        """

    def note_broken(self) -> None:
        """Note that nothing more comes: `fetch` is called at once, also while there is no room for messages.

        The next source is there before a handler ends, and with it what others see of a consumer: its queue, its
        bindings, that it wants what is published.
        """
        self.broken = True
        self.dispatcher.tell()

    def ack(self, message: StreamMessage) -> Awaitable[None] | None:
        """Acknowledge a message: note it, and let the broker know soon (coalesced), or return what to await.

        Called once for each message that `fetch` gave, also when the message was rejected and the package does
        not override `reject`. A late acknowledgement, of a lost connection or a partition that is gone,
        is counted with `dispatcher.late()` and never raises.
        """
        return None

    def reject(self, message: StreamMessage) -> Awaitable[None] | None:
        """Reject a message for good; the same as `ack` where the broker knows no rejection."""
        return self.ack(message)

    def nack(self, message: StreamMessage, delay: float) -> Awaitable[None] | None:
        """Have the broker deliver the message again after `delay` seconds; only called when `redelivers`."""
        return None

    def keep(self, message: StreamMessage, delay: float) -> None:
        """Note that the core keeps a failed message and handles it again after `delay` seconds; not when `redelivers`.

        Where the broker counts deliveries, or lends messages for a time, this is the place to tell it.
        """

    def is_finished(self, message: StreamMessage) -> bool:
        """Tell whether this process finished a redelivered message since it was fetched; it is not handled then."""
        return False

    def hold(self, lane: Hashable) -> None:
        """Note that messages of `lane` wait for a delivery again: fetch no more of it (pause the partition)."""

    def resume(self, lane: Hashable) -> None:
        """Note that `lane` goes on."""

    def give_back(self, lane: Hashable, messages: Sequence[StreamMessage]) -> bool:
        """Take back messages of a held lane that were fetched and never started, to fetch them again after `resume`.

        Called when more waits behind failed messages than the window has room for, with the last messages of the
        lane that were fetched, in their order. Only a broker that keeps its messages in order can do it.

        Returns:
            Whether they were taken back; by default they are kept here.
        """
        return False

    def stop(self) -> None:
        """Take no new messages, and let a running `fetch` return soon."""

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        """Hand back messages that were fetched and never started; called once more for what a thread leaves.

        Where nothing is acknowledged (`settles`) the broker has these no more: then it is also called after `close`,
        when the subscription stops while messages of an earlier source still wait.
        """

    async def flush(self) -> None:
        """Let the broker know of every acknowledgement that is still only noted."""

    @abstractmethod
    async def close(self) -> None:
        """Close the consumer with every socket, also after `start` failed half-way. Bounded in time, never raises."""


class Transport(ABC):
    """One connection to a broker. It is started and closed once; a broker that starts again gets a new one.

    Attributes:
        any_loop: whether `publish` may be called from other event loops than that of `start`.
    """

    any_loop: bool = False

    @abstractmethod
    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: the broker could not be reached within `startup_timeout`.
        """

    @abstractmethod
    async def close(self) -> None:
        """Flush what is being published and close every socket; bounded in time, never raises."""

    @abstractmethod
    def source(self, subscription: Subscription) -> Source:
        """Return a new source for a subscription."""

    @abstractmethod
    async def publish(self, message: Outgoing) -> Any:
        """Publish one message and wait for the broker's confirmation.

        Returns:
            What the client library says of it (record metadata, stream sequence, entry id, ...).

        Raises:
            BrokerUnavailable: no confirmation within `publish_timeout`.
            PublishError: the broker refused it.
        """

    @abstractmethod
    async def ping(self, timeout: float) -> bool:
        """Tell whether the broker answers within `timeout` seconds."""
