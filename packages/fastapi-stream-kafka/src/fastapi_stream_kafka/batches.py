"""What becomes of the messages of a batch that the cluster refuses.

It refuses all of them for one that is invalid, and when they are too large together.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
    kafka_errors,
)
from aiokafka.producer.message_accumulator import MessageBatch

from .client import LOST

__all__ = ("RefusedTogether", "watch_batches")

INVALID_RECORD = 87
"""What the cluster says of a batch with a record that its topic does not take; aiokafka does not know the number."""


class InvalidRecord(BrokerResponseError):
    """A record is not what its topic takes, such as one without a key where the topic is compacted."""

    errno = INVALID_RECORD
    message = "INVALID_RECORD"
    description = "The cluster does not take the record: a compacted topic needs a key, for example."


kafka_errors.setdefault(INVALID_RECORD, InvalidRecord)
OF_ONE_RECORD = (
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    kafka_errors[INVALID_RECORD],
)
"""Refusals of a batch that each message of it may be innocent of."""


class RefusedTogether(KafkaError):
    """The cluster refused a message with others; alone it may be taken."""


class Batch(MessageBatch):
    """A batch that gives its numbers back when the cluster refuses it.

    The client leaves a gap in the sequence, behind which the cluster takes nothing more of an idempotent producer.
    Only one batch of a partition is under way, so that no later one is numbered yet.
    """

    numbers: Any = None

    def failure(self, exception: Exception) -> None:
        if self.retry_count and _is_refused(exception):
            if self.numbers is not None:
                self.numbers.increment_sequence_number(self.tp, -self.record_count)
            if self.record_count > 1 and isinstance(exception, OF_ONE_RECORD):
                exception = RefusedTogether(exception)
        super().failure(exception)


def watch_batches(producer: AIOKafkaProducer) -> None:
    """Have every batch of a producer be a `Batch`."""
    accumulator: Any = producer._message_accumulator
    append, numbers = accumulator._append_batch, producer._txn_manager

    def append_watched(*args: Any) -> Any:
        batch = append(*args)
        batch.__class__ = Batch
        batch.numbers = numbers
        return batch

    accumulator._append_batch = append_watched


def _is_refused(error: BaseException) -> bool:
    """Tell whether the cluster answered that it stored nothing, and never will."""
    return isinstance(error, BrokerResponseError) and not (error.retriable or isinstance(error, (*LOST, UnknownError)))
