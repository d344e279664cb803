"""Whether the subscribers of an app say the same of the queue that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi_stream_core.errors import SetupError

from .subscription import RabbitSubscription

if TYPE_CHECKING:
    from fastapi_stream_core.broker import Broker

__all__ = ("check_agreement",)


def check_agreement(broker: Broker) -> None:
    """Refuse subscribers of one queue of whom one could not read what RabbitMQ delivers to it for another.

    Raises:
        SetupError: their routing keys have other parameters, or stand elsewhere.
    """
    known: dict[str, RabbitSubscription] = {}
    for one in broker.subscribers:
        if not isinstance(one, RabbitSubscription):
            continue
        first = known.setdefault(one.queue.name, one)
        key, other = one.queue.template, first.queue.template
        if key.text != other.text and (key.names or other.names):
            raise SetupError(
                one.label,
                f"{first.label} reads the queue {one.queue.name!r} too, by the routing key {other.text!r} and not"
                f" {key.text!r}, and a queue gives any message to any of its readers",
                "give each a queue of its own, or both one routing key",
            )
