"""A subscriber on NATS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from fastapi_stream_core.address import Template, Wildcard
from fastapi_stream_core.asyncapi.description import ChannelDescription
from fastapi_stream_core.declaration import Declaring
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.option_type import show
from fastapi_stream_core.subscription import Subscription
from nats.js.api import AckPolicy as ConsumerAckPolicy
from nats.js.api import ConsumerConfig

from .message import NatsMessage
from .options import NatsSubscriberOptions
from .publisher import NATS_BINDING
from .schema import JStream, PullSub, forbidden
from .subject import fault, is_word

__all__ = ("NatsSubscription",)

WILDCARDS = {"*": Wildcard.ONE, ">": Wildcard.SOME}


class NatsSubscription(Subscription):
    """One subscriber: of a subject, or of a stream.

    Attributes:
        subject: what is subscribed to, `*` for each named parameter; empty when `config.filter_subjects` says it.
        queue: the queue group; empty for none.
        stream: the stream; None is NATS core.
        pull: how messages are asked for; None when they are pushed.
        durable: name of the consumer that stays; None for one of this subscriber's own.
    """

    declaration = NatsSubscriberOptions
    message_type = NatsMessage

    def __init__(self, home: Declaring, subject: str, queue: str, options: Mapping[str, Any]) -> None:
        for name, value in (("subject", subject), ("queue", queue)):
            if not isinstance(value, str):
                raise SetupError("subscriber()", f"{name}={show(value)} is no text", "give a name, or leave it out")
        if "batch" in options:
            fix = "read a stream with pull_sub=PullSub(batch=True)"
            raise SetupError(f"subscriber({subject!r})", "batch= is an option of PullSub", fix)
        config: ConsumerConfig | None = options.get("config")
        filters = list(config.filter_subjects or ()) if isinstance(config, ConsumerConfig) else []
        self._template = Template(subject, WILDCARDS)
        super().__init__(home, [subject] if subject else filters, options)
        self.subject = self._template.wildcard("*")
        self.filters = [self.subject] if subject else filters
        self.queue = queue
        self.stream = JStream.of(self.options["stream"])
        pull = self.options["pull_sub"]
        self.pull: PullSub | None = pull if isinstance(pull, PullSub) else PullSub() if pull else None
        self.config = config if config is not None else ConsumerConfig()
        self.durable: str | None = self.options["durable"] or self.config.durable_name or queue or None
        self._check(options)
        if self.stream is None:
            self.durable = None
        elif self.config.max_deliver is not None and self.config.max_deliver > 0:
            self.retry = replace(self.retry, attempts=min(self.retry.attempts, self.config.max_deliver))

    def _check(self, options: Mapping[str, Any]) -> None:
        if not self.filters:
            raise SetupError("subscriber()", "it has no subject", "give a subject, or config with filter_subjects")
        for subject in self.filters:
            if wrong := fault(subject, wildcards=True):
                raise SetupError(
                    self.label,
                    f"{subject!r} is no subject: {wrong}",
                    "write it as 'users.{uid}', 'users.*' or 'users.>'",
                )
        if self.queue and not is_word(self.queue):
            raise SetupError(
                self.label, f"queue={self.queue!r} has spaces or control characters", "name the group in one word"
            )
        if self.stream is None:
            given = [name for name in ("durable", "pull_sub", "config", "deliver_policy") if options.get(name)]
            if given:
                raise SetupError(
                    self.label, f"{given[0]}= is an option of JetStream and there is no stream", "give stream= too"
                )
        else:
            given = [name for name in ("pending_msgs_limit", "pending_bytes_limit") if name in options]
            if given:
                raise SetupError(
                    self.label,
                    f"{given[0]}= is an option of NATS core: what a stream keeps is not dropped here",
                    "use prefetch_bytes=, or max_ack_pending of config=",
                )
        if "ack_policy" in options and not self.settles:
            raise SetupError(
                self.label,
                "ack_policy= has no effect: NATS core knows no acknowledgements"
                if self.stream is None
                else "ack_policy= has no effect: config.ack_policy says that nothing is acknowledged",
                "leave it out, or read a stream with stream=",
            )
        if self.stream is None:
            return
        if options.get("durable") and self.config.durable_name not in (None, options["durable"]):
            raise SetupError(self.label, "durable= and config.durable_name differ", "give the name once")
        self._check_config()
        if self.durable is not None and forbidden(self.durable):
            raise SetupError(
                self.label,
                f"{self.durable!r} is no name of a consumer",
                "leave out dots, wildcards, slashes and spaces; durable= names it when queue= can't",
            )
        if self.config.ack_policy == ConsumerAckPolicy.ALL:
            raise SetupError(
                self.label,
                "with ack_policy=ALL an acknowledgement would cover messages that are not handled yet",
                "leave ack_policy out: each message is acknowledged by itself",
            )

    def _check_config(self) -> None:
        """Refuse what `config` says otherwise than the subscriber, and what has no effect beside it."""
        config = self.config
        also = {*(config.filter_subjects or ()), *([config.filter_subject] if config.filter_subject else ())}
        if also and also != set(self.filters):
            name = "filter_subject" if config.filter_subject else "filter_subjects"
            raise SetupError(
                self.label,
                f"config.{name} names {', '.join(map(repr, sorted(also)))}, and the subscriber"
                f" {', '.join(map(repr, self.filters))}",
                "name the subjects once: config.filter_subjects has several",
            )
        if self.pull is not None and (config.deliver_subject or config.deliver_group):
            name = "deliver_subject" if config.deliver_subject else "deliver_group"
            raise SetupError(
                self.label,
                f"config.{name} makes a consumer that pushes, and pull_sub= asks for messages",
                "leave one of them out",
            )
        policy = self.options["deliver_policy"]
        if policy is not None and config.deliver_policy not in (policy, ConsumerConfig().deliver_policy):
            raise SetupError(
                self.label,
                f"deliver_policy={show(policy)} and config.deliver_policy={show(config.deliver_policy)} differ",
                "give it once",
            )
        if config.deliver_group and config.deliver_group != self.queue:
            raise SetupError(
                self.label,
                f"config.deliver_group={config.deliver_group!r} and queue={self.queue!r} differ",
                f"give queue={config.deliver_group!r}",
            )

    @property
    def batch(self) -> bool:
        return self.pull is not None and self.pull.batch

    @property
    def batch_size(self) -> int:
        return (self.pull.batch_size if self.pull is not None else None) or 100

    @property
    def batch_seconds(self) -> float:
        return self.pull.timeout if self.pull is not None else 0.0

    @property
    def settles(self) -> bool:
        """Whether the server knows acknowledgements for this subscriber."""
        return self.stream is not None and self.config.ack_policy != ConsumerAckPolicy.NONE

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        return self._template.names

    def capture(self, address: str) -> dict[str, str]:
        return self._template.match(address)

    def describe(self) -> list[ChannelDescription]:
        extensions: dict[str, Any] = {}
        if self.stream is not None:
            extensions["x-stream"] = self.stream.name
            extensions["x-delivery"] = "push" if self.pull is None else "pull"
            if self.durable:
                extensions["x-durable"] = self.durable
        binding = {**NATS_BINDING, **({"queue": self.queue} if self.queue else {}), **extensions}
        return [
            ChannelDescription(
                address=None if self._is_pattern(address) else address,
                name=address,
                parameters=self.path_names,
                operation_bindings={"nats": binding},
                extensions={"x-pattern": address} if self._is_pattern(address) else {},
            )
            for address in self.addresses
        ]

    def _is_pattern(self, address: str) -> bool:
        """Tell whether an address has wildcards and no names that the document could show as parameters."""
        return not self.path_names and not {"*", ">"}.isdisjoint(address.split("."))
