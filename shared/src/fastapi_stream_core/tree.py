"""The tree of a handler and its dependencies, compiled: every argument is read, then all is called, leaves first."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

from fastapi import BackgroundTasks, FastAPI
from pydantic import ValidationError
from starlette.responses import Response as HTTPResponse

from . import fastapi_compat as compat
from .calls import Exit, leave, name_of, sync_of
from .context import ContextValue
from .fail_fast import LARGE, is_large
from .fastapi_compat import Dependant
from .injection import Injections
from .invalid import InvalidMessage, of_many, of_no_json
from .message import StreamMessage
from .parameters import Layout, Read
from .request import MessageRequest

__all__ = ("Owner", "Tree")

Run = Callable[[StreamMessage], Awaitable[Any]]
Bind = Callable[[StreamMessage], Callable[[], Any] | None]

_VALUE, _CALL, _YIELD, _YIELD_IN_FUNCTION = range(4)

_Step = tuple[int, Callable[..., Any], int, list[tuple[int, str]]]
"""How to call, what, the frame that has the arguments (-1: none), and the arguments that take the result."""


class Owner(Protocol):
    """What a plan asks of its subscription."""

    @property
    def app(self) -> FastAPI | None: ...

    @property
    def state(self) -> Mapping[str, Any]: ...

    @property
    def injections(self) -> Injections: ...

    @property
    def dependency_overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]: ...


class Tree:
    """One handler and what it depends on, ready to run.

    Attributes:
        run: handles one message; returns what the handler returns.
        bind: reads the arguments of one message and returns what is left to call, in a thread; it returns None for a
            message that only `run` can handle. None when anything of it is async.
        depends: whether there is anything that an override could replace.
        root: what is run, as FastAPI describes it.
    """

    def __init__(self, root: Dependant, layout: Layout, owner: Owner) -> None:
        self.root = root
        self._layout = layout
        self._owner = owner
        self._readers: list[tuple[int, str, Read]] = []
        self._specials: list[tuple[int, str, str]] = []
        self._steps: list[_Step] = []
        self._frames = 1
        self._usual = layout.usual
        self._needs_body = layout.needs_body
        self._handler: Callable[..., Any] = root.call  # type: ignore[assignment]
        self._targets: dict[Any, list[tuple[int, str]]] = {}
        self._visit(root, 0)
        self.depends = any(not isinstance(child.call, ContextValue) for child in root.dependencies)
        self.run: Run = self._choose()
        self.bind: Bind | None = self._threaded()
        # The closures have what they need of these.
        del self._readers, self._steps, self._targets

    # Compilation.

    def _visit(self, node: Dependant, frame: int) -> None:
        self._usual = self._usual and compat.is_usual(node)
        for child in node.dependencies:
            self._visit_child(child, frame)
        self._readers += [(frame, name, read) for name, read in self._layout.readers(node)]
        for name, special in (
            (node.request_param_name, "request"),
            (node.http_connection_param_name, "request"),
            (node.response_param_name, "response"),
            (node.background_tasks_param_name, "background"),
        ):
            if name:
                self._specials.append((frame, name, special))

    def _visit_child(self, child: Dependant, parent: int) -> None:
        call: Any = child.call
        target = [(parent, child.name)] if child.name else []
        if isinstance(call, ContextValue):
            if call.is_fixed and child.name:
                self._readers.append((parent, child.name, call.resolver()))
                return
            self._steps.append((_VALUE, call.resolver(), -1, target))
            return
        yields = compat.kind_of(child) == "async generator"
        key = (call, compat.scope_of(child) or ("request" if yields else None))
        if child.use_cache and key in self._targets:
            self._targets[key] += target
            # FastAPI runs what is not cached below a cached dependency once more.
            self._usual = self._usual and all(one.use_cache for one in compat.walk(child))
            return
        frame = -1
        if _has_parameters(child):
            frame, self._frames = self._frames, self._frames + 1
        self._visit(child, frame)
        kind = _CALL if not yields else _YIELD_IN_FUNCTION if compat.scope_of(child) == "function" else _YIELD
        self._steps.append((kind, call, frame, target))
        self._targets.setdefault(key, target)

    def _choose(self) -> Run:
        if not self._usual:
            return self.solve
        if self._steps or self._specials or self._frames > 1:
            return self._general()
        if len(self._readers) > 1:
            return self._flat()
        return self._single() if self._readers else self._empty()

    def _threaded(self) -> Bind | None:
        handler = sync_of(self._handler)
        steps = [(step, step[1] if step[0] == _VALUE else sync_of(step[1])) for step in self._steps]
        if handler is None or not self._usual or self._specials or any(call is None for _, call in steps):
            return None
        values = [(call, targets) for (kind, _, _, targets), call in steps if kind == _VALUE]
        calls = [(call, frame, targets) for (kind, _, frame, targets), call in steps if kind != _VALUE]
        readers, needs_body, count = tuple(self._readers), self._layout.reads_body, self._frames

        def bind(message: StreamMessage) -> Callable[[], Any] | None:
            frames: list[dict[str, Any]] = [{} for _ in range(count)]
            try:
                body = message.decoded() if needs_body else None
                for frame, name, read in readers:
                    frames[frame][name] = read(message, body)
                for resolve, targets in values:
                    value = resolve(message)  # type: ignore[misc]
                    for at, name in targets:
                        frames[at][name] = value
            except Exception:  # `run` meets it again, and says it as FastAPI does.
                return None

            def call() -> Any:
                for dependency, frame, targets in calls:
                    found = dependency(**frames[frame]) if frame >= 0 else dependency()  # type: ignore[misc]
                    for at, name in targets:
                        frames[at][name] = found
                return handler(**frames[0])

            return call

        return bind

    def _empty(self) -> Run:
        handler = self._handler
        return lambda message: handler()

    def _single(self) -> Run:
        """One argument: the shape of most handlers, so nothing is paid for any other."""
        (_, name, read), handler = self._readers[0], self._handler
        positional = [
            one.name
            for one in inspect.signature(handler).parameters.values()
            if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ] == [name]
        call: Callable[[Any], Awaitable[Any]] = handler if positional else lambda value: handler(**{name: value})
        if self._layout.validate is not None and self._layout.fail_fast is not None:
            return self._whole(call, self._layout.validate, self._layout.fail_fast)
        needs_body, again = self._layout.reads_body, self._again

        def run(message: StreamMessage) -> Awaitable[Any]:
            body = message.decoded() if needs_body else None
            try:
                value = read(message, body)
            except Exception as error:
                if (many := of_many(error)) is None:
                    return again(message)
            else:
                return call(value)
            raise InvalidMessage(many, body)

        return run

    def _whole(
        self, call: Callable[[Any], Awaitable[Any]], validate: Callable[..., Any], fail_fast: Callable[..., Any]
    ) -> Run:
        """The argument is the body."""
        again, large = self._again, LARGE

        def run(message: StreamMessage) -> Awaitable[Any]:
            body = message.decoded()
            try:
                value = (validate if len(message.body) < large else fail_fast)(body, from_attributes=True)
            except ValidationError as error:
                if body is None or type(body) in (str, bytes):
                    return again(message)
                found = error  # there is no other one
            except Exception:
                return again(message)
            else:
                return call(value)
            raise InvalidMessage(found, body)

        return run

    def _flat(self) -> Run:
        """Several arguments, and nothing to call before the handler."""
        readers = tuple((name, read) for _, name, read in self._readers)
        handler, again, needs_body = self._handler, self._again, self._layout.reads_body

        def run(message: StreamMessage) -> Awaitable[Any]:
            body = message.decoded() if needs_body else None
            arguments: dict[str, Any] = {}
            try:
                for name, read in readers:
                    arguments[name] = read(message, body)
            except Exception as error:
                if (many := of_many(error)) is None:
                    return again(message)
            else:
                return handler(**arguments)  # type: ignore[no-any-return]
            raise InvalidMessage(many, body)

        return run

    def _general(self) -> Run:
        readers, specials = tuple(self._readers), tuple(self._specials)
        steps = tuple((kind, call, frame, tuple(targets)) for kind, call, frame, targets in self._steps)
        handler, again, needs_body, count = self._handler, self._again, self._layout.reads_body, self._frames
        provide = self._provide

        async def run(message: StreamMessage) -> Any:
            body = message.decoded() if needs_body else None
            frames: list[dict[str, Any]] = [{}] if count == 1 else [{} for _ in range(count)]
            is_read, many = True, None
            try:
                for frame, name, read in readers:
                    frames[frame][name] = read(message, body)
            except Exception as error:
                is_read, many = False, of_many(error)
            if many is not None:
                raise InvalidMessage(many, body)
            if not is_read:
                return await again(message)
            background = provide(message, frames) if specials else None
            exits: list[Exit] = []
            try:
                for kind, call, frame, targets in steps:
                    if kind == _VALUE:
                        value = call(message)
                    elif kind == _CALL:
                        value = await (call() if frame < 0 else call(**frames[frame]))
                    else:
                        generator = call() if frame < 0 else call(**frames[frame])
                        try:
                            value = await generator.__anext__()
                        except StopAsyncIteration:
                            raise RuntimeError(f"{name_of(generator)} did not yield") from None
                        exits.append((kind == _YIELD_IN_FUNCTION, generator))
                    for at, name in targets:
                        frames[at][name] = value
                result = await handler(**frames[0])
            except BaseException as error:
                if exits:
                    await leave(exits, error)
                raise
            if exits:
                await leave(exits, None)
            if background is not None and background.tasks:
                message.background = background
            return result

        return run

    def _provide(self, message: StreamMessage, frames: list[dict[str, Any]]) -> BackgroundTasks | None:
        """Fill in request, response and background tasks: one of each for a message."""
        made: dict[str, Any] = {}
        for frame, name, special in self._specials:
            if special not in made:
                made[special] = self._make(special, message)
            frames[frame][name] = made[special]
        return made.get("background")

    def _make(self, special: str, message: StreamMessage) -> Any:
        if special == "request":
            return self._request(message)
        return BackgroundTasks() if special == "background" else HTTPResponse()

    def _again(self, message: StreamMessage) -> Awaitable[Any]:
        """Handle a message that is not what the parameters declare.

        If its body is JSON by another name it is read as such. Otherwise the solver finds again what is wrong, and
        says it as FastAPI does.
        """
        return self.run(message) if message.reread() else self.solve(message)

    # FastAPI's own solver.

    def _request(self, message: StreamMessage) -> MessageRequest:
        return MessageRequest(message, self._layout, self._owner.app, self._owner.state)

    async def solve(self, message: StreamMessage) -> Any:
        """Handle a message through FastAPI's solver: what is wrong, and what is unusual, is said and done by it.

        Raises:
            InvalidMessage: the message is not what the parameters declare.
        """
        body = message.decoded() if self._needs_body else None
        if not self._usual and not self._layout.takes_text and message.reread():
            body = message.decoded()
        request = self._request(message)
        is_large.set(len(message.body) >= LARGE)
        raised: BaseException | None = None
        result: Any = None
        try:
            async with AsyncExitStack() as outer, AsyncExitStack() as inner:
                compat.place_stacks(request, outer, inner)
                try:
                    solver_body = self._layout.solver_body(message, body)
                    solved = await compat.solve(request, self.root, solver_body, self._layout.embed)
                    if solved.errors:
                        errors = self._layout.located(solved.errors)
                        raise InvalidMessage(of_no_json(errors, body, message.content_type), body)
                    result = await self._handler(**solved.values)
                except BaseException as error:
                    raised = error
                    raise
            if raised is not None:
                # A dependency swallowed it. The handler did not succeed all the same.
                raise raised
        finally:
            raised = None  # what this frame holds, the error holds
        if solved.background is not None and solved.background.tasks:
            message.background = solved.background
        return result


def _has_parameters(node: Dependant) -> bool:
    return bool(
        node.dependencies
        or node.path_params
        or node.query_params
        or node.header_params
        or node.body_params
        or node.request_param_name
        or node.http_connection_param_name
        or node.response_param_name
        or node.background_tasks_param_name
    )
