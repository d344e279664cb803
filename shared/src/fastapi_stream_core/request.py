"""The `Request` of a message, for handlers and dependencies that ask for one, and for FastAPI's solver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.datastructures import URL
from starlette.datastructures import Headers as HTTPHeaders

from .context import MESSAGE
from .errors import DecodeError
from .headers import Headers, HeaderValue
from .message import StreamMessage
from .parameters import Layout

__all__ = ("MessageRequest",)


class MessageHeaders(HTTPHeaders):
    """A message's headers for code that expects Starlette's; values that are no text stay `bytes`."""

    def __init__(self, headers: Headers) -> None:
        super().__init__(raw=[])
        self._message_headers = headers

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """All pairs as bytes."""
        return [(_bytes(name.lower()), _bytes(value)) for name, value in self._message_headers.multi_items()]

    def keys(self) -> list[str]:  # type: ignore[override]
        return [name.lower() for name, _ in self._message_headers.multi_items()]

    def values(self) -> list[HeaderValue]:  # type: ignore[override]
        return [value for _, value in self._message_headers.multi_items()]

    def items(self) -> list[tuple[str, HeaderValue]]:  # type: ignore[override]
        return [(name.lower(), value) for name, value in self._message_headers.multi_items()]

    def getlist(self, key: str) -> list[HeaderValue]:  # type: ignore[override]
        return self._message_headers.getlist(key)

    def __getitem__(self, key: str) -> HeaderValue:  # type: ignore[override]
        return self._message_headers[key]

    def __contains__(self, key: object) -> bool:
        return key in self._message_headers

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._message_headers.multi_items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageHeaders) and self.items() == other.items()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._message_headers)


def _bytes(value: HeaderValue) -> bytes:
    return value.encode() if isinstance(value, str) else value


async def _received(message: StreamMessage) -> dict[str, Any]:
    """Return what the ASGI server would give: the whole body, and nobody has gone away."""
    return {"type": "http.request", "body": message.body, "more_body": False}


class MessageRequest(Request):
    """The request of a message.

    `method` is `MESSAGE`, `url` is `message:` and the address, `client` is None; `query_params` and `path_params`
    have the body's keys, below what the address captured; `body()` and `json()` give the body. It is never
    disconnected.

    Args:
        message: the message.
        layout: where the parameters of the handler are in it.
        app: the app, if there is one.
        state: of the lifespan; the request gets a copy of its own.
    """

    def __init__(
        self,
        message: StreamMessage,
        layout: Layout,
        app: FastAPI | None,
        state: Mapping[str, Any],
    ) -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "MESSAGE",
            "path": message.address,
            "root_path": "",
            "query_string": b"",
            "headers": [],
            "client": None,
            "server": None,
            "state": dict(state),
            MESSAGE: message,
        }
        if app is not None:
            scope["app"] = app
        super().__init__(scope, partial(_received, message))  # a method of its own would keep it alive
        self._body = message.body
        self._layout = layout
        self._values: Any = None
        self._path_values: dict[str, Any] | None = None
        self._of_message: MessageHeaders | None = None

    @property
    def message(self) -> StreamMessage:
        """The message."""
        return self.scope[MESSAGE]  # type: ignore[no-any-return]

    @property
    def headers(self) -> MessageHeaders:
        if self._of_message is None:
            self._of_message = MessageHeaders(self.message.headers)
        return self._of_message

    @property
    def query_params(self) -> Any:
        if self._values is None:
            self._values = self._layout.query_values(self.message, self._keys())
        return self._values

    @property
    def path_params(self) -> dict[str, Any]:
        if self._path_values is None:
            self._path_values = self._layout.path_values(self.message, self._keys())
        return self._path_values

    def _keys(self) -> Any:
        """Return the decoded body. Where no parameter needs it, one that can't be decoded has no keys."""
        try:
            return self.message.decoded()
        except DecodeError:
            if self._layout.needs_body:
                raise
            return None

    @property
    def url(self) -> URL:
        return URL(f"message:{quote(self.message.address)}")

    async def json(self) -> Any:
        return self.message.decoded()
