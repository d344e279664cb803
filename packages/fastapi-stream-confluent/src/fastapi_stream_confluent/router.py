"""The router for Kafka."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi_stream_core.router import StreamRouter
from typing_extensions import Unpack

from .broker import KafkaBroker
from .declaration import KafkaDeclarations
from .options import KafkaRouterOptions

__all__ = ("KafkaRouter",)


class KafkaRouter(KafkaDeclarations, StreamRouter[KafkaBroker]):
    """An `APIRouter` with subscribers and publishers of Kafka.

    Args:
        bootstrap_servers: addresses `host:port`, as text with commas or as a list; or a `KafkaBroker` that other
            routers use too.
        options: see `KafkaRouterOptions`.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str] | KafkaBroker = "localhost",
        **options: Unpack[KafkaRouterOptions],
    ) -> None:
        super().__init__(KafkaBroker, bootstrap_servers, options)
