"""NATS beyond the conformance suite: streams and consumers, positions, hand-over, the wire, limits, credentials."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import (
    AckPolicy,
    BrokerUnavailable,
    ConsumerConfig,
    DeliverPolicy,
    JStream,
    NatsBroker,
    NatsMessage,
    NatsToken,
    NatsUserPassword,
    PublishError,
    PullSub,
    SetupError,
)
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy as ConsumerAckPolicy
from nats.js.api import StreamConfig

from programs import ADDRESSES, EXAMPLES, load
from proxy import Proxy
from servers import ProcessServer, Server
from waiting import DEADLINE, until

SOON = 10.0
"""Well below the 30 seconds after which JetStream would deliver again by itself."""


async def answering(broker: NatsBroker) -> None:
    """Wait until the server answers on the broker's connection."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE
    while not await broker.ping(1.0):
        assert loop.time() < deadline, "the server does not answer"
        await asyncio.sleep(0.05)


async def elapsed(seconds: float) -> None:
    """Let time go by, where time is what the test is about."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, done.set)
    await done.wait()


# Streams ------------------------------------------------------------------------------------------------------------


async def test_streams_get_the_subjects_of_subscribers_and_publishers(
    nats_url: str, name: str, js: JetStreamContext
) -> None:
    broker = NatsBroker(nats_url)
    broker.publisher(f"{name}.bills", stream=JStream(name, max_msgs=7, subjects=[f"{name}.more"]))

    @broker.subscriber(f"{name}.orders.*", stream=name)
    async def any_order(msg: str) -> None: ...

    @broker.subscriber(f"{name}.orders.1", stream=name)
    async def first_order(msg: str) -> None: ...

    async with broker:
        config = (await js.stream_info(name)).config
    assert set(config.subjects or ()) == {f"{name}.bills", f"{name}.more", f"{name}.orders.*"}
    assert config.max_msgs == 7


async def test_a_stream_that_exists_keeps_what_it_has(nats_url: str, name: str, js: JetStreamContext) -> None:
    await js.add_stream(StreamConfig(name=name, subjects=[f"{name}.old"], max_msgs=9, description="theirs"))
    for _ in range(2):
        broker = NatsBroker(nats_url)

        @broker.subscriber(f"{name}.new", stream=JStream(name, max_msgs=5))
        async def handler(msg: str) -> None: ...

        async with broker:
            config = (await js.stream_info(name)).config
        assert set(config.subjects or ()) == {f"{name}.old", f"{name}.new"}
        assert (config.max_msgs, config.description) == (5, "theirs")


async def test_a_stream_that_is_not_declared_has_to_exist(nats_url: str, name: str) -> None:
    broker = NatsBroker(nats_url)

    @broker.subscriber(name, stream=JStream(name, declare=False))
    async def handler(msg: str) -> None: ...

    with pytest.raises(SetupError, match=f"{name}.*does not exist"):
        await broker.start()


async def test_a_stream_that_the_server_refuses(nats_url: str, name: str, js: JetStreamContext) -> None:
    await js.add_stream(name=f"{name}-other", subjects=[f"{name}.>"])
    broker = NatsBroker(nats_url)

    @broker.subscriber(f"{name}.a", stream=name)
    async def handler(msg: str) -> None: ...

    with pytest.raises(SetupError, match="overlap"):
        await broker.start()


async def test_publishing_without_a_stream_is_an_error(nats_url: str, name: str) -> None:
    broker = NatsBroker(nats_url)
    broker.publisher(name, stream=name)
    async with broker:
        ack = await broker.publish("hi", name, stream=name)
        assert (ack.stream, ack.seq) == (name, 1)
        with pytest.raises(PublishError, match="no stream takes this subject"):
            await broker.publish("hi", f"{name}.elsewhere", stream=name)
        with pytest.raises(PublishError, match="expected stream"):
            await broker.publish("hi", name, stream="another")
        with pytest.raises(PublishError, match="more than the server takes"):
            await broker.publish(b"x" * 2_000_000, name)
        with pytest.raises(PublishError, match="it has spaces"):
            await broker.publish("hi", "a b")


async def test_the_example_of_the_readme(nats_url: str) -> None:
    text = (EXAMPLES / "nats_streams.py").read_text().replace(ADDRESSES["nats"], nats_url).replace("shop", "example")
    shop = load("nats_streams", text)
    seen = Inbox()

    @shop.router.subscriber("bills", stream="example")
    async def notice(text: str) -> None:
        seen.put(text)

    async with shop.router.broker as broker:
        assert await shop.create("at", shop.Order(id=1, total=2)) == 1
        assert await seen.take() == "at: 2.00"
        await broker.publish("done", "bills", stream="example")
        assert await seen.take() == "done"


# Consumers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pull", [False, True])
async def test_a_consumer_without_a_name_is_deleted_on_stop(
    nats_url: str, name: str, js: JetStreamContext, pull: bool
) -> None:
    broker = NatsBroker(nats_url)
    seen = Inbox()

    @broker.subscriber(name, stream=name, pull_sub=pull)
    async def handler(msg: int) -> None:
        seen.put(msg)

    async with broker:
        await broker.publish(1, name)
        assert await seen.take() == 1
        (info,) = await js.consumers_info(name)
        assert info.config.inactive_threshold
    assert await js.consumers_info(name) == []


@pytest.mark.parametrize("pull", [False, True])
async def test_a_consumer_without_a_name_goes_on_where_it_was(
    nats_url: str, name: str, js: JetStreamContext, pull: bool
) -> None:
    """It is deleted under the running subscriber: the next one repeats nothing and leaves nothing out."""
    broker = NatsBroker(nats_url)
    seen = Inbox()

    @broker.subscriber(name, stream=name, pull_sub=pull)
    async def handler(msg: int) -> None:
        seen.put(msg)

    async with broker:
        for number in range(5):
            await broker.publish(number, name)
        assert await seen.take_many(5) == [0, 1, 2, 3, 4]
        (info,) = await js.consumers_info(name)
        await js.delete_consumer(name, info.name)
        await broker.publish(5, name)
        assert await seen.take(SOON) == 5
        await broker.publish(6, name)
        assert await seen.take() == 6
    assert seen.all == list(range(7))


async def test_a_durable_consumer_goes_on_after_a_restart(nats_url: str, name: str) -> None:
    seen = Inbox()

    def make() -> NatsBroker:
        broker = NatsBroker(nats_url)

        @broker.subscriber(name, stream=name, durable="here", deliver_policy=DeliverPolicy.NEW)
        async def handler(msg: int) -> None:
            seen.put(msg)

        return broker

    publisher = NatsBroker(nats_url)
    publisher.publisher(name, stream=name)
    async with publisher:
        await publisher.publish(0, name, stream=name)
        async with make():
            await publisher.publish(1, name, stream=name)
            assert await seen.take() == 1
        await publisher.publish(2, name, stream=name)
        async with make():
            assert await seen.take() == 2
    assert seen.all == [1, 2]


async def test_a_consumer_of_another_kind_is_refused(nats_url: str, name: str, js: JetStreamContext) -> None:
    await js.add_stream(name=name, subjects=[name])
    await js.add_consumer(name, ConsumerConfig(durable_name="taken"))
    broker = NatsBroker(nats_url)

    @broker.subscriber(name, stream=name, durable="taken")
    async def handler(msg: str) -> None: ...

    with pytest.raises(SetupError, match="'taken' exists and is a pull consumer"):
        await broker.start()


async def test_one_durable_cannot_push_to_two_subscribers(nats_url: str, name: str) -> None:
    def make() -> NatsBroker:
        broker = NatsBroker(nats_url)

        @broker.subscriber(name, stream=name, durable="one")
        async def handler(msg: str) -> None: ...

        return broker

    async with make():
        with pytest.raises(SetupError, match=r"pushes to another subscriber already; give queue="):
            await make().start()


async def test_a_durable_consumer_gets_a_changed_configuration(nats_url: str, name: str, js: JetStreamContext) -> None:
    """What `config` says is changed at the server; what it does not say, and where the consumer is, stays."""
    seen = Inbox()
    config: ConsumerConfig | None
    for config, expected in (
        (ConsumerConfig(ack_wait=7, max_deliver=4, metadata={"team": "a"}), (7, 4, None)),
        (ConsumerConfig(ack_wait=9, description="ours", deliver_policy=DeliverPolicy.NEW), (9, 4, "ours")),
        (None, (9, 4, "ours")),
    ):
        broker = NatsBroker(nats_url)

        @broker.subscriber(name, stream=name, durable="d", config=config, pull_sub=True)
        async def handler(msg: int) -> None:
            seen.put(msg)

        async with broker:
            await broker.publish(len(seen.all), name, stream=name)
            await seen.take()
            info = await js.consumer_info(name, "d")
        assert (info.config.ack_wait, info.config.max_deliver, info.config.description) == expected
        assert (info.config.metadata or {}).get("team") == "a"
    assert seen.all == [0, 1, 2]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ConsumerConfig(mem_storage=True, ack_wait=9), "exists with another .*mem_storage"),
        (ConsumerConfig(ack_policy=ConsumerAckPolicy.NONE), "exists with ack_policy=explicit, and not ack_policy=none"),
    ],
)
async def test_a_configuration_that_the_server_does_not_change(
    nats_url: str, name: str, js: JetStreamContext, config: ConsumerConfig, words: str
) -> None:
    await js.add_stream(name=name, subjects=[name])
    await js.add_consumer(name, ConsumerConfig(durable_name="d"))
    broker = NatsBroker(nats_url)

    @broker.subscriber(name, stream=name, durable="d", config=config, pull_sub=True)
    async def handler(msg: int) -> None: ...

    with pytest.raises(SetupError, match=words):
        await broker.start()


async def test_a_consumer_takes_new_subjects(nats_url: str, name: str, js: JetStreamContext) -> None:
    seen = Inbox()
    for subject in (f"{name}.a", f"{name}.b"):
        broker = NatsBroker(nats_url)

        @broker.subscriber(subject, stream=name, durable="d", pull_sub=True)
        async def handler(msg: str) -> None:
            seen.put(msg)

        async with broker:
            await broker.publish(subject, subject)
            assert await seen.take() == subject


async def test_several_filters(nats_url: str, name: str) -> None:
    broker = NatsBroker(nats_url)
    seen = Inbox()

    @broker.subscriber(stream=name, config=ConsumerConfig(filter_subjects=[f"{name}.a", f"{name}.b.*"]), pull_sub=True)
    async def handler(message: NatsMessage) -> None:
        seen.put(message.address)

    async with broker:
        for subject in (f"{name}.a", f"{name}.b.c"):
            await broker.publish("hi", subject)
            assert await seen.take() == subject


@pytest.mark.parametrize("pull", [False, True])
async def test_the_members_of_a_group_share_a_stream(nats_url: str, name: str, pull: bool) -> None:
    seen = Inbox()

    def make(member: int) -> NatsBroker:
        broker = NatsBroker(nats_url)

        @broker.subscriber(name, "workers", stream=name, pull_sub=PullSub(1) if pull else False)
        async def handler(msg: int) -> None:
            await asyncio.sleep(0.002)
            seen.put((member, msg))

        return broker

    one, two = make(1), make(2)
    async with one, two:
        for number in range(100):
            await one.publish(number, name, stream=name)
        got = await seen.take_many(100)
    assert sorted(number for _, number in got) == list(range(100))
    assert {member for member, _ in got} == {1, 2}


async def test_many_members_of_a_group_start_at_the_same_time(nats_url: str, name: str, js: JetStreamContext) -> None:
    """One of them makes the consumer; none is left with a subject that nothing is delivered to."""
    seen, publisher = Inbox(), NatsBroker(nats_url)
    publisher.publisher(name, stream=name)

    def member(number: int) -> NatsBroker:
        broker = NatsBroker(nats_url)

        @broker.subscriber(name, "workers", stream=JStream(name, declare=False))
        async def handler(msg: int) -> None:
            seen.put(number)

        return broker

    await js.add_stream(name=name, subjects=[name])
    async with publisher:
        for _ in range(3):
            members = [member(number) for number in range(6)]
            try:
                await asyncio.gather(*(one.start() for one in members))
                sent = 0
                while len(set(seen.all)) < 6:
                    assert sent < 3000, f"only {set(seen.all)} take part"
                    await asyncio.gather(*(publisher.publish(sent, name, stream=name) for _ in range(20)))
                    sent += 20
                    await elapsed(0.1)
                await until(lambda seen=seen, sent=sent: len(seen.all) == sent)
            finally:
                await asyncio.gather(*(one.stop() for one in members))
            await js.delete_consumer(name, "workers")
            await js.purge_stream(name)
            seen = Inbox()


# Delivery -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pull", [False, True])
async def test_what_was_not_started_is_handed_back_on_stop(nats_url: str, name: str, pull: bool) -> None:
    started, release, seen = asyncio.Event(), asyncio.Event(), Inbox()
    first, second = NatsBroker(nats_url), NatsBroker(nats_url)

    @first.subscriber(name, "workers", stream=name, pull_sub=PullSub(50) if pull else False)
    async def slow(msg: int) -> None:
        started.set()
        await release.wait()
        seen.put(msg)

    @second.subscriber(name, "workers", stream=name, pull_sub=pull)
    async def quick(msg: int) -> None:
        seen.put(msg)

    await first.start()
    for number in range(20):
        await first.publish(number, name, stream=name)
    await asyncio.wait_for(started.wait(), DEADLINE)
    stopping = asyncio.ensure_future(first.stop())
    async with second:
        got = await seen.take_many(19, SOON)
        release.set()
        await stopping
        got.append(await seen.take())
    assert sorted(got) == list(range(20))


@pytest.mark.parametrize("pull", [False, True])
async def test_a_slow_handler_keeps_its_message(nats_url: str, name: str, pull: bool) -> None:
    """The lease is extended for what runs and for what waits behind it."""
    broker = NatsBroker(nats_url)
    seen = Inbox()
    config = ConsumerConfig(ack_wait=3)

    @broker.subscriber(name, stream=name, durable="d", config=config, pull_sub=PullSub(10) if pull else False)
    async def handler(msg: int, message: NatsMessage) -> None:
        seen.put((msg, message.attempt))
        await asyncio.sleep(5 if msg == 0 else 0)

    async with broker:
        for number in range(3):
            await broker.publish(number, name, stream=name)
        assert await seen.take_many(3) == [(0, 1), (1, 1), (2, 1)]
    assert len(seen.all) == 3


async def test_what_waits_for_long_is_handled_once(nats_url: str, name: str) -> None:
    """More is pushed than the subscriber takes at once, for longer than the lease."""
    broker = NatsBroker(nats_url)
    seen = Inbox()

    @broker.subscriber(name, stream=name, durable="d", config=ConsumerConfig(ack_wait=2))
    async def handler(msg: int) -> None:
        await asyncio.sleep(0.006)
        seen.put(msg)

    publisher = NatsBroker(nats_url)
    publisher.publisher(name, stream=name)
    async with publisher:
        for start in range(0, 1000, 100):
            await asyncio.gather(*(publisher.publish(start + one, name, stream=name) for one in range(100)))
        async with broker:
            await seen.take_many(1000)
            await publisher.publish(1000, name, stream=name)
            assert await seen.take() == 1000
    assert sorted(seen.all) == list(range(1001))


async def test_attempts_are_counted_by_the_server(nats_url: str, name: str) -> None:
    seen = Inbox()
    for life in range(2):
        broker = NatsBroker(nats_url)

        @broker.subscriber(name, stream=name, durable="d")
        async def handler(message: NatsMessage) -> None:
            seen.put(message.attempt)
            await message.nack(0.1 if life == 0 and message.attempt < 2 else 0.5)  # noqa: B023 (it runs in its own life only)

        async with broker:
            if life == 0:
                await broker.publish("hi", name, stream=name)
            assert await seen.take() == 1 + 2 * life
            assert await seen.take() == 2 + 2 * life


async def test_a_message_that_nobody_settles_comes_again_after_the_lease(nats_url: str, name: str) -> None:
    broker = NatsBroker(nats_url)
    seen = Inbox()

    @broker.subscriber(
        name, stream=name, durable="d", config=ConsumerConfig(ack_wait=2), pull_sub=True, ack_policy=AckPolicy.MANUAL
    )
    async def handler(message: NatsMessage) -> None:
        seen.put(message.attempt)
        if message.attempt == 2:
            await message.ack()

    async with broker:
        await broker.publish("hi", name, stream=name)
        assert await seen.take_many(2, SOON) == [1, 2]


async def test_rejected_messages_are_gone(nats_url: str, name: str, js: JetStreamContext) -> None:
    broker = NatsBroker(nats_url)
    seen = Inbox()

    @broker.subscriber(name, stream=name, durable="d", pull_sub=True)
    async def handler(body: dict[str, int]) -> None:
        seen.put(body)

    async with broker:
        for body in (b"{broken", {"a": "no number"}, {"a": 1}):
            await broker.publish(body, name, stream=name)
        assert await seen.take() == {"a": 1}
    info = await js.consumer_info(name, "d")
    assert (info.num_ack_pending, info.num_redelivered, info.num_pending) == (0, 0, 0)


async def test_batches_are_full_or_late(nats_url: str, name: str) -> None:
    broker = NatsBroker(nats_url)
    seen = Inbox()

    @broker.subscriber(name, stream=name, durable="d", pull_sub=PullSub(10, timeout=0.5, batch=True))
    async def handler(msgs: list[int]) -> None:
        seen.put(msgs)

    publisher = NatsBroker(nats_url)
    publisher.publisher(name, stream=name)
    async with publisher:
        for number in range(25):
            await publisher.publish(number, name, stream=name)
        async with broker:
            batches = await seen.take_many(3)
    assert batches == [list(range(10)), list(range(10, 20)), list(range(20, 25))]


async def test_core_queue_groups_and_copies(nats_url: str, name: str) -> None:
    seen = Inbox()
    brokers = [NatsBroker(nats_url) for _ in range(2)]
    for member, broker in enumerate(brokers):

        @broker.subscriber(f"{name}.*", "workers")
        async def shared(msg: int, member: int = member) -> None:
            seen.put("shared")

        @broker.subscriber(f"{name}.>")
        async def copy(msg: int) -> None:
            seen.put("copy")

    async with brokers[0], brokers[1]:
        for number in range(10):
            await brokers[0].publish(number, f"{name}.a")
        got = await seen.take_many(30)
    assert (got.count("shared"), got.count("copy")) == (10, 20)


async def test_a_slow_core_subscriber_drops_and_says_so(
    nats_url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = NatsBroker(nats_url)
    seen, release = Inbox(), asyncio.Event()

    @broker.subscriber(name, pending_msgs_limit=10)
    async def handler(msg: int) -> None:
        seen.put(msg)
        await release.wait()

    with caplog.at_level(logging.WARNING):
        async with broker:
            await broker.publish(0, name)
            await seen.take()
            for number in range(1, 2001):
                await broker.publish(number, name)
            await until(lambda: broker.report.counts.get("dropped", 0) > 1000)
            release.set()
            await until(lambda: len(seen.all) + broker.report.counts["dropped"] == 2001)
    assert "too slow" in caplog.text


# The wire -----------------------------------------------------------------------------------------------------------


async def test_the_server_has_the_subscription_when_the_start_is_over(nats_url: str, name: str) -> None:
    async with Proxy(nats_url) as proxy:
        broker = NatsBroker(proxy.url)

        @broker.subscriber(name)
        async def handle(number: int) -> None: ...

        async with broker:
            # The server reads in order, and answered the last PING: that one has to come after the subscription.
            assert proxy.sent.rindex(b"PING\r\n") > proxy.sent.index(f"SUB {name} ".encode())


async def test_what_other_clients_see(nats_url: str, name: str, nats_client: Client) -> None:
    subscription = await nats_client.subscribe(f"{name}.>")
    await nats_client.flush()
    await nats_client.flush()  # nats-py sends the PING of the first one before the subscription
    broker = NatsBroker(nats_url)
    async with broker:
        await broker.publish({"a": 1}, f"{name}.x", headers={"X": "y"}, reply_to="back", correlation_id="c")
        message = await subscription.next_msg(SOON)
    assert (message.subject, message.reply, message.data) == (f"{name}.x", "back", b'{"a":1}')
    assert message.headers == {"content-type": "application/json", "correlation_id": "c", "X": "y"}


async def test_a_request_of_another_client_is_answered(nats_url: str, name: str, nats_client: Client) -> None:
    broker = NatsBroker(nats_url)

    @broker.subscriber(name)
    async def double(number: int) -> int:
        return 2 * number

    async with broker:
        answer = await nats_client.request(name, b"21", timeout=SOON, headers={"correlation_id": "c"})
    assert (answer.data, (answer.headers or {})["correlation_id"]) == (b"42", "c")


async def test_messages_of_other_clients(nats_url: str, name: str, nats_client: Client, js: JetStreamContext) -> None:
    broker = NatsBroker(nats_url)
    seen = Inbox()

    @broker.subscriber(f"{name}.core")
    async def core(message: NatsMessage) -> None:
        seen.put((message.decoded(), message.stream, message.raw_message.headers, message.reply_to))

    @broker.subscriber(f"{name}.stored", stream=name)
    async def stored(message: NatsMessage) -> None:
        raw = message.raw_message
        seen.put((message.decoded(), message.stream, raw.metadata.sequence.stream, message.reply_to))

    async with broker:
        await nats_client.publish(f"{name}.core", b"plain")
        assert await seen.take() == (b"plain", None, None, None)
        await js.publish(f"{name}.stored", b"7", headers={"reply_to": "back", "content-type": ""})
        assert await seen.take() == (7, name, 1, "back")


async def test_publishing_to_streams_at_the_same_time(nats_url: str, name: str) -> None:
    broker = NatsBroker(nats_url)
    broker.publisher(name, stream=name)
    async with broker:
        acks = await asyncio.gather(*(broker.publish(number, name, stream=name) for number in range(100)))
    assert sorted(ack.seq for ack in acks) == list(range(1, 101))


# The connection -----------------------------------------------------------------------------------------------------


async def test_a_server_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    server = ProcessServer()
    url = server.url.replace("://", "://ann:hunter2@")
    broker = NatsBroker(url, startup_timeout=1.5)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with caplog.at_level(logging.DEBUG), pytest.raises(BrokerUnavailable) as caught:
        await broker.start()
    assert loop.time() - began < 5
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    assert "hunter2" not in str(caught.value) + caplog.text
    server.remove()


class PlainServer(ProcessServer):
    """A server without JetStream."""

    def command(self) -> list[str]:
        return [one for one in super().command() if one != "-js"]


async def test_a_server_without_jetstream(name: str) -> None:
    server = PlainServer()
    server.start()
    try:
        broker = NatsBroker(server.url)

        @broker.subscriber(name, stream=name)
        async def handler(msg: str) -> None: ...

        with pytest.raises(BrokerUnavailable, match="no JetStream; start it with -js"):
            await broker.start()
        async with NatsBroker(server.url) as plain:
            with pytest.raises(PublishError, match="no stream"):
                await plain.publish("hi", name, stream=name)
    finally:
        server.remove()


class GuardedServer(ProcessServer):
    """A server that wants a user and a password, which may change."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.options = options

    def command(self) -> list[str]:
        return [*super().command(), *self.options]


