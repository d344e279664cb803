"""A handler's signature, compiled once: turns a message into arguments, and a result into bytes."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from fastapi import params
from pydantic import ValidationError

from . import fastapi_compat as compat
from .bare_sequence import describe
from .context import ContextValue
from .declared_names import names_of_types
from .described import override, prepare
from .errors import SetupError
from .fastapi_compat import Dependant
from .invalid import InvalidMessage, of_no_json
from .message import BatchMessage, StreamMessage
from .parameters import Layout
from .result import Result
from .signature import blame, check
from .tree import Owner, Run, Tree

__all__ = ("Plan",)


class Plan:
    """How one handler is called.

    Every argument is read and validated first; only then dependencies run, in FastAPI's order, and the handler. When
    anything is missing or invalid, FastAPI's own solver handles the message instead. So the errors are FastAPI's, and
    a dependency that a validator relies on (one that sets a context variable, say) has not run yet when the validator
    is called for the first time.

    Args:
        call: the handler.
        owner: the subscription: its app, state and overrides.
        dependencies: the whole chain: of the outer router, the inclusion, the inner router, the subscriber.
        path_names: the parameters in the address.
        batch: the handler takes a list of messages.
        response: the `response_model*` options.
        subject: names the handler in errors.

    Attributes:
        path_names: the parameters in the address.
        run: handles one message; `plan(message)` without the call between.
        result_type: type of the result; None when the declaration says nothing of it.

    Raises:
        SetupError: the signature can't be filled from a message.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        *,
        owner: Owner,
        dependencies: Sequence[params.Depends] = (),
        path_names: Sequence[str] = (),
        batch: bool = False,
        response: Mapping[str, Any] | None = None,
        subject: str = "handler",
    ) -> None:
        self.call = call
        self._owner = owner
        self.path_names = tuple(path_names)
        self._batch = batch
        self._subject = subject
        self._described = self._describe(dependencies)
        check(self._described, subject, owner.injections)
        result = Result(call, response or {}, subject)
        self.result_type = result.type
        self.encode = result.encode
        self._layout, self._tree = self._compile(self._described)
        self._root = self._tree.root
        self.run: Run = self._overridable if self._tree.depends else self._tree.run
        self._overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._overridden: Tree | None = None

    def __call__(self, message: StreamMessage) -> Awaitable[Any]:
        """Handle one message, or one batch, and return the handler's result.

        Background tasks are left in `message.background`.

        Raises:
            DecodeError: the body is not what its content type declares.
            RequestValidationError: the message is not what the parameters declare.
            BaseException: what the handler or a dependency raised, untouched.
        """
        return self.run(message)

    def bind(self, message: StreamMessage) -> Callable[[], Any] | None:
        """Read the arguments of one message, and return what is left to call, all of it sync, for a thread.

        Returns:
            None when this message has to be handled alone: something of it is async, or it is not what the parameters
            declare.
        """
        overrides = self._owner.dependency_overrides if self._tree.depends else None
        tree = self._with_overrides(overrides) if overrides else self._tree
        return None if tree.bind is None else tree.bind(message)

    @property
    def is_sync(self) -> bool:
        """Whether the handler and all that it depends on are sync: it may be bound, and run in a thread."""
        return self._tree.bind is not None

    @property
    def is_in_thread(self) -> bool:
        """Whether the handler is sync, whatever it depends on: it runs in a thread, which nobody can cancel."""
        return compat.kind_of(self._described) == "sync"

    @property
    def asks_for_request(self) -> bool:
        """Whether what is run now reads a request, and so perhaps the state of the lifespan."""
        try:
            root = self.running
        except SetupError:  # each message says so
            root = self._root
        return any(
            (node.request_param_name or node.http_connection_param_name) and not isinstance(node.call, ContextValue)
            for node in compat.walk(root)
        )

    def _overridable(self, message: StreamMessage) -> Awaitable[Any]:
        overrides = self._owner.dependency_overrides
        return (self._with_overrides(overrides) if overrides else self._tree).run(message)

    def sift(
        self, messages: Sequence[StreamMessage]
    ) -> tuple[Sequence[StreamMessage], list[Any], list[tuple[StreamMessage, BaseException]]]:
        """Decode and validate each message of a batch, or of a part of it, alone.

        Returns:
            The good ones, their items for `batch_of`, and each bad one with its error.
        """
        good: list[StreamMessage] = []
        bad: list[tuple[StreamMessage, BaseException]] = []
        items: list[Any] = []
        try:
            return messages, self._layout.items(messages), bad
        except BaseException:  # Some are bad: which ones?
            for message in messages:
                try:
                    items += self._layout.items((message,))
                except BaseException as error:
                    bad.append((message, self._item_error(message, error)))
                else:
                    good.append(message)
        return good, items, bad

    def batch_of(self, messages: Sequence[StreamMessage], items: list[Any]) -> BatchMessage:
        """Return sifted messages as a batch that this plan handles without validating them again."""
        batch = BatchMessage(messages)
        if self._layout.keeps_items:
            batch.keep_items(items)
        return batch

    def _item_error(self, message: StreamMessage, error: BaseException) -> BaseException:
        """Return the error of one item as FastAPI has it for a body."""
        if isinstance(error, CancelledError):  # nothing was waited for: a validator raised it, and nobody is cancelled
            raised = RuntimeError(f"validating the message raised {error!r}")
            raised.__cause__ = error
            return raised
        if not isinstance(error, ValidationError):
            return error

        def listed() -> list[Any]:
            errors = [{**one, "loc": ("body", *one["loc"][1:])} for one in compat.errors_at(error)]
            return of_no_json(errors, body, message.content_type)

        body = message.decoded()
        return InvalidMessage(error, body, listed)

    @property
    def header_params(self) -> list[Any]:
        """The fields that are read from headers."""
        return self.headers_in(self._root)

    @property
    def path_params(self) -> list[Any]:
        """The fields that are read from the address."""
        return self.path_in(self._root)

    def headers_in(self, root: Dependant) -> list[Any]:
        """Return the fields that are read from headers where `root` is what is run."""
        return [field for node in compat.walk(root) for field in node.header_params]

    def path_in(self, root: Dependant) -> list[Any]:
        """Return the fields that are read from the address where `root` is what is run."""
        fields = [field for node in compat.walk(root) for field in node.path_params]
        return [field for field in fields if field.alias in self.path_names]

    @property
    def running(self) -> Dependant:
        """What is run now: the declaration, with the overrides of the app.

        Raises:
            SetupError: an override can't be filled from a message.
        """
        overrides = self._owner.dependency_overrides if self._tree.depends else None
        return (self._with_overrides(overrides) if overrides else self._tree).root

    @cached_property
    def payload(self) -> Any:
        """Type of the payload as a whole, for a pydantic `TypeAdapter`; None when nothing of the body is read.

        Several parameters by key are a model. The type of a batch handler is the list.
        """
        name = getattr(self.call, "__name__", type(self.call).__name__)
        return self._layout.payload_type("".join(part.capitalize() for part in name.split("_")) + "Payload")

    @cached_property
    def payload_field(self) -> Any:
        """The payload as a field of FastAPI's; None when nothing of the body is read."""
        return None if self.payload is None else compat.field_of("payload", self.payload)

    @cached_property
    def declared_names(self) -> frozenset[str]:
        """The names that the place of an invalid value may consist of: those of parameters, models, fields and types.

        Any other name there is a key of the body, which the sender chose.
        """
        kinds = ("path_params", "query_params", "header_params", "cookie_params", "body_params")
        nodes = compat.walk(self._root)
        aliases = {str(field.alias) for node in nodes for kind in kinds for field in getattr(node, kind)}
        return names_of_types(one for one in (self.payload, self.result_type) if one is not None) | aliases

    # Compilation.

    def _describe(self, dependencies: Sequence[params.Depends]) -> Dependant:
        path = compat.path_of(self.path_names)
        try:
            described = describe(self.call, lambda call: compat.dependant_of(call, path))
        except Exception as error:
            raise blame(self.call, path, self._subject, error) from error
        chain = []
        for depends in dependencies:
            if depends.dependency is None or not callable(depends.dependency):
                raise SetupError(self._subject, f"{depends!r} in dependencies has no callable", "use Depends(function)")
            try:
                chain.append(describe(depends.dependency, partial(compat.parameterless, depends, path)))
            except Exception as error:
                raise blame(depends.dependency, path, f"{self._subject}, dependencies", error) from error
        return compat.replace(described, dependencies=[*chain, *described.dependencies]) if chain else described

    def _compile(self, described: Dependant) -> tuple[Layout, Tree]:
        root = prepare(described)
        layout = Layout(root, self.path_names, self._batch, self._subject)
        return layout, Tree(root, layout, self._owner)

    def _with_overrides(self, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> Tree:
        """Return the tree for these overrides; the last one is kept."""
        if self._overridden is None or not compat.same_overrides(self._overrides, overrides):
            known = dict(overrides)
            replaced = override(self._described, known)
            check(replaced, self._subject, self._owner.injections)
            self._overridden, self._overrides = self._compile(replaced)[1], known
        return self._overridden
