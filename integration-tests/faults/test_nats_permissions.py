"""The permissions that the page on security advises are enough; without one of them the start says which."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import JStream, NatsBroker, NatsUserPassword, SetupError

from programs import ROOT
from servers import ProcessServer

PAGE = (ROOT / "docs" / "security.md").read_text()
ADVISED = dict(re.findall(r"(publish|subscribe): (\[[^\]]*\])", PAGE))
FIRST_SECONDS = 5.0
"""Well below `startup_timeout`: a start that is not permitted does not wait for it."""
Serve = Callable[[list[str], list[str]], NatsBroker]


class PermittingServer(ProcessServer):
    """A server with one user of few permissions."""

    def __init__(self, publish: list[str], subscribe: list[str]) -> None:
        super().__init__()
        permissions = {"publish": publish, "subscribe": subscribe}
        user = {"user": "app", "password": "sesame", "permissions": permissions}
        self._config = Path(self._folder) / "server.conf"
        self._config.write_text(json.dumps({"authorization": {"users": [user]}}))

    def command(self) -> list[str]:
        return [*super().command(), "-c", str(self._config)]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[PermittingServer] = []

    def start(publish: list[str], subscribe: list[str]) -> NatsBroker:
        server = PermittingServer(publish, subscribe)
        servers.append(server)
        server.start()
        return NatsBroker(server.url, logger=None, security=NatsUserPassword("app", "sesame"))

    try:
        yield start
    finally:
        for server in servers:
            server.remove()


def declare(broker: NatsBroker, **options: Any) -> Inbox:
    """Add the subscriber of the package's README and one that sees its result."""
    seen, orders = Inbox(), JStream("shop")

    @broker.subscriber("orders.{country}", stream=orders, durable="billing", **options)
    @broker.publisher("bills", stream=orders)
    async def bill(country: str, body: int) -> str:
        seen.put((country, body))
        return f"{country}: {body}"

    return seen


@pytest.mark.parametrize("pull_sub", [True, False], ids=["pull", "push"])
async def test_what_is_advised_is_enough(serve: Serve, pull_sub: bool) -> None:
    broker = serve(json.loads(ADVISED["publish"]), json.loads(ADVISED["subscribe"]))
    seen = declare(broker, pull_sub=pull_sub)
    async with broker:
        await broker.publish(1, "orders.de", stream="shop")
        assert await seen.take() == ("de", 1)
    assert not set(broker.report.counts) & {"restarted", "failed", "late"}


@pytest.mark.parametrize("missing", ["_INBOX.>", "$JS.API.STREAM.*.shop", "$JS.API.CONSUMER."])
async def test_a_start_that_is_not_permitted_says_so_at_once(serve: Serve, missing: str) -> None:
    publish, subscribe = (
        [one for one in json.loads(ADVISED[name]) if not one.startswith(missing)] for name in ("publish", "subscribe")
    )
    assert len(publish) + len(subscribe) < sum(len(json.loads(one)) for one in ADVISED.values())
    broker = serve(publish, subscribe or ["nothing"])  # an empty list permits everything
    declare(broker, pull_sub=True)
    with pytest.raises(SetupError, match=r"(?i)permissions violation") as caught:
        await asyncio.wait_for(broker.start(), FIRST_SECONDS)
    said = str(caught.value).lower()
    assert missing.lower().partition("*")[0].rstrip(">") in said
    assert "change the permissions of the user" in said
