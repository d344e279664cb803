"""Redis message handlers written like FastAPI routes."""

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
from .broker import RedisBroker
from .message import RedisChannelMessage, RedisListMessage, RedisMessage, RedisStreamMessage
from .publisher import RedisPublisher
from .response import RedisResponse
from .router import RedisRouter
from .schema import ListSub, PubSub, StreamSub
from .subscription import RedisSubscription

if TYPE_CHECKING:
    from .testing import TestRedisBroker

__all__ = (
    "AckMessage",
    "AckPolicy",
    "AsyncAPI",
    "BaseSecurity",
    "BrokerUnavailable",
    "Context",
    "ContextError",
    "ContextRepo",
    "DecodeError",
    "EncodeError",
    "Headers",
    "ListSub",
    "Logger",
    "NackMessage",
    "NotStarted",
    "PubSub",
    "PublishError",
    "RedisBroker",
    "RedisChannelMessage",
    "RedisListMessage",
    "RedisMessage",
    "RedisPublisher",
    "RedisResponse",
    "RedisRouter",
    "RedisStreamMessage",
    "RedisSubscription",
    "RejectMessage",
    "ReplyRefused",
    "Response",
    "SASLPlaintext",
    "SetupError",
    "SkipMessage",
    "StartInterrupted",
    "StreamError",
    "StreamMessage",
    "StreamSub",
    "TestRedisBroker",
    "WrongEventLoop",
    "__version__",
)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> type:
        """Import the test broker when it is asked for: an app does without it and its broker in memory."""
        if name == "TestRedisBroker":
            from .testing import TestRedisBroker

            return TestRedisBroker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
