"""RabbitMQ message handlers written like FastAPI routes."""

from typing import TYPE_CHECKING

from fastapi_stream_core import (
    AckMessage,
    AckPolicy,
    AsyncAPI,
    BaseSecurity,
    BrokerUnavailable,
    Context,
    ContextError,
    ContextRepo,
    DecodeError,
    EncodeError,
    Headers,
    Logger,
    NackMessage,
    NotStarted,
    PublishError,
    RejectMessage,
    ReplyRefused,
    Response,
    SASLPlaintext,
    SetupError,
    SkipMessage,
    StartInterrupted,
    StreamError,
    StreamMessage,
    WrongEventLoop,
)

from .__about__ import __version__
from .broker import RabbitBroker
from .message import RabbitMessage
from .publisher import RabbitPublisher
from .response import RabbitResponse
from .router import RabbitRouter
from .schema import Channel, ExchangeType, QueueType, RabbitExchange, RabbitQueue
from .security import RabbitExternalAuth
from .subscription import RabbitSubscription

if TYPE_CHECKING:
    from .testing import TestRabbitBroker

__all__ = (
    "AckMessage",
    "AckPolicy",
    "AsyncAPI",
    "BaseSecurity",
    "BrokerUnavailable",
    "Channel",
    "Context",
    "ContextError",
    "ContextRepo",
    "DecodeError",
    "EncodeError",
    "ExchangeType",
    "Headers",
    "Logger",
    "NackMessage",
    "NotStarted",
    "PublishError",
    "QueueType",
    "RabbitBroker",
    "RabbitExchange",
    "RabbitExternalAuth",
    "RabbitMessage",
    "RabbitPublisher",
    "RabbitQueue",
    "RabbitResponse",
    "RabbitRouter",
    "RabbitSubscription",
    "RejectMessage",
    "ReplyRefused",
    "Response",
    "SASLPlaintext",
    "SetupError",
    "SkipMessage",
    "StartInterrupted",
    "StreamError",
    "StreamMessage",
    "TestRabbitBroker",
    "WrongEventLoop",
    "__version__",
)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> type:
        """Import the test broker when it is asked for: an app does without it and its broker in memory."""
        if name == "TestRabbitBroker":
            from .testing import TestRabbitBroker

            return TestRabbitBroker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
