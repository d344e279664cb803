"""A stream or a group that was deleted and made again while somebody reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import DEADLINE, Inbox
from fastapi_stream_redis import RedisBroker, StreamSub
from redis.asyncio import Redis

from proxy import Proxy
from servers import Server
from waiting import until

LOGGER = logging.getLogger("test.redis.recreated")
KINDS = ["alone", "group"]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING, LOGGER.name)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def reader(server: Server | Proxy, seen: Inbox, names: list[str], kind: str, **options: Any) -> RedisBroker:
    broker = RedisBroker(server.url, logger=LOGGER, **options)
    for one in names:

        @broker.subscriber(stream=StreamSub(one, group="g" if kind == "group" else None))
        async def handle(body: int) -> None:
            seen.put(body)

    return broker


async def add(redis_client: Redis, name: str, body: int, entry_id: str = "*") -> None:
    await redis_client.xadd(name, {"__data__": b"%d" % body}, id=entry_id)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", ["lower", "the same", "around", "higher"])
async def test_a_stream_that_was_made_again_is_read_from_its_beginning(
    redis_server: Server, redis_client: Redis, name: str, lines: Any, kind: str, ids: str
) -> None:
    seen = Inbox()
    first = {"lower": 1, "the same": 100, "around": 97, "higher": 500}[ids]
    async with reader(redis_server, seen, [name, f"{name}-other"], kind):
        for number in range(5):
            await add(redis_client, name, number, f"{100 + number}-0")
        assert await seen.take_many(5) == [0, 1, 2, 3, 4]
        async with redis_client.pipeline() as both:
            both.delete(name)
            for number in range(10, 20):
                both.xadd(name, {"__data__": b"%d" % number}, id=f"{first + number - 10}-0")
            await both.execute()
        assert sorted(await seen.take_many(10, DEADLINE)) == list(range(10, 20))
        await until(lambda: bool(lines()))
        await add(redis_client, name, 99)
        await add(redis_client, f"{name}-other", 1)
        assert sorted(await seen.take_many(2, DEADLINE)) == [1, 99]
    assert len(seen.all) == 17  # also what was read before it was noticed was handled once
    again = [line for line in lines() if "was deleted and made again" in line]
    assert len(again) == 1, lines()
    assert again[0].endswith(f"{name} was deleted and made again; reading it from its beginning")
    assert len(lines()) == 1


@pytest.mark.parametrize("consumers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_ids_of_a_stream_went_back(
    redis_server: Server, redis_client: Redis, name: str, lines: Any, kind: str, consumers: int
) -> None:
    """A group that waits for ids behind those that come would be deaf."""
    seen = Inbox()
    async with AsyncExitStack() as stack:
        for _ in range(consumers):
            await stack.enter_async_context(reader(redis_server, seen, [name], kind))
        copies = 1 if kind == "group" else consumers
        for number in range(5):
            await add(redis_client, name, number, f"{100 + number}-0")
        assert sorted(await seen.take_many(5 * copies)) == sorted([0, 1, 2, 3, 4] * copies)
        async with redis_client.pipeline() as both:
            both.xtrim(name, maxlen=0, approximate=False)
            both.execute_command("XSETID", name, "5-0")
            for number in range(10, 20):
                both.xadd(name, {"__data__": b"%d" % number}, id=f"{number}-0")
            await both.execute()
        assert sorted(await seen.take_many(10 * copies, DEADLINE)) == sorted([*range(10, 20)] * copies)
        await add(redis_client, name, 99, "20-0")
        assert await seen.take_many(copies, DEADLINE) == [99] * copies
    assert len(seen.all) == 16 * copies, "each once"
    assert sum("was deleted and made again" in line for line in lines()) == copies


class Gate(Proxy):
    """A proxy that calls `then` before the first script passes."""

    then: Callable[[], Awaitable[None]] | None = None

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: bool) -> None:
        while data := await reader.read(65536):
            if client and b"EVAL" in data and self.then is not None:
                then, self.then = self.then, None
                await then()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


async def test_a_group_that_is_no_longer_ahead_of_its_stream_is_not_set_back(
    redis_server: Server, redis_client: Redis, name: str, lines: Any
) -> None:
    """The server looks once more, whatever was found before."""
    seen = Inbox()
    async with Gate(redis_server.url) as gate, reader(gate, seen, [name], "group"):
        for number in range(5):
            await add(redis_client, name, number, f"{100 + number}-0")
        assert await seen.take_many(5) == [0, 1, 2, 3, 4]
        gate.then = partial(add, redis_client, name, 99, "200-0")
        async with redis_client.pipeline() as both:
            both.xtrim(name, maxlen=0, approximate=False)
            both.execute_command("XSETID", name, "5-0")
            await both.execute()
        assert await seen.take(DEADLINE) == 99
        (group,) = await redis_client.xinfo_groups(name)
        assert group["last-delivered-id"] == b"200-0"
    assert seen.all == [0, 1, 2, 3, 4, 99]
    assert not lines()


async def test_a_group_that_begins_with_ids_to_come_waits_for_them(
    redis_server: Server, redis_client: Redis, name: str, lines: Any
) -> None:
    seen = Inbox()
    await add(redis_client, name, 1, "1-0")
    await redis_client.xgroup_create(name, "g", "100-0")
    async with reader(redis_server, seen, [name], "group", client_name=name):
        await add(redis_client, name, 2, "2-0")

        async def looks() -> int:
            return int((await redis_client.info("commandstats"))["cmdstat_xinfo|stream"]["calls"])

        before = await looks()

        async def was_looked() -> bool:
            return await looks() >= before + 2

        await until(was_looked)
        await add(redis_client, name, 3, "101-0")
        assert await seen.take(DEADLINE) == 3
    assert seen.all == [3]
    assert not lines()


@pytest.mark.parametrize("is_cut", [False, True], ids=["connected", "cut"])
async def test_what_was_read_before_it_was_noticed_is_not_read_twice(
    redis_server: Server, redis_client: Redis, name: str, lines: Any, is_cut: bool
) -> None:
    """Neither what is done nor what runs; a lost connection does not change that for what is done."""
    seen, release = Inbox(), asyncio.Event()
    broker = RedisBroker(redis_server.url, logger=LOGGER, client_name=name)

    @broker.subscriber(stream=name, max_workers=4)
    async def handle(body: int) -> None:
        seen.put(body)
        if body == 12 and not is_cut:
            await release.wait()

    async with broker:
        await add(redis_client, name, 0)
        assert await seen.take() == 0
        async with redis_client.pipeline() as both:
            both.delete(name)
            both.xadd(name, {"__data__": b"10"})
            await both.execute()
        assert await seen.take() == 10
        for number in range(11, 15):
            await add(redis_client, name, number)
            assert await seen.take() == number
        if is_cut:
            connections = [one["id"] for one in await redis_client.client_list() if one["name"] == name]
            async with redis_client.pipeline() as both:
                for one in connections:
                    both.execute_command("CLIENT", "KILL", "ID", one)
                await both.execute()
        await until(lambda: any("was deleted and made again" in line for line in lines()))
        await add(redis_client, name, 99)
        assert await seen.take(DEADLINE) == 99
        release.set()
    assert seen.all == [0, 10, 11, 12, 13, 14, 99]


@pytest.mark.parametrize("kind", KINDS)
async def test_everything_was_flushed_while_nobody_was_connected(
    redis_server: Server, redis_client: Redis, name: str, lines: Any, kind: str
) -> None:
    seen = Inbox()
    async with reader(redis_server, seen, [name], kind, client_name=name):
        for number in range(5):
            await add(redis_client, name, number, f"{100 + number}-0")
        await seen.take_many(5)
        connections = [one["id"] for one in await redis_client.client_list() if one["name"] == name]
        async with redis_client.pipeline() as both:
            both.delete(name)
            for number in (7, 8):
                both.xadd(name, {"__data__": b"%d" % number}, id=f"{number}-0")
            for one in connections:
                both.execute_command("CLIENT", "KILL", "ID", one)
            await both.execute()
        assert await seen.take_many(2, DEADLINE) == [7, 8]
    assert sum("was deleted and made again" in line for line in lines()) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_failover_took_is_all_that_is_read_again(
    redis_server: Server, redis_client: Redis, name: str, lines: Any, kind: str
) -> None:
    """The replica that took over had not received the newest entries: reading goes on where it ends."""
    seen = Inbox()
    entries = [(f"{100 + number}-0", number) for number in range(5)]
    async with reader(redis_server, seen, [name], kind):
        for entry_id, number in entries:
            await add(redis_client, name, number, entry_id)
            assert await seen.take() == number
        async with redis_client.pipeline() as both:
            both.delete(name)
            for entry_id, number in entries[:3]:
                both.xadd(name, {"__data__": b"%d" % number}, id=entry_id)
            both.xadd(name, {"__data__": b"50"}, id="102-7")
            await both.execute()
        assert await seen.take(DEADLINE) == 50
        await add(redis_client, name, 51)
        assert await seen.take(DEADLINE) == 51
    (line,) = lines()
    assert line.endswith("lost its newest entries; reading goes on after 102-0")


@pytest.mark.parametrize("what", ["trimmed", "deleted entries", "nothing"])
async def test_a_stream_that_only_lost_old_entries_is_the_same(
    redis_server: Server, redis_client: Redis, name: str, lines: Any, what: str
) -> None:
    """Entries that were handled are deleted by many an app; nothing is read twice for that."""
    seen = Inbox()
    async with reader(redis_server, seen, [name], "alone"):
        for round_ in range(3):
            ids = [f"{100 * round_ + 100 + number}-0" for number in range(5)]
            for number, entry_id in enumerate(ids):
                await add(redis_client, name, 10 * round_ + number, entry_id)
            assert await seen.take_many(5) == [10 * round_ + number for number in range(5)]
            if what == "trimmed":
                await redis_client.xtrim(name, maxlen=0, approximate=False)
            elif what == "deleted entries":
                await redis_client.xdel(name, *ids[2:])
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(2.2, over.set)
            await over.wait()
        await add(redis_client, name, 99)
        assert await seen.take(DEADLINE) == 99
    assert len(seen.all) == 16
    assert not lines()


async def test_old_entries_that_were_read_and_deleted_do_not_make_the_stream_another_one(
    redis_server: Server, redis_client: Redis, name: str, lines: Any
) -> None:
    """What was there before the start is not counted twice."""
    for number in range(5):
        await add(redis_client, name, number)
    seen, broker = Inbox(), RedisBroker(redis_server.url, logger=LOGGER, client_name=name)

    @broker.subscriber(stream=StreamSub(name, last_id="0-0"))
    async def handle(body: int) -> None:
        seen.put(body)

    async def looks() -> int:
        return int((await redis_client.info("commandstats"))["cmdstat_xinfo|stream"]["calls"])

    async with broker:
        assert await seen.take_many(5, DEADLINE) == [0, 1, 2, 3, 4]
        await redis_client.xtrim(name, maxlen=0, approximate=False)
        before = await looks()

        async def was_looked() -> bool:
            return await looks() >= before + 2

        await until(was_looked)
    assert not lines()


async def test_a_group_that_was_destroyed_goes_on(
    redis_server: Server, redis_client: Redis, name: str, lines: Any
) -> None:
    seen = Inbox()
    async with reader(redis_server, seen, [name], "group"):
        for number in range(5):
            await add(redis_client, name, number)
        await seen.take_many(5)
        async with redis_client.pipeline() as both:
            both.xgroup_destroy(name, "g")
            both.xadd(name, {"__data__": b"5"})
            await both.execute()
        assert await seen.take(DEADLINE) == 5
    (line,) = lines()
    assert "the group 'g' of" in line


async def test_pending_entries_that_were_deleted_are_said(
    redis_server: Server, redis_client: Redis, name: str, lines: Any
) -> None:
    await redis_client.xgroup_create(name, "g", "0", mkstream=True)
    for number in range(5):
        await add(redis_client, name, number, f"{number + 1}-0")
    await redis_client.xreadgroup("g", "c", {name: ">"})
    await redis_client.xdel(name, "1-0", "2-0")
    seen, broker = Inbox(), RedisBroker(redis_server.url, logger=LOGGER)

    @broker.subscriber(stream=StreamSub(name, group="g", consumer="c"))
    async def handle(body: int) -> None:
        seen.put(body)

    async with broker:
        assert await seen.take_many(3) == [2, 3, 4]
    assert lines()
    assert all("before they were handled" in line for line in lines())
    assert broker.report.counts["deleted"] == 2


async def test_a_first_id_that_the_stream_never_had(
    redis_server: Server, redis_client: Redis, name: str, lines: Any
) -> None:
    """The id that an app stored is beyond everything: the stream is another one."""
    await add(redis_client, name, 1, "5-0")
    seen, broker = Inbox(), RedisBroker(redis_server.url, logger=LOGGER)

    @broker.subscriber(stream=StreamSub(name, last_id="700-0"))
    async def handle(body: int) -> None:
        seen.put(body)

    async with broker:
        assert await seen.take(DEADLINE) == 1
    assert len(lines()) == 1


@pytest.mark.parametrize("read", [0, 1, 400])
async def test_what_a_failover_loses_does_not_bring_back_what_was_before_the_start(
    redis_server: Server, redis_client: Redis, name: str, lines: Any, read: int
) -> None:
    """However many reads brought what is lost, and the second time too."""
    seen, old, count, body = Inbox(), 500, 100 if read > 1 else 1, 0
    async with redis_client.pipeline(transaction=False) as all_of_them:
        for number in range(old):
            all_of_them.xadd(name, {"__data__": b"%d" % -number})
        await all_of_them.execute()

    async def one_by_one(number: int) -> None:
        nonlocal body
        for _ in range(number):
            body += 1
            await add(redis_client, name, body)
            while body not in seen.all:
                await seen.take_many(1, DEADLINE)

    async with reader(redis_server, seen, [name], "alone"):
        await one_by_one(read)
        for turn in (1, 2):
            before = await redis_client.dump(name)
            await one_by_one(count)
            await redis_client.restore(name, 0, before, replace=True)
            await until(lambda turn=turn: len(lines()) >= turn)
            assert "lost its newest entries" in lines()[-1]
            await one_by_one(1)
    assert not [one for one in seen.all if one < 0]
    assert set(seen.all) == set(range(1, body + 1))
    assert len(seen.all) - body <= read / 4  # of what was read longer before not every read is remembered
