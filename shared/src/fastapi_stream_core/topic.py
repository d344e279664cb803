"""What packages for brokers with topics, partitions and groups have in common."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Unpack

from .address import Template
from .asyncapi.description import ChannelDescription
from .errors import PublishError, SetupError, shorten
from .headers import HeaderInput
from .keywords import unknown_option
from .option_type import show
from .options import check_given
from .publisher import Publisher
from .response import Outgoing, Response
from .subscription import Subscription
from .topic_options import (
    LAST_PARTITION,
    LAST_TIMESTAMP_MS,
    TopicMessageOptions,
    TopicPublisherOptions,
    TopicSubscriberOptions,
)
from .topic_reply import topic_fault

if TYPE_CHECKING:
    from .declaration import Declaring

__all__ = (
    "TopicPattern",
    "TopicPublisher",
    "TopicResponse",
    "TopicSubscription",
    "check_publish",
    "check_topic",
    "wire_headers",
    "wire_key",
)

MOST_TOGETHER = 2
"""Parameters of a regular expression in one segment."""
_NAME = re.compile(r"\{([^\W\d]\w*)\}")
BATCH_ONLY = ("max_records", "batch_timeout_ms")
_PLAIN = re.compile(r"[\w.\-]*")


PUBLISH = dict.fromkeys(("topic", *TopicMessageOptions.__annotations__, "headers", "correlation_id", "reply_to"))


def check_publish(topic: str | None, unknown: Mapping[str, object]) -> None:
    """Refuse a `publish()` that says no topic, or something that it does not take.

    Raises:
        SetupError: that is so.
    """
    for name in unknown:
        raise unknown_option(name, PUBLISH, "publish()")
    if not topic:
        raise SetupError("publish()", "no topic is given", "say where the message goes: publish(message, 'orders')")


class TopicPattern:
    """The topics of a subscriber with `pattern=`.

    A pattern that is a topic's name with `{parameters}`, such as `users.{uid}`, matches that name with one segment
    without a dot for each of them. Everything else is a regular expression, in which `{name}` stands for
    a segment too, and which matches from the beginning of a topic's name. At most two of those are between two dots
    (`\\.`): the time for more grows with a power of the name's length, which whoever makes a topic chooses.

    Attributes:
        text: the pattern as the user wrote it.
        names: the parameters, in order.
        regex: what the client looks for.
        is_template: whether the pattern is a name with parameters, and so an address of the document.

    Raises:
        SetupError: the pattern is no regular expression, a parameter is there twice, or too many are in one segment.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.names = tuple(_NAME.findall(text))
        self.is_template = bool(self.names) and _PLAIN.fullmatch(_NAME.sub("", text)) is not None
        self._template = Template(text) if self.is_template else None
        if self._template is None and any(len(_NAME.findall(part)) > MOST_TOGETHER for part in text.split(r"\.")):
            raise SetupError(
                f"pattern={text!r}",
                f"a segment of a regular expression has more than {MOST_TOGETHER} parameters",
                r"put \. between them, or take the name apart in the handler",
            )
        source = self._template.regex() + "$" if self._template else _NAME.sub(r"(?P<\1>[^.]+)", text)
        try:
            self.regex = re.compile(source)
        except re.error as error:
            raise SetupError(
                f"pattern={text!r}", f"it is no regular expression: {error}", "write one, or a name like 'users.{uid}'"
            ) from error

    def matches(self, topic: str) -> bool:
        """Tell whether a topic is meant."""
        return self.regex.match(topic) is not None

    def capture(self, topic: str) -> dict[str, str]:
        """Return the parameters that a topic gives."""
        if self._template is not None:
            return self._template.match(topic)
        found = self.regex.match(topic) if self.names else None
        return {} if found is None else {name: found[name] for name in self.names}


