"""The event loop that runs here. The clients of the brokers need asyncio."""

from __future__ import annotations

import asyncio

from .errors import SetupError

__all__ = ("running_loop",)


def running_loop(subject: str) -> asyncio.AbstractEventLoop:
    """Return the event loop that runs here.

    Args:
        subject: what needs it.

    Raises:
        SetupError: there is none of asyncio: another library, such as trio, runs this.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise SetupError(
            subject, "it is used where no event loop of asyncio runs", "run it with asyncio; trio can't"
        ) from None
