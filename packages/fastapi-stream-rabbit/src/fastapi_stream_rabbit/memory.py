"""RabbitMQ in memory: exchanges, bindings and queues, as the real one routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiormq import spec
from fastapi_stream_core.memory import MemoryTransport

from .delivery import Delivery
from .message import RabbitMessage
from .schema import DEFAULT_EXCHANGE, ExchangeType, RabbitExchange, RabbitQueue
from .subscription import RabbitSubscription
from .wire import content_header

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing
    from fastapi_stream_core.subscription import Subscription

__all__ = ("RabbitMemoryTransport",)


class RabbitMemoryTransport(MemoryTransport):
    """Knows the queues, exchanges and bindings that the subscriptions declare."""

    _tags = 0

    def route(self, outgoing: Outgoing, subscriptions: Sequence[Subscription]) -> Iterable[Subscription]:
        mine = [one for one in subscriptions if isinstance(one, RabbitSubscription)]
        exchange: RabbitExchange = outgoing.options.get("exchange") or DEFAULT_EXCHANGE
        consumers: dict[str, list[Subscription]] = {}
        for one in mine:
            consumers.setdefault(one.queue.name, []).append(one)
        if exchange.is_default:
            queues = [outgoing.address] if outgoing.address in consumers else []
        else:
            queues = self._reached(exchange.name, outgoing, mine)
        return [self.turn(queue, consumers[queue]) for queue in queues]

    def _reached(self, source: str, outgoing: Outgoing, subscriptions: Sequence[RabbitSubscription]) -> list[str]:
        """Return the queues that a message reaches from an exchange; each once, however many ways lead there."""
        known = {one.name: one for one in _exchanges(subscriptions)}
        queues: dict[str, None] = {}
        waiting, seen = [source], {source}
        while waiting:
            name = waiting.pop()
            kind = known[name].type if name in known else ExchangeType.DIRECT
            bound: list[tuple[str, RabbitQueue | RabbitExchange]] = [
                (one.queue.routing(), one.queue) for one in subscriptions if one.exchange.name == name
            ]
            bound += [
                (one.routing_key, one) for one in known.values() if one.bind_to is not None and one.bind_to.name == name
            ]
            if kind in (ExchangeType.X_CONSISTENT_HASH, ExchangeType.X_MODULUS_HASH) and bound:
                bound = [self.turn((name, "hash"), bound)]
                kind = ExchangeType.FANOUT
            elif kind is ExchangeType.X_DELAYED_MESSAGE:
                kind = ExchangeType((known[name].arguments or {}).get("x-delayed-type", "direct"))
            for key, target in bound:
                if not _matches(kind, key, target.bind_arguments or {}, outgoing):
                    continue
                if isinstance(target, RabbitQueue):
                    queues[target.name] = None
                elif target.name not in seen:
                    seen.add(target.name)
                    waiting.append(target.name)
        return list(queues)

    def message(self, outgoing: Outgoing, subscription: Subscription | None) -> RabbitMessage:
        exchange: RabbitExchange = outgoing.options.get("exchange") or DEFAULT_EXCHANGE
        self._tags += 1
        queue = subscription.queue.name if isinstance(subscription, RabbitSubscription) else outgoing.address
        route = ("" if exchange.is_default else exchange.name, outgoing.address)
        delivery = Delivery("memory", self._tags, False, route)
        delivery.head = content_header(outgoing, self.broker.options["app_id"])
        delivery.body = outgoing.body
        return RabbitMessage(delivery, queue)

    def address_of(self, outgoing: Outgoing) -> str:
        exchange: RabbitExchange = outgoing.options.get("exchange") or DEFAULT_EXCHANGE
        return outgoing.address or exchange.name

    def receipt(self, outgoing: Outgoing) -> spec.Basic.Ack:
        return spec.Basic.Ack(delivery_tag=len(self.log))


def _exchanges(subscriptions: Sequence[RabbitSubscription]) -> Iterable[RabbitExchange]:
    """Yield the exchanges of the subscriptions, and those that these are bound to."""
    for subscription in subscriptions:
        exchange: RabbitExchange | None = subscription.exchange
        while exchange is not None:
            yield exchange
            exchange = exchange.bind_to


def _matches(kind: ExchangeType, key: str, arguments: Mapping[str, Any], outgoing: Outgoing) -> bool:
    """Tell whether a binding takes a message."""
    if kind is ExchangeType.FANOUT:
        return True
    if kind is ExchangeType.TOPIC:
        return _topic(_words(key), _words(outgoing.address))
    if kind is ExchangeType.HEADERS:
        return _headers_match(arguments, dict(outgoing.headers))
    return key == outgoing.address


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _topic(binding: Sequence[str], key: Sequence[str]) -> bool:
    """Compare words: `*` is one word, `#` any number of them, also none."""
    if not binding:
        return not key
    if binding[0] == "#":
        return _topic(binding[1:], key) or (bool(key) and _topic(binding, key[1:]))
    return bool(key) and binding[0] in ("*", key[0]) and _topic(binding[1:], key[1:])


def _headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Compare the headers with the arguments of a binding: those that begin with `x-` only when `x-match` says so."""
    mode = arguments.get("x-match", "all")
    wanted = {
        name: value
        for name, value in arguments.items()
        if name != "x-match" and (mode.endswith("-with-x") or not name.startswith("x-"))
    }
    found = (name in headers and (value is None or headers[name] == value) for name, value in wanted.items())
    return any(found) if mode.startswith("any") else all(found)
