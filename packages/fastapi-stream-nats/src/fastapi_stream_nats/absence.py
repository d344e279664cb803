"""Why nobody answers for a stream, or confirms what is published to it: it is away, or there is none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.report import describe
from nats.js.errors import NotFoundError, ServiceUnavailableError

from .checked_source import NO_ANSWER
from .schema import forbidden, matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .client import Connection
    from .transport import NatsTransport

__all__ = ("Absence",)

LOOK_SECONDS = 1.0
"""How long JetStream is waited for. While the servers of a stream are away, or elect who leads it, nobody answers."""
AGAIN_SECONDS = 5.0
"""A stream that was away is not asked for again before, whatever is published to it."""
NO_JETSTREAM = (None, 10039, 10076)
"""The server's codes for no JetStream at all, for the account or the server; nobody who answers has none."""


@dataclass(frozen=True)
class Finding:
    """What JetStream said of a stream.

    Attributes:
        time: when it was asked, in the time of the event loop.
        reason: why the stream is away; None when there is none.
        subjects: what it takes; None where that is not known, empty where JetStream says that there is no stream.
        confirms: whether it confirms what it has stored.
    """

    time: float
    reason: str | None
    subjects: Sequence[str] | None = None
    confirms: bool = True

    def reason_for(self, subject: str) -> str | None:
        """Return why a message for a subject has to wait; None when no stream takes it."""
        return None if self.excludes(subject) else self.reason

    def excludes(self, subject: str) -> bool:
        """Tell whether JetStream has said that the stream does not take a subject."""
        return self.subjects is not None and not any(matches(pattern, subject) for pattern in self.subjects)


class Absence:
    """Asks for streams that nobody answers for: once for all messages that wait for one, then once in a while.

    Args:
        transport: has the streams that were there at the start.
    """

    def __init__(self, transport: NatsTransport) -> None:
        self._transport = transport
        self._confirmed: set[str] = set()
        self._findings: dict[str, Finding] = {}
        self._looking = asyncio.Lock()

    def over(self, stream: str) -> None:
        """Note that a stream has stored a message."""
        if self._findings or stream not in self._confirmed:
            self._confirmed.add(stream)
            self._findings.pop(stream, None)

    async def reason(
        self, connection: Connection, subject: str, stream: str, since: float, seconds: float
    ) -> str | None:
        """Return why a message has to wait for its stream; None when no stream takes it, as far as can be known.

        Args:
            connection: the connection.
            subject: what the message is for.
            stream: the stream that should have taken it.
            since: when it was published, in the time of the event loop.
            seconds: how long the answer may take.
        """
        try:
            finding = await asyncio.wait_for(self.find(connection, subject, stream, since), seconds)
        except asyncio.TimeoutError:
            return f"the stream {stream!r} does not answer"
        return finding.reason_for(subject)

    async def find(self, connection: Connection, subject: str, stream: str, since: float) -> Finding:
        """Return what JetStream says of a stream, or has said of it lately.

        Args:
            connection: the connection.
            subject: what is published.
            stream: the stream that should take it.
            since: when it was published, in the time of the event loop.
        """
        if forbidden(stream):
            return Finding(since, None, ())
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if (known := self._findings.get(stream)) is not None:
                is_away = known.reason_for(subject) is not None
                if known.time >= (min(since, now - AGAIN_SECONDS) if is_away else since):
                    return known
            finding = await self._look(connection, stream, now)
            recent = {name: one for name, one in self._findings.items() if one.time > now - AGAIN_SECONDS}
            self._findings = {**recent, stream: finding}
            return finding

    async def _look(self, connection: Connection, stream: str, now: float) -> Finding:
        reason = f"the stream {stream!r} does not answer"
        was_there = stream in self._confirmed or stream in self._transport.lives
        work = connection.jsm(timeout=LOOK_SECONDS).stream_info(stream)
        try:
            info = await self._transport.permissions.ask(work, "publish()", stream)
            subjects = [one for one in info.config.subjects or () if isinstance(one, str)]
        except NotFoundError:
            return Finding(now, None, ())
        except SetupError:  # nobody may ask
            return Finding(now, reason if was_there else None)
        except NO_ANSWER as error:
            if isinstance(error, ServiceUnavailableError) and error.err_code in NO_JETSTREAM and not was_there:
                return Finding(now, None)
            return Finding(now, f"{reason}: {describe(error)}")
        return Finding(now, reason, subjects, confirms=info.config.no_ack is not True)
