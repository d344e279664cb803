"""How messages are asked for from a JetStream stream."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import StreamError, shorten
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.recurrence import Recurrence

from .checked_source import TICK_SECONDS
from .jetstream import HEARTBEAT_SECONDS
from .message import wire_sizes
from .status import Status
from .stream_source import WINDOW, StreamSource

if TYPE_CHECKING:
    from .parser import Wire
    from .subscription import NatsSubscription
    from .transport import NatsTransport

__all__ = ("PullSource",)

LEAST_SECONDS = 1.0
"""The shortest time that a request stands at the server."""
DENIALS = 3
"""Refusals in a row until it is said, and the subscription is not running."""
ENDS = (b"consumer deleted", b"consumer is push based", b"leadership change", b"server shutdown")
"""How the server ends a request that it had taken."""
PARTS = 8
"""A request may bring this part of the bytes that are allowed, so that several stand at the server."""


class PullRefused(StreamError):
    """The server refuses requests for messages of a consumer."""


class PullSource(StreamSource):
    """Requests for messages stand at the server; a new one follows when half of what is allowed was delivered."""

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription, transport)
        pull = subscription.pull
        size = pull.batch_size if pull is not None else None
        if subscription.batch:
            self.window = max(WINDOW, 2 * subscription.batch_size)
        else:
            self.window = size or WINDOW
            self.adaptive = size is None
        self._expires = max(pull.timeout, LEAST_SECONDS) if pull is not None and not pull.batch else 30.0
        self._limits = _limits(self._expires)
        self._inbox = self._target = b""
        self._asked = 0
        self._most = self.window
        self._most_bytes: int = subscription.options["prefetch_bytes"]
        self._granted = 0
        self._refused = 0
        self._largest = 0
        self._denials = 0
        self._said = Recurrence()
        self._is_told = False

    async def start(self) -> None:
        await self._bind()
        self._target = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer} ".encode()
        if self.connection is not None:
            inbox = self.connection.new_inbox()
            self._inbox = inbox.encode()
            await self._subscribe(self.connection, inbox, "")

    def disconnected(self) -> None:
        super().disconnected()
        if self.connection is not None:
            self.connection.withdraw(b"PUB " + self._target)

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if self._buffer:
            self._ask(limit - len(self._buffer), limit + self.dispatcher.backlog())
        return await super().fetch(limit)

    async def _more(self, limit: int) -> None:
        allowed = limit + self.dispatcher.backlog()
        while not (self._buffer or self._stopping or self._failure or self._has_new_status()):
            self._ask(allowed - self.dispatcher.backlog(), allowed)
            if self._asked or self._doubt or not self.dispatcher.backlog():
                await self._wait()
            else:
                await self.dispatcher.wait_finished(TICK_SECONDS)

    def _ask(self, room: int, allowed: int) -> None:
        """Ask for as many messages as there is room for, when that is half of what is allowed."""
        if self._doubt:  # another consumer of the same name would answer
            return
        wanted = min(room - self._asked, self._most)
        half = max((allowed - self.subscription.max_workers) // 2, 1)
        if wanted < min(half, self._most) or self.connection is None or not self.connection.is_connected:
            return
        size = self._size_to_ask()
        if size is None:
            return
        limits = {"batch": wanted, "max_bytes": size, **self._limits}
        if not size:
            del limits["max_bytes"]
            limits["batch"] = wanted = 1
        self._write_acks()  # in one packet
        self._asked += wanted
        self._granted += size
        body = json.dumps(limits).encode()
        self._seen = monotonic()
        self.connection.write(b"PUB %b%b %d\r\n%b\r\n" % (self._target, self._inbox, len(body), body))

    def _size_to_ask(self) -> int | None:
        """Return how many bytes the next request may bring: 0 for any number, None while there is no room."""
        most, refused = self._most_bytes, self._refused
        here = len(self._buffer) + self.dispatcher.backlog()
        if refused and not (here or self._asked):  # for one message that is larger than all that is allowed: 0
            return most if refused < most else 0
        size = max(most // PARTS, 2 * refused, 1)
        free = most - self._granted - size
        if here * self._largest > free and self.held_bytes() > free and (here or self._asked):
            return None
        return size

    def keep_messages(self, run: list[Wire]) -> None:
        if run:
            if self._denials:
                self._granted_again()
                self._said.end()
            sizes = wire_sizes(run)
            self._refused = 0
            self._largest = max(self._largest, *sizes)
            self._unask(len(run), sum(sizes))
        super().keep_messages(run)

    def _unask(self, messages: int, size: int) -> None:
        """Note that so much of what was asked for came, or will not come."""
        granted = self._granted
        self._granted = max(granted - size, 0)
        self._asked = max(self._asked - messages, 0) if self._granted or not granted else 0
        if not self._asked:
            self._granted = 0

    def tell(self, reply: bytes, headers: bytes) -> None:
        status = Status(headers)
        if status.code == b"100":
            self._granted_again()  # a request stands
            return
        messages, size = status.number(b"nats-pending-messages"), status.number(b"nats-pending-bytes")
        self._unask(self._asked if messages is None else messages, size or 0)
        if status.code in (b"404", b"408"):  # no messages until the request expired
            self._granted_again()
            self.wake()
        elif status.code != b"409" or not self._limited(status, size):
            if not status.text.startswith(ENDS):
                self._denials += 1
                code, text = (one.decode("utf-8", "replace") for one in (status.code, status.text))
                self._follow_denials(f"{code} {shorten(text)}")
            self._suspect()  # anybody may have published this: the server is asked

    def _limited(self, status: Status, size: int | None) -> bool:
        """Follow a limit of a request or of the consumer; tell whether it was one that can be followed."""
        if status.text.startswith(b"batch completed"):  # all messages came, and bytes were left
            return True
        if status.text.startswith(b"message size exceeds maxbytes"):
            self._refused = min(self._most_bytes if size is None else size, self._most_bytes)
        elif status.text.startswith(b"exceeded maxrequestbatch"):
            self._most = status.limit() or 1
        elif status.text.startswith(b"exceeded maxrequestmaxbytes"):
            self._most_bytes = min(status.limit() or 1, self._most_bytes)
        elif status.text.startswith(b"exceeded maxrequestexpires") and self._expires > LEAST_SECONDS:
            self._expires = max(min(status.seconds() or LEAST_SECONDS, self._expires), LEAST_SECONDS)
            self._limits = _limits(self._expires)
        else:
            return False
        self.wake()
        return True

    def refused(self, text: str) -> bool:
        if f'publish to "{self._target.decode().strip()}"'.lower() in text.lower():
            # Nothing stands at the server that would say that it does: when it is quiet for long, it is asked again.
            self._denials = DENIALS
            self._follow_denials(text)
            return True
        return super().refused(text)

    def _follow_denials(self, reason: str) -> None:
        """Say that nothing can be done here about refusals; after some in a row the subscription waits."""
        if self._denials < DENIALS:
            return
        if self._said.is_due(PullRefused()):
            text = "%s: the server gives no messages of the consumer %r: %s"
            self._report(logging.WARNING, text, self._consumer, reason)
            self._is_told = True
        self._follow_obstacles()

    def _granted_again(self) -> None:
        """Note that the server takes requests."""
        if self._is_told:
            self._is_told = False
            self._report(logging.INFO, "%s: the server gives messages of the consumer %r again", self._consumer)
        self._denials = 0
        self._follow_obstacles()

    def _is_hindered(self) -> bool:
        return super()._is_hindered() or self._denials >= DENIALS

    def _quiet_seconds(self) -> float:
        # No request stands that the server would end with its consumer, and messages wait to be acknowledged.
        return TICK_SECONDS if self._held and not self._asked else super()._quiet_seconds()

    def _suspect(self) -> None:
        self._asked = self._granted = 0  # what stood at the server may be gone
        super()._suspect()


def _limits(expires: float) -> dict[str, int]:
    heartbeat = min(HEARTBEAT_SECONDS, expires / 2.5)
    return {"expires": round(expires * 1e9), "idle_heartbeat": round(heartbeat * 1e9)}
