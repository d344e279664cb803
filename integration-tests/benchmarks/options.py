"""What the command line asks of every comparison."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest

from servers import Server, open_server

__all__ = ("BROKERS", "Options", "ServerMissing", "Servers")

BROKERS = ("kafka", "confluent", "rabbit", "nats", "redis")


class ServerMissing(RuntimeError):
    """No server to measure on.

    Attributes:
        broker: the kind of server.
        reason: what was tried.
    """

    def __init__(self, broker: str, reason: str) -> None:
        super().__init__(f"no server for {broker}: {reason}")
        self.broker = broker
        self.reason = reason


class Servers:
    """The real servers, one at a time, so that the others take nothing from what is measured."""

    def __init__(self) -> None:
        self._open: tuple[str, Server] | None = None

    def url(self, broker: str) -> str:
        """The address of a running server; that of another broker is removed.

        Raises:
            ServerMissing: it can't be started here.
        """
        own = "FASTAPI_STREAM_CONFLUENT_URL" if broker == "confluent" else None
        kind, variable = (
            (broker, None) if broker != "confluent" else ("kafka", own if os.environ.get(own or "") else None)
        )
        key = f"{kind} {variable}"
        if self._open is None or self._open[0] != key:
            self.remove()
            try:
                self._open = key, open_server(kind, variable)
            except (pytest.skip.Exception, pytest.fail.Exception) as error:
                raise ServerMissing(broker, str(error)) from None
        return self._open[1].url

    def remove(self) -> None:
        """End the server, with all that it stored."""
        if self._open is not None:
            server, self._open = self._open[1], None
            server.remove()


@dataclass(frozen=True)
class Options:
    """What to measure, and how long.

    Attributes:
        quick: fewer messages and rounds.
        brokers: the brokers to measure.
        kind: only what has this text in its name.
        rounds: how often each variant is measured; None is the comparison's own number.
    """

    quick: bool = False
    brokers: tuple[str, ...] = BROKERS
    kind: str = ""
    rounds: int | None = None
    servers: Servers = field(default_factory=Servers)

    def rounds_or(self, full: int, quick: int) -> int:
        """The number of rounds: what was asked for, else what fits the length of the run."""
        return self.rounds or (quick if self.quick else full)
