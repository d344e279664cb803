"""The router: an `APIRouter` with subscribers, publishers and the lifespan of a broker."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast

from fastapi import APIRouter, FastAPI, params
from typing_extensions import TypedDict

from .app_compat import IncludeAware, application_of
from .app_life import app_life_of
from .asyncapi.registry import register, runs
from .asyncapi.routes import add_docs_routes, mount
from .asyncapi.specification import AsyncAPI
from .broker import Broker
from .declaration import Declaring
from .errors import SetupError
from .injection import with_injection
from .keywords import unknown_option
from .lifespan import Hook, check_hook, run_lifespan, use
from .options import Option, declared, resolve

if TYPE_CHECKING:
    from enum import Enum

    from fastapi.routing import APIRoute
    from starlette.responses import Response as HTTPResponse
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Lifespan

    from .context import ContextRepo
    from .publisher import Publisher
    from .subscription import Subscription

__all__ = ("RouterOptions", "StreamRouter")

B = TypeVar("B", bound=Broker)
H = TypeVar("H", bound=Hook)
LifespanOf = Callable[[Any], AbstractAsyncContextManager[Any]]


class LifespanOptions(TypedDict, total=False):
    """Options of every router that are neither its broker's nor `APIRouter`'s."""

    setup_state: Annotated[bool, Option(True, "give broker and results of hooks to the state of the lifespan")]
    schema_url: Annotated[str | None, Option("/asyncapi", "where the AsyncAPI page is; None for nowhere")]
    specification: Annotated[
        AsyncAPI | None, Option(None, "what the document says of the app; None is what the app says")
    ]


class RouterOptions(LifespanOptions, total=False):
    """Options of every router next to those of its broker; all but the inherited ones are `APIRouter`'s."""

    prefix: str
    tags: list[str | Enum] | None
    dependencies: Sequence[params.Depends] | None
    default_response_class: type[HTTPResponse]
    responses: dict[int | str, dict[str, Any]] | None
    callbacks: list[BaseRoute] | None
    routes: list[BaseRoute] | None
    redirect_slashes: bool
    default: ASGIApp | None
    dependency_overrides_provider: Any | None
    route_class: type[APIRoute]
    on_startup: Sequence[Callable[[], Any]] | None
    on_shutdown: Sequence[Callable[[], Any]] | None
    lifespan: Lifespan[Any] | None
    deprecated: bool | None
    include_in_schema: bool
    generate_unique_id_function: Callable[[APIRoute], str]


