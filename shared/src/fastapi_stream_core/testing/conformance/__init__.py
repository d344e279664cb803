"""The conformance suite: written once, run for every broker in memory and on the real server.

A package writes a fixture `harness` and a class for each suite:

    class TestBinding(BindingSuite): ...
"""

import pytest

SUITES = (
    *("batches", "binding", "cancellations", "declarations", "delivery", "dependencies", "injection"),
    *("life", "results", "routing", "secrets", "starts"),
)
pytest.register_assert_rewrite(*(f"{__name__}.{one}" for one in SUITES))

from .binding import BindingSuite  # noqa: E402
from .client import client_of  # noqa: E402
from .delivery import DeliverySuite  # noqa: E402
from .harness import DEADLINE, Features, Harness, Inbox, MemoryHarness, deliver, needs, until  # noqa: E402
from .life import LifeSuite  # noqa: E402
from .results import ResultSuite  # noqa: E402
from .routing import RoutingSuite  # noqa: E402

__all__ = (
    "DEADLINE",
    "BindingSuite",
    "DeliverySuite",
    "Features",
    "Harness",
    "Inbox",
    "LifeSuite",
    "MemoryHarness",
    "ResultSuite",
    "RoutingSuite",
    "client_of",
    "deliver",
    "needs",
    "until",
)
