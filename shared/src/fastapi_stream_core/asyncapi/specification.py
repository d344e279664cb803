"""`AsyncAPI`: what a user says about the document, and the way to it."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from typing_extensions import TypedDict, Unpack

from ..errors import SetupError
from ..options import Option, resolve
from .registry import routers_of
from .visibility import Visibility

if TYPE_CHECKING:
    from ..broker import Broker

__all__ = ("AsyncAPI", "Specification", "SpecificationOptions", "specification_of")

_VERSIONS = {"3": "3.0.0", "3.0": "3.0.0", "3.0.0": "3.0.0", "3.1": "3.1.0", "3.1.0": "3.1.0"}


class SpecificationOptions(TypedDict, total=False):
    """What can be said about a document."""

    title: Annotated[str | None, Option(None, "of the application; None is the app's")]
    version: Annotated[str | None, Option(None, "of the application; None is the app's")]
    description: Annotated[str | None, Option(None, "of the application; None is the app's")]
    terms_of_service: Annotated[str | None, Option(None, "a URL; None is the app's")]
    license: Annotated[Mapping[str, Any] | BaseModel | None, Option(None, "`name` and `url`; None is the app's")]
    contact: Annotated[Mapping[str, Any] | BaseModel | None, Option(None, "`name`, `url`, `email`; None is the app's")]
    tags: Annotated[Sequence[Any], Option((), "of the application: names, or Tag Objects")]
    external_docs: Annotated[
        Mapping[str, Any] | BaseModel | None, Option(None, "`url` and `description`; None is the app's")
    ]
    identifier: Annotated[str | None, Option(None, "the `id` of the application, a URI")]
    schema_version: Annotated[str, Option("3.0.0", "of AsyncAPI: 3.0.0 or 3.1.0, of which fewer tools know")]


class Specification:
    """A finished document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document: dict[str, Any] = _plain(document)

    def to_jsonable(self) -> dict[str, Any]:
        """Return the document as dicts, lists and scalars."""
        return self._document

    def to_json(self) -> str:
        """Return the document as JSON."""
        return json.dumps(self._document, indent=2, ensure_ascii=False, allow_nan=False)

    def to_yaml(self) -> str:
        """Return the document as YAML."""
        from .yaml import to_yaml  # as in `_specification`

        return to_yaml(self._document)


class AsyncAPI:
    """The AsyncAPI document of some brokers, or of all routers of the app that one of them belongs to.

    Pass one as `specification=` to a router to choose the version and to say more; what is not said comes from the
    app. With several in one app the first router that says something decides. `router.schema` is a router's own.

    Args:
        brokers: shown in the document.
        options: see `SpecificationOptions`.

    Raises:
        SetupError: there is no such option or no such `schema_version`.
    """

    def __init__(self, *brokers: Broker, **options: Unpack[SpecificationOptions]) -> None:
        resolve(SpecificationOptions, options, "AsyncAPI")
        self.given = {name: value for name, value in options.items() if value}
        self.brokers: list[Broker] = []
        self._app: weakref.ref[Any] | None = None
        version = str(self.given.get("schema_version", "3.0.0"))
        if version not in _VERSIONS:
            raise SetupError("AsyncAPI", f"schema_version={version!r} is not written", "use '3.0.0' or '3.1.0'")
        for broker in brokers:
            self.add_broker(broker)

    def add_broker(self, broker: Broker) -> None:
        """Show one more broker; the same one again does nothing."""
        if not any(broker is known for known in self.brokers):
            self.brokers.append(broker)

    def bind(self, app: Any) -> None:
        """Note the app that the document is for; it is not kept alive."""
        self._app = weakref.ref(app)

    def to_specification(self) -> Specification:
        """Return the document as of now."""
        app = self._app() if self._app is not None else None
        if app is None:
            return _specification([self], self.brokers, None, self)
        return specification_of(app, self)


def specification_of(app: Any, asking: AsyncAPI | None = None) -> Specification:
    """Return the document of every stream router of an app, and of whoever asks for it."""
    sources: list[AsyncAPI] = []
    brokers: list[Broker] = []
    for router in routers_of(app):
        sources.append(router.schema)
        brokers.append(router.broker)
    if asking is not None and not any(asking is known for known in sources):
        sources.append(asking)
    for source in sources:
        # A nested router had a broker of its own, which nothing is declared on any more.
        brokers += [one for one in source.brokers if one.subscribers or one.publishers]
    return _specification(sources, brokers, app, asking)


def _specification(
    sources: Iterable[AsyncAPI], brokers: Iterable[Broker], app: Any, asking: AsyncAPI | None
) -> Specification:
    from .document import build  # an app whose document nobody reads does without half of this package

    given: dict[str, Any] = {}
    for source in sources:
        for name, value in source.given.items():
            given.setdefault(name, value)
    once = {id(broker): broker for broker in brokers}
    version = _VERSIONS[str(given.get("schema_version", "3.0.0"))]
    visibility = Visibility(app, asking)
    return Specification(build(once.values(), _info(given, app), version, given.get("identifier"), visibility))


def _info(given: Mapping[str, Any], app: Any) -> dict[str, Any]:
    """Return the Info Object; without an app, title and version are those of an app that has none."""
    from .document import tag_objects  # as above

    info: dict[str, Any] = {
        "title": str(given.get("title") or getattr(app, "title", None) or "FastAPI"),
        "version": str(given.get("version") or getattr(app, "version", None) or "0.1.0"),
        "description": given.get("description") or getattr(app, "description", None) or getattr(app, "summary", None),
        "termsOfService": given.get("terms_of_service") or getattr(app, "terms_of_service", None),
        "contact": _part(given.get("contact") or getattr(app, "contact", None), ("name", "url", "email")),
        "license": _part(given.get("license") or getattr(app, "license_info", None), ("name", "url")),
        "tags": tag_objects(given.get("tags", ())),
        "externalDocs": _part(
            given.get("external_docs") or getattr(app, "openapi_external_docs", None), ("url", "description")
        ),
    }
    return {name: value for name, value in info.items() if value}


def _part(value: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Return the part of an object of OpenAPI, a mapping or a model, that AsyncAPI has too."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if not isinstance(value, Mapping):
        return {}
    return {key: one for key, one in value.items() if one is not None and (key in keys or str(key).startswith("x-"))}


def _plain(value: Any) -> Any:
    """Return data that is the same in JSON and YAML: text keys, no infinite numbers, no broken characters."""
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in value]
    if type(value) is str:
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else None
    return _plain(to_jsonable_python(value, fallback=str))
