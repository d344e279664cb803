"""How messages are asked for from a JetStream stream."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from fastapi_stream_core.message import StreamMessage

from .jetstream import HEARTBEAT_SECONDS
from .stream_source import TICK_SECONDS, WINDOW, StreamSource

if TYPE_CHECKING:
    from .parser import Wire
    from .subscription import NatsSubscription
    from .transport import NatsTransport

__all__ = ("PullSource",)

MOST_DIGITS = 9


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
        expires = max(pull.timeout, 1.0) if pull is not None and not pull.batch else 30.0
        self._limits = {
            "expires": round(expires * 1e9),
            "idle_heartbeat": round(min(HEARTBEAT_SECONDS, expires / 2.5) * 1e9),
        }
        self._inbox = b""
        self._asked = 0
        self._most = self.window

    async def start(self) -> None:
        await self._bind()
        if self.connection is not None:
            inbox = self.connection.new_inbox()
            self._inbox = inbox.encode()
            await self._subscribe(self.connection, inbox, "")

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if self._buffer:
            self._ask(limit - len(self._buffer), limit + self.dispatcher.backlog())
        return await super().fetch(limit)

    async def _more(self, limit: int) -> None:
        allowed = limit + self.dispatcher.backlog()
        while not (self._buffer or self._doubt or self._stopping or self._failure):
            self._ask(allowed - self.dispatcher.backlog(), allowed)
            if self._asked or not self.dispatcher.backlog():
                await self._wait()
            else:
                await self.dispatcher.wait_finished(TICK_SECONDS)

    def _ask(self, room: int, allowed: int) -> None:
        """Ask for as many messages as there is room for, when that is half of what is allowed."""
        wanted = min(room - self._asked, self._most)
        half = max((allowed - self.subscription.max_workers) // 2, 1)
        if wanted < min(half, self._most) or self.connection is None or not self.connection.is_connected:
            return
        self._write_acks()  # in one packet
        self._asked += wanted
        body = json.dumps({"batch": wanted, **self._limits}).encode()
        target = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}".encode()
        self._seen = monotonic()
        self.connection.write(b"PUB %b %b %d\r\n%b\r\n" % (target, self._inbox, len(body), body))

    def keep_messages(self, run: list[Wire]) -> None:
        self._asked = max(self._asked - len(run), 0)
        super().keep_messages(run)

    def tell(self, reply: bytes, headers: bytes) -> None:
        line, _, rest = headers[9:].partition(b"\r\n")
        code, _, text = line.partition(b" ")
        if code == b"100":
            return
        left = [
            one.partition(b":")[2].strip()
            for one in rest.split(b"\r\n")
            if one.lower().startswith(b"nats-pending-messages:")
        ]
        self._asked = max(self._asked - int(left[0][:MOST_DIGITS]), 0) if left and left[0].isdigit() else 0
        if code == b"409" and b"batch" in text.lower():
            most = re.search(rb"[0-9]{1,9}", text)
            self._most = max(int(most[0]), 1) if most else 1
            self.wake()
        elif code in (b"404", b"408"):  # no messages until the request expired
            self.wake()
        else:  # anybody may have published this: the server is asked
            self._suspect()

    async def _verify(self) -> None:
        self._asked = 0
        await super()._verify()
