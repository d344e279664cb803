"""What the server says, and whether it means that the broker is away or that the message is not taken."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from fastapi_stream_core.response import Outgoing
from fastapi_stream_redis import (
    BaseSecurity,
    BrokerUnavailable,
    NotStarted,
    PublishError,
    RedisBroker,
    SASLPlaintext,
    SetupError,
    StreamSub,
)
from fastapi_stream_redis import transport as transport_module
from fastapi_stream_redis.wire import MessageFormat, pack

AWAY = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "NOREPLICAS Not enough good replicas to write.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
]
REFUSED = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOPERM User u has no permissions to access the 'c' channel",
    "BUSYKEY Target key name already exists.",
    "ERR unknown command",
]


@pytest.mark.parametrize("said", AWAY)
async def test_a_server_that_can_take_nothing_now_is_away(wire: Any, said: str) -> None:
    wire.answers["PUBLISH"] = Exception(said)
    async with RedisBroker(wire.url, logger=None, publish_timeout=1.0) as broker:
        with pytest.raises(BrokerUnavailable, match=re.escape(said.split(None, 1)[1][:20])) as caught:
            await broker.publish("x", "c")
        assert caught.value.seconds == 1.0
        wire.answers["PUBLISH"] = 7
        assert await broker.publish("x", "c") == 7


@pytest.mark.parametrize("said", AWAY)
async def test_it_takes_the_message_as_soon_as_it_can(wire: Any, said: str) -> None:
    answers = iter([Exception(said), Exception(said), 3])
    wire.answers["PUBLISH"] = lambda words: next(answers)
    async with RedisBroker(wire.url, logger=None) as broker:
        assert await broker.publish("x", "c") == 3


@pytest.mark.parametrize("said", REFUSED)
async def test_a_refusal_is_the_messages_own(wire: Any, said: str) -> None:
    wire.answers["PUBLISH"] = lambda words: Exception(said) if words[1] == b"c" else 1
    async with RedisBroker(wire.url, logger=None) as broker:
        results = await asyncio.gather(
            *(broker.publish("x", "c" if number == 3 else "d") for number in range(6)), return_exceptions=True
        )
    assert [isinstance(one, PublishError) for one in results] == [number == 3 for number in range(6)]
    assert said.split(None, 1)[1][:20] in str(results[3])


async def test_what_cant_be_written_takes_nothing_along(wire: Any) -> None:
    wire.answers["PUBLISH"] = 1
    async with RedisBroker(wire.url, logger=None) as broker:
        results = await asyncio.gather(
            *(broker.publish("x", "\ud800" if number == 3 else "d") for number in range(6)), return_exceptions=True
        )
    assert [isinstance(one, Exception) for one in results] == [number == 3 for number in range(6)]
    assert isinstance(results[3], PublishError | SetupError)


async def test_what_is_too_long_for_redis_is_not_sent(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "LONGEST_VALUE", 1000)
    wire.answers["PUBLISH"] = 1
    async with RedisBroker(wire.url, logger=None) as broker:
        with pytest.raises(PublishError, match="Redis takes 1000"):
            await broker.publish(b"x" * 1000, "c")
        assert await broker.publish(b"x" * 900, "c") == 1
    assert wire.names().count("PUBLISH") == 1


async def test_what_can_be_written_goes_on_while_the_memory_is_full(wire: Any) -> None:
    """However many wait for room, a channel, an acknowledgement and a ping need none."""
    wire.answers["RPUSH"] = Exception("OOM command not allowed when used memory > 'maxmemory'.")
    wire.answers["PUBLISH"] = 1
    async with RedisBroker(wire.url, logger=None, publish_timeout=20.0) as broker:
        waiting = [asyncio.create_task(broker.publish("x", list="l")) for _ in range(1200)]
        for _ in range(3):
            assert await asyncio.wait_for(broker.publish("x", "c"), 10) == 1
        assert not any(task.done() for task in waiting)
        wire.answers["RPUSH"] = 5
        assert await asyncio.wait_for(asyncio.gather(*waiting), 15) == [5] * 1200


@pytest.mark.parametrize("neighbours", [0, 7])
async def test_a_command_that_ends_the_connection_fails_alone(wire: Any, neighbours: int) -> None:
    """A server that has a lower limit ends the connection of all callers: that is the message's own fault."""

    def answer(words: list[bytes]) -> Any:
        if len(words[2]) > 10_000:
            raise ConnectionError
        return 1

    wire.answers["PUBLISH"] = answer
    async with RedisBroker(wire.url, logger=None, publish_timeout=60.0) as broker:
        results = await asyncio.wait_for(
            asyncio.gather(
                *(
                    broker.publish(b"x" * (20_000 if number == neighbours // 2 else 1), "c")
                    for number in range(neighbours + 1)
                ),
                return_exceptions=True,
            ),
            20,
        )
        assert await broker.publish("x", "c") == 1
    assert [isinstance(one, PublishError) for one in results] == [
        number == neighbours // 2 for number in range(neighbours + 1)
    ]
    assert "proto-max-bulk-len" in str(results[neighbours // 2])
    assert sum(len(words[2]) > 10_000 for words in wire.commands if words[0] == b"PUBLISH") <= 4


async def test_a_server_that_falls_silent_is_away_whatever_it_was_sent(wire: Any) -> None:
    wire.answers["PUBLISH"] = wire.never
    async with RedisBroker(wire.url, logger=None, publish_timeout=1.0) as broker:
        results = await asyncio.gather(*(broker.publish("x", "c") for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in results] == [BrokerUnavailable] * 3


async def test_a_server_that_ends_connections_and_answers_no_ping_is_away(wire: Any) -> None:
    def end(words: list[bytes]) -> Any:
        raise ConnectionError

    def down(words: list[bytes]) -> Any:
        wire.answers["PING"] = end
        raise ConnectionError

    wire.answers["PUBLISH"] = down
    async with RedisBroker(wire.url, logger=None, publish_timeout=2.0) as broker:
        with pytest.raises(BrokerUnavailable):
            await broker.publish("x", "c")


async def test_one_lost_connection_is_nobodys_fault(wire: Any) -> None:
    tries: list[int] = []

    def answer(words: list[bytes]) -> Any:
        tries.append(len(tries))
        if len(tries) % 2:
            raise ConnectionError
        return 1

    wire.answers["PUBLISH"] = answer
    async with RedisBroker(wire.url, logger=None) as broker:
        for _ in range(5):
            assert await broker.publish("x", "c") == 1


@pytest.mark.parametrize("wrong", ["AUTH", "SELECT"])
async def test_a_wrong_password_or_database_fails_at_once(wire: Any, wrong: str) -> None:
    said = {"AUTH": "WRONGPASS invalid username-password pair", "SELECT": "ERR DB index is out of range"}[wrong]
    wire.answers[wrong] = Exception(said)
    broker = RedisBroker(f"{wire.url}/3", logger=None, security=SASLPlaintext("user", "sesame"))
    began = asyncio.get_running_loop().time()
    with pytest.raises(BrokerUnavailable, match=said.split(None, 1)[1]) as caught:
        await broker.start()
    assert asyncio.get_running_loop().time() - began < 3
    assert "after" not in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "rediss"},
        {"scheme": "rediss", "query": "?ssl_cert_reqs=none"},
        {"scheme": "redis", "security": SASLPlaintext("user", "sesame", use_ssl=True)},
        {"scheme": "redis", "security": BaseSecurity(use_ssl=True)},
    ],
)
async def test_nothing_is_sent_to_a_server_without_the_tls_that_was_asked_for(
    wire: Any, options: dict[str, Any]
) -> None:
    url = f"{options.pop('scheme')}://user:sesame@127.0.0.1:{wire.port}{options.pop('query', '')}"
    with pytest.raises(BrokerUnavailable) as caught:
        await RedisBroker(url, logger=None, startup_timeout=1.0, **options).start()
    assert not wire.commands
    assert b"sesame" not in wire.received
    assert "sesame" not in str(caught.value)


async def test_a_server_that_takes_the_connection_and_says_nothing_is_named() -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(BrokerUnavailable, match=rf"no answer from rediss://127\.0\.0\.1:{port} within "):
        await RedisBroker(f"rediss://u:sesame@127.0.0.1:{port}", logger=None, startup_timeout=0.3).start()
    ended.set()
    server.close()
    await server.wait_closed()


async def test_publishing_while_it_stops(wire: Any) -> None:
    never = asyncio.Event()
    wire.answers["PUBLISH"] = lambda words: 1 if len(wire.commands) % 3 else bytearray()
    broker = RedisBroker(wire.url, logger=None, publish_timeout=30.0)
    await broker.start()
    waiting = [asyncio.create_task(broker.publish("x", "c")) for _ in range(300)]
    asyncio.get_running_loop().call_soon(never.set)
    await never.wait()
    stopping = asyncio.create_task(broker.stop())
    waiting += [asyncio.create_task(broker.publish("x", "c")) for _ in range(300)]
    await stopping
    waiting += [asyncio.create_task(broker.publish("x", "c")) for _ in range(3)]
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert {type(one) for one in results} <= {int, BrokerUnavailable, NotStarted}
    assert all("after" not in str(one) for one in results if isinstance(one, BrokerUnavailable))


async def test_a_ping_is_true_only_when_it_is_answered(wire: Any) -> None:
    async with RedisBroker(wire.url, logger=None) as broker:
        assert await broker.ping(1.0)
        for answer in (Exception(AWAY[0]), Exception(AWAY[2]), bytearray()):
            wire.answers["PING"] = answer
            assert not await broker.ping(0.3)
        wire.answers["PING"] = "PONG"
        assert await broker.ping(5.0)
    assert not await broker.ping(0.3)


async def test_a_ping_is_false_while_there_is_no_memory(wire: Any) -> None:
    """Whoever waits for a server that is full would otherwise try again and again."""
    info = "# Memory\r\nused_memory:%d\r\nmem_not_counted_for_evict:10\r\nmaxmemory:%d\r\n"
    async with RedisBroker(wire.url, logger=None, publish_timeout=0.5) as broker:
        for full, room in [
            ((info % (200, 100)).encode(), (info % (105, 100)).encode()),
            ((info % (200, 100)).encode(), (info % (200, 0)).encode()),
            ((info % (200, 100)).encode(), Exception("NOPERM no permissions to run the 'info' command")),
        ]:
            wire.answers["RPUSH"] = Exception("OOM command not allowed when used memory > 'maxmemory'.")
            wire.answers["INFO"] = full
            with pytest.raises(BrokerUnavailable):
                await broker.publish("x", list="l")
            assert not await broker.ping(5.0)
            wire.answers["INFO"] = room
            wire.answers["RPUSH"] = 1
            assert await broker.ping(5.0)
            wire.answers["INFO"] = full
            assert await broker.ping(5.0)
            assert await broker.publish("x", list="l") == 1


REPLIES = {
    "answers": True,
    "client.7": True,
    "__keyspace@0__:orders": False,
    "__keyevent@0__:expired": False,
    "__sentinel__:hello": False,
    "__redis__:invalidate": False,
    "": False,
}


@pytest.mark.parametrize("replies", ["plain", "any", "off", ["client.*"]])
async def test_which_channels_are_answered(wire: Any, replies: Any) -> None:
    values = [
        pack(Outgoing("l", b"1", "c", [("reply_to", one)], "application/json"), MessageFormat.BINARY) for one in REPLIES
    ]
    wire.answers["BLMPOP"] = wire.once(*([b"l", [one]] for one in values))
    wire.answers["PUBLISH"] = 1
    broker, runs, over = RedisBroker(wire.url, logger=None, replies=replies), [], asyncio.Event()

    @broker.subscriber(list="l")
    async def handle(body: int) -> int:
        runs.append(body)
        if len(runs) == len(REPLIES):
            over.set()
        return body

    async with broker:
        await asyncio.wait_for(over.wait(), 10)
    expected = {
        "plain": [one for one, is_plain in REPLIES.items() if is_plain],
        "any": list(REPLIES),
        "off": [],
    }.get(replies if isinstance(replies, str) else "", ["client.7"])
    assert [words[1].decode() for words in wire.commands if words[0] == b"PUBLISH"] == expected
    refused = 0 if replies == "off" else len(REPLIES) - len(expected)
    assert broker.report.counts.get("replies_refused", 0) == refused
    assert len(runs) == len(REPLIES), "a refused answer is no failure of the handler"
    assert "failed" not in broker.report.counts


def cut(words: Any) -> Any:
    raise ConnectionResetError("cut")


def full(words: Any) -> Any:
    return Exception("OOM command not allowed when used memory > 'maxmemory'.")


def moved(words: Any) -> Any:
    return Exception("MOVED 3999 127.0.0.1:6381")


@pytest.mark.parametrize("trouble", [cut, full, moved])
@pytest.mark.parametrize("times", [2, 1000])
async def test_a_start_waits_for_a_server_that_can_take_nothing_yet(wire: Any, trouble: Any, times: int) -> None:
    left = [trouble] * times
    wire.answers["XGROUP"] = lambda words: left.pop()(words) if left else "OK"
    broker = RedisBroker(wire.url, logger=None, startup_timeout=3.0)

    @broker.subscriber(stream=StreamSub("s", group="g"))
    async def handle(text: str) -> None: ...

    if times == 2:
        async with broker:
            assert not left
            assert broker.subscribers[0].running
    else:
        with pytest.raises(BrokerUnavailable, match="subscribe to the broker"):
            await broker.start()
        assert not broker.running
