"""The bytes of a connection, between the socket and the client library.

The client library reads a frame with three waits, hands it through two queues and makes a task for each delivery.
Here the deliveries of known consumers are taken out of what RabbitMQ sends, many at a time; every other frame goes on
to the client library byte for byte: heartbeats, answers, confirmations, the end of a channel or of the connection.
What the client library writes within one turn of the event loop goes to the socket at once.

Only what asyncio and the client library document is used. Where one of them has it not, `streams` is None and the
client library reads and writes itself, as it does under everybody else.
"""

from __future__ import annotations

import asyncio
import inspect
import struct
from collections.abc import Callable
from typing import Any, cast

import aiormq
import aiormq.connection
from yarl import URL

from .delivery import Delivery
from .table import text_of
from .writer import Writer

__all__ = ("Deliveries", "Streams", "streams")

FRAME = struct.Struct(">BHI")
"""Kind, channel and length of a frame."""
NUMBER = struct.Struct(">Q?")
"""Tag of a delivery, and whether it was delivered before."""
SIZE = struct.Struct(">Q")
"""Size of the body, four bytes into a content header."""
HEAD = struct.Struct(">BHI4xQ")
"""A frame with a content header: kind, channel, length, and the size of the body."""
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
KINDS = frozenset((METHOD, HEADER, BODY, HEARTBEAT))
END = 0xCE
ALIVE = b"\x08\x00\x00\x00\x00\x00\x00\xce"
"""A heartbeat. RabbitMQ sends none while it sends deliveries, and the client library gives up a silent connection."""
ALIVE_SECONDS = 0.5
"""How often the client library hears of a connection that carries deliveries only; well below any heartbeat."""
DELIVER = b"\x00\x3c\x00\x3c"
CLOSED = (b"\x00\x14\x00\x28", b"\x00\x14\x00\x29")
"""Class and method of `basic.deliver`, `channel.close` and `channel.close-ok`."""
CHANNEL_ENDED = CLOSED[0]
ENDED = b"\x00\x0a\x00\x32"
"""Class and method of `connection.close`."""
ROUTES = 100

Take = Callable[[Delivery], None]


class _Consumer:
    """A consumer whose deliveries are taken, and the one that is on its way."""

    __slots__ = ("channel", "delivery", "missing", "number", "parts", "prefixes", "routes", "skipped", "tag", "take")

    def __init__(self, channel: aiormq.Channel, tag: str, take: Take) -> None:
        self.channel = channel
        self.number = channel.number
        self.tag = tag
        self.take = take
        self.prefixes: tuple[bytes, ...] = (_prefix(tag),)
        self.skipped = len(self.prefixes[0])
        self.delivery: Delivery | None = None
        self.missing = 0
        self.parts: list[bytes] = []
        self.routes: dict[bytes, tuple[str, str]] = {}

    def succeed(self, tag: str) -> bool:
        """Take the deliveries to another tag of the same length too, which replaces this one; tell whether it does."""
        prefix = _prefix(tag)
        if len(prefix) != self.skipped:
            return False
        self.tag = tag
        self.prefixes = (self.prefixes[-1], prefix)
        return True

    def begin(self, data: bytes, begin: int, end: int) -> Delivery:
        """Read a `basic.deliver`."""
        begin += self.skipped
        tag, redelivered = NUMBER.unpack_from(data, begin)
        encoded = data[begin + 9 : end]
        route = self.routes.get(encoded)
        if route is None:
            route = self._route(encoded)
        if self.parts:
            self.parts = []
        return Delivery(self.tag, tag, redelivered, route, self.channel)

    def _route(self, encoded: bytes) -> tuple[str, str]:
        """Return exchange and routing key."""
        size = encoded[0] + 1
        route = text_of(encoded[1:size]), text_of(encoded[size + 1 : size + 1 + encoded[size]])
        if len(self.routes) >= ROUTES:
            self.routes.clear()
        self.routes[encoded] = route
        return route


def _prefix(tag: str) -> bytes:
    """Return how the frame of a delivery to a consumer begins."""
    encoded = tag.encode()
    return DELIVER + bytes([len(encoded)]) + encoded


