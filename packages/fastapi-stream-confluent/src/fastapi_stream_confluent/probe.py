"""Where a partition goes on behind records that librdkafka can't read.

librdkafka fetches the same again, without end and mostly without a word. What lies behind is read when it is asked for:
of a record that is passed over only the length is looked at, and a batch that can't be unpacked has its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from .failures import UNREADABLE

if TYPE_CHECKING:
    from fastapi_stream_core.partition import Partition

__all__ = ("Probe",)

OWN: Mapping[str, Any] = {
    "enable.partition.eof": True,
    "statistics.interval.ms": 5,
    "fetch.error.backoff.ms": 0,
    "fetch.wait.max.ms": 100,
    "max.partition.fetch.bytes": 16384,
    "error_cb": lambda error: None,
    "log_level": 0,
}
"""What the client of a probe has besides a consumer's options: it says at once what it could not read."""
WAIT_SECONDS = 0.005
ANSWER_SECONDS = 5.0
"""Longest wait for what an offset holds."""
TRIES = 3
"""How often the client has to fail at an offset. One that goes on by itself has only met a batch that was cut off."""
ONE_BY_ONE_SECONDS = 20.0
"""How long each offset is tried; then they are so many that a search of growing steps has to do."""
ASK_SECONDS = 5.0


class Probe:
    """One search, with a client that no other thing is done with.

    Args:
        config: what a consumer of the subscription is made with.
        lane: in which partition.
        offset: where the consumer stands still.

    Attributes:
        reason: what the client said of what it can't read.
    """

    def __init__(self, config: Mapping[str, Any], lane: Partition, offset: int) -> None:
        self.reason = "librdkafka can't read it"
        self._config = config
        self._lane = lane
        self._offset = offset
        self._is_over = False
        self._stands = self._failed = self._failed_before = -1

    def cancel(self) -> None:
        """Have a running search end soon, and find nothing."""
        self._is_over = True

    def search(self) -> int | None:
        """Return the first offset that can be read, or the end of the log; None when the cluster does not tell.

        It is the offset that was given when nothing is wrong there. Blocks.
        """
        options = {
            name: value for name, value in self._config.items() if not name.endswith("_cb") or name == "oauth_cb"
        }
        client = Consumer({**options, **OWN, "stats_cb": self._note})
        try:
            client.assign([TopicPartition(*self._lane, self._offset)])
            return self._search(client)
        except KafkaException:
            return None
        finally:
            client.close()

    def _search(self, client: Consumer) -> int | None:
        at, until = self._offset, monotonic() + ONE_BY_ONE_SECONDS
        while (readable := self._is_readable(client, at)) is False:
            at = max(at, self._stands) + 1
            if monotonic() > until:
                return self._leap(client, at)
            client.seek(TopicPartition(*self._lane, at))
        return at if readable else None

    def _leap(self, client: Consumer, offset: int) -> int | None:
        """Look further and further ahead, and then back to where what can be read begins."""
        _, high = client.get_watermark_offsets(TopicPartition(*self._lane), timeout=ASK_SECONDS)
        low, step = offset - 1, 1
        while high - low > 1:
            at = min(low + step, (low + high) // 2)
            client.seek(TopicPartition(*self._lane, at))
            readable = self._is_readable(client, at)
            if readable is None:
                return None
            if readable:
                high = at
            else:
                low, step = at, step * 2
        return high

    def _is_readable(self, client: Consumer, at: int) -> bool | None:
        """Tell whether a message comes from an offset on, or the log ends; None when nothing is said."""
        self._stands, until = -1, monotonic() + ANSWER_SECONDS
        while not self._is_over and monotonic() < until:
            # What was read is handed on before the failure behind it is counted a second time.
            fails = self._stands >= at and self._failed - self._failed_before >= TRIES
            for one in client.consume(1, 0 if fails else WAIT_SECONDS):
                error = one.error()
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    return True
                if error.code() not in UNREADABLE:
                    return None
                self.reason = error.str()
                return False
            if fails:
                return False
        return None

    def _note(self, statistics: str) -> None:
        """Take from the client's statistics where it stands, and how many batches it could not read to their end."""
        said = json.loads(statistics)
        topic, number = self._lane
        partition = said["topics"].get(topic, {}).get("partitions", {}).get(str(number), {})
        stands = partition.get("next_offset", -1)
        self._failed = sum(one.get("rxpartial", 0) for one in said["brokers"].values())
        if stands != self._stands:
            self._stands, self._failed_before = stands, self._failed
