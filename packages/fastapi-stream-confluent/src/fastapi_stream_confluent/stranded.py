"""Clients that know no broker any more, and do not find one again.

librdkafka forgets the brokers that an answer does not name. A cluster that has just come back may name none; then the
client begins anew with the servers it was made with, unless its threads get in each other's way: some never do, and
some of these say nothing (librdkafka issue 5301).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException

if TYPE_CHECKING:
    from .log import ClientLog
    from .metadata import Topics

__all__ = ("Lookout", "finds_no_broker")

FIND_SECONDS = 1.5
"""How long a client may take to find a broker of a cluster that answers others; it tries at least once a second."""
QUIET_SECONDS = 30.0
"""Seconds between two questions while the client has nothing to complain of."""


def finds_no_broker(client: Any) -> bool:
    """Tell whether a client has no connection to any broker, and gets none soon. Blocks."""
    try:
        client.list_topics(timeout=FIND_SECONDS)
    except KafkaException as error:
        return bool(error.args[0].code() == KafkaError._TRANSPORT)
    return False


class Lookout:
    """Looks whether a consumer still finds a broker, on its thread: soon after it complained, otherwise now and then.

    Args:
        log: what the consumer says.
        topics: knows when the cluster answered another client.
    """

    def __init__(self, log: ClientLog, topics: Topics) -> None:
        self._log = log
        self._topics = topics
        self._asked = monotonic()
        self._failed: float | None = None

    def check(self, client: Any) -> None:
        """Ask, if it is time.

        Raises:
            ConnectionAbortedError: the client finds no broker, and the cluster has answered others since it found none.
        """
        complained = self._log.complained
        if self._failed is None and not complained and monotonic() - self._asked < QUIET_SECONDS:
            return
        if not finds_no_broker(client):
            self._asked, self._failed = monotonic(), None
            if self._log.complained == complained:
                self._log.complained = None
        elif self._failed is None:
            self._failed = monotonic()
        elif self._topics.answered > self._failed:
            raise ConnectionAbortedError("the client found no broker again, though the cluster answers")
