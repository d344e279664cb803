"""The settings of a consumer: what a subscriber declares, what the server has, and what differs."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.errors import SetupError, shorten
from nats.js.api import ConsumerConfig, ConsumerInfo

if TYPE_CHECKING:
    from .subscription import NatsSubscription

__all__ = ("changes", "check", "declared", "is_declared", "paused_until", "sets_again", "wanted")

DECLARED = "fastapi-stream-declared"
"""What a consumer says of who gave it its settings: the same for every instance that declares the same."""
BEGINNING = ("deliver_policy", "opt_start_seq", "opt_start_time")
NOT_COMPARED = (*BEGINNING, "name", "durable_name", "deliver_group", "filter_subject", "filter_subjects", "ack_policy")
"""Settings that say where a new consumer begins, or are compared for themselves."""
DECIDING = ("ack_policy", "ack_wait", "backoff", "deliver_group", "deliver_subject", "headers_only", "max_deliver")
"""Settings that decide, beside the filters, which messages come, and how often."""
RESUMED = "it is resumed"


def declared(subscription: NatsSubscription) -> dict[str, str]:
    """Return what a consumer says of itself when a subscriber gave it its settings."""
    config = subscription.config
    given = [
        (one.name, getattr(config, one.name)) for one in fields(config) if getattr(config, one.name) != one.default
    ]
    text = repr((sorted(subscription.filters), subscription.queue, given))
    return {DECLARED: hashlib.sha256(text.encode()).hexdigest()[:16]}


def is_declared(config: ConsumerConfig) -> bool:
    """Tell whether a subscriber of this kind gave a consumer its settings."""
    return DECLARED in (config.metadata or {})


def check(subscription: NatsSubscription, info: ConsumerInfo) -> None:
    """Refuse a consumer that a subscriber can't read.

    Raises:
        SetupError: it is of another kind.
    """
    config, label, name = info.config, subscription.label, info.name
    if (config.deliver_subject is None) != (subscription.pull is not None):
        kind = "pull" if config.deliver_subject is None else "push"
        raise SetupError(label, f"the consumer {name!r} exists and is a {kind} consumer", "use another durable name")
    if config.deliver_subject is not None and (config.deliver_group or "") != subscription.queue:
        raise SetupError(
            label,
            f"the consumer {name!r} has the queue group {config.deliver_group!r}",
            f"give queue={config.deliver_group!r}",
        )
    if config.ack_policy != subscription.config.ack_policy:
        raise SetupError(
            label,
            f"the consumer {name!r} exists with {_shown(config)}, and not {_shown(subscription.config)}",
            "give the same in config=, or use another durable name",
        )


def wanted(subscription: NatsSubscription, config: ConsumerConfig) -> ConsumerConfig:
    """Return the settings of a consumer that exists with those that a subscriber declares."""
    found = config.evolve(**_differing(subscription.config, config))
    filters = _filters(config)
    if filters and set(filters) != set(subscription.filters):
        single = len(subscription.filters) == 1
        found.filter_subject = subscription.filters[0] if single else None
        found.filter_subjects = None if single else list(subscription.filters)
    if found != config:
        found.metadata = {**(found.metadata or {}), **declared(subscription)}
    return found


def sets_again(subscription: NatsSubscription, info: ConsumerInfo) -> bool:
    """Tell whether a start would not take a consumer as it is now.

    What another subscriber of the name declares is left: two versions of an app that run side by side for a while
    would take the consumer from each other, and what comes meanwhile would pass one of them by.
    """
    if subscription.durable is None:
        return True
    try:
        check(subscription, info)
    except SetupError:
        return True
    by, own = (info.config.metadata or {}).get(DECLARED), declared(subscription)[DECLARED]
    return by in (None, own) and wanted(subscription, info.config) != info.config


def changes(before: ConsumerConfig, now: ConsumerConfig) -> str:
    """Return the settings that decide which messages come and that are not those of before; empty for none."""
    values = [(name, getattr(before, name) or None, getattr(now, name) or None) for name in DECIDING]
    found = [(name, value) for name, known, value in values if value != known]
    if set(_filters(before)) != set(_filters(now)):
        found.append(("filter_subjects", _filters(now)))
    return ", ".join(f"{name}={shorten(str(getattr(value, 'value', value)))}" for name, value in found)


def paused_until(info: ConsumerInfo) -> str | None:
    """Return until when a consumer gives nothing, because somebody paused it at the server; None when nobody did."""
    if info.paused is not True:
        return None
    until = getattr(info.config, "pause_until", None)
    return until if isinstance(until, str) and until else RESUMED


def _filters(config: ConsumerConfig) -> list[str]:
    return [config.filter_subject] if config.filter_subject else list(config.filter_subjects or ())


def _differing(given: ConsumerConfig, known: ConsumerConfig) -> dict[str, Any]:
    """Return the settings that were given and that a consumer has not; what is a default may not have been given."""
    found: dict[str, Any] = {}
    for one in fields(given):
        value, here = getattr(given, one.name), getattr(known, one.name)
        if one.name in NOT_COMPARED or value == one.default or value == here:
            continue
        if isinstance(value, dict) and isinstance(here, dict):
            if value.items() <= here.items():  # the server adds entries of its own
                continue
            value = {**here, **value}
        found[one.name] = value
    return found


def _shown(config: ConsumerConfig) -> str:
    return f"ack_policy={getattr(config.ack_policy, 'value', config.ack_policy)}"  # the server says it as text
