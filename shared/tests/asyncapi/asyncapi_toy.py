"""The smallest broker's package: nothing connects, everything can be documented."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi_stream_core.address import Template
from fastapi_stream_core.asyncapi import ChannelDescription, ServerDescription
from fastapi_stream_core.broker import Broker
from fastapi_stream_core.declaration import Declaring
from fastapi_stream_core.options import Option, PublisherOptions, SubscriberOptions
from fastapi_stream_core.publisher import Publisher
from fastapi_stream_core.router import StreamRouter
from fastapi_stream_core.shown_address import without_credentials
from fastapi_stream_core.subscription import Subscription
from fastapi_stream_core.transport import Source, Transport


class ToySubscriberOptions(SubscriberOptions, total=False):
    batch: Annotated[bool, Option(False, "many at once")]
    kind: Annotated[str, Option("", "tells channels of one address apart")]


class ToyPublisherOptions(PublisherOptions, total=False):
    batch: Annotated[bool, Option(False, "many at once")]


class ToySource(Source):
    async def start(self) -> None:
        self.stopped = asyncio.Event()

    async def fetch(self, limit: int) -> list[Any]:
        await self.stopped.wait()
        return []

    def stop(self) -> None:
        self.stopped.set()

    async def close(self) -> None:
        pass


class ToyTransport(Transport):
    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def source(self, subscription: Subscription) -> Source:
        return ToySource(subscription)

    async def publish(self, message: Any) -> Any:
        raise NotImplementedError

    async def ping(self, timeout: float) -> bool:
        return True


class ToySubscription(Subscription):
    declaration = ToySubscriberOptions

    @property
    def path_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for address in self.addresses for name in Template(address).names)

    def describe(self) -> list[ChannelDescription]:
        kafka = {"groupId": {"type": "string", "enum": ["g"]}, "bindingVersion": "0.5.0"}
        return [
            ChannelDescription(
                None if address == "*" else address,
                address,
                self.options["kind"],
                Template(address).names,
                operation_bindings={"kafka": kafka},
                extensions={"x-pattern": "*"} if address == "*" else {},
            )
            for address in self.addresses
        ]


class ToyPublisher(Publisher):
    declaration = ToyPublisherOptions

    def describe(self) -> list[ChannelDescription]:
        message = {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}}
        return [ChannelDescription(self.address, self.address, message_bindings=message)]


class ToyDeclaring(Declaring):
    def subscriber(self, *addresses: str, **options: Any) -> ToySubscription:
        return self.declare_subscriber(ToySubscription(self, addresses, options))

    def publisher(self, address: str, **options: Any) -> ToyPublisher:
        return self.declare_publisher(ToyPublisher(self, address, options))


class ToyBroker(ToyDeclaring, Broker):
    name = "kafka"

    def __init__(self, address: str = "localhost:9092", **options: Any) -> None:
        super().__init__(address, options)
        self._hosts = address.split(",")

    def transport(self) -> Transport:
        return ToyTransport()

    def servers(self) -> list[ServerDescription]:
        return [
            ServerDescription(
                without_credentials(host),
                self.options["protocol"] or "kafka",
                protocol_version=self.options["protocol_version"],
                description=self.options["description"],
                security={"user-password": {"type": "userPassword"}} if "@" in host else {},
                tags=self.options["specification_tags"],
            )
            for host in self._hosts
        ]


class OtherBroker(ToyBroker):
    name = "nats"


class ToyRouter(ToyDeclaring, StreamRouter[ToyBroker]):
    def __init__(self, address: Any = "localhost:9092", **options: Any) -> None:
        super().__init__(ToyBroker, address, options)


class OtherRouter(ToyDeclaring, StreamRouter[OtherBroker]):
    def __init__(self, address: Any = "localhost:4222", **options: Any) -> None:
        super().__init__(OtherBroker, address, options)
