"""What a broker and a router have in common: subscribers and publishers are declared on both."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import SetupError

if TYPE_CHECKING:
    from fastapi import params

    from .broker import Broker
    from .publisher import Publisher
    from .subscription import Subscription

__all__ = ("Declaring",)

S = TypeVar("S", bound="Subscription")
Q = TypeVar("Q", bound="Publisher")


class Declaring(ABC):
    """Base of what subscribers and publishers are declared on.

    A broker's package writes `subscriber()` and `publisher()` once, in a class that its broker and its router
    both inherit; they make the object and pass it to `declare_subscriber` or `declare_publisher`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("subscriber", "publisher"):
            if name in cls.__dict__:
                setattr(cls, name, _with_parentheses(cls.__dict__[name]))

    _subscribers: list[Subscription]
    _publishers: list[Publisher]

    @property
    @abstractmethod
    def broker(self) -> Broker:
        """The broker that runs what is declared here."""

    def declare_subscriber(self, subscription: S) -> S:
        """Register a subscriber.

        Raises:
            SetupError: the broker is started already.
        """
        self.broker.refuse_late(subscription.label)
        self._subscribers.append(subscription)
        return subscription

    def declare_publisher(self, publisher: Q) -> Q:
        """Register a publisher."""
        self._publishers.append(publisher)
        return publisher

    def broker_subscribers(self) -> list[Subscription]:
        """Return the subscribers declared here and below."""
        return list(self._subscribers)

    def broker_publishers(self) -> list[Publisher]:
        """Return the publishers declared here and below."""
        return list(self._publishers)

    def dependency_chain(self) -> tuple[params.Depends, ...]:
        """Return the dependencies of every router above, the outermost first."""
        return ()

    def tag_chain(self) -> list[Any]:
        """Return the tags of every router above, the outermost first."""
        return []


def _with_parentheses(declare: Callable[..., Any]) -> Callable[..., Any]:
    """Say so when the decorator is used without them: the function would be taken for an address."""

    @functools.wraps(declare)
    def declared(self: Declaring, *args: Any, **options: Any) -> Any:
        if args and inspect.isroutine(args[0]):
            name = f"{type(self).__name__}.{declare.__name__}"
            raise SetupError(
                name,
                f"it decorates {args[0].__name__!r} without an address",
                f"write @router.{declare.__name__}(...) with parentheses",
            )
        return declare(self, *args, **options)

    return declared
