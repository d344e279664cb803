"""The core of FastAPI Stream: what every broker's package stands on.

Applications import everything from the package of their broker.
"""

from .address import Template
from .asyncapi.specification import AsyncAPI
from .broker import Broker
from .context import Context, ContextRepo, Logger
from .declaration import Declaring
from .errors import (
    BrokerUnavailable,
    ContextError,
    DecodeError,
    EncodeError,
    NotStarted,
    PublishError,
    ReplyRefused,
    SetupError,
    StartInterrupted,
    StreamError,
    WrongEventLoop,
)
from .handler import Handler
from .headers import Headers
from .message import BatchMessage, StreamMessage
from .policy import AckMessage, AckPolicy, NackMessage, RejectMessage, Retry, SkipMessage
from .publisher import Publisher
from .response import Outgoing, Response
from .router import RouterOptions, StreamRouter
from .security import SASLGSSAPI, BaseSecurity, SASLOAuthBearer, SASLPlaintext, SASLScram256, SASLScram512
from .subscription import Status, Subscription
from .transport import Source, Transport

__all__ = (
    "SASLGSSAPI",
    "AckMessage",
    "AckPolicy",
    "AsyncAPI",
    "BaseSecurity",
    "BatchMessage",
    "Broker",
    "BrokerUnavailable",
    "Context",
    "ContextError",
    "ContextRepo",
    "Declaring",
    "DecodeError",
    "EncodeError",
    "Handler",
    "Headers",
    "Logger",
    "NackMessage",
    "NotStarted",
    "Outgoing",
    "PublishError",
    "Publisher",
    "RejectMessage",
    "ReplyRefused",
    "Response",
    "Retry",
    "RouterOptions",
    "SASLOAuthBearer",
    "SASLPlaintext",
    "SASLScram256",
    "SASLScram512",
    "SetupError",
    "SkipMessage",
    "Source",
    "StartInterrupted",
    "Status",
    "StreamError",
    "StreamMessage",
    "StreamRouter",
    "Subscription",
    "Template",
    "Transport",
    "WrongEventLoop",
)
