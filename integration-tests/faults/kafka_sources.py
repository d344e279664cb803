"""The sources of a Kafka broker, to break what its client does behind them."""

from __future__ import annotations

import pytest
from fastapi_stream_core.subscription import Subscription
from fastapi_stream_core.transport import Source
from fastapi_stream_kafka.source import KafkaSource
from fastapi_stream_kafka.transport import KafkaTransport

__all__ = ("noted_sources",)


def noted_sources(monkeypatch: pytest.MonkeyPatch) -> list[KafkaSource]:
    """Return the list of every source that is made from now on, the newest last."""
    made: list[KafkaSource] = []
    source = KafkaTransport.source

    def note(transport: KafkaTransport, subscription: Subscription) -> Source:
        one = source(transport, subscription)
        assert isinstance(one, KafkaSource)
        made.append(one)
        return one

    monkeypatch.setattr(KafkaTransport, "source", note)
    return made
