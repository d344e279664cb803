"""Ctrl-C at a real server process, while a handler runs that does not come to an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest

PROGRAM = """
import asyncio
from fastapi import FastAPI
from fastapi_stream_core.testing.reference import LocalRouter

app, tasks = FastAPI(), []

def add_router() -> None:
    router = LocalRouter(graceful_timeout={graceful})

    @router.subscriber("orders")
    async def handler(msg: str) -> None:
        print("handling", flush=True)
        await asyncio.sleep({seconds})
        print("handled", flush=True)

    @router.after_startup
    async def begin() -> None:
        tasks.append(asyncio.create_task(router.broker.publish("order", "orders")))

    app.include_router(router)

for _ in range({routers}):
    add_router()
"""
DEADLINE = 90.0


class Process:
    """One server with the program."""

    def __init__(self, folder: Path, graceful: float, seconds: float, routers: int = 1) -> None:
        program = PROGRAM.format(graceful=graceful, seconds=seconds, routers=routers)
        (folder / "program.py").write_text(program)
        paths = os.pathsep.join([str(folder), *(one for one in sys.path if one)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "program:app", "--port", "0"],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._watch = threading.Timer(DEADLINE, self._process.kill)
        self._watch.start()
        self.lines: list[str] = []

    def wait_for(self, text: str) -> None:
        """Read until a line has this text."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError("".join(self.lines))

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def runs(self, seconds: float = 0.5) -> bool:
        """Tell whether the process still runs after a while."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def end(self) -> int:
        """Wait for the end of the process and return its code."""
        assert self._process.stdout is not None
        self.lines += self._process.stdout
        return self._process.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        self._watch.cancel()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.mark.parametrize("routers", [1, 2])
def test_a_second_ctrl_c_ends_the_waiting(routers: int, tmp_path: Path) -> None:
    with Process(tmp_path, graceful=600, seconds=600, routers=routers) as process:
        for _ in range(routers):
            process.wait_for("handling")
        process.interrupt()
        process.wait_for("Waiting for application shutdown")
        began = monotonic()
        while process.runs():  # the server says so before the broker stops
            process.interrupt()
        code = process.end()
        assert monotonic() - began < DEADLINE / 2, process.lines
        assert code in (0, -signal.SIGINT, 128 + signal.SIGINT)
        assert "handled\n" not in process.lines
        assert not any("Traceback" in line for line in process.lines), process.lines


def test_a_first_ctrl_c_lets_the_handler_finish(tmp_path: Path) -> None:
    with Process(tmp_path, graceful=20, seconds=1) as process:
        process.wait_for("handling")
        process.interrupt()
        process.end()
        assert "handled\n" in process.lines


def test_one_second_ctrl_c_ends_the_waiting_of_every_broker(tmp_path: Path) -> None:
    with Process(tmp_path, graceful=600, seconds=600, routers=3) as process:
        for _ in range(3):
            process.wait_for("handling")
        process.interrupt()
        for _ in range(3):
            process.wait_for("Ctrl-C again ends it")  # so each of them listens
        process.interrupt()
        process.end()
        assert "handled\n" not in process.lines
