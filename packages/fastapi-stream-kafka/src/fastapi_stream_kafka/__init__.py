"""Message handlers for FastAPI on Apache Kafka, with the client library aiokafka."""

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.structs import RecordMetadata
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
    Logger,
    NackMessage,
    NotStarted,
    PublishError,
    RejectMessage,
    Response,
    SASLOAuthBearer,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
    SetupError,
    SkipMessage,
    StreamError,
    StreamMessage,
)

from .__about__ import __version__
from .broker import KafkaBroker
from .message import KafkaMessage
from .options import KafkaBrokerOptions, KafkaPublisherOptions, KafkaRouterOptions, KafkaSubscriberOptions
from .publisher import KafkaPublisher
from .response import KafkaResponse
from .router import KafkaRouter
from .subscription import KafkaSubscription
from .testing import TestKafkaBroker

__all__ = (
    "SASLGSSAPI",
    "AckMessage",
    "AckPolicy",
    "AsyncAPI",
    "BaseSecurity",
    "BrokerUnavailable",
    "ConsumerRecord",
    "Context",
    "ContextError",
    "ContextRepo",
    "DecodeError",
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
    "RecordMetadata",
    "RejectMessage",
    "Response",
    "SASLOAuthBearer",
    "SASLPlaintext",
    "SASLScram256",
    "SASLScram512",
    "SetupError",
    "SkipMessage",
    "StreamError",
    "StreamMessage",
    "TestKafkaBroker",
    "TopicPartition",
    "__version__",
)
