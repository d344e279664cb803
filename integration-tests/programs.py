"""The programs under docs/examples/, loaded as modules of their own."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"

# The addresses and names that the examples are written with.
ADDRESSES = {
    "kafka": "localhost:9092",
    "confluent": "localhost:9092",
    "rabbit": "amqp://guest:guest@localhost:5672/",
    "nats": "nats://localhost:4222",
    "redis": "redis://localhost:6379",
}
PREFIXES = {"kafka": "Kafka", "confluent": "Kafka", "rabbit": "Rabbit", "nats": "Nats", "redis": "Redis"}
CLASSES = {broker: (f"{prefix}Router", f"{prefix}Message", f"{prefix}Broker") for broker, prefix in PREFIXES.items()}


def load(name: str, text: str) -> ModuleType:
    """The text as a new module, so that no test sees the router of another."""
    spec = importlib.util.spec_from_loader(f"program_{name}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # types are looked up there
    exec(compile(text, f"{name}.py", "exec"), module.__dict__)
    return module


def in_memory_broker_of(router: Any) -> Any:
    """The test broker that the router's package exports."""
    package = importlib.import_module(type(router).__module__.partition(".")[0])
    (name,) = (name for name in package.__all__ if re.fullmatch(r"Test\w+Broker", name))
    return getattr(package, name)
