"""One subscriber: its options, its handler, its status."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, cast

from .errors import SetupError
from .handler import Handler, Registration, registration
from .injection import Injections
from .message import BatchMessage, StreamMessage
from .option_type import show
from .options import SubscriberOptions, resolve
from .plan import Plan
from .policy import AckPolicy, Retry
from .replies import Replies

if TYPE_CHECKING:
    import logging

    from fastapi import FastAPI, params

    from .asyncapi.description import ChannelDescription
    from .broker import Broker
    from .context import ContextRepo
    from .declaration import Declaring
    from .supervisor import Supervisor

__all__ = ("Status", "Subscription")

P = ParamSpec("P")
R = TypeVar("R")


class Status(Enum):
    """What a subscription is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    PAUSED = "paused"
    FAILED = "failed"


class Subscription(ABC):
    """One subscriber: a decorator for its handler, and an object with options and status.

    A broker's package derives its own class, names its declaration of options and describes its addresses.

    Attributes:
        declaration: the `TypedDict` of the subscriber's options.
        message_type: the class of every message that the subscriber gets.
        default_workers: messages handled at the same time unless `max_workers` says more.
        options: every option, defaults filled in.
        addresses: what is subscribed to, as the user wrote it.
        runs: what runs it now: the started broker, and test brokers on other event loops; each has its own status.
        last_status: that of the run that ended last.
        retry: how failed messages are delivered again.
        bound: the broker while it runs the subscription, so that no message climbs the tree of routers for it.
    """

    declaration: ClassVar[type] = SubscriberOptions
    message_type: type[StreamMessage] = StreamMessage
    default_workers: ClassVar[int] = 1

    def __init__(self, home: Declaring, addresses: Sequence[str], options: Mapping[str, Any]) -> None:
        self.home = home
        for one in addresses:
            if not isinstance(one, str):
                raise SetupError("subscriber", f"{show(one)} is no address", "give it as text")
        self.addresses = tuple(map(str.__str__, addresses))  # that of an enumeration is formatted as something else
        self.options = resolve(self.declaration, options, self.label)
        self._check_replies(home)
        self.runs: list[Supervisor] = []
        self.last_status = Status.STOPPED
        self.retry = Retry()
        self.registration: Registration[..., Any] | None = None
        self.bound: Broker | None = None
        self._plan: tuple[tuple[params.Depends, ...], Plan] | None = None

    def _check_replies(self, home: Declaring) -> None:
        replies = self.options["replies"]
        if self.options["no_reply"] and replies not in (None, "off"):
            raise SetupError(
                self.label, f"replies={show(replies)} has no effect with no_reply=True", "leave one of them out"
            )
        if replies is not None:
            Replies(replies, home.broker, self.label)

    def __call__(self, function: Callable[P, R] | Handler[P, R]) -> Handler[P, R]:
        """Make `function` the handler. It stays the same function.

        Raises:
            SetupError: its signature can't be filled from a message, the subscriber has a handler already, or the
                broker is started.
        """
        self.home.broker.refuse_late(self.label)
        if self.registration is not None:
            name = getattr(self.registration.function, "__name__", "a handler")
            raise SetupError(
                self.label, f"{name} is its handler already", "declare another subscriber for the second one"
            )
        known = registration(function)
        self.registration = known
        try:
            self.plan  # noqa: B018  (a wrong declaration fails here, at decoration)
        except BaseException:
            self.registration = None
            raise
        known.is_handler = True
        return cast("Handler[P, R]", known.function)

    @property
    def handlers(self) -> list[Callable[..., Any]]:
        """The handlers; none before the decorator was used."""
        return [] if self.registration is None else [self.registration.function]

    @property
    def plan(self) -> Plan:
        """The compiled handler, with the dependencies of every router above it as they are now."""
        if self.registration is None:
            raise SetupError(self.label, "it has no handler", "use it as a decorator: @router.subscriber(...)")
        dependencies = (*self.home.dependency_chain(), *self.options["dependencies"])
        if self._plan is None or self._plan[0] != dependencies:
            function = self.registration.function
            response = {name: value for name, value in self.options.items() if name.startswith("response_model")}
            self._plan = (
                dependencies,
                Plan(
                    function,
                    owner=self,
                    dependencies=dependencies,
                    path_names=self.path_names,
                    batch=self.batch,
                    response=response,
                    subject=f"handler {getattr(function, '__name__', function)!r} of {self.label}",
                ),
            )
        return self._plan[1]

    @property
    def label(self) -> str:
        """The subscription in logs and errors."""
        return f"subscriber({', '.join(map(repr, self.addresses))})"

    @property
    def handler_name(self) -> str:
        """The handler's name."""
        return "" if self.registration is None else getattr(self.registration.function, "__name__", "handler")

    @property
    def broker(self) -> Broker:
        """The broker that runs the subscription: that of the outermost router."""
        return self.bound or self.home.broker

    @property
    def status(self) -> Status:
        """What the subscription is doing: the first of its runs that is no more running decides."""
        found = [run.status for run in self.runs]
        return next((one for one in found if one is not Status.RUNNING), found[0]) if found else self.last_status

    @property
    def running(self) -> bool:
        """Whether messages are consumed right now, by any of its runs."""
        return any(run.status is Status.RUNNING for run in self.runs)

    @property
    def max_workers(self) -> int:
        """How many messages are handled at the same time."""
        return self.options["max_workers"] or self.default_workers

    @property
    def ack_policy(self) -> AckPolicy:
        """When a message is acknowledged."""
        return cast("AckPolicy", self.options["ack_policy"])

    @property
    def batch(self) -> bool:
        """Whether the handler takes a list of messages."""
        return bool(self.options.get("batch", False))

    @property
    def batch_size(self) -> int:
        """Most messages of one batch."""
        return self.options.get("max_records") or 100

    @property
    def batch_seconds(self) -> float:
        """How long a batch that is not full waits for more messages, in seconds."""
        return 0.0

    @property
    def join_seconds(self) -> float:
        """Seconds that the start may take beyond `startup_timeout`, because a group waits for a member that died."""
        return 0.0

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        """The parameters in the address."""
        return ()

    def capture(self, address: str) -> dict[str, str]:
        """Return the parameters that an address of a message gives."""
        return {}

    @abstractmethod
    def describe(self) -> list[ChannelDescription]:
        """Describe the channels for the document."""

    # What the plan asks of its owner.

    @property
    def injections(self) -> Injections:
        """The classes of what a handler gets by its type."""
        messages = (self.message_type, BatchMessage) if self.batch else (self.message_type,)
        return Injections(type(self.home.broker), messages)

    @property
    def app(self) -> FastAPI | None:
        """The app, as soon as the router is included in one."""
        return self.broker.app

    @property
    def dependency_overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]:
        """The overrides of the app, looked up for each message."""
        return (self.bound or self.home.broker).dependency_overrides

    @property
    def state(self) -> Mapping[str, Any]:
        """The state of the lifespan."""
        return self.broker.state

    @property
    def context(self) -> ContextRepo:
        """The shared context."""
        return self.broker.context

    @property
    def logger(self) -> logging.Logger | logging.LoggerAdapter[Any]:
        """The broker's logger."""
        return self.broker.logger

    @property
    def tags(self) -> list[Any]:
        """Tags for the document: those of the routers above."""
        return self.home.tag_chain()
