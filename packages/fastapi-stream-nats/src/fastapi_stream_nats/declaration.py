"""`subscriber()` and `publisher()`, for the broker and the router."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi_stream_core.declaration import Declaring
from typing_extensions import Unpack

from .publisher import NatsPublisher
from .subscription import NatsSubscription

if TYPE_CHECKING:
    from .options import NatsPublisherOptions, NatsSubscriberOptions

__all__ = ("NatsDeclarations",)


class NatsDeclarations(Declaring):
    """What subscribers and publishers are declared with."""

    def subscriber(
        self, subject: str = "", queue: str = "", **options: Unpack[NatsSubscriberOptions]
    ) -> NatsSubscription:
        """Handle the messages of a subject.

        Without `stream` this is NATS core: a message that comes while nobody listens, or whose handler fails, is
        gone (at most once). With `stream` it is JetStream: a message is acknowledged after its handler, and is
        delivered again when that failed (at least once).

        Args:
            subject: the subject, with NATS's wildcards `*` and `>`, or with names, as in `users.{uid}`, each for one
                token. Empty only when `config` has `filter_subjects`.
            queue: the members of a queue group share the messages; with a stream it also names the consumer.
            options: see `NatsSubscriberOptions`.

        Raises:
            SetupError: the options do not exist or do not go together.
        """
        return self.declare_subscriber(NatsSubscription(self, subject, queue, options))

    def publisher(self, subject: str = "", **options: Unpack[NatsPublisherOptions]) -> NatsPublisher:
        """Publish to a subject: the results of the handlers that it decorates, and whatever is given to `publish`.

        Args:
            subject: the subject, without wildcards.
            options: see `NatsPublisherOptions`.

        Raises:
            SetupError: no subject is named, or the options do not exist.
        """
        return self.declare_publisher(NatsPublisher(self, subject, options))
