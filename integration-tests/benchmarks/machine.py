"""What the figures were measured on: the machine without its name, and the versions of everything."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ("description",)

PACKAGES = (
    "fastapi",
    "starlette",
    "pydantic",
    "pydantic-core",
    "anyio",
    "uvloop",
    "faststream",
    "aiokafka",
    "confluent-kafka",
    "aio-pika",
    "aiormq",
    "nats-py",
    "redis",
    "hiredis",
    "fastapi-stream-core",
    "fastapi-stream-kafka",
    "fastapi-stream-confluent",
    "fastapi-stream-rabbit",
    "fastapi-stream-nats",
    "fastapi-stream-redis",
)


def description() -> dict[str, object]:
    """Describe the machine and name the versions; no host name, no path."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": [round(one, 2) for one in os.getloadavg()],
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
