"""The router of Kafka."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi_stream_core.router import StreamRouter
from typing_extensions import Unpack

from .broker import KafkaBroker
from .declaration import KafkaDeclarations
from .options import KafkaRouterOptions

__all__ = ("KafkaRouter",)


class KafkaRouter(KafkaDeclarations, StreamRouter[KafkaBroker]):
    """An `APIRouter` that also has subscribers and publishers of Kafka, and runs the connection with the app.

    Args:
        bootstrap_servers: `host:port` of one or more servers; or a `KafkaBroker` that other routers use too.
        options: see `KafkaRouterOptions`.

    Raises:
        SetupError: an option does not exist or does not fit the others.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str] | KafkaBroker = "localhost",
        **options: Unpack[KafkaRouterOptions],
    ) -> None:
        super().__init__(KafkaBroker, bootstrap_servers, options)
