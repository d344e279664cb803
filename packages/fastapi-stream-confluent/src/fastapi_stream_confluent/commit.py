"""Committing offsets on the thread of a consumer, without blocking it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from fastapi_stream_core.partition import Offsets, Partition
    from fastapi_stream_core.topic_progress import TopicProgress

    from .consumer import ConsumerThread

__all__ = ("Committing",)

COMMIT_SECONDS = 5.0
AGAIN_SECONDS = 0.1
REBALANCING = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError._WAIT_COORD})
"""Errors of a commit that came into the middle of a rebalance: it is made again when that is over."""


class Committing:
    """One commit at a time: the client tells its result inside of a poll.

    What is due is found on the event loop. Until the thread comes to it, a rebalance may have taken partitions away,
    and more of them was committed; such a commit is dropped, and what of it is still true is committed anew.

    Args:
        progress: what is finished of each partition, and of which topic it is.
        thread: returns the thread that the consumer lives on.
    """

    def __init__(
        self,
        progress: TopicProgress,
        thread: Callable[[], ConsumerThread],
    ) -> None:
        self._progress = progress
        self._offsets = progress.offsets
        self._thread = thread
        self._running: tuple[dict[Partition, int], asyncio.Future[None]] | None = None
        self._losses = 0  # of the thread
        self._known_losses = 0  # of the event loop

    async def commit(self, due: dict[Partition, int]) -> None:
        """Commit on the thread, without blocking it; the client tells the result inside of a poll.

        Raises:
            KafkaException: the broker refused it.
            TimeoutError: it did not answer.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + COMMIT_SECONDS
        began = {lane: (self._offsets[lane], self._offsets[lane].term) for lane in due}
        while due:
            confirmed: asyncio.Future[None] = loop.create_future()
            self._running = (due, confirmed)
            self._thread().post(partial(self._begin, due, self.noted(due), self._known_losses, confirmed))
            try:
                await asyncio.wait_for(confirmed, deadline - loop.time())
                return
            except KafkaException as error:
                if error.args[0].code() not in REBALANCING or loop.time() + AGAIN_SECONDS > deadline:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)
            due = {lane: one for lane, one in due.items() if self._is_still_due(lane, *began[lane])}

    def _is_still_due(self, lane: Partition, offsets: Offsets, term: int) -> bool:
        """Tell whether a partition was ours all the time, and its topic was not made again."""
        return offsets.active and offsets.term == term and self._offsets.get(lane) is offsets

    def _begin(
        self,
        due: dict[Partition, int],
        offsets: list[TopicPartition],
        known_losses: int,
        confirmed: asyncio.Future[None],
        client: Consumer,
    ) -> None:
        if confirmed.done():
            return  # it was given up
        if known_losses != self._losses:
            self._thread().tell(self._settle, due, KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
            return
        try:
            client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._thread().tell(self._settle, due, error.args[0])

    def lose(self) -> int:
        """Note that partitions are taken away; the client calls this on the thread.

        Returns:
            How often that was. The event loop has to `know` it when it has given the partitions up.
        """
        self._losses += 1
        return self._losses

    def know(self, losses: int) -> None:
        """Note that the partitions are given up: what is due from now on is not of them."""
        self._known_losses = losses

    def noted(self, due: dict[Partition, int]) -> list[TopicPartition]:
        """Return positions with the topics they are of; on the event loop, where it is known of which log they are."""
        note_of = self._progress.note_of
        return [TopicPartition(*lane, position, note_of(lane[0])) for lane, position in due.items()]

    def confirmed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Take the result of a commit; the client calls this on the thread."""
        refused = error or next((one.error for one in partitions if one.error is not None), None)
        self._progress.committed.update((one.topic, one.partition) for one in partitions if refused is None)
        self._thread().tell(self._settle, {(one.topic, one.partition): one.offset for one in partitions}, refused)

    def _settle(self, due: dict[Partition, int], error: KafkaError | None) -> None:
        if self._running is None or self._running[0] != due or self._running[1].done():
            return
        if error is None:
            self._running[1].set_result(None)
        else:
            self._running[1].set_exception(KafkaException(error))
