"""The router: an `APIRouter` on Redis."""

from __future__ import annotations

from fastapi_stream_core.router import StreamRouter
from typing_extensions import Unpack

from .broker import DEFAULT_URL, RedisBroker
from .declaration import RedisDeclarations
from .options import RedisRouterOptions

__all__ = ("RedisRouter",)


class RedisRouter(RedisDeclarations, StreamRouter[RedisBroker]):
    """An `APIRouter` that also handles messages of Redis.

    Args:
        url: where Redis is, with credentials and the number of the database; or a broker that other routers use too.
        options: of the broker, of the router and of `APIRouter`; their meaning is in `RedisRouterOptions`.
    """

    def __init__(self, url: str | RedisBroker = DEFAULT_URL, **options: Unpack[RedisRouterOptions]) -> None:
        super().__init__(RedisBroker, url, options)
