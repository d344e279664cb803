"""What each kind of subscription can do: read by the conformance suite and by the documentation."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

__all__ = ("Features",)


@dataclass(frozen=True)
class Features:
    """What one kind of subscription of a broker can do. A test is skipped only by what stands here.

    Attributes:
        broker: the broker.
        kind: the kind of subscription: `topic`, `queue`, `core`, `push`, `pull`, `channel`, `list`, `stream`, `group`.
        settles: messages are acknowledged, and delivered again when they are not.
        survives: what was not acknowledged is delivered again after the process died.
        fan_out: two subscriptions of one address both get each message.
        competes: subscriptions can share the messages of one address.
        path: an address may have `{parameters}`.
        batch: a handler may take a list of messages.
        headers: a message carries headers of its own.
        ordered: with one worker, messages are handled in the order in which they were published.
        lanes: a message that is to be delivered again holds back those behind it in its lane.
        null: the broker tells a null body from an empty one.
        repeated_headers: a header may occur more than once.
        binary_headers: header values may be bytes that are no UTF-8.
    """

    broker: str
    kind: str
    settles: bool = True
    survives: bool = True
    fan_out: bool = True
    competes: bool = True
    path: bool = True
    batch: bool = True
    headers: bool = True
    ordered: bool = True
    lanes: bool = False
    null: bool = False
    repeated_headers: bool = True
    binary_headers: bool = True

    def in_memory(self) -> Features:
        """Return the same for the broker in memory, where nothing is left when the process is gone."""
        return replace(self, survives=False)

    def table(self) -> dict[str, bool]:
        """Return the capabilities, for the documentation."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("broker", "kind")}
