"""The servers keep their address and their data over a restart, and answer when `start` returns."""

from __future__ import annotations

import pytest

from servers import IMAGES, ProcessServer, Server, address_of, await_answer, nats_answers


@pytest.fixture(params=sorted(IMAGES))
def server(request: pytest.FixtureRequest) -> tuple[str, Server]:
    return request.param, request.getfixturevalue(f"{request.param}_server")


def test_comes_back_at_the_same_address(server: tuple[str, Server]) -> None:
    broker, it = server
    host, port = address_of(it.url)
    it.restart()
    await_answer(host, port, IMAGES[broker].probe, timeout_seconds=5)


def test_a_killed_server_comes_back(server: tuple[str, Server]) -> None:
    broker, it = server
    host, port = address_of(it.url)
    it.restart(kill=True)
    await_answer(host, port, IMAGES[broker].probe, timeout_seconds=5)


def test_a_paused_server_does_not_answer(server: tuple[str, Server]) -> None:
    broker, it = server
    host, port = address_of(it.url)
    it.pause()
    try:
        with pytest.raises(TimeoutError, match=f"{host}:{port}"):
            await_answer(host, port, IMAGES[broker].probe, timeout_seconds=1)
    finally:
        it.unpause()
    await_answer(host, port, IMAGES[broker].probe, timeout_seconds=10)


def test_nats_runs_without_docker() -> None:
    server = ProcessServer()
    try:
        server.start()
        server.restart()
        server.restart(kill=True)
        await_answer("127.0.0.1", server.port, nats_answers, timeout_seconds=5)
    finally:
        server.remove()
    with pytest.raises(TimeoutError, match="no server answers"):
        await_answer("127.0.0.1", server.port, nats_answers, timeout_seconds=0.2)
