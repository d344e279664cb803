"""The smallest broker that keeps the contract: one process, one kind of address, groups and templates.

It shows an author of a broker's package what has to be written, and lets the core's own tests run without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Annotated, Any

from typing_extensions import Unpack

from ..address import Template
from ..asyncapi.description import ChannelDescription, ServerDescription
from ..broker import Broker
from ..declaration import Declaring
from ..headers import Headers
from ..memory import MemoryTransport
from ..message import StreamMessage
from ..options import BrokerOptions, Option, PublisherOptions, SubscriberOptions
from ..publisher import Publisher
from ..response import Outgoing
from ..router import RouterOptions, StreamRouter
from ..subscription import Subscription
from ..transport import Transport
from .broker import TestBroker

__all__ = ("LocalBroker", "LocalMessage", "LocalRouter", "LocalTransport", "TestLocalBroker")


class LocalSubscriberOptions(SubscriberOptions, total=False):
    """Options of a subscriber."""

    group: Annotated[str | None, Option(None, "subscriptions of one group share the messages; None gets every message")]
    batch: Annotated[bool, Option(False, "the handler takes a list of messages")]


class LocalRouterOptions(BrokerOptions, RouterOptions, total=False):
    """Options of a router."""


class LocalMessage(StreamMessage):
    """One message; `raw_message` is what was published."""

    __slots__ = ()

    def read_headers(self) -> Headers:
        outgoing: Outgoing = self.raw_message
        return Headers(outgoing.wire_headers())


class LocalSubscription(Subscription):
    """One subscriber of one address."""

    declaration = LocalSubscriberOptions
    message_type = LocalMessage

    @cached_property
    def template(self) -> Template:
        """The address."""
        return Template(self.addresses[0])

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        return self.template.names

    def capture(self, address: str) -> dict[str, str]:
        return self.template.match(address)

    def takes(self, address: str) -> bool:
        """Tell whether a message of this address is for the subscriber."""
        return bool(self.template.match(address)) if self.template.names else address == self.template.text

    def describe(self) -> list[ChannelDescription]:
        return [ChannelDescription(self.addresses[0], self.addresses[0], parameters=self.path_names)]


class LocalPublisher(Publisher):
    """One publisher."""

    def describe(self) -> list[ChannelDescription]:
        return [ChannelDescription(self.address, self.address)]

    async def publish(self, message: Any) -> None:
        """Publish a value."""
        await self.send(message)


class LocalDeclarations(Declaring):
    """What is declared on the broker and on the router."""

    def subscriber(self, address: str, **options: Unpack[LocalSubscriberOptions]) -> LocalSubscription:
        """Declare a subscriber."""
        return self.declare_subscriber(LocalSubscription(self, (address,), options))

    def publisher(self, address: str, **options: Unpack[PublisherOptions]) -> LocalPublisher:
        """Declare a publisher."""
        return self.declare_publisher(LocalPublisher(self, address, options))


class LocalTransport(MemoryTransport):
    """Routes to every subscription of an address, and to one of each group."""

    def route(self, outgoing: Outgoing, subscriptions: Sequence[Subscription]) -> Iterable[Subscription]:
        groups: dict[str, list[Subscription]] = {}
        for subscription in subscriptions:
            if isinstance(subscription, LocalSubscription) and subscription.takes(outgoing.address):
                group = subscription.options["group"]
                if group is None:
                    yield subscription
                else:
                    groups.setdefault(group, []).append(subscription)
        for group, competing in groups.items():
            yield self.turn(group, competing)

    def message(self, outgoing: Outgoing, subscription: Subscription | None) -> StreamMessage:
        return LocalMessage(outgoing.body, outgoing, outgoing.address, lane=outgoing.address)


class LocalBroker(LocalDeclarations, Broker):
    """A broker in the process."""

    name = "local"

    def __init__(self, address: str = "local", **options: Unpack[BrokerOptions]) -> None:
        super().__init__(address, options)

    def transport(self) -> Transport:
        return LocalTransport(self)

    def servers(self) -> list[ServerDescription]:
        return [ServerDescription(self.address, "local")]

    async def publish(
        self,
        message: Any,
        address: str,
        *,
        headers: dict[str, Any] | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
    ) -> None:
        """Publish a value."""
        await self.deliver(
            self.outgoing(message, address, headers=headers, correlation_id=correlation_id, reply_to=reply_to)
        )


class LocalRouter(LocalDeclarations, StreamRouter[LocalBroker]):
    """A router with a broker in the process."""

    def __init__(self, address: str = "local", **options: Unpack[LocalRouterOptions]) -> None:
        super().__init__(LocalBroker, address, options)


class TestLocalBroker(TestBroker[LocalBroker]):
    """Runs a `LocalBroker` for tests."""

    __test__ = False

    def transport(self) -> MemoryTransport:
        return LocalTransport(self.broker, self.raise_errors)
