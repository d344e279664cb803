"""What messages have to have in common to be in one batch: everything but their bodies that its handler reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from .fastapi_compat import is_sequence
from .field_type import annotation_of

if TYPE_CHECKING:
    from .fastapi_compat import Dependant
    from .message import StreamMessage
    from .plan import Plan

__all__ = ("kinship",)


def kinship(plan: Plan, root: Dependant, replies: bool) -> Callable[[StreamMessage], object] | None:
    """Return what tells messages of one batch from those of another; None when nothing does.

    A header or a part of the address is read once for a whole batch, and one answer is sent for it: they are then those
    of each of its messages, and what is wrong with them is the failure of nobody else's message: whatever the function
    raises, that message has no kin.

    Args:
        plan: of the batch handler.
        root: what of it is run: with overrides, if there are any.
        replies: whether it answers.
    """
    headers = [name for field in plan.headers_in(root) for name in _names(field)]
    path = [str(field.alias) for field in plan.path_in(root)]
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


def _names(field: Any) -> Iterator[str]:
    """Yield the names of the headers that a parameter reads; a model has one for each of its fields."""
    annotation = annotation_of(field)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not is_sequence(annotation):
        for name, info in annotation.model_fields.items():
            yield from {info.alias or name, name.replace("_", "-")}
    else:
        yield str(field.alias)
