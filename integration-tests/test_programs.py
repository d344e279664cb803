"""The programs under docs/examples/ on each broker, in memory and on its server.

A program is taken as it stands; only its router and its address are exchanged for those of the broker.
"""

from __future__ import annotations

import inspect
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from programs import ADDRESSES, CLASSES, EXAMPLES, in_memory_broker_of, load

SECONDS = 60
BROKERS = sorted(ADDRESSES)


@dataclass
class Stage:
    """Where a program runs: a broker, and whether it is the real one."""

    broker: str
    real: bool
    url_of: Callable[[str], str]

    def program(self, name: str, *, second: str | None = None) -> ModuleType:
        """The example for this broker; where it has two brokers, `second` takes the place of RabbitMQ."""
        text = (EXAMPLES / f"{name}.py").read_text()
        if second:
            text = exchanged(text, "rabbit", second, self.url_of(second))
        return load(name, exchanged(text, "kafka", self.broker, self.url_of(self.broker)))

    @contextmanager
    def running(self, app: FastAPI, *routers: Any) -> Iterator[TestClient]:
        with ExitStack() as stack:
            if not self.real:
                for router in routers:
                    stack.enter_context(in_memory_broker_of(router)(router.broker))
            yield stack.enter_context(TestClient(app))


def exchanged(text: str, old: str, new: str, url: str) -> str:
    for old_class, new_class in zip(CLASSES[old], CLASSES[new], strict=True):
        text = text.replace(old_class, new_class)
    return text.replace(f"fastapi_stream_{old}", f"fastapi_stream_{new}").replace(ADDRESSES[old], url)


@pytest.fixture(params=["memory", "server"])
def real(request: pytest.FixtureRequest) -> bool:
    return request.param == "server"


@pytest.fixture(params=BROKERS)
def stage(request: pytest.FixtureRequest, real: bool) -> Stage:
    def url_of(broker: str) -> str:
        return request.getfixturevalue(f"{broker}_server").url if real else ADDRESSES[broker]

    url_of(request.param)
    return Stage(request.param, real, url_of)


def publish(client: TestClient, router: Any, *args: Any, **options: Any) -> None:
    """Publish from the event loop that the app runs in."""
    assert client.portal is not None
    client.portal.call(partial(router.broker.publish, *args, **options))


def listen(router: Any, address: str) -> queue.Queue[Any]:
    """What arrives at `address`, received by one more subscriber of the program."""
    seen: queue.Queue[Any] = queue.Queue()

    @router.subscriber(address)
    async def notice(body: Any) -> None:
        seen.put(body)

    return seen


def expect(seen: queue.Queue[Any], *bodies: Any) -> None:
    """Wait until each of the bodies arrived; a server may hold others of an earlier test."""
    missing, others = list(bodies), []
    deadline = time.monotonic() + SECONDS
    while missing:
        try:
            body = seen.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            pytest.fail(f"{missing} did not arrive within {SECONDS} s, only {others}")
        if body in missing:
            missing.remove(body)
        else:
            others.append(body)


def test_bill(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    shop = stage.program("bill")
    invoices = listen(shop.router, "invoices")
    with stage.running(shop.app, shop.router) as client:
        assert client.get("/health").json() == "ok"
        publish(client, shop.router, {"id": 41, "lines": {"tea": 3}}, "orders", headers={"tenant": "acme"})
        expect(invoices, {"total": 10.5})
    assert "billed 41" in capsys.readouterr().out


def test_the_body_is_in_the_path(stage: Stage) -> None:
    users = stage.program("body_in_path")
    renamed = listen(users.router, "renamed")
    with stage.running(users.app, users.router) as client:
        publish(client, users.router, {"id": 1, "name": "Ann"}, "users")
        expect(renamed, 1)
    assert users.names == {1: "Ann"}


def test_the_broker_from_anywhere(stage: Stage) -> None:
    shop = stage.program("broker_anywhere")
    orders = listen(shop.router, "orders")
    with stage.running(shop.app, shop.router) as client:
        assert client.get("/state").json() is True
        for id, path in enumerate(("/orders", "/again"), 51):
            assert client.post(path, json={"id": id, "lines": {}}).status_code == 200
        expect(orders, {"id": 51, "lines": {}}, {"id": 52, "lines": {}})


def test_after_the_start(stage: Stage) -> None:
    hall = stage.program("after_startup")
    greeted = listen(hall.router, "greeted")
    for count in (1, 2):  # a second life of the same app
        with stage.running(hall.app, hall.router):
            expect(greeted, "Hello!")
        assert hall.greetings == ["Hello!"] * count


def test_documentation(stage: Stage) -> None:
    shop = stage.program("documentation")
    with stage.running(shop.app, shop.router) as client:
        document = client.get("/asyncapi.json").json()
        assert document["asyncapi"] == "3.0.0"
        assert [channel["address"] for channel in document["channels"].values()] == ["orders"]
        assert client.get("/asyncapi.yaml").text.startswith("asyncapi: ")
        assert "text/html" in client.get("/asyncapi").headers["content-type"]
        assert "/asyncapi" not in client.get("/openapi.json").text


def test_nested_routers(stage: Stage) -> None:
    shop = stage.program("nested_routers")
    done = listen(shop.core, "done")
    with stage.running(shop.app, shop.core) as client:
        assert shop.orders.broker is shop.core.broker
        publish(client, shop.users, {"id": 1}, "users")
        publish(client, shop.orders, {"id": 2}, "orders")
        expect(done, "user 1", "order 2")


def test_two_brokers(stage: Stage) -> None:
    shop = stage.program("two_brokers", second="nats" if stage.broker == "rabbit" else "rabbit")
    printed = listen(shop.kafka, "printed")
    with stage.running(shop.app, shop.kafka, shop.rabbit) as client:
        publish(client, shop.kafka, {"id": 3}, "orders")
        expect(printed, "ticket 3")
        document = client.get("/asyncapi.json").json()
        assert len(document["servers"]) == 2
        addresses = {channel["address"] for channel in document["channels"].values()}
        assert addresses == {"orders", "tickets", "printed"}


@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.parametrize("test", ["test_bill", "test_app", "test_function"])
async def test_testing(broker: str, test: str) -> None:
    shop = Stage(broker, False, ADDRESSES.__getitem__).program("testing")
    result = getattr(shop, test)()
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_every_example_can_be_imported(file: Path) -> None:
    load(file.stem, file.read_text())