@pytest.fixture
def guarded() -> Iterator[GuardedServer]:
    server = GuardedServer("--user", "ann", "--pass", "hunter2")
    server.start()
    try:
        yield server
    finally:
        server.remove()


async def test_user_and_password(guarded: GuardedServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with NatsBroker(guarded.url, security=NatsUserPassword("ann", "hunter2")) as broker:
            assert await broker.ping()
        async with NatsBroker(guarded.url.replace("://", "://ann:hunter2@")) as broker:
            assert await broker.ping()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(BrokerUnavailable, match="Authorization") as caught:
            await NatsBroker(guarded.url, security=NatsUserPassword("ann", "hunter3")).start()
        assert loop.time() - began < 5, "a refusal needs no second attempt"
    assert "hunter" not in caplog.text + str(caught.value)


async def test_a_user_that_is_refused_for_a_while(guarded: GuardedServer, name: str) -> None:
    broker = NatsBroker(guarded.url, security=NatsUserPassword("ann", "hunter2"))
    seen = Inbox()

    @broker.subscriber(name)
    async def handler(msg: int) -> None:
        seen.put(msg)

    refused = asyncio.Event()

    async def on_error(error: Exception) -> None:
        if "Authorization" in str(error):
            refused.set()

    broker.options["error_cb"] = on_error
    async with broker:
        guarded.stop()
        guarded.options = ("--user", "bob", "--pass", "other")
        guarded.start()
        await asyncio.wait_for(refused.wait(), DEADLINE)
        guarded.stop()
        guarded.options = ("--user", "ann", "--pass", "hunter2")
        guarded.start()
        await answering(broker)
        await broker.publish(1, name)
        assert await seen.take() == 1


async def test_a_token() -> None:
    server = GuardedServer("--auth", "s3cret")
    server.start()
    try:
        async with NatsBroker(server.url, security=NatsToken("s3cret")) as broker:
            assert await broker.ping()
    finally:
        server.remove()


class ConfiguredServer(GuardedServer):
    """A server with a configuration that it reads again when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "nats.conf"
        super().__init__("-c", str(self.file))

    def configure(self, text: str) -> None:
        self.file.write_text(text)
        if self._process is not None:
            self.reload()


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[ConfiguredServer]:
    server = ConfiguredServer(tmp_path)
    try:
        yield server
    finally:
        server.remove()


async def test_a_connection_that_was_closed_for_good_is_made_again(configured: ConfiguredServer, name: str) -> None:
    """nats-py gives up when the server throws it out, as for a message that is larger than a new limit."""
    configured.configure("max_payload: 100000")
    configured.start()
    broker = NatsBroker(configured.url)
    seen = Inbox()

    @broker.subscriber(f"{name}.core")
    async def core(msg: int) -> None:
        seen.put(("core", msg))

    @broker.subscriber(f"{name}.push", stream=name)
    async def push(msg: int) -> None:
        seen.put(("push", msg))

    @broker.subscriber(f"{name}.pull", stream=name, durable="d", pull_sub=True)
    async def pull(msg: int) -> None:
        seen.put(("pull", msg))

    @broker.subscriber(f"{name}.slow", stream=name, durable="slow", pull_sub=PullSub(10))
    async def slow(msg: int) -> None:
        entered.set()
        await release.wait()
        seen.put(("slow", msg))

    closed, entered, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def on_closed() -> None:
        closed.set()

    broker.options["closed_cb"] = on_closed
    async with broker:
        for number in range(5):  # one of them runs, the others wait behind it
            await broker.publish(number, f"{name}.slow", stream=name)
        await asyncio.wait_for(entered.wait(), DEADLINE)
        for round_ in range(2):
            for kind in ("core", "push", "pull"):
                await broker.publish(round_, f"{name}.{kind}")
                assert await seen.take() == (kind, round_)
            if round_ == 0:
                configured.configure("max_payload: 2000")
                while not closed.is_set():  # until the server has read its configuration
                    await broker.publish(b"x" * 3000, f"{name}.large")
                    await asyncio.sleep(0.05)
                await answering(broker)
                await until(lambda: all(one.running for one in broker.subscribers))
        release.set()
        assert sorted(await seen.take_many(5, SOON)) == [("slow", number) for number in range(5)]
    assert len(seen.all) == 11


async def test_publishing_while_the_server_is_away(nats_server: Server, name: str) -> None:
    broker = NatsBroker(nats_server.url, publish_timeout=1.0)
    broker.publisher(name, stream=name)
    loop = asyncio.get_running_loop()
    async with broker:
        nats_server.stop()
        try:
            assert not await broker.ping(0.5)
            for options in ({}, {"stream": name}):
                began = loop.time()
                with pytest.raises(BrokerUnavailable, match="publish"):
                    await broker.publish("hi", name, **options)
                assert loop.time() - began < 5
            waiting = [
                asyncio.ensure_future(broker.publish("hi", name, timeout=DEADLINE)),
                asyncio.ensure_future(broker.publish("hi", name, stream=name, timeout=DEADLINE)),
            ]
        finally:
            nats_server.start()
        assert await asyncio.wait_for(waiting[0], DEADLINE) is None
        assert (await asyncio.wait_for(waiting[1], DEADLINE)).stream == name


async def test_every_kind_consumes_again_after_a_restart(nats_server: Server, name: str) -> None:
    broker = NatsBroker(nats_server.url)
    seen, entered, release = Inbox(), asyncio.Event(), asyncio.Event()

    @broker.subscriber(f"{name}.core")
    async def core(msg: int) -> None:
        seen.put(("core", msg))

    for kind, options in {
        "push": {},
        "durable": {"durable": "push"},
        "queue": {"queue": "workers"},
        "pull": {"pull_sub": True},
        "both": {"pull_sub": True, "durable": "pull"},
    }.items():

        @broker.subscriber(f"{name}.{kind}", stream=name, **options)  # type: ignore[arg-type]
        async def handler(msg: int, kind: str = kind) -> None:
            seen.put((kind, msg))

    @broker.subscriber(f"{name}.slow", stream=name, durable="slow")
    async def slow(msg: int) -> None:
        entered.set()
        await release.wait()
        seen.put(("slow", msg))

    kinds = ("core", "push", "durable", "queue", "pull", "both")
    async with broker:
        for kind in kinds:
            await broker.publish(0, f"{name}.{kind}")
        assert sorted(await seen.take_many(len(kinds))) == sorted((kind, 0) for kind in kinds)
        await broker.publish(0, f"{name}.slow")
        await asyncio.wait_for(entered.wait(), DEADLINE)
        nats_server.restart(kill=True)
        await answering(broker)
        for kind in kinds:
            await broker.publish(1, f"{name}.{kind}")
        await until(lambda: {(kind, 1) for kind in kinds} <= set(seen.all), SOON)
        release.set()  # a lost connection does not cancel what runs
        await until(lambda: ("slow", 0) in seen.all)
    assert set(seen.all) == {*((kind, msg) for kind in kinds for msg in (0, 1)), ("slow", 0)}
    # A server that is killed may not have written yet that a consumer got a message, or acknowledged it.
    repeated = Counter(seen.all) - Counter(set(seen.all))
    assert repeated <= Counter((kind, 0) for kind in (*kinds, "slow") if kind != "core")


async def test_a_server_that_is_frozen_for_a_while(nats_server: Server, name: str) -> None:
    broker = NatsBroker(nats_server.url, publish_timeout=2.0)
    seen = Inbox()

    @broker.subscriber(name, stream=name, durable="d", pull_sub=True)
    async def handler(msg: int) -> None:
        seen.put(msg)

    async with broker:
        await broker.publish(0, name, stream=name, timeout=DEADLINE)
        assert await seen.take() == 0
        nats_server.pause()
        try:
            assert not await broker.ping(0.5)
            with pytest.raises(BrokerUnavailable, match="may have been stored"):
                await broker.publish(1, name, stream=name)
            await elapsed(8)  # longer than it takes to get suspicious
        finally:
            nats_server.unpause()
        await broker.publish(2, name, stream=name, timeout=DEADLINE)
        assert await seen.take_many(2, SOON) == [1, 2]


async def test_a_subscription_that_is_not_permitted(name: str, configured: ConfiguredServer) -> None:
    user = '{ user: ann, password: hunter2, permissions: { subscribe: "_INBOX.>" } }'
    configured.configure(f"authorization {{ users = [ {user} ] }}")
    configured.start()
    broker = NatsBroker(configured.url, security=NatsUserPassword("ann", "hunter2"))

    @broker.subscriber(name)
    async def handler(msg: str) -> None: ...

    with pytest.raises(SetupError, match="permissions"):
        await broker.start()


async def test_an_answer_to_the_server_that_is_not_permitted(
    name: str, configured: ConfiguredServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The server waits for it before it pushes more: a subscriber that would stand still says why."""
    rights = f'{{ publish: ["$JS.API.>", "$JS.ACK.>", "{name}"], subscribe: "_INBOX.>" }}'
    user = f"{{ user: ann, password: hunter2, permissions: {rights} }}"
    configured.configure(f"authorization {{ users = [ {user} ] }}")
    configured.start()
    broker = NatsBroker(configured.url, security=NatsUserPassword("ann", "hunter2"))

    @broker.subscriber(name, stream=name)
    async def handler(msg: bytes) -> None: ...

    async with broker:
        for _ in range(4):
            await broker.publish(b"x" * 900_000, name, stream=name)
        await until(lambda: "change the permissions of the user" in caplog.text)
        assert "$js.fc." in caplog.text.lower()
