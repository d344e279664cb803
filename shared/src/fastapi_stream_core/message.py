"""One received message."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import from_json

from .codec import decode
from .headers import Headers
from .identifier import new_id
from .injection import Injected
from .policy import Verdict, at_least

if TYPE_CHECKING:
    from .subscription import Subscription
    from .tally import Tally
    from .transport import Source

__all__ = ("UNSET", "BatchMessage", "StreamMessage")

UNSET: Any = object()
"""What is not read yet, and may be None when it is."""


class StreamMessage(Injected):
    """One received message, settled once.

    A broker's package derives its own class, fills the slots in its source and says how headers and ids are
    read; both are read only when somebody asks.

    Attributes:
        body: the bytes of the wire; empty for a null body.
        raw_message: the client library's own object.
        address: where the message came from: topic, routing key, subject, channel, list or stream.
        lane: messages of one lane are handled in order, and wait while one of them is to be delivered again
            (a Kafka partition); None where the broker keeps no such order.
        redelivered: whether the broker says that it delivered this message before.
        attempt: number of this delivery, from 1.
    """

    injected_as: ClassVar[str] = "message"

    __slots__ = (
        "_correlation_id",
        "_decoded",
        "_headers",
        "_path",
        "_source",
        "_tally",
        "_verdict",
        "address",
        "attempt",
        "background",
        "body",
        "lane",
        "raw_message",
        "redelivered",
    )

    def __init__(
        self,
        body: bytes,
        raw_message: Any,
        address: str,
        lane: Hashable = None,
        redelivered: bool = False,
        attempt: int = 1,
    ) -> None:
        self._tally: Tally  # only there after a delivery that was not acknowledged: no message pays for it
        self.body = body
        self.raw_message = raw_message
        self.address = address
        self.lane = lane
        self.redelivered = redelivered
        self.attempt = attempt
        self.background: Any = None
        self._source: Source | None = None
        self._verdict: Verdict | None = None
        self._decoded: Any = UNSET
        self._headers: Headers | None = None
        self._path: dict[str, str] | None = None
        self._correlation_id: str | None = None

    def read_headers(self) -> Headers:
        """Read the headers from `raw_message`; a broker's package says how. Called at most once."""
        return Headers()

    @property
    def headers(self) -> Headers:
        """The headers: case-insensitive, repeated names kept."""
        if self._headers is None:
            self._headers = self.read_headers()
        return self._headers

    @property
    def path(self) -> dict[str, str]:
        """What the subscription's address template captured from `address`."""
        if self._path is None:
            subscription = self.subscription
            self._path = {} if subscription is None else subscription.capture(self.address)
        return self._path

    @property
    def subscription(self) -> Subscription | None:
        """The subscription that received the message; None for one that was published or answered."""
        return None if self._source is None else self._source.subscription

    @property
    def content_type(self) -> str | None:
        """The declared content type."""
        return self.headers.text("content-type") or None

    @property
    def correlation_id(self) -> str:
        """The correlation id of the message, or a new one that stays the same for this message."""
        if self._correlation_id is None:
            self._correlation_id = self.read_correlation_id() or new_id()
        return self._correlation_id

    def read_correlation_id(self) -> str | None:
        """Read the correlation id from the wire."""
        return self.headers.text("correlation_id")

    @property
    def message_id(self) -> str:
        """The id of the message: the broker's or the publisher's; the correlation id where there is none."""
        return self.headers.text("message_id") or self.correlation_id

    @property
    def reply_to(self) -> str | None:
        """Where an answer is expected."""
        return self.headers.text("reply_to")

    @property
    def identity(self) -> Hashable:
        """What tells a copy of this message from another message; None where the broker has nothing for it."""
        return None

    sure_of_copies: ClassVar[bool] = True
    """Whether `is_copy_of` is never wrong: then a copy has the outcome of the first run, otherwise it runs itself."""

    def is_copy_of(self, other: StreamMessage) -> bool:
        """Tell whether this is the message `other`, which is being handled, delivered again."""
        identity = self.identity
        return identity is not None and identity == other.identity

    is_measured: ClassVar[bool] = False
    """Whether `size` costs nothing. Then nobody asks a message that waits for its `body`, which may have to be read."""

    @property
    def size(self) -> int:
        """How many bytes the message holds: body, headers and address, as far as the sender chose them.

        A broker's package adds what its own object holds.
        """
        return len(self.body)

    @property
    def position(self) -> str:
        """Where in the broker the message is, for the log: partition and offset, stream sequence, entry id."""
        return self.message_id

    def decoded(self) -> Any:
        """Return the decoded body; decoded once.

        Raises:
            DecodeError: the body is not what its content type declares.
        """
        if self._decoded is UNSET:
            self._decoded = decode(self.body, self.content_type)
        return self._decoded

    def reread(self) -> bool:
        """Decode a body that was declared as text or bytes as JSON, as which many producers mean it.

        Returns:
            Whether it is JSON and was not read as such before.
        """
        known = self._decoded
        if not self.content_type or type(known) not in (str, bytes):  # without a type it was tried
            return False
        try:
            self._decoded = from_json(self.body)
        except ValueError:
            return False
        return bool(self._decoded != known)

    async def decode(self) -> Any:
        """Return the decoded body.

        Raises:
            DecodeError: the body is not what its content type declares.
        """
        return self.decoded()

    @property
    def committed(self) -> Verdict | None:
        """How the message was settled; None while it is not."""
        return self._verdict

    async def ack(self) -> None:
        """Acknowledge the message. The first settlement wins, later ones do nothing."""
        await self._settle(Verdict.ACK)

    async def nack(self, delay: float | None = None) -> None:
        """Have the message delivered again. The first settlement wins, later ones do nothing.

        Args:
            delay: seconds until then, never under 0.2; by default those of the retry policy.
        """
        await self._settle(Verdict.NACK, at_least(delay))

    async def reject(self) -> None:
        """Reject the message: it is not delivered again. The first settlement wins, later ones do nothing."""
        await self._settle(Verdict.REJECT)

    async def _settle(self, verdict: Verdict, delay: float | None = None) -> None:
        if self._source is not None:
            await self._source.dispatcher.settle(self, verdict, delay)

    def renew(self, counts: bool = True) -> None:
        """Make the message ready for its next run in this process; one that `counts` is another delivery."""
        if counts:
            self.attempt += 1
            self.redelivered = True
        self.background = None
        self._verdict = None
        self._decoded = UNSET

    def __repr__(self) -> str:
        return f"{type(self).__name__}(address={self.address!r}, body={self.body[:80]!r}, attempt={self.attempt})"


