"""Messages without a broker: the production path between a client library and the acknowledgement, and nothing else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..broker import Broker
from ..message import StreamMessage
from ..partition import Commits, Offsets, Partition
from ..response import Outgoing
from ..transport import Source, Transport

if TYPE_CHECKING:
    from types import TracebackType

    from ..subscription import Subscription

__all__ = ("Feed", "PartitionFeed")

R = TypeVar("R")

CHUNK = 500
"""Most messages of one fetch, as clients that fetch many at a time have it."""


class Feed(Transport, Generic[R]):
    """A transport that delivers what a test gives it to the only subscription of a broker.

    `async with feed` starts the broker with it. `prepare` makes records, which is the work of a client library; `run`
    has all of them handled on the production path: source, dispatcher, plan, handler, acknowledgement. What is
    published on the way is counted and forgotten.

    Args:
        broker: the broker, not started, with one subscriber.
        record: makes the client's object number n, from 0.
        message: makes the message of it, as the package's source does.
        settle: notes an acknowledgement, as the package's source does; by default nothing is noted.
        redelivers: as in `Source`.

    Attributes:
        settled: how many messages were settled for good.
        published: how many messages were published.
        released: what was fetched, never started, and handed back at the stop.
        stopping: set when the broker begins to stop.
    """

    def __init__(
        self,
        broker: Broker,
        record: Callable[[int], R],
        message: Callable[[R], StreamMessage],
        settle: Callable[[StreamMessage], None] | None = None,
        redelivers: bool = False,
    ) -> None:
        self.broker = broker
        self.settled = 0
        self.published = 0
        self.released: list[StreamMessage] = []
        self.stopping = asyncio.Event()
        self.message = message
        self.settle = settle
        self.redelivers = redelivers
        self.records: deque[R] = deque()
        self._record = record
        self._number = 0
        self._target = 0
        self._error: Exception | None = None
        self._source: FeedSource[R] | None = None
        self._over = asyncio.Event()

    async def __aenter__(self) -> Feed[R]:
        self.broker._life.make_transport = lambda: self
        await self.broker.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.broker.stop()
        self.broker._life.make_transport = self.broker.transport

    def prepare(self, count: int) -> None:
        """Make the next records."""
        self.records.extend(map(self._record, range(self._number, self._number + count)))
        self._number += count

    async def run(self) -> None:
        """Have everything that was prepared handled; return when the last of it is settled.

        Raises:
            Exception: what `message` or `settle` raised.
        """
        if self._source is not None and self.settled < self._number:
            self._target = self._number
            self._over.clear()
            self._source.arrived.set()
            await self._over.wait()
        if self._error is not None:
            raise self._error

    def fail(self, error: Exception) -> None:
        """End `run` with an error."""
        self._error = error
        self._over.set()

    def finish_one(self) -> None:
        """Note that one message is settled for good."""
        self.settled += 1
        if self.settled == self._target:
            self._over.set()

    # The transport.

    def source(self, subscription: Subscription) -> FeedSource[R]:
        self._source = FeedSource(subscription, self)
        return self._source

    async def start(self) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def publish(self, message: Outgoing) -> None:
        self.published += 1

    async def ping(self, timeout: float) -> bool:
        return True


class PartitionFeed(Feed[R]):
    """A feed of one partition of a log: its offsets are noted, and committed while messages are handled.

    It is made on the event loop.

    Args:
        broker: as in `Feed`.
        record: as in `Feed`; the offset of record n is n.
        message: as in `Feed`.
        partition: whose records they are.
        offset: reads the offset of a message, as the package's source does.

    Attributes:
        committed: the next offset as the last commit said it.
        commits: how many commits there were.
    """

    def __init__(
        self,
        broker: Broker,
        record: Callable[[int], R],
        message: Callable[[R], StreamMessage],
        partition: Partition,
        offset: Callable[[Any], int],
    ) -> None:
        super().__init__(broker, record, self._received, self._done)
        self.committed = 0
        self.commits = 0
        self._make_message = message
        self._partition = partition
        self._offset = offset
        self._offsets = Offsets(0)
        self._commits = Commits(self._commit, {partition: self._offsets}, self._failed)

    def _received(self, record: R) -> StreamMessage:
        message = self._make_message(record)
        self._offsets.fetched(self._offset(message))
        return message

    def _done(self, message: StreamMessage) -> None:
        self._commits.done(self._partition, self._offset(message))

    async def _commit(self, due: dict[Partition, int]) -> None:
        self.committed = due[self._partition]
        self.commits += 1

    def _failed(self, error: Exception) -> None:
        raise error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self._commits.flush()
        await self._commits.close()


class FeedSource(Source, Generic[R]):
    """Gives the messages of a feed, many at a time."""

    pace = 0.0
    cancellable = True

    def __init__(self, subscription: Subscription, feed: Feed[R]) -> None:
        super().__init__(subscription)
        self.redelivers = feed.redelivers
        self.arrived = asyncio.Event()
        self._feed = feed
        self._again: deque[StreamMessage] = deque()

    async def start(self) -> None:
        """There is nothing to subscribe to."""

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        records, again = self._feed.records, self._again
        while not records and not again:
            self.arrived.clear()
            await self.arrived.wait()
        messages: list[StreamMessage] = []
        while again and len(messages) < limit:
            messages.append(again.popleft())
        message = self._feed.message
        try:
            for _ in range(min(limit - len(messages), len(records), CHUNK)):
                messages.append(message(records.popleft()))
        except Exception as error:
            self._feed.fail(error)
            raise
        return messages

    def ack(self, message: StreamMessage) -> None:
        settle = self._feed.settle
        if settle is not None:
            try:
                settle(message)
            except Exception as error:
                self._feed.fail(error)
                raise
        self._feed.finish_one()

    def nack(self, message: StreamMessage, delay: float) -> Any:
        message.renew()
        self._again.append(message)
        self.arrived.set()

    def stop(self) -> None:
        self._feed.stopping.set()

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        self._feed.released.extend(messages)

    async def close(self) -> None:
        """There is nothing to close."""
