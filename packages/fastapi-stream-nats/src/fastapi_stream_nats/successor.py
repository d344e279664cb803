"""The consumer that is in the place of one of the same name that is gone."""

from __future__ import annotations

import re
from collections.abc import Hashable
from datetime import datetime

from nats.js.api import ConsumerInfo, StreamInfo

__all__ = ("Successor",)

ANSWER = re.compile(rb"PUB (\S+)  [0-9]+\r\n[^\r]*\r\n")
"""A command that answers to an address for acknowledgements."""


class Successor:
    """Delivers to where the one before it delivered, and gives the same addresses to other messages.

    Args:
        consumer: what the server says of it.
        stream: what the server says of its stream.
        life: when the stream was created that the consumer before it read.
        prefix: how the addresses for acknowledgements of both begin.

    Attributes:
        created: when it was made.
    """

    def __init__(self, consumer: ConsumerInfo, stream: StreamInfo, life: Hashable, prefix: bytes) -> None:
        self.created = consumer.created
        # Nothing else reads a stream that is new too; in one that stayed, older messages may have come from both.
        is_stream_new = life is not None and stream.created != life
        self._since = nanoseconds(stream.created if is_stream_new and stream.created else consumer.created)
        self._prefix = prefix

    def own(self, commands: bytes) -> bytes:
        """Return of answers to messages those to messages that it delivered for certain."""
        return b"".join([command.group() for command in ANSWER.finditer(commands) if self.delivered(command[1])])

    def delivered(self, address: bytes) -> bool:
        """Tell whether it delivered a message, by when that was stored, as its address for acknowledgements says."""
        if not address.startswith(self._prefix):
            return False
        try:
            return int(address[len(self._prefix) :].split(b".", 4)[3]) >= self._since
        except (ValueError, IndexError):
            return False


def nanoseconds(time: datetime) -> int:
    """Return a time as the server counts it, to the microsecond."""
    return round(time.timestamp() * 1e6) * 1000
