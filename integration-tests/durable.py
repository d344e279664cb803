"""At-least-once subscribers of every broker, for the fault tests: one way to declare, one way to publish."""

from __future__ import annotations

from typing import Any

BROKERS = ("kafka", "confluent", "rabbit", "nats", "redis")


class Durable:
    """A router and the addresses of one test on one broker."""

    def __init__(self, broker: str, url: str, name: str, **options: Any) -> None:
        self.kind = broker
        self.name = name
        self.router: Any = getattr(self, f"_{broker}")(url, options)

    def _kafka(self, url: str, options: Any) -> Any:
        from fastapi_stream_kafka import KafkaRouter

        return KafkaRouter(url, **options)

    def _confluent(self, url: str, options: Any) -> Any:
        from fastapi_stream_confluent import KafkaRouter

        return KafkaRouter(url, **options)

    def _rabbit(self, url: str, options: Any) -> Any:
        from fastapi_stream_rabbit import RabbitRouter

        return RabbitRouter(url, **options)

    def _nats(self, url: str, options: Any) -> Any:
        from fastapi_stream_nats import NatsRouter

        return NatsRouter(url, **options)

    def _redis(self, url: str, options: Any) -> Any:
        from fastapi_stream_redis import RedisRouter

        return RedisRouter(url, **options)

    def subscriber(self, **options: Any) -> Any:
        """Declare the subscriber whose messages survive the death of the process."""
        router, name = self.router, self.name
        if self.kind in ("kafka", "confluent"):
            return router.subscriber(name, group_id=f"{name}-group", auto_offset_reset="earliest", **options)
        if self.kind == "rabbit":
            return router.subscriber(name, **options)
        if self.kind == "nats":
            from fastapi_stream_nats import JStream, PullSub

            return router.subscriber(
                name, stream=JStream(f"{name}-stream"), durable=f"{name}-durable", pull_sub=PullSub(100), **options
            )
        from fastapi_stream_redis import StreamSub

        return router.subscriber(stream=StreamSub(name, group=f"{name}-group", consumer="one", last_id="0"), **options)

    def publisher(self) -> Any:
        """Declare a publisher whose messages the subscriber receives, now or when it comes back."""
        router, name = self.router, self.name
        if self.kind == "rabbit":
            return router.publisher(name, persist=True)
        if self.kind == "nats":
            return router.publisher(name, stream=f"{name}-stream")
        return router.publisher(stream=name) if self.kind == "redis" else router.publisher(name)

    async def publish(self, message: Any, **options: Any) -> Any:
        """Publish so that the subscriber receives it, now or when it comes back."""
        broker = self.router.broker
        if self.kind in ("kafka", "confluent"):
            return await broker.publish(message, self.name, **options)
        if self.kind == "rabbit":
            return await broker.publish(message, self.name, persist=True, **options)
        if self.kind == "nats":
            return await broker.publish(message, self.name, stream=f"{self.name}-stream", **options)
        return await broker.publish(message, stream=self.name, **options)