class StreamRouter(IncludeAware, Declaring, Generic[B]):
    """An `APIRouter` that also has subscribers and publishers, and runs a broker with the app.

    A package derives its own router from this class and from its declarations.

    Args:
        broker_class: the package's broker.
        address: where the broker is; or a broker that other routers use too.
        options: what the user gave, of the broker's options and of `RouterOptions`. `setup_state=False` yields no
            lifespan state; `schema_url` is where the AsyncAPI page is (default `/asyncapi`, None for nowhere).
    """

    def __init__(self, broker_class: Callable[..., B], address: Any, options: Mapping[str, Any]) -> None:
        given = dict(options)
        broker_options = declared(getattr(broker_class, "declaration"))  # noqa: B009  (a callable has no such attribute for a checker)
        own = {name: given.pop(name) for name in list(given) if name in broker_options}
        lifespan_options = {name: given.pop(name) for name in list(given) if name in declared(LifespanOptions)}
        known = {**broker_options, **declared(LifespanOptions), **inspect.signature(APIRouter).parameters}
        for name in given:
            if name not in known:
                raise unknown_option(name, known, type(self).__name__)
        if isinstance(address, Broker):
            if own:
                raise SetupError("router", f"{', '.join(own)} given together with a broker", "give them to the broker")
            self._own_broker = cast("B", address)
        else:
            self._own_broker = broker_class(address, **own)
        self._given = {"address": address, **own}
        resolved = resolve(LifespanOptions, lifespan_options, type(self).__name__)
        self.setup_state: bool = resolved["setup_state"]
        self.schema_url: str | None = resolved["schema_url"]
        self.is_schema_url_given = "schema_url" in lifespan_options
        self.is_included_hidden = False
        self._is_included = False
        self.schema: AsyncAPI = resolved["specification"] or AsyncAPI()
        self._parents: list[tuple[StreamRouter[Any], tuple[params.Depends, ...], list[Any]]] = []
        self._children: list[StreamRouter[Any]] = []
        self._plain: list[APIRouter] = []
        self._subscribers: list[Subscription] = []
        self._publishers: list[Publisher] = []
        self.startup_hooks: list[Hook] = []
        self.shutdown_hooks: list[Hook] = []
        self._entered = 0
        self._state: dict[str, Any] = {}
        self._life: AbstractAsyncContextManager[dict[str, Any]] | None = None
        self._custom: LifespanOf | None = None
        self._ready = False
        try:
            super().__init__(**given)
        except (TypeError, ValueError, AttributeError, AssertionError) as error:
            # APIRouter's own checks.
            raise SetupError(
                type(self).__name__, str(error), f"what {', '.join(given)} may be is in FastAPI's documentation"
            ) from error
        self._ready = True
        if self.dependency_overrides_provider is not None:
            self._own_broker.overrides_provider = self.dependency_overrides_provider
        self._own_broker._homes.append(self)
        self.schema.add_broker(self._own_broker)
        if self.schema_url and self.include_in_schema:
            add_docs_routes(self, self.schema_url)

    # The tree of routers.

    @property
    def broker(self) -> B:
        """The broker that everything declared here runs on: that of the outermost router."""
        return cast("B", self.root._own_broker)

    @property
    def root(self) -> StreamRouter[Any]:
        """The outermost stream router; this one unless it is nested."""
        return self._parents[0][0].root if self._parents else self

    @property
    def parent(self) -> StreamRouter[Any] | None:
        """The stream router that this one is nested in."""
        return self._parents[0][0] if self._parents else None

    @property
    def context(self) -> ContextRepo:
        """The shared context of the broker."""
        return self.broker.context

    def family(self) -> Iterator[StreamRouter[Any]]:
        """Yield this router and every stream router below it."""
        yield self
        for child in self._children:
            yield from child.family()

    def broker_subscribers(self) -> list[Subscription]:
        return [one for router in self.family() for one in router._subscribers]

    def broker_publishers(self) -> list[Publisher]:
        return [one for router in self.family() for one in router._publishers]

    def dependency_chain(self) -> tuple[params.Depends, ...]:
        own = tuple(self.dependencies)
        for parent, included, _ in self._parents:
            return (*parent.dependency_chain(), *included, *own)
        return own

    def tag_chain(self) -> list[Any]:
        own = list(self.tags)
        for parent, _, included in self._parents:
            return [*parent.tag_chain(), *included, *own]
        return own

    def include_router(self, router: APIRouter, **options: Any) -> None:
        """Include another router, as `APIRouter.include_router` does.

        A stream router of the same kind becomes part of this one: its subscribers and publishers, also those that
        are declared later, run on this router's broker and inherit dependencies and tags.

        Raises:
            SetupError: the router is for another broker, is nested in a router already, or was given an address or
                an option of the broker that it will not use.
        """
        if isinstance(router, StreamRouter):
            self._adopt(router, options)
        else:
            self._plain.append(router)
        super().include_router(router, **options)

    def _adopt(self, router: StreamRouter[Any], options: Mapping[str, Any]) -> None:
        if type(router._own_broker) is not type(self._own_broker):
            raise SetupError(
                f"{type(self).__name__}.include_router",
                f"a {type(router).__name__} of another broker can't share the connection",
                "include both routers in the app",
            )
        if router._parents:
            raise SetupError(
                f"{type(self).__name__}.include_router", "the router is included in a router already", "include it once"
            )
        if any(one is self for one in router.family()):  # routers with equal routes are equal
            raise SetupError(
                f"{type(self).__name__}.include_router", "the routers include each other", "include one in the other"
            )
        for one in router.family():
            one._refuse_own_connection(self.root)
        if subscribers := router.broker_subscribers():
            self.broker.refuse_late(subscribers[0].label)
        homes = router._own_broker._homes
        homes[:] = [home for home in homes if home is not router]
        router._parents.append((self, tuple(options.get("dependencies") or ()), list(options.get("tags") or ())))
        router.is_included_hidden = not options.get("include_in_schema", True)
        self._children.append(router)

    def _refuse_own_connection(self, root: StreamRouter[Any]) -> None:
        """Refuse what was given for a connection that there is not: a nested router uses that of the outermost one.

        Raises:
            SetupError: an address or an option of the broker is another one than that router's.
        """
        broker, defaults = root._own_broker, list(inspect.signature(type(self)).parameters.values())
        for name, value in self._given.items():
            if name == "address":
                is_same = value is broker or value in (defaults[0].default, root._given["address"])
            else:
                is_same = value == broker.options[name]
            if not is_same:
                raise SetupError(
                    f"{type(root).__name__}.include_router",
                    f"the nested {type(self).__name__} has {'an address' if name == 'address' else name} of its own",
                    "it shares the connection of the outermost router; give it there, or to the subscribers",
                )

    @property
    def is_included(self) -> bool:
        """Whether this router, or one below it, was ever included in an app or in a router that is no stream router."""
        return any(router._is_included for router in self.family())

    def _refuse_deaf(self, app: Any) -> None:
        """Refuse to be run alone: a nested router consumes when the outermost one is run.

        Raises:
            SetupError: the app does not run that one, and its broker is not started.
        """
        root = self.root
        if not self.broker.running and not (isinstance(app, FastAPI) and runs(app, root)):
            raise SetupError(
                type(self).__name__,
                f"the app does not run the {type(root).__name__} that it is nested in, so it would never consume",
                f"include the outermost {type(root).__name__} in the app, or run the lifespan_context of that one",
            )

    def included_in(self, parent: APIRouter) -> None:
        """Note the app as soon as the router is included in it, before any lifespan."""
        self._is_included = self._is_included or not isinstance(parent, StreamRouter)
        app = application_of(parent)
        if app is not None:
            self.bind(app, is_included=True)

    def bind(self, app: FastAPI, *, is_included: bool = False) -> None:
        """Make `app` the one whose overrides apply, unless the broker runs for another one."""
        if not self._parents:
            app_life_of(app).add(self._own_broker)
            register(app, self, is_included=is_included)

    # HTTP.

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, with_injection(endpoint, lambda: self.broker), **options)

    # The lifespan.

    def after_startup(self, hook: H) -> H:
        """Call `hook` when every subscription consumes; sync or async, with the app as argument or without.

        A mapping that it returns joins the state of the lifespan.

        Raises:
            SetupError: it has a `yield`.
        """
        check_hook(hook, "after_startup")
        self.startup_hooks.append(hook)
        return hook

    def on_broker_shutdown(self, hook: H) -> H:
        """Call `hook` before the broker stops; sync or async, with the app as argument or without.

        Of several routers in one app, only the hooks of the one that ends first run while messages still come; the
        others can publish.

        Raises:
            SetupError: it has a `yield`.
        """
        check_hook(hook, "on_broker_shutdown")
        self.shutdown_hooks.append(hook)
        return hook

    def lifespans(self) -> list[LifespanOf]:
        """Return the lifespans around the broker: the router's own one, and those of plain routers in it."""
        custom = [] if self._custom is None else [self._custom]
        return custom + [router.lifespan_context for router in self._plain]

    @property
    def lifespan_context(self) -> LifespanOf:
        """Run the broker: pass it as `FastAPI(lifespan=...)`, or enter it in a lifespan of your own.

        The broker is started once, however often it is entered; entering after leaving starts it again. That of a
        nested router does nothing: the outermost one's is to run.

        Raises:
            SetupError: the router is nested, and the app runs the lifespan of no outermost one.
        """
        return self._lifespan

    @lifespan_context.setter
    def lifespan_context(self, lifespan: LifespanOf) -> None:
        # APIRouter sets the user's lifespan here; what include_router merges later is kept by this class itself.
        if not self._ready:
            self._custom = lifespan

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[dict[str, Any] | None]:
        if self._parents:
            self._refuse_deaf(app)
            yield None
            return
        if isinstance(app, FastAPI):
            self.bind(app)
            if self.schema_url and self.include_in_schema:
                mount(app, self)
        self._entered += 1
        try:
            if self._entered == 1:
                self._life = run_lifespan(self, app)
                async with self._life as state:
                    self._state = state
                    yield dict(state) if self.setup_state else None
            else:
                state = {"broker": self._own_broker, **self._state}
                async with use(self, app, state):
                    yield state if self.setup_state else None
        finally:
            self._entered -= 1
