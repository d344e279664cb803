"""The log: bounded, escaped, without values of a body; and what a wrong message costs beside a right one."""

import asyncio
import enum
import logging
import time
import tracemalloc
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi_stream_core import AckPolicy, Retry
from fastapi_stream_core import report as report_module
from fastapi_stream_core.report import BYTES_PER_SECOND, Report
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.reference import LocalBroker, LocalMessage, TestLocalBroker
from pydantic import BaseModel, Field, WrapValidator, create_model
from pydantic_core import to_json

RECORD = 4000
SECRET = "a-secret-of-somebody"
Many: Any = create_model("Many", filler=(str, ...), **{f"field_{number}": (int, ...) for number in range(30)})


class Order(BaseModel):
    id: int
    name: str = Field(max_length=5)


class Lines(logging.Handler):
    """Renders records as a program would."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Lines:
    return Lines()


def broker_with(lines: Lines, **options: Any) -> LocalBroker:
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(lines)
    return LocalBroker(logger=logger, **options)


async def handled(broker: LocalBroker, bodies: list[bytes], address: str = "orders") -> float:
    """Have bodies handled, and return how many seconds of the processor that took: others may be busy too."""

    def message(body: bytes) -> LocalMessage:
        outgoing = Outgoing(address, body, "c-1", [], "application/json", None, {}, False)
        return LocalMessage(body, outgoing, address)

    async with Feed(broker, lambda number: bodies[number], message) as feed:
        feed.prepare(len(bodies))
        began = time.process_time()
        await asyncio.wait_for(feed.run(), 60)
        return time.process_time() - began


# Bounds ------------------------------------------------------------------------------------------------------------


Orders = Annotated[list[int], WrapValidator(lambda value, validate: validate(value))]


@pytest.mark.parametrize("shape", ["one", "two parameters", "batch", "sync"])
@pytest.mark.parametrize("silent", [False, True])
async def test_an_invalid_message_costs_little_more_than_a_valid_one(shape: str, silent: bool, lines: Lines) -> None:
    """Two megabytes of text and thirty missing fields."""

    async def one(order: Many) -> None: ...

    async def two(order: Many, x_tenant: Annotated[str, Header()] = "") -> None: ...

    async def batch(orders: list[Many]) -> None: ...

    def sync(order: Many) -> None: ...

    handler: Callable[..., Any] = {"one": one, "two parameters": two, "batch": batch, "sync": sync}[shape]
    filler = {"filler": "x" * 2_000_000}
    invalid = to_json(filler)
    valid = to_json({**filler, **{f"field_{number}": number for number in range(30)}})
    seconds: list[float] = []
    for body, rejected in ((valid, 0), (invalid, 15), (b"{}", 15)):
        broker = LocalBroker(logger=None) if silent else broker_with(lines)
        broker.subscriber("orders", batch=shape == "batch")(handler)
        seconds.append(min([await handled(broker, [body] * 5) for _ in range(3)]))
        assert broker.report.counts.get("rejected", 0) == rejected
    assert seconds[1] < 3 * (seconds[0] + seconds[2]), "reading it, and telling of one that is small"
    assert all(len(line.encode()) <= RECORD for line in lines.lines)
    assert "xxx" not in "".join(lines.lines)


async def test_a_thousand_wrong_items_are_ten_in_the_log(lines: Lines) -> None:
    broker = broker_with(lines)

    @broker.subscriber("orders")
    async def handle(orders: Orders) -> None: ...

    await handled(broker, [to_json([SECRET] * 1000)] * 5)
    failed = [line for line in lines.lines if "rejected:" in line]
    assert "body.9: Input should be a valid integer" in failed[0]
    assert "body.10" not in failed[0]
    assert "and 990 more" in failed[0]
    assert SECRET not in "".join(lines.lines)
    assert all(len(line.encode()) <= RECORD for line in lines.lines)


@pytest.mark.parametrize("shape", ["one", "two parameters", "dependency", "batch", "sync"])
async def test_a_hundred_thousand_wrong_items_are_not_listed(shape: str, lines: Lines) -> None:
    """Each error that is listed is a dictionary of some hundred bytes, as long as the list is there.

    A validator that calls the next one itself has pydantic go on after the first one, in a large body too.
    """

    async def one(orders: Orders) -> None: ...

    async def two(orders: Orders, x_tenant: Annotated[str, Header()] = "") -> None: ...

    async def nothing() -> None: ...

    async def dependency(orders: Orders, _: Annotated[None, Depends(nothing)]) -> None: ...

    async def batch(batches: list[Orders]) -> None: ...

    def sync(orders: Orders) -> None: ...

    handlers: dict[str, Callable[..., Any]] = {
        "one": one,
        "two parameters": two,
        "dependency": dependency,
        "batch": batch,
        "sync": sync,
    }
    broker = broker_with(lines)
    broker.subscriber("orders", batch=shape == "batch")(handlers[shape])
    peaks: list[int] = []
    for body in (b"[]", to_json([SECRET] * 100_000)):
        tracemalloc.start()
        try:
            await handled(broker, [body])
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] - peaks[0] < 10_000_000, "the list of them takes 60 MB"
    assert any("100000 errors" in line for line in lines.lines)


async def test_an_error_of_any_size_and_any_chain_is_one_bounded_record(lines: Lines) -> None:
    broker = broker_with(lines)

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @broker.subscriber("orders", ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handle(number: int) -> None:
        try:
            Order.model_validate({"id": SECRET, "name": SECRET})
        except ValueError as error:
            if number == 0:
                raise ValueError("long " * 1_000_000) from error
            if number == 1:
                raise Odd from error
            raise

    await handled(broker, [b"0", b"1", b"2"])
    failed = [line for line in lines.lines if "failed" in line.split("\n")[0]]
    assert len(failed) == 3
    assert all(len(line.encode()) <= RECORD for line in failed)
    assert "id: Input should be a valid integer" in failed[0], "the cause is told"
    assert "RuntimeError while it was shown" in failed[1]
    assert SECRET not in "".join(failed)


def test_the_budget_counts_bytes(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(lines)
    milliseconds = iter(range(10**6))
    monkeypatch.setattr(report_module, "monotonic", lambda: next(milliseconds) / 1000)
    report = Report(logger)
    for _ in range(1000):
        report.line(logging.WARNING, "%s", "\N{SNOWMAN}" * 400)
    written = sum(len(line.encode()) for line in lines.lines)
    assert 8000 + BYTES_PER_SECOND - RECORD < written < 8000 + BYTES_PER_SECOND + RECORD
    assert "lines like this were left out" in lines.lines[-1]


# Escapes -----------------------------------------------------------------------------------------------------------

HOSTILE = "a\nERROR all is lost\r\x1b[31m\x00\u2028\u202e\x85\ud800 %s %d"


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_of_a_sender_forges_a_line(fails: bool, lines: Lines) -> None:
    broker = broker_with(lines)

    @broker.subscriber("orders", ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handle(number: int) -> None:
        if fails:
            raise ValueError(HOSTILE)

    await handled(broker, [b"1"], address=HOSTILE)
    assert lines.lines
    for line in lines.lines:
        first, *rest = line.split("\n")
        assert "ERROR all is lost" in first
        assert first.isprintable()
        assert all(one.isprintable() for one in rest)
        assert not any(one.startswith("ERROR") for one in rest)
        assert len(line.encode()) <= RECORD


def test_values_are_escaped_however_they_are_asked_for(lines: Lines) -> None:
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(lines)
    Report(logger).line(logging.WARNING, "%s %r %d %.1f %s", HOSTILE, HOSTILE, 3, 0.5, b"\xff\n")
    assert len(lines.lines) == 1
    assert lines.lines[0].isprintable()
    assert " 3 0.5 " in lines.lines[0]


# Values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_input", [False, True])
async def test_values_of_a_body_are_shown_when_that_was_asked_for(log_input: bool, lines: Lines) -> None:
    broker = broker_with(lines, log_input=log_input)

    @broker.subscriber("orders")
    async def handle(order: Order) -> None: ...

    await handled(broker, [to_json({"id": SECRET, "name": "n" * 5000})])
    text = "\n".join(lines.lines)
    assert (SECRET in text) is log_input
    assert ("n" * 50 in text) is log_input
    assert "n" * 201 not in text


class Basket(BaseModel):
    amounts: dict[str, int] = Field(alias="how-many")
    order: Order


@pytest.mark.parametrize("log_input", [False, True])
@pytest.mark.parametrize("declared", [dict[str, int], Basket, list[Basket], Order | Basket])
async def test_a_key_that_a_sender_chose_is_shown_when_that_was_asked_for(
    declared: Any, log_input: bool, lines: Lines
) -> None:
    broker = broker_with(lines, log_input=log_input)

    @broker.subscriber("orders")
    async def handle(body: declared) -> None: ...

    basket = {"how-many": {SECRET: "many"}, "order": {"id": "x", "name": "n"}}
    bodies = {dict[str, int]: {SECRET: "many"}, list[Basket]: [basket]}
    await handled(broker, [to_json(bodies.get(declared, basket))])
    text = "\n".join(lines.lines)
    assert (SECRET in text) is log_input
    assert log_input or "*: Input should be a valid integer" in text
    if declared != dict[str, int]:
        assert "how-many" in text
        assert "order.id" in text


async def test_keys_of_what_a_handler_returns_are_not_shown(lines: Lines) -> None:
    broker = broker_with(lines)

    @broker.subscriber("orders", ack_policy=AckPolicy.REJECT_ON_ERROR)
    @broker.publisher("out")
    async def handle(order: dict[str, str]) -> dict[str, int]:
        return order  # type: ignore[return-value]

    await handled(broker, [to_json({SECRET: "many"})])
    assert lines.lines
    assert SECRET not in "\n".join(lines.lines)


async def test_user_code_sees_the_whole_error() -> None:
    broker = LocalBroker(logger=None)
    seen: list[Any] = []

    async def watch() -> Any:
        try:
            yield
        except RequestValidationError as error:
            seen.append(error)
            raise

    @broker.subscriber("orders")
    async def handle(order: Order) -> None: ...

    async with TestLocalBroker(broker):
        with pytest.raises(RequestValidationError) as caught:
            await broker.publish({"id": "x", "name": "n"}, "orders")
    (error,) = caught.value.errors()
    assert (error["loc"], error["input"]) == (("body", "id"), "x")
    assert caught.value.body == {"id": "x", "name": "n"}


async def test_an_adapter_gets_the_same_text(lines: Lines) -> None:
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(lines)
    broker = LocalBroker(logger=logging.LoggerAdapter(logger, {"service": "a"}))
    subscriber = broker.subscriber("orders")
    subscriber.retry = Retry(delay=0.001)

    @subscriber
    async def handle(order: Order) -> None:
        raise KeyError(order.name)

    await handled(broker, [to_json({"id": SECRET, "name": "n"}), to_json({"id": 1, "name": "n"})])
    invalid = lines.lines[0]
    (failed,) = [line for line in lines.lines if "failed, delivery" in line and "rejected" in line and "Key" in line]
    assert "body.id: Input should be a valid integer" in invalid
    assert SECRET not in invalid
    assert "KeyError: 'n'" in failed
    assert "Traceback" in failed


class Shape(enum.Enum):
    """Ways of a message to its handler, which check it in different places."""

    model = "model"
    parameters = "parameters"
    dependency = "dependency"
    scoped = "scoped"
    batch = "batch"


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("body", [b'{"id": "x", "name": "n"}', b"{"])
async def test_a_message_that_is_wrong_has_one_name_and_no_traceback(lines: Lines, shape: Shape, body: bytes) -> None:
    broker = broker_with(lines)

    def checked(order: Order) -> Order:
        return order

    async def model(order: Order) -> None: ...

    async def parameters(id: int, name: str) -> None: ...

    async def dependency(order: Annotated[Order, Depends(checked)]) -> None: ...

    async def scoped(order: Annotated[Order, Body(embed=False)], request: Request) -> None: ...

    async def batch(orders: list[Order]) -> None: ...

    handler = {one.__name__: one for one in (model, parameters, dependency, scoped, batch)}[shape.value]
    broker.subscriber("orders", batch=shape is Shape.batch)(handler)
    await handled(broker, [body])
    text = "\n".join(lines.lines)
    assert ("InvalidMessage: body" in text) is (body != b"{"), text
    assert ("DecodeError: " in text) is (body == b"{"), text
    assert "Traceback" not in text
    assert "RequestValidationError" not in text
