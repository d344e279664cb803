"""The thread of one consumer of the client library: every call to the client is made on it.

The client's calls block, and a second thread that makes one waits for the first. So the event loop only posts what it
wants, and the thread does it between two polls.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from fastapi_stream_core.partition import Partition

from .record import bytes_of, lanes_of

if TYPE_CHECKING:
    from .log import ClientLog

__all__ = ("ConsumerThread",)

T = TypeVar("T")

IDLE_SECONDS = 0.25
"""Seconds between two polls while there is no room for messages; each may bring one, which is kept."""
CLOSE_SECONDS = 4.0
KEPT = 100
"""Most messages that are kept; then everything is paused, and the client fetches again what it had ahead."""
FIRST = 10
"""Most messages of a delivery before anything is known of their size."""
SAMPLE = 8
"""Messages of a delivery whose size is asked for."""


class ConsumerThread:
    """Polls one consumer while there is room for messages, and does what else is posted to it.

    Args:
        config: the client's options.
        interval: seconds of one wait for messages.
        most_bytes: about how many bytes one delivery may hold, and what is kept for the next one; a message may be
            larger.
        deliver: takes what was received, on the event loop.
        ended: told on the event loop why the thread ended; None when it was closed.
        log: takes what the client says.

    Attributes:
        polls: how often the client was asked for messages that somebody waits for.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        interval: float,
        most_bytes: int,
        deliver: Callable[[list[Message]], None],
        ended: Callable[[Exception | None], None],
        log: ClientLog,
    ) -> None:
        self._config = dict(config)
        self._interval = interval
        self._most_bytes = most_bytes
        self._size = most_bytes / FIRST
        self._deliver = deliver
        self._report_end = ended
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Callable[[Consumer], object]] = deque()
        self._calls: set[asyncio.Future[Any]] = set()
        self._signal = threading.Event()
        self.polls = 0
        self._wanted = 0
        self._kept: list[Message] = []
        self._held: set[Partition] = set()
        self._all_paused = False
        self._polled = 0.0
        self._every: list[tuple[float, float, Callable[[Consumer], object]]] = []
        self._closing = False
        self._ended = self._loop.create_future()
        self._is_lost = False
        self._failure: Exception = ConnectionAbortedError("the consumer is closed")
        self._ends: dict[Partition, int] = {}
        self._thread = threading.Thread(target=self._run, name="kafka-consumer", daemon=True)

    # The event loop.

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def want(self, count: int) -> None:
        """Have about `count` messages at most delivered, once."""
        self._wanted = count
        self._signal.set()

    def post(self, job: Callable[[Consumer], object]) -> None:
        """Do `job` with the client, soon; an error of it ends the thread."""
        self._jobs.append(job)
        self._signal.set()

    async def call(self, work: Callable[[Consumer], T]) -> T:
        """Do `work` with the client and return its result.

        Raises:
            Exception: what `work` raised, or what ended the thread.
        """
        if self._is_lost:
            raise self._failure
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.add(future)

        def job(client: Consumer) -> None:
            try:
                result = work(client)
            except Exception as error:
                self.tell(_fail, future, error)
            else:
                self.tell(_finish, future, result)

        self.post(job)
        try:
            return await future
        finally:
            self._calls.discard(future)

    async def close(self) -> None:
        """End the thread, and with it the client's membership and sockets.

        Raises:
            TimeoutError: the client still waits for the broker; the thread ends when it has.
        """
        self._closing = True
        self._signal.set()
        if self._thread.ident is None:
            return
        await asyncio.wait_for(asyncio.shield(self._ended), CLOSE_SECONDS)

    def _lose(self, error: Exception | None) -> None:
        self._is_lost = True
        if error is not None:
            self._failure = error
        for call in list(self._calls):
            _fail(call, self._failure)
        self._report_end(error)

    def _end(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        self._lose(error)

    # Both.

    def at_once(self, count: int) -> int:
        """Return how many of `count` messages one delivery holds, by the size of the last ones."""
        return min(count, max(1, int(self._most_bytes / self._size)))

    def end_of(self, lane: Partition) -> int | None:
        """Return where a partition ended when something of it was delivered last, or later; None when nobody knows."""
        return self._ends.get(lane)

    def watch_ends(self, seconds: float) -> None:
        """Look again and again where partitions end, also those of which nothing is delivered."""
        self.every(seconds, lambda client: self._note_ends(client, _assigned(client)))

    @property
    def closing(self) -> bool:
        """Whether the thread is about to end: nobody waits for messages any more."""
        return self._closing

    # The thread.

    def tell(self, work: Callable[..., object], *arguments: Any) -> None:
        """Have something done on the event loop."""
        try:
            self._loop.call_soon_threadsafe(work, *arguments)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._closing = True

    def ask(self, work: Callable[[], Any], timeout: float) -> Any:
        """Have a coroutine run on the event loop, and return its result.

        Raises:
            TimeoutError: the loop did not do it in time.
        """
        if self._loop.is_closed():
            raise ConnectionAbortedError("the event loop is closed")
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def every(self, seconds: float, work: Callable[[Consumer], object]) -> None:
        """Do `work` again and again."""
        self._every.append((monotonic() + seconds, seconds, work))

    def hold(self, lane: Partition) -> None:
        """Receive nothing of a partition."""

        def job(client: Consumer) -> None:
            if lane in _assigned(client):
                self._held.add(lane)
                client.pause([TopicPartition(*lane)])

        self.post(job)

    def resume(self, lane: Partition) -> None:
        """Receive of a partition again."""

        def job(client: Consumer) -> None:
            self._held.discard(lane)
            if not self._all_paused and lane in _assigned(client):
                client.resume([TopicPartition(*lane)])

        self.post(job)

    def go_back(self, lane: Partition, offset: int, done: Callable[[], None]) -> None:
        """Receive of a partition from `offset` on, of a held one when it is resumed.

        Args:
            lane: which partition.
            offset: where it goes on.
            done: called on the event loop, when nothing comes any more of what the client had.
        """

        def job(client: Consumer) -> None:
            self._kept = [one for one in self._kept if (one.topic(), one.partition()) != lane]
            if lane in _assigned(client):
                client.seek(TopicPartition(*lane, offset))
            self.tell(done)

        self.post(job)

    def come(self, client: Consumer, lanes: set[Partition]) -> None:
        """Have partitions received that are about to be assigned: the client keeps them paused where they were once."""
        if free := [TopicPartition(*lane) for lane in lanes - self._held]:
            client.resume(free)

    def gone(self, lanes: set[Partition]) -> None:
        """Forget partitions that were taken away, and their messages."""
        self._held -= lanes
        for lane in lanes:
            self._ends.pop(lane, None)
        self._kept = [one for one in self._kept if (one.topic(), one.partition()) not in lanes]

    def _note_ends(self, client: Consumer, lanes: Iterable[Partition]) -> None:
        """Note where partitions end, as far as the client knows without asking.

        Only here: while one thread waits for messages, another one that asks the client for this never returns, and the
        interpreter stands still with it. A leader that is new may not know yet how far the last one was read.
        """
        for lane in lanes:
            try:
                known: Any = client.get_watermark_offsets(TopicPartition(*lane), cached=True)
            except KafkaException:
                continue
            if known is not None and known[1] > self._ends.get(lane, -1):
                self._ends[lane] = known[1]

    def _run(self) -> None:
        failure: Exception | None = None
        client: Consumer | None = None
        try:
            client = Consumer({"error_cb": self._log.error, **self._config}, logger=self._log)
            while not self._closing and not self._loop.is_closed():
                self._turn(client)
        except Exception as error:
            failure = error
            self.tell(self._lose, error)  # not only when the client is closed: one without brokers takes a minute
        self._closing = True
        try:
            if client is not None:
                client.close()
        except Exception as error:
            failure = failure or error
        self.tell(self._end, failure)

    def _turn(self, client: Consumer) -> None:
        while self._jobs:
            self._jobs.popleft()(client)
        now = monotonic()
        for number, (due, seconds, work) in enumerate(self._every):
            if now >= due:
                self._every[number] = (now + seconds, seconds, work)
                work(client)
        if self._wanted:
            self._receive(client, self.at_once(self._wanted))
            self.polls += 1
            self._polled = monotonic()
            return
        self._signal.wait(self._interval)
        self._signal.clear()
        if not self._wanted and monotonic() - self._polled > IDLE_SECONDS:
            self._idle(client)
            self._polled = monotonic()

    def _receive(self, client: Consumer, wanted: int) -> None:
        """Wait for messages and deliver them.

        What is there is taken at once. When there is nothing, one call returns with the first message and another
        takes what else came: a single call for many would wait until its time is over.
        """
        if self._all_paused:
            self._all_paused = False
            if free := [TopicPartition(*lane) for lane in _assigned(client) - self._held]:
                client.resume(free)
        if wanted > len(self._kept):
            self._keep(client.consume(wanted - len(self._kept), 0))
        if not self._kept:
            self._keep(client.consume(1, self._interval))
            if self._kept and wanted > 1:
                self._keep(client.consume(wanted - 1, 0))
        if self._kept:
            messages, self._kept = self._kept, []
            self._wanted = 0
            some = messages[:: len(messages) // SAMPLE + 1]
            self._size = max(1.0, bytes_of(some) / len(some))
            self._note_ends(client, lanes_of(messages))
            self.tell(self._deliver, messages)

    def _keep(self, messages: list[Message]) -> None:
        # Never `self._kept += client.consume(...)`: a rebalance inside of the call takes messages out of the list.
        self._kept += messages

    def _idle(self, client: Consumer) -> None:
        """Poll while nobody wants messages: the group sees a living member, commits and rebalances go on."""
        if len(self._kept) >= KEPT or bytes_of(self._kept) >= self._most_bytes:
            # Again each time: a rebalance may have brought partitions that are not paused.
            if assigned := [TopicPartition(*lane) for lane in _assigned(client)]:
                client.pause(assigned)
            self._all_paused = True
        self._keep(client.consume(1, 0))


def _assigned(client: Consumer) -> set[Partition]:
    return {(one.topic, one.partition) for one in client.assignment()}


def _finish(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
