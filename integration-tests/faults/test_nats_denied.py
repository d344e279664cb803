"""A user of NATS with few permissions, and what a sender makes it do that they do not cover."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import NatsBroker

from servers import ProcessServer, running

APP = 'publish: ["_INBOX.>", "done", "$JS.>"], subscribe: ["orders", "stored.>", "_INBOX.>"]'
USERS = f"""authorization {{ users = [
  {{ user: app, password: app, permissions: {{ {APP} }} }}
  {{ user: sender, password: sender }}
]}}"""


class UserServer(ProcessServer):
    """A server with an app that may read and not publish what it reads, and a sender that may do everything."""

    def command(self) -> list[str]:
        file = Path(self._folder) / "server.conf"
        file.write_text(USERS)
        return [*super().command(), "-c", str(file)]

    def url_of(self, user: str) -> str:
        return self.url.replace("nats://", f"nats://{user}:{user}@")


@pytest.fixture
def server() -> Iterator[UserServer]:
    with running(UserServer()) as server:
        yield server


async def test_an_answer_to_the_apps_own_subject(server: UserServer) -> None:
    """It may not publish there: that says nothing of the subscription."""
    broker, seen, denied = NatsBroker(server.url_of("app")), Inbox(), Inbox()

    async def on_error(error: Exception) -> None:
        denied.put(str(error))

    broker.options["error_cb"] = on_error

    @broker.subscriber("orders")
    async def orders(msg: str) -> str:
        seen.put(msg)
        return "ok"

    sender = await nats.connect(server.url_of("sender"))
    try:
        async with broker:
            for number in range(5):
                await sender.publish("orders", b"evil", reply="orders")
                assert await seen.take() == "evil"
                assert 'publish to "orders"' in await denied.take()
                await sender.publish("orders", b"%d" % number)
                assert await seen.take() == f"{number}"
    finally:
        await sender.close()
    assert "restarted" not in broker.report.counts
