"""A server of a few lines that speaks AMQP: it says yes to everything, until it falls silent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from pamqp import frame
from pamqp.base import Frame
from pamqp.commands import Basic, Channel, Connection, Exchange, Queue
from pamqp.header import ProtocolHeader
from pamqp.heartbeat import Heartbeat

DEADLINE = 60.0
END = Connection.Close(541, "INTERNAL_ERROR", 0, 0)
ANSWERS: dict[str, Callable[[Frame], Frame]] = {
    "Connection.StartOk": lambda asked: Connection.Tune(2047, 131072, 1),
    "Connection.Open": lambda asked: Connection.OpenOk(),
    "Connection.Close": lambda asked: Connection.CloseOk(),
    "Channel.Open": lambda asked: Channel.OpenOk(),
    "Channel.Close": lambda asked: Channel.CloseOk(),
    "Confirm.Select": lambda asked: frame.commands.Confirm.SelectOk(),
    "Exchange.Declare": lambda asked: Exchange.DeclareOk(),
    "Queue.Declare": lambda asked: Queue.DeclareOk(asked.queue, 0, 0),  # type: ignore[attr-defined]
    "Queue.Bind": lambda asked: Queue.BindOk(),
    "Basic.Qos": lambda asked: Basic.QosOk(),
    "Basic.Consume": lambda asked: Basic.ConsumeOk(asked.consumer_tag),  # type: ignore[attr-defined]
    "Basic.Cancel": lambda asked: Basic.CancelOk(asked.consumer_tag),  # type: ignore[attr-defined]
}


class ToyServer:
    """Answers what a client asks, and confirms what it publishes.

    Attributes:
        url: with the shortest heartbeat that there is: a client gives a silent connection up after six seconds.
        ends: told each method that it would answer; when it says so, the connection ends with INTERNAL_ERROR.
        freezes: told the name of each method before it is answered; when it says so, its connection falls silent.
        delay: seconds that each answer takes.
        asked: how often each method came.
        connections: how many there were.
        left: how many there are.
        consumed: the number of the connection and the queue, for each consumer that there was.
    """

    def __init__(self) -> None:
        self.ends: Callable[[Frame], bool] = lambda asked: False
        self.freezes: Callable[[str], bool] = lambda name: False
        self.delay = 0.0
        self.asked: Counter[str] = Counter()
        self.connections = 0
        self.left = 0
        self.consumed: list[tuple[int, str]] = []
        self._arrived = asyncio.Condition()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ToyServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/?heartbeat=1"
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def end(self) -> None:
        """End every connection with INTERNAL_ERROR."""
        for writer in self._writers:
            writer.write(frame.marshal(END, 0))

    async def until(self, name: str, times: int = 1, seconds: float = DEADLINE) -> None:
        """Wait until a method came so often."""
        async with self._arrived:
            await asyncio.wait_for(self._arrived.wait_for(lambda: self.asked[name] >= times), seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.connections += 1
        self.left += 1
        number = self.connections
        data, frozen, published = b"", False, 0
        try:
            while received := await reader.read(65536):
                data += received
                while len(data) > 7:
                    if data.startswith(b"AMQP"):
                        size, channel, one = 8, 0, ProtocolHeader()
                    else:
                        size = 8 + int.from_bytes(data[3:7], "big")
                        if len(data) < size:
                            break
                        _, channel, one = frame.unmarshal(data[:size])
                    data = data[size:]
                    name = str(one.name)
                    self.asked[name] += 1
                    frozen = frozen or self.freezes(name)
                    if not frozen:
                        await asyncio.sleep(0 if name == "Heartbeat" else self.delay)
                        answer: Frame | Heartbeat | None = None
                        if name == "ProtocolHeader":
                            answer = Connection.Start(0, 9, {"capabilities": {"publisher_confirms": True}}, "PLAIN")
                        elif name == "Heartbeat":
                            answer = Heartbeat()
                        elif name == "Basic.Publish":
                            published += 1
                            answer = Basic.Ack(published)
                        elif isinstance(one, Frame) and self.ends(one):
                            answer, channel = END, 0
                        elif name in ANSWERS:
                            answer = ANSWERS[name](one)
                        if name == "Basic.Consume":
                            self.consumed.append((number, one.queue))  # type: ignore[union-attr]
                        if answer is not None:
                            writer.write(frame.marshal(answer, channel))
                async with self._arrived:
                    self._arrived.notify_all()
        except (OSError, asyncio.CancelledError):
            return
        finally:
            self.left -= 1
            writer.close()
