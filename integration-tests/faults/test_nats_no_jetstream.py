"""A server of NATS that is there and whose JetStream is not: it is said, once, and it goes on when JetStream does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nats
import pytest
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import NatsBroker
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from servers import ProcessServer, running
from waiting import DEADLINE, until

SOON = 20.0
"""A reader that hears nothing asks after some seconds, and says after some more that it has no answer."""
CALM_SECONDS = 4.0
"""Time for some questions."""
KINDS: dict[str, dict[str, Any]] = {
    "pull": {"durable": "d", "pull_sub": True},
    "queue": {"queue": "q"},
    "push": {},
}
AWAY = "JetStream does not answer"
THERE = "JetStream answers again"


class SwitchableServer(ProcessServer):
    """A server whose JetStream is switched on and off, by a restart or while its connections stay."""

    has_jetstream = True

    def command(self) -> list[str]:
        self._configure()
        return [option for option in super().command() if option != "-js"] + ["-c", str(self._config)]

    def switch(self, on: bool, restart: bool) -> None:
        self.has_jetstream = on
        if restart:
            self.restart()
        else:
            self._configure()
            self.reload()

    def _configure(self) -> None:
        self._config.write_text(f"jetstream: {'enabled' if self.has_jetstream else 'disabled'}")

    @property
    def _config(self) -> Path:
        return Path(self._folder) / "server.conf"


@pytest.fixture
def server() -> Iterator[SwitchableServer]:
    with running(SwitchableServer()) as server:
        yield server


@pytest.fixture
def nats_url(server: SwitchableServer) -> str:
    return server.url


def reading(url: str, name: str, kinds: Iterable[str] = KINDS, **options: Any) -> tuple[NatsBroker, dict[str, Inbox]]:
    """Kinds of consumers, side by side: each of a stream of its own, and with what its handler saw."""
    broker, seen = NatsBroker(url, **options), {f"{name}-{kind}": Inbox() for kind in kinds}

    def add(stream: str, kind: dict[str, Any]) -> None:
        @broker.subscriber(stream, stream=stream, **kind)
        async def handler(msg: int) -> None:
            seen[stream].put(msg)

    for stream, kind in zip(seen, kinds, strict=True):
        add(stream, KINDS[kind])
    return broker, seen


async def calm(seconds: float) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()


async def store(js: JetStreamContext, name: str, number: int) -> None:
    """Publish until the stream takes it."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while True:
        try:
            await js.publish(name, b"%d" % number, timeout=1)
        except (nats.errors.Error, nats.js.errors.Error):
            assert asyncio.get_running_loop().time() < deadline, "the stream takes nothing"
            await asyncio.sleep(0.1)
        else:
            return


async def handle(js: JetStreamContext, seen: dict[str, Inbox], number: int) -> None:
    """Store a message in every stream, and wait until it is handled."""
    for stream in seen:
        await store(js, stream, number)
    for stream in seen.values():
        while await stream.take(DEADLINE) != number:
            pass


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


def check_once(caplog: pytest.LogCaptureFixture, broker: NatsBroker, text: str, level: int) -> list[str]:
    """Every subscriber has said something, once."""
    found = lines(caplog, text)
    messages = [record.getMessage() for record in found]
    assert sorted(line.partition(f": {text}")[0] for line in messages) == sorted(
        one.label for one in broker.subscribers
    )
    assert {record.levelno for record in found} == {level}
    return messages


def all_are(broker: NatsBroker, status: Status) -> bool:
    return all(one.status is status for one in broker.subscribers)


@pytest.mark.parametrize("restart", [True, False], ids=["restarted", "reloaded"])
async def test_jetstream_that_is_switched_off(
    server: SwitchableServer, js: JetStreamContext, name: str, restart: bool, caplog: pytest.LogCaptureFixture
) -> None:
    broker, seen = reading(server.url, name)
    with caplog.at_level(logging.INFO):
        async with broker:
            await handle(js, seen, 1)
            await asyncio.to_thread(server.switch, False, restart)
            await until(lambda: all_are(broker, Status.BACKING_OFF), SOON)
            assert not any(subscriber.running for subscriber in broker.subscribers)
            for line in check_once(caplog, broker, AWAY, logging.WARNING):
                assert f": {AWAY}: " in line
            await calm(CALM_SECONDS)
            assert all_are(broker, Status.BACKING_OFF)
            await asyncio.to_thread(server.switch, True, restart)
            await until(lambda: all_are(broker, Status.RUNNING))
            await handle(js, seen, 2)
            assert all_are(broker, Status.RUNNING)
    check_once(caplog, broker, AWAY, logging.WARNING)
    check_once(caplog, broker, THERE, logging.INFO)


async def keep_quiet(_: Msg) -> None: ...


async def test_jetstream_that_answers_nothing(
    server: SwitchableServer, nats_client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Questions end after some seconds each; that there is nobody to ask is never said."""
    broker, seen = reading(server.url, name)
    with caplog.at_level(logging.INFO):
        async with broker:
            await handle(nats_client.jetstream(), seen, 1)
            silent = await nats_client.subscribe("$JS.API.>", cb=keep_quiet)
            await nats_client.flush()
            await asyncio.to_thread(server.switch, False, False)
            await until(lambda: all_are(broker, Status.BACKING_OFF), DEADLINE)
            for line in check_once(caplog, broker, AWAY, logging.WARNING):
                assert "timeout" in line
            await asyncio.to_thread(server.switch, True, False)
            await silent.unsubscribe()
            await until(lambda: all_are(broker, Status.RUNNING))
    check_once(caplog, broker, AWAY, logging.WARNING)
    check_once(caplog, broker, THERE, logging.INFO)


async def ask_once(server: SwitchableServer, name: str, kind: str) -> set[Status]:
    """Switch JetStream off until it was asked once, and return what the subscription was until it was asked again."""
    broker, seen = reading(server.url, name, [kind])
    (subscriber,) = broker.subscribers
    asked: asyncio.Queue[Msg] = asyncio.Queue()
    statuses: set[Status] = set()

    async def overhear(question: Msg) -> None:
        asked.put_nowait(question)

    def asked_again() -> bool:
        statuses.add(subscriber.status)
        return not asked.empty()

    client = await nats.connect(server.url)
    try:
        async with broker:
            await handle(client.jetstream(), seen, 1)
            await client.subscribe("$JS.API.CONSUMER.INFO.>", cb=overhear)
            await client.flush()
            await asyncio.to_thread(server.switch, False, False)
            await asyncio.wait_for(asked.get(), DEADLINE)
            while not asked.empty():
                asked.get_nowait()
            await asyncio.to_thread(server.switch, True, False)
            await until(asked_again)
            await handle(client.jetstream(), seen, 2)
    finally:
        await client.close()
    return statuses


async def test_one_question_without_an_answer(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """That happens; nothing is said, and the next one has an answer. Each kind asks when it has to: one server each."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running(SwitchableServer())) for _ in KINDS]
        found = await asyncio.gather(*map(ask_once, servers, [name] * len(KINDS), KINDS))
    assert found == [{Status.RUNNING}] * len(KINDS)
    assert not lines(caplog, AWAY)
    assert not lines(caplog, THERE)


async def test_a_server_that_is_frozen_is_no_matter_of_jetstream(
    server: SwitchableServer, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection's own line speaks of it."""
    broker, seen = reading(server.url, name, ping_interval=7.0)
    async with broker:
        await handle(js, seen, 1)
        server.pause()
        try:
            await until(lambda: lines(caplog, "lost"), DEADLINE)
        finally:
            server.unpause()
        await handle(js, seen, 2)
    assert not lines(caplog, AWAY)
