"""Records that librdkafka can't read: they are rejected, and their partition goes on behind them.

The cluster takes what its own library can read. A value of -2 bytes, or two streams of snappy one after the other, are
such records: librdkafka stands still before them, mostly without a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .probe import Probe

if TYPE_CHECKING:
    from fastapi_stream_core.partition import Partition

    from .consumer import ConsumerThread
    from .numbering import Numbering
    from .source import KafkaSource

__all__ = ("Unreadable",)

LOOK_SECONDS, BRISK_SECONDS = 1.0, 0.1
"""Seconds between two looks, and for a while after something was found: there may be more of the kind."""
BRISK_FOR_SECONDS = 30.0
LOOKS = 3
"""After so many of them a partition that stands before its end is examined."""
MOST_LOOKS = 64
CLOSE_SECONDS = 4.0


class _Standing(NamedTuple):
    """A partition that goes no further: since when, and whether that was found to have another reason."""

    at: int
    looks: int
    patience: int = LOOKS
    readable_to: int = -1


class Unreadable:
    """Looks for partitions of one source that stand still though their log goes on, on the event loop.

    Args:
        source: whose partitions they are.
        thread: knows where they end.
        numbering: takes where they go on.
        config: what the consumer was made with.
    """

    def __init__(
        self, source: KafkaSource, thread: ConsumerThread, numbering: Numbering, config: Mapping[str, Any]
    ) -> None:
        self._source = source
        self._thread = thread
        self._numbering = numbering
        self._config = config
        self._standing: dict[Partition, _Standing] = {}
        self._suspects: dict[Partition, str] = {}
        self._polls = 0
        self._brisk_until = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._probe: Probe | None = None
        self._closed = False

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Look from now on.

        Args:
            failed: told of an error that nobody expected; then nobody looks any more.
        """
        self._thread.watch_ends(LOOK_SECONDS)
        self._task = asyncio.get_running_loop().create_task(self._look(failed))

    async def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._wake.set()
        if self._probe is not None:
            self._probe.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            self._task.cancel()

    def suspect(self, lane: Partition, reason: str) -> None:
        """Examine a partition now: the client says that it can't read what comes next."""
        self._suspects[lane] = reason
        self._wake.set()

    async def _look(self, failed: Callable[[Exception], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._closed:
                brisk = loop.time() < self._brisk_until
                timer = loop.call_later(BRISK_SECONDS if brisk else LOOK_SECONDS, self._wake.set)
                await self._wake.wait()
                timer.cancel()
                self._wake.clear()
                suspects, self._suspects = self._suspects, {}
                for lane, reason in suspects.items():
                    await self._examine(lane, reason)
                for lane in list(self._find()):
                    await self._examine(lane)
        except Exception as error:
            failed(error)

    def _find(self) -> Iterator[Partition]:
        """Return the partitions that stand before their end, though the client was asked for messages meanwhile."""
        asked, self._polls = self._thread.polls != self._polls, self._thread.polls
        for lane, known in self._source.offsets.items():
            end = self._thread.end_of(lane)
            # The last offset is often the end of a transaction, and whatever it is, nobody waits behind it.
            if not known.active or end is None or known.next + 1 >= end or self._source.may_go_back(lane):
                self._standing.pop(lane, None)
                continue
            before = self._standing.get(lane)
            if before is None or before.at != known.next:
                self._standing[lane] = _Standing(known.next, 0)
            elif asked and before.readable_to != end:
                self._standing[lane] = before = before._replace(looks=before.looks + 1)
                if before.looks >= before.patience:
                    yield lane

    async def _examine(self, lane: Partition, reason: str = "") -> None:
        known = self._source.offsets.get(lane)
        if self._closed or known is None or not known.active:
            return
        at, end, term = known.next, self._thread.end_of(lane), known.term
        self._probe = Probe(self._config, lane, at)
        goes_on = await asyncio.to_thread(self._probe.search)
        if self._closed or not known.active or (known.next, known.term) != (at, term):
            return
        if goes_on is not None and goes_on > at:
            self._pass_over(lane, at, goes_on, reason or self._probe.reason)
            return
        # Other partitions are before it in the client's queue, or what comes is an end of transactions: no message.
        patience = self._standing[lane].patience if lane in self._standing else LOOKS
        readable_to = -1 if goes_on is None or end is None else end
        self._standing[lane] = _Standing(at, 0, min(2 * patience, MOST_LOOKS), readable_to)

    def _pass_over(self, lane: Partition, offset: int, goes_on: int, reason: str) -> None:
        self._standing.pop(lane, None)
        self._brisk_until = asyncio.get_running_loop().time() + BRISK_FOR_SECONDS
        report = self._source.subscription.broker.report
        report.count("rejected")
        report.line(
            logging.ERROR,
            "%s partition %d offset %d: can't be read and is rejected, it goes on at offset %d: %s",
            *lane,
            offset,
            goes_on,
            reason,
        )
        # Now, and not with the next fetch: until then a message that fails may send others back before this one.
        self._numbering.passed[lane] = goes_on
        self._numbering.pass_over(self._source)
