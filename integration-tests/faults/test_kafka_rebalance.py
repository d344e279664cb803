"""A partition with a message that failed, while another member of the group comes and goes: both Kafka packages."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import fastapi_stream_confluent as with_confluent
import fastapi_stream_kafka as with_aiokafka
import pytest

from servers import Server
from test_kafka import make_topic
from waiting import until

PARTITIONS = 2
COUNT = 20
LATER = 600.0


@pytest.mark.parametrize(
    "routers", [pytest.param(with_aiokafka, id="aiokafka"), pytest.param(with_confluent, id="confluent")]
)
async def test_what_waits_for_another_delivery_does_not_hold_its_partition_up(
    kafka_server: Server, routers: Any
) -> None:
    url, topic = kafka_server.url, f"rebalance-{uuid4().hex[:10]}"
    await make_topic(url, topic, PARTITIONS)
    runs: Counter[int] = Counter()

    def member() -> Any:
        router = routers.KafkaRouter(url)

        @router.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
        async def handler(msg: int) -> None:
            runs[msg] += 1
            if msg < PARTITIONS and runs[msg] == 1:
                raise routers.NackMessage(LATER)

        return router.broker

    async with member() as first:
        await asyncio.gather(*(first.publish(one, topic, partition=one % PARTITIONS) for one in range(COUNT)))
        await until(lambda: runs[0] and runs[1])
        async with member():
            pass
        await asyncio.gather(
            *(first.publish(one, topic, partition=one % PARTITIONS) for one in range(COUNT, 2 * COUNT))
        )
        await until(lambda: set(range(2 * COUNT)) <= runs.keys())
        assert {runs[one] for one in range(PARTITIONS)} == {2}