class TopicSubscription(Subscription):
    """One subscriber: of topics, of a pattern, or of given partitions.

    Attributes:
        binding: name and version of the binding in the document.
        topics: the topics by name; empty with a pattern.
        pattern: which topics are meant, instead of names.
        group_only: options that mean nothing where no group shares the partitions.
        pattern_only: options that mean nothing for topics that are named.
    """

    declaration: ClassVar[type] = TopicSubscriberOptions
    group_only: ClassVar[tuple[str, ...]] = ("group_instance_id",)
    pattern_only: ClassVar[tuple[str, ...]] = ()
    binding: ClassVar[tuple[str, str]]

    def __init__(self, home: Declaring, topics: Sequence[str], options: Mapping[str, Any]) -> None:
        pattern = options.get("pattern")
        partitions = options.get("partitions") or ()
        subject = f"subscriber({', '.join(map(repr, topics))})"
        given = [
            name for name, value in (("topics", topics), ("pattern", pattern), ("partitions", partitions)) if value
        ]
        if len(given) != 1:
            raise SetupError(
                subject,
                f"{' and '.join(given)} are given" if given else "nothing to read is given",
                "give topics, or pattern=, or partitions=, and only one of them",
            )
        for topic in topics:
            check_topic(topic, subject)
        check_given(self.declaration, options, subject)
        self.pattern = None if pattern is None else TopicPattern(pattern)
        self.topics = tuple(dict.fromkeys(topics or (self.topic_of(one) for one in partitions)))
        for topic in self.topics:
            check_topic(topic, subject)
        super().__init__(home, self.topics if pattern is None else (pattern,), options)
        if self.options["auto_offset_reset"] == "none" and self.group_id is None:
            raise SetupError(
                self.label,
                "auto_offset_reset='none' without group_id has nowhere to begin",
                "give a group_id, or use 'latest' or 'earliest'",
            )
        if not self.batch:
            self._refuse(options, BATCH_ONLY, "batch=True")
        if pattern is None:
            self._refuse(options, self.pattern_only, "pattern=")
        if self.group_id is None or partitions:
            self._refuse(options, self.group_only, "a group_id that shares the partitions")
        elif self.options["heartbeat_interval_ms"] >= self.options["session_timeout_ms"]:
            raise SetupError(
                self.label,
                f"heartbeat_interval_ms={self.options['heartbeat_interval_ms']} is not less than"
                f" session_timeout_ms={self.options['session_timeout_ms']}",
                "give about a third of it",
            )

    def _refuse(self, given: Mapping[str, Any], names: Sequence[str], without: str) -> None:
        """Refuse options that can have no effect.

        Raises:
            SetupError: one of them was given.
        """
        for name in names:
            if name in given:
                raise SetupError(
                    self.label, f"{name}={given[name]!r} has no effect without {without}", "leave it out, or give both"
                )

    @staticmethod
    @abstractmethod
    def topic_of(partition: Any) -> str:
        """Return the topic of one of the client's partitions."""

    @property
    def group_id(self) -> str | None:
        """The consumer group."""
        group: str | None = self.options["group_id"]
        return group

    @property
    def batch_seconds(self) -> float:
        return float(self.options["batch_timeout_ms"] / 1000)

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        return () if self.pattern is None else self.pattern.names

    def capture(self, address: str) -> dict[str, str]:
        return {} if self.pattern is None else self.pattern.capture(address)

    def takes(self, topic: str) -> bool:
        """Tell whether a topic is read."""
        return topic in self.topics if self.pattern is None else self.pattern.matches(topic)

    def describe(self) -> list[ChannelDescription]:
        name, version = self.binding
        operation: dict[str, Any] = {"bindingVersion": version}
        if self.group_id is not None:
            operation |= {"groupId": {"type": "string", "enum": [self.group_id]}}
        bindings: dict[str, Any] = {"operation_bindings": {name: operation}}
        if self.pattern is None:
            return [
                ChannelDescription(
                    topic, topic, channel_bindings={name: {"topic": topic, "bindingVersion": version}}, **bindings
                )
                for topic in self.topics
            ]
        bindings |= {
            "channel_bindings": {name: {"bindingVersion": version}},
            "extensions": {"x-pattern": self.pattern.regex.pattern},
        }
        if self.pattern.is_template:
            return [ChannelDescription(self.pattern.text, self.pattern.text, parameters=self.path_names, **bindings)]
        return [ChannelDescription(None, self.pattern.text, **bindings)]


