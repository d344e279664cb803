"""Redis message handlers written like FastAPI routes."""

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
    Headers,
    Logger,
    NackMessage,
    NotStarted,
    PublishError,
    RejectMessage,
    Response,
    SASLPlaintext,
    SetupError,
    SkipMessage,
    StreamError,
    StreamMessage,
)

from .__about__ import __version__
from .broker import RedisBroker
from .message import RedisChannelMessage, RedisListMessage, RedisMessage, RedisStreamMessage
from .publisher import RedisPublisher
from .response import RedisResponse
from .router import RedisRouter
from .schema import ListSub, PubSub, StreamSub
from .subscription import RedisSubscription
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
    "Response",
    "SASLPlaintext",
    "SetupError",
    "SkipMessage",
    "StreamError",
    "StreamMessage",
    "StreamSub",
    "TestRedisBroker",
    "__version__",
)
