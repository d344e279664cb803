"""The router: an `APIRouter` on RabbitMQ."""

from __future__ import annotations

from fastapi_stream_core.router import StreamRouter
from typing_extensions import Unpack
from yarl import URL

from .broker import DEFAULT_URL, RabbitBroker
from .declaration import RabbitDeclarations
from .options import RabbitRouterOptions

__all__ = ("RabbitRouter",)


class RabbitRouter(RabbitDeclarations, StreamRouter[RabbitBroker]):
    """An `APIRouter` that also handles messages of RabbitMQ.

    Args:
        url: where RabbitMQ is, with credentials and virtual host; or a broker that other routers use too.
        options: of the broker, of the router and of `APIRouter`; their meaning is in `RabbitRouterOptions`.
    """

    def __init__(
        self, url: str | URL | RabbitBroker | None = DEFAULT_URL, **options: Unpack[RabbitRouterOptions]
    ) -> None:
        super().__init__(RabbitBroker, url, options)
