"""What a broker and a router have in common: subscribers and publishers are declared on both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

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

    _subscribers: list[Subscription]
    _publishers: list[Publisher]

    @property
    @abstractmethod
    def broker(self) -> Broker:
        """The broker that runs what is declared here."""

    def declare_subscriber(self, subscription: S) -> S:
        """Register a subscriber."""
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
