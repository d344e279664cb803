"""Offsets that are not those of the log.

librdkafka takes the offset of a record from its batch, where the sender wrote it and nobody checked it. One that is too
large would make everything seen that follows, up to itself, and a commit of it would pass that over.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.partition import Partition

if TYPE_CHECKING:
    from confluent_kafka import Message
    from fastapi_stream_core.partition import Offsets
    from fastapi_stream_core.report import Report

    from .consumer import ConsumerThread
    from .source import KafkaSource

__all__ = ("Numbering",)


class Numbering:
    """Finds such offsets: by the end of the log, and by the client's going on before one of them.

    Of each partition the last gap is known: what lies in it was not received before the client goes back into it.

    Args:
        thread: knows where a partition ends.
        report: takes what is rejected.

    Attributes:
        passed: partitions that go on behind a record that was taken out, and where.
    """

    def __init__(self, thread: ConsumerThread, report: Report) -> None:
        self._thread = thread
        self._report = report
        self.passed: dict[Partition, int] = {}
        self._gaps: dict[Partition, tuple[int, int]] = {}

    def note(self, lane: Partition, expected: int, offsets: Sequence[int]) -> bool:
        """Note the last gap of what was received in the order of the log; tell whether there is one.

        Args:
            lane: of which partition.
            expected: where it went on before.
            offsets: ascending; at least one.
        """
        for number in range(len(offsets) - 1, -1, -1):
            before = offsets[number - 1] + 1 if number else expected
            if before < offsets[number]:
                self._gaps[lane] = before, offsets[number]
                return True
            if offsets[number] - offsets[0] == number and expected == offsets[0]:
                return False
        return False

    def goes_back(self, lane: Partition, offset: int) -> bool:
        """Tell whether a record lies in the last gap: then what is behind the gap has not the offset that it says."""
        begin, end = self._gaps.get(lane, (0, 0))
        if not begin <= offset < end:
            return False
        self._gaps[lane] = begin, offset
        return True

    def forget(self, lane: Partition) -> None:
        """Know of no gap of a partition: the client goes on elsewhere."""
        self._gaps.pop(lane, None)

    def check_end(self, lane: Partition, known: Offsets, run: list[Message], numbers: list[int]) -> None:
        """Take out a last record that is said to be behind the end of the log: what follows it is fetched once more."""
        offset, end = numbers[-1], self._thread.end_of(lane)
        if end is None or offset < end:
            return
        del run[-1], numbers[-1]
        goes_on = self.passed[lane] = max(known.next, numbers[-1] + 1 if numbers else 0) + 1
        self.forget(lane)
        self._report.count("rejected")
        self._report.line(
            logging.ERROR,
            "%s partition %d: a record says that its offset is %d, but the log ends at %d; it is rejected,"
            " the partition goes on at offset %d",
            *lane,
            offset,
            end,
            goes_on,
        )

    def pass_over(self, source: KafkaSource) -> None:
        """Go on behind what was taken out, and commit that as if it were handled."""
        for lane, goes_on in self.passed.items():
            if (known := source.offsets.get(lane)) is not None and known.active:
                known.passed(goes_on)
                source.go_back(lane, goes_on)
        self.passed.clear()
        if source.commits is not None:
            source.commits.note()

    def is_said_behind(self, lane: Partition, received: Sequence[Message]) -> bool:
        """Tell whether the client left the log since a record says that it is behind its end."""
        of_lane = [one for one in received if one.error() is None and (one.topic(), one.partition()) == lane]
        end = self._thread.end_of(lane)
        last: Any = of_lane[-1].offset() if of_lane else -1
        return end is not None and last >= end
