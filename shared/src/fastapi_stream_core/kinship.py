"""What messages have to have in common to be in one batch: everything but their bodies that its handler reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from fastapi.security import APIKeyCookie, APIKeyHeader, OAuth2, OpenIdConnect
from fastapi.security.base import SecurityBase
from fastapi.security.http import HTTPBase
from pydantic import BaseModel

from .fastapi_compat import walk
from .field_type import annotation_of, is_usual_field

if TYPE_CHECKING:
    from .fastapi_compat import Dependant
    from .message import StreamMessage
    from .plan import Plan

__all__ = ("kinship",)


def kinship(plan: Plan, root: Dependant, replies: bool) -> Callable[[StreamMessage], object] | None:
    """Return what tells messages of one batch from those of another; None when nothing does.

    A header or a part of the address is read once for a whole batch, and one answer is sent for it: they are then those
    of each of its messages, and what is wrong with them is the failure of nobody else's message: whatever the function
    raises, that message has no kin. Where nobody can tell which headers are read, all of them are the same, and the
    address.

    Args:
        plan: of the batch handler.
        root: what of it is run: with overrides, if there are any.
        replies: whether it answers.
    """
    schemes = [scheme for node in walk(root) if (scheme := _scheme_of(node.call)) is not None]
    read = [*map(_names, plan.headers_in(root)), *map(_names_of_scheme, schemes)]
    if None in read:
        return _whole(replies)
    headers = sorted({name for names in read for name in names or ()})
    path = _captured(plan, root)
    if not (headers or path or replies):
        return None

    if not (headers or path):
        return attrgetter("reply_to")

    def kin(message: StreamMessage) -> object:
        given = message.headers if headers else None
        values = [] if given is None else [given.getlist(name) for name in headers]
        parts = [message.path.get(name) for name in path]
        return values, parts, message.reply_to if replies else None

    return kin


def _captured(plan: Plan, root: Dependant) -> list[str]:
    """Return the names of what is read from the address; where that can't be told, of all that it has."""
    fields = plan.path_in(root)
    others = [field for node in walk(root) for field in node.query_params]  # they find what the address captured, too
    if others or not all(map(is_usual_field, fields)):
        return list(plan.path_names)
    return [str(field.alias) for field in fields]


def _whole(replies: bool) -> Callable[[StreamMessage], object]:
    def kin(message: StreamMessage) -> object:
        return message.headers.multi_items(), message.address, message.reply_to if replies else None

    return kin


def _names(field: Any) -> Iterable[str] | None:
    """Return the names of the headers that a parameter reads; None when that can't be told."""
    if is_usual_field(field):
        return {str(field.alias)}
    model, info = annotation_of(field), field.field_info
    if info.metadata or info.validation_alias not in (None, info.alias) or not _is_plain_model(model):
        return None
    fields: dict[str, Any] = model.model_fields
    return {one for name, info in fields.items() for one in (info.alias or name, name.replace("_", "-"))}


def _is_plain_model(annotation: Any) -> bool:
    """Tell whether a model takes its fields by their aliases, and nothing else of what it is given."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return False
    if (
        annotation.model_config.get("extra", "ignore") != "ignore"
        or annotation.__pydantic_decorators__.model_validators
        or annotation.__init__ is not BaseModel.__init__
    ):
        return False
    return all(one.validation_alias in (None, one.alias) for one in annotation.model_fields.values())


def _scheme_of(call: object) -> SecurityBase | None:
    """Return the security scheme behind a dependency; a method of one, or a part of that, too."""
    while isinstance(call, partial):
        call = call.func
    owner = getattr(call, "__self__", call)
    return owner if isinstance(owner, SecurityBase) else None


def _names_of_scheme(scheme: SecurityBase) -> Iterable[str] | None:
    """Return the names of the headers that a security scheme reads; None when that can't be told."""
    if not type(scheme).__call__.__module__.startswith("fastapi.security."):
        return None
    if isinstance(scheme, APIKeyHeader):
        return {scheme.model.name}
    if isinstance(scheme, APIKeyCookie):
        return {"cookie"}
    return {"authorization"} if isinstance(scheme, (HTTPBase, OAuth2, OpenIdConnect)) else None
