"""What is Redis' own, on the real server: the wire, groups and their pending entries, lists, lost connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_redis import (
    BrokerUnavailable,
    ListSub,
    NackMessage,
    PublishError,
    RedisBroker,
    RedisMessage,
    RedisRouter,
    RedisStreamMessage,
    SASLPlaintext,
    SetupError,
    StreamSub,
)
from redis.asyncio import Redis

from programs import ADDRESSES, EXAMPLES, load
from servers import Server
from waiting import until


def broker_of(server: Server, **options: Any) -> RedisBroker:
    return RedisBroker(server.url, logger=None, **options)


# Publishing and the wire ---------------------------------------------------------------------------------------------


async def test_what_publish_returns(redis_server: Server, redis_client: Redis, name: str) -> None:
    async with broker_of(redis_server) as broker:
        assert await broker.publish("a", name) == 0
        assert [await broker.publish("a", list=f"{name}-list") for _ in range(2)] == [1, 2]
        entry = await broker.publish("a", stream=name)
    assert [one for one, _ in await redis_client.xrange(name)] == [entry]


async def test_the_envelope_of_the_peer(redis_server: Server, redis_client: Redis, name: str) -> None:
    async with broker_of(redis_server) as broker:
        await broker.publish({"a": 1}, stream=name, correlation_id="c1")
    ((_, fields),) = await redis_client.xrange(name)
    assert fields == {
        b"__data__": b"\x89BIN\r\n\x1a\n\x00\x01\x00\x00\x00\x12\x00\x00\x00H\x00\x02\x00\x0ecorrelation_id\x00\x02c1"
        b'\x00\x0ccontent-type\x00\x10application/json{"a":1}'
    }


async def test_bare_bodies_are_written_on_request(redis_server: Server, redis_client: Redis, name: str) -> None:
    async with broker_of(redis_server, message_format="raw") as broker:
        await broker.publish({"a": 1}, list=name, headers={"x": "y"})
    assert await redis_client.lrange(name, 0, -1) == [b'{"a":1}']


async def test_what_others_write_is_read(redis_server: Server, redis_client: Redis, name: str) -> None:
    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=name)
    async def handle(body: Any, message: RedisMessage) -> None:
        seen.put((body, message.headers.text("trace")))

    async with broker:
        await redis_client.xadd(
            name, {"__data__": b'{"data":"{\\"a\\":1}","headers":{"trace":"t","content-type":"application/json"}}'}
        )
        await redis_client.xadd(name, {"__data__": b"[1]"})
        await redis_client.xadd(name, {"a": "1", "b": "x"})
        await redis_client.xadd(name, {"data": "text"})
        assert await seen.take_many(4) == [({"a": 1}, "t"), ([1], None), ({"a": "1", "b": "x"}, None), (b"text", None)]


async def test_maxlen_bounds_the_stream(redis_server: Server, redis_client: Redis, name: str) -> None:
    async with broker_of(redis_server) as broker:
        publisher = broker.publisher(stream=StreamSub(name, maxlen=10))
        for number in range(500):
            await publisher.publish(number)
    assert await redis_client.xlen(name) < 200


async def test_a_key_of_another_type_is_a_publish_error(redis_server: Server, redis_client: Redis, name: str) -> None:
    await redis_client.set(name, "text")
    async with broker_of(redis_server) as broker:
        with pytest.raises(PublishError, match="WRONGTYPE"):
            await broker.publish("a", list=name)
        # The others of the same moment are not touched by it.
        results = await asyncio.gather(
            *(broker.publish("a", list=name if one == 5 else f"{name}-{one}") for one in range(10)),
            return_exceptions=True,
        )
    assert [isinstance(one, PublishError) for one in results] == [one == 5 for one in range(10)]


async def test_many_publish_at_once(redis_server: Server, redis_client: Redis, name: str) -> None:
    async with broker_of(redis_server) as broker:
        lengths = await asyncio.gather(*(broker.publish(number, list=name) for number in range(2000)))
    assert lengths == list(range(1, 2001))
    assert await redis_client.llen(name) == 2000


async def test_a_subscriber_of_a_key_of_another_type(redis_server: Server, redis_client: Redis, name: str) -> None:
    await redis_client.set(name, "text")
    for place in ({"list": name}, {"stream": name}, {"stream": StreamSub(name, group="g", consumer="c")}):
        broker = broker_of(redis_server)

        @broker.subscriber(**place)
        async def handle(body: Any) -> None: ...

        with pytest.raises(SetupError, match="something else"):
            await broker.start()


# A server that is away -----------------------------------------------------------------------------------------------


async def test_a_server_that_is_away_at_the_start() -> None:
    broker = RedisBroker("redis://user:secret@127.0.0.1:1/0", startup_timeout=0.5, logger=None)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1") as caught:
        await broker.start()
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(broker)


async def test_credentials(redis_server: Server, redis_client: Redis, name: str) -> None:
    await redis_client.execute_command("ACL", "SETUSER", name, "on", ">right", "~*", "&*", "+@all")
    try:
        security = SASLPlaintext(name, "right")
        async with broker_of(redis_server, security=security) as broker:
            assert await broker.ping()
        broker = RedisBroker(redis_server.url.replace("://", f"://{name}:right@"), logger=None)
        async with broker:
            assert await broker.ping()
        with pytest.raises(BrokerUnavailable, match="invalid username-password") as caught:
            await broker_of(redis_server, security=SASLPlaintext(name, "wrong-secret")).start()
        assert "wrong-secret" not in str(caught.value)
    finally:
        await redis_client.execute_command("ACL", "DELUSER", name)


async def test_publishing_waits_for_the_server(redis_server: Server, redis_client: Redis, name: str) -> None:
    async with broker_of(redis_server, publish_timeout=10.0) as broker:
        await asyncio.to_thread(redis_server.pause)
        try:
            waiting = [asyncio.create_task(broker.publish(number, list=name)) for number in range(50)]
            _, pending = await asyncio.wait(waiting, timeout=1.0)
            assert len(pending) == 50
        finally:
            await asyncio.to_thread(redis_server.unpause)
        await asyncio.gather(*waiting)
    assert await redis_client.llen(name) == 50


async def test_publishing_gives_up(redis_server: Server, name: str) -> None:
    async with broker_of(redis_server, publish_timeout=0.5) as broker:
        await asyncio.to_thread(redis_server.pause)
        try:
            with pytest.raises(BrokerUnavailable, match="publish"):
                await broker.publish("a", list=name)
        finally:
            await asyncio.to_thread(redis_server.unpause)
        await until(lambda: broker.ping(1.0))
        await broker.publish("a", list=name)


async def test_publishing_more_than_a_server_that_hangs_takes(
    redis_server: Server, redis_client: Redis, name: str
) -> None:
    async with broker_of(redis_server, publish_timeout=1.0) as broker:
        await asyncio.to_thread(redis_server.pause)
        try:
            waiting = [asyncio.create_task(broker.publish(b"x" * 1_000_000, name)) for _ in range(30)]
            done, pending = await asyncio.wait(waiting, timeout=10.0)
            assert not pending
            assert all(isinstance(one.exception(), BrokerUnavailable) for one in done)
        finally:
            await asyncio.to_thread(redis_server.unpause)
        await until(lambda: broker.ping(1.0))


PLACES: dict[str, Any] = {
    "channel": lambda name: {"channel": name},
    "pattern": lambda name: {"channel": f"{name}*"},
    "list": lambda name: {"list": name},
    "stream": lambda name: {"stream": name},
    "group": lambda name: {"stream": StreamSub(name, group="group", consumer="one")},
}


@pytest.mark.parametrize("kind", PLACES)
async def test_consuming_goes_on_after_the_server_hung(redis_server: Server, name: str, kind: str) -> None:
    broker, seen = broker_of(redis_server, publish_timeout=20.0), Inbox()

    @broker.subscriber(**PLACES[kind](name))
    async def handle(body: int) -> None:
        seen.put(body)

    place = {"channel": name} if kind == "pattern" else PLACES[kind](name)
    async with broker:
        await broker.publish(1, **place)
        assert await seen.take() == 1
        await asyncio.to_thread(redis_server.pause)
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(6.5, over.set)
        await over.wait()
        await asyncio.to_thread(redis_server.unpause)
        began = asyncio.get_running_loop().time()
        while not seen.all[1:] and asyncio.get_running_loop().time() - began < 6.0:
            await broker.publish(2, **place)
            try:
                await seen.take(0.2)
            except asyncio.TimeoutError:
                continue
        assert seen.all[1:], "nothing was consumed within six seconds of the server's return"


@pytest.mark.parametrize("kind", PLACES)
async def test_consuming_goes_on_after_a_connection_was_lost(
    redis_server: Server, redis_client: Redis, name: str, kind: str
) -> None:
    broker, seen = broker_of(redis_server, client_name=name), Inbox()
    begun, go = asyncio.Event(), asyncio.Event()
    cancelled = []

    # With a second worker there is always room for more, so that somebody listens when the connection breaks.
    @broker.subscriber(**PLACES[kind](name), max_workers=2)
    async def handle(body: int) -> None:
        begun.set()
        if body == 0:
            try:
                await go.wait()
            except asyncio.CancelledError:
                cancelled.append(body)
                raise
        seen.put(body)

    place = {"channel": name} if kind == "pattern" else PLACES[kind](name)
    async with broker:
        for number in range(20):
            await broker.publish(number, **place)
        await begun.wait()
        for one in await redis_client.client_list():
            if one["name"] == name:
                await redis_client.client_kill_filter(_id=one["id"])
        await until(lambda: is_running(broker, False))
        await until(lambda: is_running(broker, True))
        for number in range(20, 40):
            await broker.publish(number, **place)
        go.set()
        await seen.take_many(40)
        await broker.publish(99, **place)
        assert await seen.take() == 99
    assert not cancelled
    assert sorted(seen.all) == [*range(40), 99], "nothing is lost, nothing comes twice"
    if kind == "group":
        assert (await redis_client.xpending(name, "group"))["pending"] == 0


async def is_running(broker: RedisBroker, expected: bool) -> bool:
    return broker.subscribers[0].running is expected


# Groups --------------------------------------------------------------------------------------------------------------


async def test_own_pending_entries_are_read_first(redis_server: Server, redis_client: Redis, name: str) -> None:
    await redis_client.xgroup_create(name, "group", "0", mkstream=True)
    for number in range(250):
        await redis_client.xadd(name, {"__data__": b"%d" % number})
    await redis_client.xreadgroup("group", "one", {name: ">"}, count=220)
    await redis_client.xdel(name, (await redis_client.xrange(name, count=1))[0][0])

    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="group", consumer="one"))
    async def handle(body: int, message: RedisStreamMessage) -> None:
        seen.put((body, message.redelivered, message.attempt, message.consumer))

    async with broker:
        await broker.publish(250, stream=name)
        handled = await seen.take_many(250)
    assert handled == [(n, n < 220, 2 if n < 220 else 1, "one") for n in range(1, 251)]
    assert (await redis_client.xpending(name, "group"))["pending"] == 0


async def test_idle_entries_of_others_are_taken_over(redis_server: Server, redis_client: Redis, name: str) -> None:
    await redis_client.xgroup_create(name, "group", "0", mkstream=True)
    for number in range(150):
        await redis_client.xadd(name, {"__data__": b"%d" % number})
    await redis_client.xreadgroup("group", "dead", {name: ">"})
    await redis_client.xdel(name, (await redis_client.xrange(name, count=1))[0][0])

    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="group", consumer="alive", claim_min_idle_time=500))
    async def handle(body: int, message: RedisStreamMessage) -> None:
        seen.put((body, message.attempt))

    async with broker:
        assert sorted(await seen.take_many(149)) == [(n, 2) for n in range(1, 150)]
        await until(lambda: is_settled(redis_client, name))
    assert len(seen.all) == 149


async def is_settled(redis_client: Redis, name: str, pending: int = 0, group: str = "group") -> bool:
    found: int = (await redis_client.xpending(name, group))["pending"]
    return found == pending


async def test_without_claims_the_entries_of_others_stay(redis_server: Server, redis_client: Redis, name: str) -> None:
    await redis_client.xgroup_create(name, "group", "0", mkstream=True)
    await redis_client.xadd(name, {"__data__": b"1"})
    await redis_client.xreadgroup("group", "other", {name: ">"})
    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="group", consumer="one", claim_min_idle_time=None))
    async def handle(body: int) -> None:
        seen.put(body)

    async with broker:
        await broker.publish(2, stream=name)
        assert await seen.take() == 2
    assert await is_settled(redis_client, name, 1)


async def test_what_runs_for_long_is_not_taken_over(redis_server: Server, redis_client: Redis, name: str) -> None:
    brokers, seen = [broker_of(redis_server), broker_of(redis_server)], Inbox()
    go = asyncio.Event()

    for number, broker in enumerate(brokers):

        @broker.subscriber(stream=StreamSub(name, group="group", consumer=f"c{number}", claim_min_idle_time=600))
        async def handle(body: int) -> None:
            seen.put(body)
            await go.wait()

    async with brokers[0], brokers[1]:
        await brokers[0].publish(1, stream=name)
        assert await seen.take() == 1
        with pytest.raises(asyncio.TimeoutError):
            await seen.take(2.5)
        go.set()
        await until(lambda: is_settled(redis_client, name))


async def test_what_was_not_started_is_taken_over_at_once(redis_server: Server, redis_client: Redis, name: str) -> None:
    first, second, seen = broker_of(redis_server, graceful_timeout=10.0), broker_of(redis_server), Inbox()
    go = asyncio.Event()

    @first.subscriber(stream=StreamSub(name, group="group", consumer="first"))
    async def slow(body: int) -> None:
        if body >= 50:
            seen.put(("first", body))
            await go.wait()

    @second.subscriber(stream=StreamSub(name, group="group", consumer="second"))
    async def handle(body: int, message: RedisStreamMessage) -> None:
        seen.put(("second", body, message.attempt))

    async with first:
        for number in range(200):
            await first.publish(number, stream=name)
        assert await seen.take() == ("first", 50)
        stopping = asyncio.create_task(first.stop())
        asyncio.get_running_loop().call_later(0.3, go.set)
        await stopping
    async with second:
        assert sorted(await seen.take_many(149, 15.0)) == [("second", n, 1) for n in range(51, 200)]
        await until(lambda: is_settled(redis_client, name))


async def test_attempts_are_counted_over_a_restart(redis_server: Server, redis_client: Redis, name: str) -> None:
    seen = Inbox()

    def declare() -> RedisBroker:
        broker = broker_of(redis_server)

        @broker.subscriber(stream=StreamSub(name, group="group", consumer="one"))
        async def handle(body: int, message: RedisStreamMessage) -> None:
            seen.put(message.attempt)
            raise RuntimeError("always")

        return broker

    async with declare() as broker:
        await broker.publish(1, stream=name)
        assert await seen.take_many(2) == [1, 2]
        await until(lambda: has_count(redis_client, name, 2))
    async with declare():
        assert await seen.take_many(3) == [3, 4, 5]
        await until(lambda: is_settled(redis_client, name))


async def has_count(redis_client: Redis, name: str, count: int) -> bool:
    return [one["times_delivered"] for one in await redis_client.xpending_range(name, "group", "-", "+", 10)] == [count]


async def test_acknowledgements_are_sent_together(redis_server: Server, redis_client: Redis, name: str) -> None:
    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="group", consumer="one", last_id="0"))
    async def handle(body: int) -> None:
        seen.put(body)

    async with broker_of(redis_server) as publishing:
        await asyncio.gather(*(publishing.publish(number, stream=name) for number in range(3000)))
    before = await calls(redis_client, "xack")
    async with broker:
        await seen.take_many(3000)
        await until(lambda: is_settled(redis_client, name))
        assert await calls(redis_client, "xack") - before < 1000
        assert await calls(redis_client, "xreadgroup") < 3000


async def calls(redis_client: Redis, command: str) -> int:
    stats = await redis_client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


@pytest.mark.parametrize("what", ["stream", "group"])
async def test_a_group_that_vanished_comes_back(
    redis_server: Server, redis_client: Redis, name: str, what: str
) -> None:
    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="group", consumer="one"))
    async def handle(body: int) -> None:
        seen.put(body)

    async with broker:
        await broker.publish(1, stream=name)
        assert await seen.take() == 1
        if what == "stream":
            await redis_client.delete(name)
        else:
            await redis_client.xgroup_destroy(name, "group")
        await broker.publish(2, stream=name)
        assert await seen.take(6.0) == 2
        await until(lambda: is_settled(redis_client, name))
    assert seen.all == [1, 2]


async def test_a_group_that_is_set_back_gives_everything_again(
    redis_server: Server, redis_client: Redis, name: str
) -> None:
    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="group", consumer="one"))
    async def handle(body: int) -> None:
        seen.put(body)

    async with broker:
        for number in range(3):
            await broker.publish(number, stream=name)
        assert await seen.take_many(3) == [0, 1, 2]
        await until(lambda: is_settled(redis_client, name))
        await redis_client.xgroup_setid(name, "group", "0")
        assert await seen.take_many(3) == [0, 1, 2]
        await until(lambda: is_settled(redis_client, name))


async def test_a_backlog_in_batches(redis_server: Server, redis_client: Redis, name: str) -> None:
    async with broker_of(redis_server) as publishing:
        await asyncio.gather(*(publishing.publish(number, stream=name) for number in range(100)))
    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="group", consumer="one", last_id="0", batch=True, max_records=40))
    async def handle(bodies: list[int]) -> None:
        seen.put(bodies)

    async with broker:
        handled: list[int] = []
        while len(handled) < 100:
            handled += await seen.take()
        assert handled == list(range(100))
        # The first fetch is small, since nobody knows yet how large the entries are.
        assert max(map(len, seen.all)) == 40
        await until(lambda: is_settled(redis_client, name))


async def test_one_group_shares_and_two_groups_copy(redis_server: Server, name: str) -> None:
    broker, seen = broker_of(redis_server), Inbox()

    def declare(group: str, consumer: str) -> None:
        @broker.subscriber(stream=StreamSub(name, group=group, consumer=consumer))
        async def handle(body: int) -> None:
            seen.put((group, body))

    declare("a", "1")
    declare("a", "2")
    declare("b", "1")
    async with broker:
        await asyncio.gather(*(broker.publish(number, stream=name) for number in range(100)))
        handled = await seen.take_many(200)
    assert sorted(handled) == [(group, number) for group in "ab" for number in range(100)]


async def test_nack_gives_it_again_and_reject_does_not(redis_server: Server, redis_client: Redis, name: str) -> None:
    broker, seen = broker_of(redis_server), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="group", consumer="one"))
    async def handle(body: str, message: RedisStreamMessage) -> None:
        seen.put((body, message.attempt))
        if body == "nack" and message.attempt == 1:
            raise NackMessage
        if body == "reject":
            await message.reject()

    async with broker:
        await broker.publish("reject", stream=name)
        await broker.publish("nack", stream=name)
        assert await seen.take_many(3) == [("reject", 1), ("nack", 1), ("nack", 2)]
        await until(lambda: is_settled(redis_client, name))


# Streams without a group ---------------------------------------------------------------------------------------------


async def test_a_stream_is_read_from_its_end_or_from_an_entry(redis_server: Server, name: str) -> None:
    async with broker_of(redis_server) as broker:
        first = await broker.publish(0, stream=name)
        await broker.publish(1, stream=name)
    broker, seen = broker_of(redis_server), Inbox()

    def declare(kind: str, last_id: str | None) -> None:
        @broker.subscriber(stream=StreamSub(name, last_id=last_id))
        async def handle(body: int) -> None:
            seen.put((kind, body))

    declare("all", "0")
    declare("after", first.decode())
    declare("new", None)
    async with broker:
        await broker.publish(2, stream=name)
        handled = await seen.take_many(6)
    assert sorted(handled) == [("after", 1), ("after", 2), ("all", 0), ("all", 1), ("all", 2), ("new", 2)]


# Lists ---------------------------------------------------------------------------------------------------------------


async def test_no_more_is_taken_off_a_list_than_is_handled(
    redis_server: Server, redis_client: Redis, name: str
) -> None:
    broker, seen = broker_of(redis_server), Inbox()
    go = asyncio.Event()

    @broker.subscriber(list=name, max_workers=3)
    async def handle(body: int) -> None:
        seen.put(body)
        await go.wait()

    async with broker:
        await redis_client.rpush(name, *range(10))
        assert sorted(await seen.take_many(3)) == [0, 1, 2]
        assert await redis_client.llen(name) == 7
        go.set()
        assert sorted(await seen.take_many(7)) == list(range(3, 10))


async def test_what_was_not_started_goes_back_to_the_list(redis_server: Server, redis_client: Redis, name: str) -> None:
    broker, seen = broker_of(redis_server), Inbox()
    go = asyncio.Event()

    @broker.subscriber(list=ListSub(name, batch=True, max_records=5))
    async def handle(bodies: list[int]) -> None:
        seen.put(bodies)
        await go.wait()

    async with broker:
        await redis_client.rpush(name, 0)
        assert await seen.take() == [0]
        await redis_client.rpush(name, *range(1, 10))
        # A batch has room for four more, which wait for the worker.
        await until(lambda: has_length(redis_client, name, 5))
        stopping = asyncio.create_task(broker.stop())
        await until(lambda: has_length(redis_client, name, 9))
        go.set()
        await stopping
    assert await redis_client.lrange(name, 0, -1) == [b"%d" % number for number in range(1, 10)]


async def has_length(redis_client: Redis, name: str, length: int) -> bool:
    return await redis_client.llen(name) == length


async def test_a_list_that_is_stopped_loses_nothing(redis_server: Server, redis_client: Redis, name: str) -> None:
    seen = Inbox()
    for _ in range(10):
        broker = broker_of(redis_server)

        @broker.subscriber(list=name)
        async def handle(body: int) -> None:
            seen.put(body)

        async with broker:
            filling = asyncio.create_task(redis_client.rpush(name, *range(20)))
            await seen.take()
        await filling
    assert len(seen.all) + await redis_client.llen(name) == 200


# The example of the README --------------------------------------------------------------------------------------------


async def test_the_example(redis_server: Server, redis_client: Redis, name: str) -> None:
    text = (EXAMPLES / "redis_streams.py").read_text().replace(ADDRESSES["redis"], redis_server.url)
    shop = load("redis_streams", text.replace('"orders"', f'"{name}-orders"').replace('"bills', f'"{name}-bills'))
    seen = Inbox()
    other = broker_of(redis_server)

    @other.subscriber(f"{name}-bills.new")
    async def hear(text: str) -> None:
        seen.put(text)

    async with other, shop.app.router.lifespan_context(shop.app):
        await shop.create(shop.Order(id=7, total=3.5))
        assert await seen.take() == "7: 3.50"
        await until(lambda: has_length(redis_client, f"{name}-bills", 0))
        await until(lambda: is_settled(redis_client, f"{name}-orders", group="billing"))


# Channels ------------------------------------------------------------------------------------------------------------


async def test_a_parameter_is_one_segment(redis_server: Server, name: str) -> None:
    router, seen = RedisRouter(redis_server.url, logger=None), Inbox()

    @router.subscriber(f"{name}.{{uid}}")
    async def handle(body: str, uid: int) -> None:
        seen.put((body, uid))

    async with router.broker as broker:
        assert await broker.publish("too deep", f"{name}.1.more") == 1
        assert await broker.publish("right", f"{name}.1") == 1
        assert await seen.take() == ("right", 1)
    assert len(seen.all) == 1


async def test_a_silent_channel_is_kept(redis_server: Server, redis_client: Redis, name: str) -> None:
    broker, seen = broker_of(redis_server, socket_timeout=0.5), Inbox()

    @broker.subscriber(name)
    async def handle(body: int) -> None:
        seen.put(body)

    async with broker:
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(4.0, over.set)
        before = await redis_client.pubsub_numsub(name)
        await over.wait()
        assert await redis_client.pubsub_numsub(name) == before == [(name.encode(), 1)]
        assert broker.subscribers[0].running
        await broker.publish(1, name)
        assert await seen.take() == 1
