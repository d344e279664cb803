"""What the user may not ask JetStream: such a request gets no answer, but an error of the connection beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi_stream_core.errors import SetupError

__all__ = ("Permissions",)

T = TypeVar("T")

REQUEST = re.compile(r'permissions violation for publish to "\$js\.api\.([^"]*)"')
"""A request to JetStream that the server refused, in small letters. No subject holds a space."""


class Permissions:
    """Ends requests that the server refused, instead of having them wait for an answer.

    Args:
        inbox: first part of the subjects of answers.
    """

    def __init__(self, inbox: str) -> None:
        self._answers = f'subscription to "{inbox}.'.lower()
        self._asking: dict[asyncio.Future[str], str] = {}

    async def ask(self, work: Coroutine[Any, Any, T], asking: str, stream: str = "") -> T:
        """Send requests and wait for their answers.

        Args:
            work: what does it.
            asking: who does it, for the error.
            stream: what it is about; empty for any.

        Raises:
            SetupError: the server says that the user may not.
        """
        loop = asyncio.get_running_loop()
        task, denied = loop.create_task(work), loop.create_future()
        self._asking[denied] = stream.lower()
        try:
            await asyncio.wait({task, denied}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            raise SetupError(asking, denied.result(), "change the permissions of the user")
        finally:
            del self._asking[denied]
            task.cancel()
            await asyncio.wait({task})

    def deny(self, text: str) -> None:
        """Take note of an error of the server, and end the requests that it is about."""
        said = text.lower()
        request = REQUEST.search(said)
        about = () if request is None else request[1].split(".")
        for denied, stream in self._asking.items():
            is_meant = self._answers in said or (request is not None and (not stream or stream in about))
            if is_meant and not denied.done():
                denied.set_result(text)
