"""What a document shows, and whether it is served: neither what is hidden, nor what is nowhere to be seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .registry import known_routers, routers_in

if TYPE_CHECKING:
    from ..publisher import Publisher
    from ..router import StreamRouter
    from ..subscription import Subscription
    from .specification import AsyncAPI

__all__ = ("Visibility",)


class Visibility:
    """Follows the routers from a declaration up to the app.

    Hidden is what a router with `include_in_schema=False` declares, or one that was included so. A router that has no
    `schema_url`, its own or that of the routers above it, appears only in a document that is asked of itself; so does
    one that does not belong to the app, though it shares the broker of one that does. A stream router is above another
    one also when plain routers lie between them.

    Args:
        app: the app that the document is of, if there is one.
        asking: whose document it is; None for the one that the app serves.
    """

    def __init__(self, app: Any, asking: AsyncAPI | None = None) -> None:
        self._asking = asking
        shown: dict[int, bool] = {}
        for router, is_shown in routers_in(app.routes if app is not None else ()):
            shown[id(router)] = is_shown or shown.get(id(router), False)
        self._hidden = {key for key, is_shown in shown.items() if not is_shown}
        known = known_routers(app) if app is not None else []
        self._above = _enclosing(known)
        self._here = {id(one) for router in known for one in router.family()} if app is not None else None

    def shows(self, source: Subscription | Publisher) -> bool:
        """Tell whether a subscriber or publisher is in the document."""
        if not source.options["include_in_schema"]:
            return False
        homes = list(self.upwards(source.home))
        if any(self._hides(home) for home in homes):
            return False
        if self._asks_for(source, homes):
            return True
        is_here = self._here is None or not homes or id(homes[0]) in self._here
        return is_here and _schema_url(homes) is not None

    def serves(self, router: StreamRouter[Any]) -> bool:
        """Tell whether what a router declares is in the document that the app serves."""
        homes = list(self.upwards(router))
        return not any(self._hides(home) for home in homes) and _schema_url(homes) is not None

    def upwards(self, home: Any) -> Iterator[StreamRouter[Any]]:
        """Yield the routers from the one of a declaration to the outermost; none for what is declared on a broker."""
        at = home if hasattr(home, "include_in_schema") else None
        while at is not None:
            yield at
            at = at.parent or self._above.get(id(at))

    def _hides(self, home: Any) -> bool:
        return not home.include_in_schema or home.is_included_hidden or id(home) in self._hidden

    def _asks_for(self, source: Subscription | Publisher, homes: list[StreamRouter[Any]]) -> bool:
        asking = self._asking
        if asking is None:
            return False
        return source.broker in asking.brokers or any(home.schema is asking for home in homes)


def _enclosing(routers: Iterable[StreamRouter[Any]]) -> dict[int, StreamRouter[Any]]:
    """Return the nearest router around each outermost one that lies in another, with plain routers between them."""
    inside: dict[int, set[int]] = {}
    found: dict[int, StreamRouter[Any]] = {}
    for router in routers:
        for outer in router.family():
            own = {id(one.root): one.root for one, _ in routers_in(outer.routes) if one.root is not outer.root}
            inside[id(outer)] = set(own)
            for key in own:
                known = found.get(key)
                if known is None or len(inside[id(outer)]) < len(inside[id(known)]):
                    found[key] = outer
    return found


def _schema_url(homes: list[StreamRouter[Any]]) -> str | None:
    """Return what the nearest router says that says something; what is declared on a broker hides nowhere."""
    said = [home.schema_url for home in homes if home.is_schema_url_given]
    return said[0] if said else "/asyncapi"
