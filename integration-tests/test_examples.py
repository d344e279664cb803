"""Every code block of the READMEs and of the docs is a file under docs/examples/, and every such file runs."""

from __future__ import annotations

import logging
import queue
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from programs import ADDRESSES, EXAMPLES, ROOT, in_memory_broker_of, load
from servers import Server

TEXTS = sorted([ROOT / "README.md", *ROOT.glob("packages/*/README.md"), *ROOT.glob("docs/**/*.md")])
ORDER = {"id": 7, "lines": {"tea": 2}}
INVOICE = {"order": 7, "total": 7.0}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text.relative_to(ROOT)))
def test_every_block_is_a_file(text: Path) -> None:
    files = {file.read_text().strip() for file in EXAMPLES.rglob("*.py")}
    for block in re.findall(r"^```python\n(.*?)^```$", text.read_text(), re.MULTILINE | re.DOTALL):
        assert block.strip() in files, f"no file under docs/examples/ holds this block of {text.name}:\n{block}"


@pytest.mark.parametrize("name", ADDRESSES)
def test_each_readme_begins_with_a_complete_example(name: str) -> None:
    example = (EXAMPLES / f"first_{name}.py").read_text()
    assert example in (ROOT / "packages" / f"fastapi-stream-{name}" / "README.md").read_text()
    if name == "kafka":
        assert example in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ADDRESSES)
def test_the_first_example_in_memory(name: str) -> None:
    shop = load(f"first_{name}", (EXAMPLES / f"first_{name}.py").read_text())
    with in_memory_broker_of(shop.router)(shop.router.broker) as broker, TestClient(shop.app) as client:
        assert client.post("/orders", json=ORDER).status_code == 200
        shop.bill.mock.assert_called_once_with(ORDER)
        (invoice,) = broker.published("invoices")
        assert invoice.body == b'{"order":7,"total":7.0}'
        assert_documented(client)


@pytest.fixture(params=ADDRESSES)
def served(request: pytest.FixtureRequest) -> tuple[str, Server]:
    return request.param, request.getfixturevalue(f"{request.param}_server")


def test_the_first_example_on_a_server(served: tuple[str, Server], caplog: pytest.LogCaptureFixture) -> None:
    """As printed, with nothing but the address changed; a second subscriber shows what came out."""
    name, server = served
    text = (EXAMPLES / f"first_{name}.py").read_text()
    assert text.count(ADDRESSES[name]) == 1
    shop = load(f"first_{name}", text.replace(ADDRESSES[name], server.url))
    seen: queue.Queue[Any] = queue.Queue()

    @shop.router.subscriber("invoices")
    async def notice(invoice: dict[str, Any]) -> None:
        seen.put(invoice)

    with caplog.at_level(logging.INFO), TestClient(shop.app) as client:
        assert client.post("/orders", json=ORDER).status_code == 200
        assert seen.get(timeout=60) == INVOICE
        assert_documented(client)
    assert "order 7 of acme" in caplog.messages


def assert_documented(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200
    assert "text/html" in client.get("/asyncapi").headers["content-type"]
    channels = {channel["address"] for channel in client.get("/asyncapi.json").json()["channels"].values()}
    assert channels >= {"orders", "invoices"}


async def test_which_senders_are_answered() -> None:
    shop = load("replies", (EXAMPLES / "replies.py").read_text())
    async with in_memory_broker_of(shop.router)(shop.router.broker) as broker:
        for reply_to in ("_INBOX.1", "shop.answers.1", "other.1"):
            await broker.publish("tea", "prices.get", reply_to=reply_to)
            await broker.publish(None, "prices.list", reply_to=reply_to)
            await broker.publish({"article": "tea", "price": 4.0}, "prices.set", reply_to=reply_to)
        places = ("_INBOX.1", "shop.answers.1", "other.1")
        answers = {one: [answer.body for answer in broker.published(one)] for one in places}
        assert answers == {"_INBOX.1": [b"3.5", b'["tea"]'], "shop.answers.1": [b'["tea"]'], "other.1": []}
        assert broker.report.counts["replies_refused"] == 3


async def test_only_signed_messages_are_handled() -> None:
    shop = load("signed", (EXAMPLES / "signed.py").read_text())
    body = b'{"id":7,"total":3.5}'
    async with in_memory_broker_of(shop.router)(shop.router.broker, raise_errors=False) as broker:
        for headers in ({}, {"signature": "0" * 64}, {"signature": "\u00e9"}, {"signature": shop.signature_of(body)}):
            await broker.publish(body, stream="orders", headers=headers)
        (bill,) = broker.published("bills")
        assert bill.body == b"7: 3.50"
    assert TestClient(shop.app).get("/asyncapi").status_code == 404
