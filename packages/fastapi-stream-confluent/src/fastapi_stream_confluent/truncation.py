"""Partitions whose log comes back shorter: records were lost in a power cut, or with a leader that lagged behind.

librdkafka asks the leader where the log of the reader's leader epoch ends, and says so in the text of an error alone.
What was written there since is new, though its offsets were seen before.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

if TYPE_CHECKING:
    from fastapi_stream_core.partition import Partition

    from .source import KafkaSource

__all__ = ("Truncation",)

ENDS = re.compile(r"truncation detected at offset (\d{1,19}) [^:]*: broker end offset is (\d{1,19}) ")
SAYS = KafkaError(KafkaError._LOG_TRUNCATION).str()
LEAVE_SECONDS = 3.0
"""How long the consumer goes on: others of its partitions were cut by the same fault, and say so at the same time."""


class Truncation:
    """Goes on where a log was cut: the group is set back, and the consumer made anew.

    Args:
        source: whose partitions they are.
        leave: told why the consumer is to be made anew.
    """

    def __init__(self, source: KafkaSource, leave: Callable[[Exception], None]) -> None:
        self._source = source
        self._leave = leave
        self._cut: set[Partition] = set()

    def notice(self, lane: Partition, error: KafkaError) -> bool:
        """Tell whether an error says that a partition of this consumer was cut; it is read no further then."""
        known = self._source.offsets.get(lane)
        if lane in self._cut:
            return True
        if error.code() != KafkaError._AUTO_OFFSET_RESET or SAYS not in error.str() or known is None:
            return False
        end = _end_in(error.str(), known.next)
        position, before = min(known.position, end), known.next
        self._source.renew(lane, position)
        self._source.subscription.broker.report.line(
            logging.WARNING,
            "%s: partition %d of %s lost its last records, from offset %d on, where this process had read up to %d;"
            " going on at %d",
            self._source.subscription.label,
            lane[1],
            lane[0],
            end,
            before,
            position,
        )
        if not self._cut:
            self._leave_later(KafkaException(error))
        self._cut.add(lane)
        return True

    def _leave_later(self, error: Exception) -> None:
        asyncio.get_running_loop().call_later(LEAVE_SECONDS, self._leave_when_committed, error)

    def _leave_when_committed(self, error: Exception) -> None:
        # Before the group knows, whoever has the partition next would begin behind what was written since.
        source = self._source
        if source.commits is not None and any(source.offsets[lane].committable() is not None for lane in self._cut):
            self._leave_later(error)
        else:
            self._leave(error)


def _end_in(text: str, before: int) -> int:
    """Return where the log ended; its beginning when the text does not say it, or says what can't be."""
    found = ENDS.search(text)
    end = int(found[2]) if found else 0
    return end if end < before else 0
