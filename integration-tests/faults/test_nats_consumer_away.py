"""The server of a subscriber's own consumer is away, and those of its stream are not."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import nats
import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import JStream, NatsBroker
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from faults.nats_cluster import ANSWER_SECONDS, Node, cluster, led_by
from waiting import until

COUNT = 10


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    with cluster() as servers:
        yield servers


async def store(js: JetStreamContext, name: str, numbers: range) -> None:
    """Publish to a stream whose servers may be about to elect who leads it."""
    for number in numbers:

        async def stored(number: int = number) -> bool:
            try:
                await js.publish(f"{name}.a", b"%d" % number, headers={"Nats-Msg-Id": str(number)})
            except NatsError:
                return False
            return True

        await until(stored)


async def servers_of(js: JetStreamContext, name: str) -> dict[str, str]:
    """Return which server each consumer has that answers."""
    try:
        found = await js.consumers_info(name)
    except NatsError:
        return {}
    return {str(one.name): str(one.cluster.leader) for one in found if one.cluster is not None}


@pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])
async def test_another_consumer_goes_on(
    nodes: list[Node], name: str, pull: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It begins behind what was handled, and the one that is away is gone when its server is back."""
    await led_by(nodes, name, replicas=3)
    urls = [node.url for node in nodes]
    broker, seen = NatsBroker(",".join(urls)), Inbox()

    @broker.subscriber(f"{name}.*", stream=JStream(name, declare=False), pull_sub=pull)
    async def handler(msg: int) -> None:
        seen.put(msg)

    client = await nats.connect(urls, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
    js = client.jetstream(timeout=ANSWER_SECONDS)
    try:
        with caplog.at_level(logging.WARNING):
            async with broker:
                await store(js, name, range(COUNT))
                await seen.take_many(COUNT)
                ((consumer, server),) = (await servers_of(js, name)).items()
                node = next(one for one in nodes if one.name == server)
                node.kill()
                try:
                    await store(js, name, range(COUNT, 2 * COUNT))
                    await seen.take_many(COUNT, timeout=60)
                finally:
                    node.start()
                (subscription,) = broker.subscribers
                assert subscription.running

                async def is_forgotten() -> bool:
                    found = await servers_of(js, name)
                    return bool(found) and consumer not in found

                await until(is_forgotten)
                await store(js, name, range(2 * COUNT, 3 * COUNT))
                await seen.take_many(COUNT)
    finally:
        await client.close()
    assert seen.all == list(range(3 * COUNT))
    assert caplog.text.count(f"nobody answers for the consumer {consumer!r}") == 1
