"""The conformance suite on a real server: NATS core, and a JetStream stream pushed and pulled."""

from itertools import count
from typing import Any

import pytest
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.conformance import (
    BindingSuite,
    DeliverySuite,
    Features,
    Harness,
    LifeSuite,
    ResultSuite,
    RoutingSuite,
)
from fastapi_stream_nats import NatsRouter, PullSub
from fastapi_stream_nats.testing import FEATURES

from servers import Server

NUMBERS = count()


class NatsHarness(Harness):
    """A subscriber's address is `name` or `name.more`; with JetStream each name has a stream."""

    def __init__(self, features: Features, url: str) -> None:
        self.features = features
        self.url = url

    def stream(self, address: str) -> str | None:
        return None if self.features.kind == "core" else address.partition(".")[0]

    def router(self, **options: Any) -> NatsRouter:
        return NatsRouter(self.url, **options)

    def subscribe(self, router: Any, address: str, *, batch: bool = False, group: str = "", **options: Any) -> Any:
        stream = self.stream(address)
        if stream is None:
            return router.subscriber(address, group, **options)
        # Without a durable consumer a subscriber reads its stream from the beginning whenever it starts.
        durable = group or f"own-{next(NUMBERS)}"
        if self.features.kind == "push":
            return router.subscriber(address, group, stream=stream, durable=durable, **options)
        pull = PullSub(batch=batch, timeout=0.2 if batch else 5.0)
        return router.subscriber(address, stream=stream, pull_sub=pull, durable=durable, **options)

    def subscribe_replies(self, router: Any, address: str) -> Any:
        return router.subscriber(address)

    def publisher(self, router: Any, address: str, **options: Any) -> Any:
        return router.publisher(address, stream=self.stream(address), **options)

    async def publish(self, broker: Any, message: Any, address: str, **options: Any) -> Any:
        return await broker.publish(message, address, stream=self.stream(address), **options)

    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        stream = self.stream(address)
        options = {} if stream is None else {"stream": stream}
        await broker.deliver(Outgoing(address, body, "", list(headers.items()), options=options))


@pytest.fixture(params=FEATURES, ids=lambda features: features.kind)
def harness(request: pytest.FixtureRequest, nats_server: Server) -> Harness:
    return NatsHarness(request.param, nats_server.url)


class TestBinding(BindingSuite):
    pass


class TestResults(ResultSuite):
    pass


class TestDelivery(DeliverySuite):
    pass


class TestRouting(RoutingSuite):
    pass


class TestLife(LifeSuite):
    pass
