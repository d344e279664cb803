"""The router."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi_stream_core.router import StreamRouter
from typing_extensions import Unpack

from .broker import NatsBroker
from .declaration import NatsDeclarations
from .options import NatsRouterOptions

__all__ = ("NatsRouter",)


class NatsRouter(NatsDeclarations, StreamRouter[NatsBroker]):
    """An `APIRouter` with subscribers and publishers on NATS.

    Args:
        servers: one address or several, `nats://`, `tls://` or `ws://`, with credentials or without; or a broker that
            other routers use too.
        options: see `NatsBrokerOptions`, and what `APIRouter` takes.

    Raises:
        SetupError: an option does not exist or can't work.
    """

    def __init__(
        self,
        servers: str | Iterable[str] | NatsBroker = ("nats://localhost:4222",),
        **options: Unpack[NatsRouterOptions],
    ) -> None:
        super().__init__(NatsBroker, servers, options)
