"""Message handlers for FastAPI on Apache Kafka, with the client library confluent-kafka."""

from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition
from fastapi_stream_core import (
    SASLGSSAPI,
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
    SASLOAuthBearer,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
    SetupError,
    SkipMessage,
    StartInterrupted,
    StreamError,
    StreamMessage,
    WrongEventLoop,
)

from .__about__ import __version__
from .broker import KafkaBroker
from .message import KafkaMessage
from .options import KafkaBrokerOptions, KafkaPublisherOptions, KafkaRouterOptions, KafkaSubscriberOptions
from .publisher import KafkaPublisher
from .response import KafkaResponse
from .router import KafkaRouter
from .subscription import KafkaSubscription

if TYPE_CHECKING:
    from .testing import TestKafkaBroker

__all__ = (
    "SASLGSSAPI",
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
    "KafkaBroker",
    "KafkaBrokerOptions",
    "KafkaMessage",
    "KafkaPublisher",
    "KafkaPublisherOptions",
    "KafkaResponse",
    "KafkaRouter",
    "KafkaRouterOptions",
    "KafkaSubscriberOptions",
    "KafkaSubscription",
    "Logger",
    "NackMessage",
    "NotStarted",
    "PublishError",
    "RejectMessage",
    "ReplyRefused",
    "Response",
    "SASLOAuthBearer",
    "SASLPlaintext",
    "SASLScram256",
    "SASLScram512",
    "SetupError",
    "SkipMessage",
    "StartInterrupted",
    "StreamError",
    "StreamMessage",
    "TestKafkaBroker",
    "TopicPartition",
    "WrongEventLoop",
    "__version__",
)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> type:
        """Import the test broker when it is asked for: an app does without it and its broker in memory."""
        if name == "TestKafkaBroker":
            from .testing import TestKafkaBroker

            return TestKafkaBroker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
