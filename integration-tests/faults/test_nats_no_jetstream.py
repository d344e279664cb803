"""A server of NATS that is there and whose JetStream is not: it is said, once, and it goes on when JetStream does."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from fastapi_stream_core.subscription import Status, Subscription
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
            self._running.send_signal(signal.SIGHUP)

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


def reading(url: str, name: str, kind: str, **options: Any) -> tuple[NatsBroker, Subscription, Inbox]:
    broker, seen = NatsBroker(url, **options), Inbox()

    @broker.subscriber(name, stream=name, **KINDS[kind])
    async def handler(msg: int) -> None:
        seen.put(msg)

    return broker, broker.subscribers[0], seen


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


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


@pytest.mark.parametrize("restart", [True, False], ids=["restarted", "reloaded"])
@pytest.mark.parametrize("kind", KINDS)
async def test_jetstream_that_is_switched_off(
    server: SwitchableServer,
    js: JetStreamContext,
    name: str,
    kind: str,
    restart: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker, subscriber, seen = reading(server.url, name, kind)
    with caplog.at_level(logging.INFO):
        async with broker:
            await store(js, name, 1)
            assert await seen.take() == 1
            await asyncio.to_thread(server.switch, False, restart)
            await until(lambda: subscriber.status is Status.BACKING_OFF and not subscriber.running, SOON)
            (line,) = lines(caplog, AWAY)
            assert line.levelno == logging.WARNING
            assert line.getMessage().startswith(f"{subscriber.label}: {AWAY}: ")
            await calm(CALM_SECONDS)
            assert subscriber.status is Status.BACKING_OFF
            await asyncio.to_thread(server.switch, True, restart)
            await until(lambda: subscriber.running)
            await store(js, name, 2)
            while await seen.take(DEADLINE) != 2:
                pass
            assert subscriber.running
    assert len(lines(caplog, AWAY)) == len(lines(caplog, THERE)) == 1


async def keep_quiet(_: Msg) -> None: ...


@pytest.mark.parametrize("kind", KINDS)
async def test_jetstream_that_answers_nothing(
    server: SwitchableServer, nats_client: Client, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Questions end after some seconds each; that there is nobody to ask is never said."""
    broker, subscriber, seen = reading(server.url, name, kind)
    with caplog.at_level(logging.INFO):
        async with broker:
            await store(nats_client.jetstream(), name, 1)
            assert await seen.take() == 1
            silent = await nats_client.subscribe("$JS.API.>", cb=keep_quiet)
            await nats_client.flush()
            await asyncio.to_thread(server.switch, False, False)
            await until(lambda: subscriber.status is Status.BACKING_OFF, DEADLINE)
            (line,) = lines(caplog, AWAY)
            assert "timeout" in line.getMessage()
            await asyncio.to_thread(server.switch, True, False)
            await silent.unsubscribe()
            await until(lambda: subscriber.running)
    assert len(lines(caplog, AWAY)) == len(lines(caplog, THERE)) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_one_question_without_an_answer(
    server: SwitchableServer, nats_client: Client, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That happens; nothing is said, and the next one has an answer."""
    broker, subscriber, seen = reading(server.url, name, kind)
    asked: asyncio.Queue[Msg] = asyncio.Queue()
    statuses: set[Status] = set()

    async def overhear(question: Msg) -> None:
        asked.put_nowait(question)

    async with broker:
        await store(nats_client.jetstream(), name, 1)
        assert await seen.take() == 1
        await nats_client.subscribe("$JS.API.CONSUMER.INFO.>", cb=overhear)
        await nats_client.flush()
        await asyncio.to_thread(server.switch, False, False)
        await asyncio.wait_for(asked.get(), DEADLINE)
        while not asked.empty():
            asked.get_nowait()
        await asyncio.to_thread(server.switch, True, False)

        def asked_again() -> bool:
            statuses.add(subscriber.status)
            return not asked.empty()

        await until(asked_again)
        await store(nats_client.jetstream(), name, 2)
        while await seen.take(DEADLINE) != 2:
            pass
    assert statuses == {Status.RUNNING}
    assert not lines(caplog, AWAY)
    assert not lines(caplog, THERE)


async def test_a_server_that_is_frozen_is_no_matter_of_jetstream(
    server: SwitchableServer, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection's own line speaks of it."""
    broker, _, seen = reading(server.url, name, "pull", ping_interval=7.0)
    async with broker:
        await store(js, name, 1)
        assert await seen.take() == 1
        server.pause()
        try:
            await until(lambda: lines(caplog, "lost"), DEADLINE)
        finally:
            server.unpause()
        await store(js, name, 2)
        while await seen.take(DEADLINE) != 2:
            pass
    assert not lines(caplog, AWAY)
