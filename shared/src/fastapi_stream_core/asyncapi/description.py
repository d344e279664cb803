"""What a broker's package says of its servers, subscribers and publishers; the document is built from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ("ChannelDescription", "ServerDescription")


@dataclass(frozen=True)
class ServerDescription:
    """One server of a broker.

    Attributes:
        host: host and port, without scheme and credentials.
        protocol: `kafka`, `kafka-secure`, `amqp`, ...
        pathname: the path of the address, with its slash; empty for none.
        protocol_version: of the protocol; None to leave it out.
        description: text.
        security: the security schemes, as AsyncAPI objects without secrets, by name.
        tags: names, or AsyncAPI tag objects.
    """

    host: str
    protocol: str
    pathname: str = ""
    protocol_version: str | None = None
    description: str | None = None
    security: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tags: Sequence[Any] = ()


@dataclass(frozen=True)
class ChannelDescription:
    """One channel that a subscriber receives from or a publisher sends to.

    Attributes:
        address: as the user wrote it, `{parameters}` included; None for a bare wildcard or regular expression.
        name: what the channel is called; the address, or the pattern where there is no address.
        kind: tells apart channels of one address (a Redis list and a Redis channel); empty when there is one kind.
        parameters: names in the address.
        channel_bindings: by binding name (`kafka`, `amqp`, `nats`, `redis`), with `bindingVersion`.
        operation_bindings: the same for the operation.
        message_bindings: the same for the message.
        extensions: `x-...` keys of the channel.
    """

    address: str | None
    name: str
    kind: str = ""
    parameters: Sequence[str] = ()
    channel_bindings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    operation_bindings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    message_bindings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)
