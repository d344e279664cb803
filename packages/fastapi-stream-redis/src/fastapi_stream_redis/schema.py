"""What a subscriber or a publisher names: a channel, a list or a stream."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from fastapi_stream_core.address import Template
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.keywords import check_keywords
from fastapi_stream_core.option_type import show

from .pattern import ChannelPattern, as_bytes

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ("ListSub", "PubSub", "StreamSub", "Target", "target_of")

CLAIM_MILLISECONDS = 60_000
LEAST_IDLE_MILLISECONDS = 300
"""Three times the pause between two renewals of a claim."""
MOST = 2**63 - 1


@check_keywords
@dataclass(frozen=True)
class PubSub:
    """A channel, or many of them by a pattern. Redis delivers to whoever listens: at most once.

    Attributes:
        channel: the name. `{uid}` in it is a parameter, one segment without a dot; with parameters or a `*` it is
            a pattern.
        pattern: whether the name is a pattern of Redis in any case, with `*`, `?` and `[ab]`.

    Raises:
        SetupError: the name is empty, or a parameter of it is no name.
    """

    channel: str
    pattern: bool = False
    template: Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_name("PubSub", self.channel, "channel")
        _check_switch("PubSub", self.pattern, "pattern")
        object.__setattr__(self, "template", Template(self.channel))
        if "*" in self.channel or self.template.names:
            object.__setattr__(self, "pattern", True)

    @property
    def name(self) -> str:
        """The name as the user wrote it."""
        return self.channel

    @property
    def subject(self) -> str:
        """What Redis is asked for."""
        return self.template.wildcard()

    @cached_property
    def _pattern(self) -> ChannelPattern:
        return ChannelPattern(self.template)

    def matches(self, channel: str) -> bool:
        """Tell whether a message of `channel` is meant; Redis' `*` also takes dots, which a parameter does not."""
        return channel == self.subject if not self.pattern else self._pattern.match(as_bytes(channel)) is not None

    def takes(self, channel: bytes) -> bool:
        """Tell whether a message that Redis delivered for the pattern is meant."""
        return not self.template.names or self._pattern.match(channel.decode("latin-1")) is not None

    def capture(self, channel: str) -> dict[str, str]:
        """Return the parameters that a channel gives."""
        if not self.template.names:
            return {}
        found = self._pattern.match(as_bytes(channel)) or {}
        if channel.isascii():
            return found
        return {name: text.encode("latin-1").decode(errors="replace") for name, text in found.items()}


@check_keywords
@dataclass(frozen=True)
class ListSub:
    """A list, from whose left end subscribers take messages in competition: at most once.

    Attributes:
        list_name: the key.
        batch: whether the handler takes a list of messages.
        max_records: most messages of one batch; 10 when it is not given.

    Raises:
        SetupError: the key is empty, or `max_records` is no positive integer.
    """

    list_name: str
    batch: bool = False
    max_records: int | None = None

    def __post_init__(self) -> None:
        _check_name("ListSub", self.list_name, "list_name")
        _check_switch("ListSub", self.batch, "batch")
        if self.max_records is not None:
            _check_count("ListSub", self.max_records, "max_records")

    @property
    def name(self) -> str:
        """The key."""
        return self.list_name

    @property
    def batch_size(self) -> int:
        """Most messages of one batch."""
        return self.max_records or 10


