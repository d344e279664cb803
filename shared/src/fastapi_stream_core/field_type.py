"""What the type of a parameter says."""

from __future__ import annotations

import types
from enum import Enum
from typing import Annotated, Any, ForwardRef, Union, get_args, get_origin

from pydantic import BaseModel, Field, Json

__all__ = (
    "SIMPLE",
    "accepts_none",
    "annotated",
    "annotation_of",
    "is_json_text",
    "is_plain_list",
    "is_scalar",
    "is_type",
    "is_usual_field",
    "union_members",
    "without_none",
)

SIMPLE = (str, int, float, bool, bytes, type(None), Enum)
"""Types whose values are never changed, and have no items."""


def is_type(value: object) -> bool:
    """Tell whether a value is a class or is written as a type; a text is none where nobody knows its names."""
    if isinstance(value, (type, types.GenericAlias, types.UnionType)) or get_origin(value) is not None:
        return True
    made_by = type(value).__module__
    return value is None or (made_by in ("typing", "typing_extensions") and not isinstance(value, ForwardRef))


def is_usual_field(field: Any) -> bool:
    """Tell whether the closures read a field as FastAPI would."""
    info = field.field_info
    kind = without_none(info.annotation)
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel) and getattr(info, "in_", None) is not None
    has_choices = info.validation_alias not in (None, info.alias)
    return not is_model and not has_choices and not is_json_text(field)


def is_scalar(field: Any) -> bool:
    """Tell whether a type has no items, however large the body is."""
    kind = without_none(annotation_of(field))
    return isinstance(kind, type) and issubclass(kind, SIMPLE)


def is_json_text(field: Any) -> bool:
    """Tell whether a type takes JSON as text."""
    return any(type(one) is Json for one in field.field_info.metadata)


def is_plain_list(field: Any) -> bool:
    """Tell whether validated items in a list are the validated list."""
    return not field.field_info.metadata and get_origin(annotation_of(field)) is list


def annotated(field: Any) -> Any:
    """Return the type of a field with its constraints, and what it says for the document."""
    info = field.field_info
    names = ("title", "description", "examples", "deprecated")
    shown = {name: value for name in names if (value := getattr(info, name, None)) is not None}
    extras = (*info.metadata, Field(**shown)) if shown else tuple(info.metadata)
    described = (info.annotation, *extras)
    return Annotated[described] if extras else info.annotation


def annotation_of(field: Any) -> Any:
    """Return the type of a field as it is written."""
    return field.field_info.annotation


def union_members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union; none for anything else."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()


def without_none(annotation: Any) -> Any:
    """Return the type without its None, and without what is annotated."""
    kept = [one for one in union_members(annotation) if one is not type(None)]
    annotation = kept[0] if len(kept) == 1 else annotation
    return annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation


def accepts_none(annotation: Any) -> bool:
    """Tell whether None is one of its values."""
    if hasattr(annotation, "__metadata__"):
        return accepts_none(annotation.__origin__)
    return annotation in (Any, object, None, type(None)) or any(map(accepts_none, union_members(annotation)))
