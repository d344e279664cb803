"""Run the demo: `hatch run demo`, or `python -m docs.examples.demo` from the root of the repository."""

import asyncio
import importlib
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Annotated, Any

import httpx
import typer
import uvicorn
from rich.console import Console
from rich.logging import RichHandler
from rich.panel import Panel

from .app import create_app
from .server import nats_server

ROUND_TRIP_SECONDS = 30.0
ANOTHER_ORDER = '{"id": 2, "lines": {"tea": 1}}'
console = Console(highlight=False)


class Broker(str, Enum):
    kafka = "kafka"
    confluent = "confluent"
    rabbit = "rabbit"
    nats = "nats"
    redis = "redis"


ROUTERS = {
    Broker.kafka: ("fastapi_stream_kafka", "KafkaRouter"),
    Broker.confluent: ("fastapi_stream_confluent", "KafkaRouter"),
    Broker.rabbit: ("fastapi_stream_rabbit", "RabbitRouter"),
    Broker.nats: ("fastapi_stream_nats", "NatsRouter"),
    Broker.redis: ("fastapi_stream_redis", "RedisRouter"),
}


class HttpServer(uvicorn.Server):
    """A server that tells when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # the app did not start; `serve` tells it
            self.should_exit = True
        if self.started:
            self.serving.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on Ctrl-C and on a request to terminate as on any other end: with a stop of everything that runs."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def demo(
    broker: Annotated[Broker, typer.Option(help="Which broker carries the messages.")] = Broker.nats,
    url: Annotated[str | None, typer.Option(help="Address of a running server; without it NATS is started.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Send one order, wait for its invoice, and end.")] = False,
    port: Annotated[int, typer.Option(help="Port of the app; another one is taken if it is in use.")] = 8000,
) -> None:
    """Serve a small shop whose orders and invoices travel over a real broker."""
    if url is None and broker is not Broker.nats:
        raise typer.BadParameter(
            f"only a NATS server can be started here; where does {broker.value} run?", param_hint="--url"
        )
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_time=False, show_path=False)],
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _end)
    with ExitStack() as stack:
        if url is None:
            url = stack.enter_context(nats_server())
            console.print(f"A NATS server with JetStream runs at [bold]{url}[/]")
        module, name = ROUTERS[broker]
        router = getattr(importlib.import_module(module), name)(url)
        if problem := asyncio.run(serve(create_app(router), port, once)):
            console.print(problem)
            raise typer.Exit(1)


def _end(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)  # not just die: the server above has to end too


async def serve(app: Any, port: int, once: bool) -> str | None:
    """Serve the app and send an order through it; return what went wrong."""
    with bound_socket(port) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = HttpServer(uvicorn.Config(app, log_config=None, log_level="warning", access_log=False))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        starting = asyncio.create_task(server.serving.wait())
        await asyncio.wait({running, starting}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        if not server.serving.is_set():
            await running
            return "The app did not start; the lines above say why."
        try:
            problem = await round_trip(address)
            if problem is None and not once:
                console.print(welcome(address))
                await running
                console.print("Stopped.")
        finally:
            server.should_exit = True
            await running
    return problem


async def round_trip(address: str) -> str | None:
    """Send one order over HTTP and wait for its invoice; return what went wrong."""
    order = {"id": 1, "lines": {"tea": 2, "coffee": 1}}
    try:
        async with httpx.AsyncClient(base_url=address, timeout=ROUND_TRIP_SECONDS + 5) as client:
            (await client.post("/orders", json=order)).raise_for_status()
            answer = await client.get("/invoices/1", params={"within_seconds": ROUND_TRIP_SECONDS})
    except httpx.HTTPError as error:
        return f"The round trip failed: {type(error).__name__}: {error}"
    if answer.status_code != 200 or answer.json() != {"order": 1, "total": 11.0}:
        return f"The round trip failed: {answer.status_code} {answer.text}"
    console.print(f"4. GET /invoices/1 answers {answer.text}: the round trip is complete")
    return None


def welcome(address: str) -> Panel:
    lines = [
        f"the app        {address}/invoices/1",
        f"its HTTP       {address}/docs",
        f"its messages   {address}/asyncapi",
        "",
        "Another order:",
        f"curl {address}/orders -H 'content-type: application/json' -d '{ANOTHER_ORDER}'",
        "",
        "Ctrl-C ends it.",
    ]
    return Panel("\n".join(lines), title="FastAPI Stream", expand=False)


def bound_socket(port: int) -> socket.socket:
    """Return a listening socket on the port, or on a free one if that is in use."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    return listener


typer.run(demo)