class BatchMessage(StreamMessage):
    """Several messages that one call of a batch handler takes; settling it settles each of them.

    Attributes:
        messages: the messages, in the broker's order. `headers` and ids are those of the first one.
    """

    __slots__ = ("_items", "messages")

    def __init__(self, messages: Sequence[StreamMessage]) -> None:
        first = messages[0]
        super().__init__(first.body, None, first.address, first.lane, first.redelivered, first.attempt)
        self.messages = tuple(messages)
        self._items: list[Any] | None = None
        self._source = first._source

    @property
    def raw_message(self) -> tuple[Any, ...]:
        """The client library's own object of every message."""
        return tuple(message.raw_message for message in self.messages)

    @raw_message.setter
    def raw_message(self, value: None) -> None:
        """There is none of its own."""

    def keep_items(self, items: list[Any]) -> None:
        """Keep the validated items for the handler."""
        self._items = items

    def take_items(self) -> list[Any] | None:
        """Return the validated items once; None when there are none, or somebody has them already."""
        items, self._items = self._items, None
        return items

    def read_headers(self) -> Headers:
        return self.messages[0].headers

    @property
    def batch_headers(self) -> list[Headers]:
        """The headers of every message."""
        return [message.headers for message in self.messages]

    def decoded(self) -> list[Any]:
        """Return the decoded bodies.

        Raises:
            DecodeError: a body is not what its content type declares.
        """
        return [message.decoded() for message in self.messages]

    @property
    def size(self) -> int:
        return sum(message.size for message in self.messages)

    @property
    def content_type(self) -> str | None:
        return self.messages[0].content_type

    @property
    def correlation_id(self) -> str:
        return self.messages[0].correlation_id

    @property
    def message_id(self) -> str:
        return self.messages[0].message_id

    @property
    def reply_to(self) -> str | None:
        return self.messages[0].reply_to

    @property
    def position(self) -> str:
        return f"{self.messages[0].position}..{self.messages[-1].position}"

    async def _settle(self, verdict: Verdict, delay: float | None = None) -> None:
        for message in self.messages:
            await message._settle(verdict, delay)
