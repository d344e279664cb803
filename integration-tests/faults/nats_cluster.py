"""A cluster of NATS servers, of which a test may stop one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import nats
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from servers import ProcessServer, free_port, running
from waiting import until

NODES = 3
ANSWER_SECONDS = 2.0
"""Time for one answer of a cluster that may have nobody to give it."""


class Node(ProcessServer):
    """One server of a cluster.

    Args:
        number: which one, in its name.
        routes: the ports where the servers find each other.
    """

    def __init__(self, number: int, routes: list[int]) -> None:
        super().__init__()
        self.name = f"n{number}"
        self._route = routes[number]
        self._routes = ",".join(f"nats://127.0.0.1:{port}" for port in routes)

    def command(self) -> list[str]:
        cluster = ["--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{self._route}", "--routes", self._routes]
        return [*super().command(), "--server_name", self.name, *cluster]


@contextmanager
def cluster() -> Iterator[list[Node]]:
    """The servers of a cluster that run until the block ends."""
    routes = [free_port() for _ in range(NODES)]
    with ExitStack() as stack:
        yield [stack.enter_context(running(Node(number, routes))) for number in range(NODES)]


async def led_by(nodes: list[Node], name: str, replicas: int) -> tuple[Node, Node]:
    """Make a stream as soon as the cluster lets it; return the server that leads it, and another one."""
    client = await nats.connect(nodes[0].url)
    js, config = client.jetstream(timeout=ANSWER_SECONDS), StreamConfig(name=name, num_replicas=replicas)
    config.subjects = [f"{name}.*"]
    leader = ""

    async def made() -> bool:
        nonlocal leader
        leader = await _leader(js, config)
        return bool(leader)

    try:
        await until(made)
    finally:
        await client.close()
    return next(one for one in nodes if one.name == leader), next(one for one in nodes if one.name != leader)


async def _leader(js: JetStreamContext, config: StreamConfig) -> str:
    try:
        await js.add_stream(config)
        info = await js.stream_info(str(config.name))
    except NatsError:  # nobody leads the cluster yet
        return ""
    return (info.cluster and info.cluster.leader) or ""
