"""A group that changes from one Kafka package to the other, on a real Kafka."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import fastapi_stream_confluent as with_confluent
import fastapi_stream_kafka as with_aiokafka
import pytest
from fastapi_stream_core.testing.conformance import Inbox

from servers import Server
from test_kafka import committed, make_topic
from waiting import until

HANDED_OVER = 8


@pytest.fixture
def topic() -> str:
    return f"changes-{uuid4().hex[:10]}"


async def handled_of(routers: Any, url: str, topic: str, published: range) -> list[int]:
    """Publish numbers, and return what a subscriber of the group handles until all of them are committed."""
    seen, router = Inbox(), routers.KafkaRouter(url)

    @router.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
    async def handler(msg: int) -> None:
        seen.put(msg)

    async def all_is_committed() -> bool:
        return await committed(url, topic, topic) == published.stop

    async with router.broker as broker:
        for number in published:
            await broker.publish(number, topic)
        await until(all_is_committed)
    return list(seen.all)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(with_aiokafka, with_confluent, id="from aiokafka to confluent"),
        pytest.param(with_confluent, with_aiokafka, id="from confluent to aiokafka"),
    ],
)
async def test_it_goes_on_where_it_was(
    kafka_server: Server, topic: str, first: Any, second: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = kafka_server.url
    await make_topic(url, topic, 1)
    assert await handled_of(first, url, topic, range(HANDED_OVER)) == list(range(HANDED_OVER))
    later = range(HANDED_OVER, 2 * HANDED_OVER)
    assert await handled_of(second, url, topic, later) == list(later)
    assert not [one for one in caplog.records if "made again" in one.getMessage()]