@check_keywords
@dataclass(frozen=True)
class StreamSub:
    """A stream.

    Without a group every subscriber gets every entry that comes after its start. With a group each entry goes to one
    consumer of the group, which acknowledges it when it is handled: at least once.

    Attributes:
        stream: the key.
        group: the consumer group; it is created, together with the stream, when it does not exist.
        consumer: the name of this consumer in the group. None makes one that no other has, and that is gone after a
            clean stop; what a process that died had not acknowledged is then taken over when it is idle. A name that
            is given, for one process that is always started again under it, goes on at once with what was delivered
            to it and not acknowledged. A second process with that name is noticed where Redis (7.2) tells, gets a
            name of its own, and says so in the log: `uvicorn --workers 2` starts two.
        batch: whether the handler takes a list of messages.
        last_id: the entry after which reading starts, `"0"` for the first one there is, `"$"` (the default) for those
            that come. With a group it is where the group begins when it is created.
        maxlen: for publishers: Redis drops the oldest entries beyond about this many.
        max_records: most messages of one batch; 100 when it is not given.
        claim_min_idle_time: milliseconds after which an entry that another consumer of the group has not
            acknowledged is taken over; None takes over nothing. The entries of a running consumer are kept from that,
            by claims that are renewed three times meanwhile, but at most ten times a second: 300 are the fewest that
            are safe.

    Raises:
        SetupError: the key is empty, there is a consumer without a group, a number is not positive, or
            `claim_min_idle_time` is not safe.
    """

    stream: str
    group: str | None = None
    consumer: str | None = None
    batch: bool = False
    last_id: str | None = None
    maxlen: int | None = None
    max_records: int | None = None
    claim_min_idle_time: int | None = CLAIM_MILLISECONDS

    def __post_init__(self) -> None:
        _check_name("StreamSub", self.stream, "stream")
        label = f"StreamSub({self.stream!r})"
        for option in ("group", "consumer"):
            if getattr(self, option) is not None:
                _check_name(label, getattr(self, option), option)
        _check_switch(label, self.batch, "batch")
        if self.group is None and self.consumer is not None:
            raise SetupError(
                f"StreamSub({self.stream!r})", f"consumer={self.consumer!r} has no group", "give group= too"
            )
        if self.group is not None and self.consumer is None and self.claim_min_idle_time is None:
            raise SetupError(
                f"StreamSub({self.stream!r})",
                "claim_min_idle_time=None without a consumer: nobody would ever handle what a process that died had",
                "give the milliseconds after which it is taken over, or a consumer= that is always started again",
            )
        if self.last_id is not None and not _is_id(self.last_id):
            raise SetupError(label, f"last_id={self.last_id!r} is no entry", "give an id, '0' or '$'")
        for option in ("maxlen", "max_records", "claim_min_idle_time"):
            if getattr(self, option) is not None:
                _check_count(label, getattr(self, option), option)
        if self.claim_min_idle_time is not None and self.claim_min_idle_time < LEAST_IDLE_MILLISECONDS:
            raise SetupError(
                label,
                f"claim_min_idle_time={self.claim_min_idle_time} lets consumers take over what others are handling:"
                " a claim is renewed three times meanwhile, and at most every 100 milliseconds",
                f"give {LEAST_IDLE_MILLISECONDS} milliseconds or more",
            )

    @property
    def name(self) -> str:
        """The key."""
        return self.stream

    @property
    def batch_size(self) -> int:
        """Most messages of one batch."""
        return self.max_records or 100

    @property
    def first_id(self) -> str:
        """The entry after which reading starts; `$` for those that come."""
        return "$" if self.last_id in (None, ">") else str(self.last_id)


Target: TypeAlias = "PubSub | ListSub | StreamSub"


def target_of(
    subject: str, channel: str | PubSub | None, list: str | ListSub | None, stream: str | StreamSub | None
) -> Target:
    """Return the one thing that was named.

    Raises:
        SetupError: none was named, or more than one, or something else was given.
    """
    kinds: dict[str, type[PubSub | ListSub | StreamSub]] = {"channel": PubSub, "list": ListSub, "stream": StreamSub}
    given = {
        name: value
        for name, value in (("channel", channel), ("list", list), ("stream", stream))
        if value is not None and value != ""
    }
    if len(given) != 1:
        raise SetupError(
            subject,
            f"{' and '.join(given)} are named" if given else "no channel, list or stream is named",
            "name exactly one of channel, list= and stream=",
        )
    ((name, value),) = given.items()
    kind = kinds[name]
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        raise SetupError(subject, f"{name}={value!r} is no {name}", f"give a text or a {kind.__name__}")
    return kind(value)


def idle_options(target: Target, publishing: bool) -> list[str]:
    """Return what was given to a target and has no effect where it is used."""
    if isinstance(target, PubSub):
        return []
    if isinstance(target, ListSub):
        given = {"batch": target.batch, "max_records": target.max_records is not None}
        unused = given if publishing or not target.batch else {}
        return [name for name in unused if given[name]]
    given = {
        "group": target.group is not None,
        "consumer": target.consumer is not None,
        "batch": target.batch,
        "last_id": target.last_id is not None,
        "max_records": target.max_records is not None,
        "claim_min_idle_time": target.claim_min_idle_time != CLAIM_MILLISECONDS,
        "maxlen": target.maxlen is not None,
    }
    if publishing:
        unused = {name: True for name in given if name != "maxlen"}
    else:
        unused = {"maxlen": True, "max_records": not target.batch, "claim_min_idle_time": target.group is None}
    return [name for name, is_unused in unused.items() if is_unused and given[name]]


def _is_id(text: object) -> bool:
    if not isinstance(text, str) or not re.fullmatch(r"\$|>|\d{1,20}(-\d{1,20})?", text):
        return False
    return text in "$>" or all(int(number) < 2**64 for number in text.split("-"))


def _check_name(kind: str, name: object, option: str = "name") -> None:
    if not isinstance(name, str) or not name:
        raise SetupError(kind, f"{option}={name!r} is no name", "give a text that is not empty")
    if not name.isprintable() and any("\ud800" <= one <= "\udfff" for one in name):
        raise SetupError(kind, f"{option}={name!r} can't be written as UTF-8", "give a text without surrogates")


def _check_count(kind: str, number: object, option: str) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST:
        raise SetupError(kind, f"{option}={show(number)} is no positive integer", "give 1 or more, up to 64 bits")


def _check_switch(kind: str, value: object, option: str) -> None:
    if not isinstance(value, bool):
        raise SetupError(kind, f"{option}={value!r} is neither True nor False", "give one of them")
