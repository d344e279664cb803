"""NATS message handlers written like FastAPI routes."""

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
from nats.js.api import (
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    Placement,
    PubAck,
    ReplayPolicy,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamSource,
)

from .__about__ import __version__
from .broker import NatsBroker
from .message import NatsMessage
from .options import NatsBrokerOptions, NatsPublisherOptions, NatsRouterOptions, NatsSubscriberOptions
from .publisher import NatsPublisher
from .response import NatsResponse
from .router import NatsRouter
from .schema import JStream, PullSub
from .security import NatsCredentials, NatsNKey, NatsToken, NatsUserPassword
from .subscription import NatsSubscription

if TYPE_CHECKING:
    from .testing import TestNatsBroker

__all__ = (
    "AckMessage",
    "AckPolicy",
    "AsyncAPI",
    "BaseSecurity",
    "BrokerUnavailable",
    "ConsumerConfig",
    "Context",
    "ContextError",
    "ContextRepo",
    "DecodeError",
    "DeliverPolicy",
    "DiscardPolicy",
    "EncodeError",
    "Headers",
    "JStream",
    "Logger",
    "NackMessage",
    "NatsBroker",
    "NatsBrokerOptions",
    "NatsCredentials",
    "NatsMessage",
    "NatsNKey",
    "NatsPublisher",
    "NatsPublisherOptions",
    "NatsResponse",
    "NatsRouter",
    "NatsRouterOptions",
    "NatsSubscriberOptions",
    "NatsSubscription",
    "NatsToken",
    "NatsUserPassword",
    "NotStarted",
    "Placement",
    "PubAck",
    "PublishError",
    "PullSub",
    "RePublish",
    "RejectMessage",
    "ReplayPolicy",
    "ReplyRefused",
    "Response",
    "RetentionPolicy",
    "SASLPlaintext",
    "SetupError",
    "SkipMessage",
    "StartInterrupted",
    "StorageType",
    "StreamError",
    "StreamMessage",
    "StreamSource",
    "TestNatsBroker",
    "WrongEventLoop",
    "__version__",
)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> type:
        """Import the test broker when it is asked for: an app does without it and its broker in memory."""
        if name == "TestNatsBroker":
            from .testing import TestNatsBroker

            return TestNatsBroker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
