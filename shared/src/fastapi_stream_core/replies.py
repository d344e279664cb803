"""Which answers are sent: the address of an answer is chosen by whoever sent the message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from .errors import SetupError

if TYPE_CHECKING:
    from .broker import Broker

__all__ = ("Replies", "ReplyPolicy", "is_like")

ReplyPolicy: TypeAlias = Literal["off", "inbox", "plain", "any"] | Sequence[str]
"""`off`: nobody; `inbox`: addresses that only a waiting client can own; `plain`: what the broker's page on security
calls plain; `any`: every address that can be published to; or patterns, where `*` stands for any text."""

CHOICES = ("off", "inbox", "plain", "any")


class Replies:
    """The reply addresses that one subscription answers.

    Args:
        policy: the option `replies` of the subscriber or of its broker.
        broker: knows what an inbox and a plain address are.
        subject: who has the option, for the error.

    Attributes:
        on: whether anybody is answered at all.

    Raises:
        SetupError: the policy is none of the choices, or the broker has no inboxes.
    """

    __slots__ = ("_broker", "_patterns", "_policy", "on")

    def __init__(self, policy: ReplyPolicy, broker: Broker, subject: str) -> None:
        self._broker = broker
        self._policy = policy if isinstance(policy, str) else "patterns"
        self._patterns = () if isinstance(policy, str) else tuple(policy)
        self.on = policy != "off"
        if isinstance(policy, str) and policy not in CHOICES:
            raise SetupError(
                subject,
                f"replies={policy!r} is none of {', '.join(map(repr, CHOICES))}",
                f"choose one of them, or give a list of patterns such as [{policy!r}]",
            )
        if policy == "inbox" and not broker.has_inboxes:
            raise SetupError(
                subject,
                f"replies='inbox' has no meaning: {broker.name} has no inboxes",
                "use 'plain', or a list of patterns",
            )

    async def refusal(self, reply_to: str) -> str | None:
        """Return why `reply_to` is not answered; None when it is."""
        if self._policy == "any":
            return None
        if self._policy == "inbox":
            return None if self._broker.is_inbox(reply_to) else "it is no inbox"
        if self._policy == "patterns":
            return (
                None if any(is_like(reply_to, one) for one in self._patterns) else "it is like no pattern of replies="
            )
        return await self._broker.reply_refusal(reply_to)


def is_like(text: str, pattern: str) -> bool:
    """Tell whether a text is like a pattern, where `*` stands for any text; in linear time for each `*`."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    last = rest.pop()
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in rest:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