class Deliveries(asyncio.Protocol):
    """Takes the deliveries of known consumers out of what RabbitMQ sends.

    Args:
        transport: whose protocol is the client library's own; that one gets everything else.
        loop: the event loop.

    Attributes:
        refusal: what RabbitMQ said when it ended the connection; None while it did not.
        when_ended: called with the number of a channel that RabbitMQ ended.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._library = cast("asyncio.Protocol", transport.get_protocol())
        self._loop = loop
        self._consumers: dict[int, _Consumer] = {}
        self._rest = bytearray()
        self._wanted = 0
        self._strange = False
        self._heard = loop.time()
        self.refusal: str | None = None
        self.when_ended: Callable[[int], None] = lambda number: None
        transport.set_protocol(self)

    @property
    def closing(self) -> bool:
        """Whether the connection is lost, which the client library learns a little later."""
        return self._transport.is_closing()

    def abort(self) -> None:
        """End the connection at once; what was not sent is given up."""
        self._transport.abort()

    def expect(self, channel: aiormq.Channel, tag: str, take: Take) -> None:
        """Have `take` called for each delivery to a consumer, from its first one until its channel is closed.

        Args:
            channel: the channel, which has no other consumer but the one that this one replaces.
            tag: of the consumer; no other one on the connection ever has it.
            take: is called while the socket is read, and must not raise.
        """
        before = self._consumers.get(channel.number)
        if before is None or before.channel is not channel or not before.succeed(tag):
            self._consumers[channel.number] = _Consumer(channel, tag, take)

    def data_received(self, data: bytes) -> None:
        data = bytes(data)  # some event loops give a bytearray
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return
            data = bytes(rest)
            rest.clear()
        if self._strange:
            self._library.data_received(data)
            return
        passed = self._split(data)
        if passed < len(data):
            rest += data[passed:]

    def _split(self, data: bytes) -> int:
        """Hand out every whole frame, and return how many bytes that were."""
        consumers, frame = self._consumers, FRAME.unpack_from
        size = len(data)
        begin = here = 0  # what is between the two is the client library's
        taken = False
        while here + 8 <= size:
            kind, number, length = frame(data, here)
            end = here + 8 + length
            if kind not in KINDS or (end <= size and data[end - 1] != END):
                # Not AMQP; the client library knows what to say.
                self._strange = True
                here = size
                break
            if end > size:
                self._wanted = end - here
                break
            consumer = consumers.get(number)
            if consumer is None:
                if number:
                    if kind == METHOD and data.startswith(CHANNEL_ENDED, here + 7):
                        self.when_ended(number)
                elif data.startswith(ENDED, here + 7):
                    # The client library may ask for another frame at that moment, and then never says why.
                    self.refusal = text_of(data[here + 14 : here + 14 + data[here + 13]])
                here = end
                continue
            behind = 0
            if kind == METHOD and data.startswith(consumer.prefixes, here + 7):
                behind = self._take_whole(consumer, data, here + 7, end, size)
            if not behind:
                if not self._take(consumer, kind, data, here + 7, end - 1):
                    here = end
                    continue
                behind = end
            if begin < here:
                self._pass(data[begin:here])
            begin = here = behind
            taken = True
        else:
            self._wanted = 8
        if begin < here:
            self._pass(data[begin:here])
        elif taken and self._loop.time() - self._heard > ALIVE_SECONDS:
            self._pass(ALIVE)
        return here

    def _take_whole(self, consumer: _Consumer, data: bytes, begin: int, end: int, size: int) -> int:
        """Take a delivery whose other two frames are there too, as most have them; return where they end, else 0."""
        if end + 19 > size:
            return 0
        kind, number, length, body_size = HEAD.unpack_from(data, end)
        body = end + 8 + length
        behind: int = body + 8 + body_size
        if kind != HEADER or number != consumer.number or not body_size or behind > size or data[body - 1] != END:
            return 0
        kind, number, length = FRAME.unpack_from(data, body)
        if kind != BODY or number != consumer.number or length != body_size or data[behind - 1] != END:
            return 0
        delivery = consumer.begin(data, begin, end - 1)
        delivery.head = data[end + 7 : body - 1]
        delivery.body = data[body + 7 : behind - 1]
        consumer.take(delivery)
        return behind

    def _take(self, consumer: _Consumer, kind: int, data: bytes, begin: int, end: int) -> bool:
        """Take a frame if it is part of a delivery."""
        if kind == METHOD:
            consumer.delivery = None
            if data.startswith(consumer.prefixes, begin):
                consumer.delivery = consumer.begin(data, begin, end)
                return True
            method = data[begin : begin + 4]
            if method in CLOSED:
                del self._consumers[consumer.number]
                if method == CHANNEL_ENDED:
                    self.when_ended(consumer.number)
            return False
        delivery = consumer.delivery
        if delivery is None:
            return False
        if kind == HEADER:
            delivery.head = data[begin:end]
            consumer.missing = SIZE.unpack_from(data, begin + 4)[0]
        else:
            consumer.missing -= end - begin
            if consumer.missing or consumer.parts:
                consumer.parts.append(data[begin:end])
            else:
                delivery.body = data[begin:end]
        if not consumer.missing:
            consumer.delivery = None
            if consumer.parts:
                delivery.body = b"".join(consumer.parts)
                consumer.parts = []
            consumer.take(delivery)
        return True

    def _pass(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._library.data_received(data)

    def eof_received(self) -> bool | None:
        if self._rest:
            self._library.data_received(bytes(self._rest))
            self._rest.clear()
        return self._library.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._consumers.clear()
        self._library.connection_lost(exc)

    def pause_writing(self) -> None:
        self._library.pause_writing()

    def resume_writing(self) -> None:
        self._library.resume_writing()


class Streams:
    """The transport factory of one connection: makes what the client library makes, and reads the deliveries.

    Attributes:
        deliveries: who reads them; None before there is a connection.
    """

    def __init__(self) -> None:
        self.deliveries: Deliveries | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        secure = url.scheme == "amqps"
        factory = aiormq.connection.TLSTransportFactory() if secure else aiormq.connection.TCPTransportFactory()
        reader, writer = await factory.create(url, **kwargs)
        loop = asyncio.get_running_loop()
        deliveries = self.deliveries = Deliveries(cast("asyncio.Transport", writer.transport), loop)
        ours = Writer(writer, loop)
        deliveries.when_ended = ours.end
        return reader, cast("asyncio.StreamWriter", ours)


def streams() -> Streams | None:
    """Return what makes the stream of a new connection; None when the client library has no such way in."""
    known = inspect.signature(aiormq.Connection).parameters
    factories = ("TCPTransportFactory", "TLSTransportFactory")
    if "transport_factory" in known and all(hasattr(aiormq.connection, name) for name in factories):
        return Streams()
    return None