class TopicResponse(Response):
    """A handler's result together with headers, ids and what the broker knows of a message.

    Args:
        body: what is encoded, or `bytes`, which are sent untouched. None with a key is a tombstone.
        headers: added to the publisher's, and over them; a list value is a repeated header.
        correlation_id: by default the one of the message that is handled.
        content_type: by default the one that the body's type gives.
        options: key, partition and timestamp, over those of the publisher; their meaning is in `TopicMessageOptions`.

    Raises:
        SetupError: an option does not exist, or its value is not of the declared type.
    """

    declaration: ClassVar[type | None] = TopicMessageOptions

    def __init__(
        self,
        body: Any = None,
        *,
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        content_type: str | None = None,
        **options: Unpack[TopicMessageOptions],
    ) -> None:
        super().__init__(
            body, headers=headers, correlation_id=correlation_id, content_type=content_type, options=options
        )


class TopicPublisher(Publisher):
    """Publishes to one topic: decorator of a handler, and object.

    Attributes:
        binding: name and version of the binding in the document.
    """

    declaration: ClassVar[type] = TopicPublisherOptions
    sent_options: ClassVar[tuple[str, ...]] = ("key", "partition")
    response_type: ClassVar[type[Response]] = TopicResponse
    binding: ClassVar[tuple[str, str]]

    def __init__(self, home: Declaring, address: str, options: Mapping[str, Any]) -> None:
        check_topic(address, f"publisher({address!r})")
        super().__init__(home, address, options)

    def describe(self) -> list[ChannelDescription]:
        name, version = self.binding
        key = self.options["key"]
        message: dict[str, Any] = {"bindingVersion": version}
        if key is not None:
            text = key if isinstance(key, str) else key.decode(errors="replace")
            message["key"] = {"type": "string", "enum": [text]}
        return [
            ChannelDescription(
                self.address,
                self.address,
                channel_bindings={name: {"topic": self.address, "bindingVersion": version}},
                message_bindings={name: message},
            )
        ]


def check_topic(topic: object, subject: str) -> None:
    """Refuse what is no name of a topic.

    Raises:
        SetupError: the cluster would not take it.
    """
    fault = topic_fault(topic) if isinstance(topic, str) else "the name of a topic is a text"
    if fault is not None:
        shown = shorten(topic) if isinstance(topic, str) else repr(topic)
        raise SetupError(subject, f"{shown} is no name of a topic", fault)


def wire_key(outgoing: Outgoing) -> bytes | None:
    """Return the key as bytes, when the other options are what the wire takes.

    Raises:
        PublishError: it is neither text nor bytes, the partition is no number of one, or the timestamp is none.
    """
    options = outgoing.options
    key, partition, timestamp = options.get("key"), options.get("partition"), options.get("timestamp_ms")
    if partition is not None and (type(partition) is not int or not 0 <= partition <= LAST_PARTITION):
        reason = f"partition={show(partition)} is no number of a partition, which is 0 to {LAST_PARTITION}"
        raise PublishError(outgoing.address, reason)
    if timestamp is not None and (type(timestamp) is not int or not 0 <= timestamp <= LAST_TIMESTAMP_MS):
        reason = f"timestamp_ms={show(timestamp)} is no whole number of milliseconds since 1970"
        raise PublishError(outgoing.address, reason)
    if key is None or isinstance(key, bytes):
        return key
    if not isinstance(key, str):
        raise PublishError(outgoing.address, f"key={show(key)} is neither text nor bytes: encode it, such as str(key)")
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise PublishError(outgoing.address, f"the key is no text that UTF-8 has: {error.reason}") from None


def wire_headers(outgoing: Outgoing) -> list[tuple[str, bytes]]:
    """Return the headers as bytes."""
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in outgoing.wire_headers()]
