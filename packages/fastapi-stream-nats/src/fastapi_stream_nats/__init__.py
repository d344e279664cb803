"""NATS message handlers written like FastAPI routes."""

from typing import TYPE_CHECKING

from fastapi_stream_core.asyncapi import AsyncAPI
from fastapi_stream_core.context import Context, ContextRepo, Logger
from fastapi_stream_core.errors import (
    BrokerUnavailable,
    ContextError,
    DecodeError,
    EncodeError,
    NotStarted,
    PublishError,
    SetupError,
    StreamError,
)
from fastapi_stream_core.policy import AckMessage, AckPolicy, NackMessage, RejectMessage, SkipMessage
from fastapi_stream_core.response import Response
from fastapi_stream_core.security import BaseSecurity, SASLPlaintext
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
    "Response",
    "RetentionPolicy",
    "SASLPlaintext",
    "SetupError",
    "SkipMessage",
    "StorageType",
    "StreamError",
    "StreamSource",
    "TestNatsBroker",
)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> type:
        """Import the test broker when it is asked for: an app does without it and its broker in memory."""
        if name == "TestNatsBroker":
            from .testing import TestNatsBroker

            return TestNatsBroker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
