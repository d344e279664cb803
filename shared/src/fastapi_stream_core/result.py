"""A handler's result on its way to bytes: the response model, then the encoding."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Union, get_args, get_origin

from fastapi.exceptions import ResponseValidationError
from pydantic import ValidationError
from starlette.responses import Response as HTTPResponse

from .codec import JSON, encode
from .errors import EncodeError, SetupError
from .fastapi_compat import adapter_of, errors_at, field_of, is_complete, return_annotation
from .field_type import is_type
from .response import Response

__all__ = ("Result",)


class Result:
    """Encodes the results of one handler.

    Attributes:
        type: the response model; None when there is none.

    Raises:
        SetupError: pydantic can't use the type, it is a response of HTTP, or there is none though an option says what
            of it is sent.
    """

    def __init__(self, call: Callable[..., Any], options: Mapping[str, Any], subject: str) -> None:
        model = options.get("response_model", ...)
        annotation = return_annotation(call) if model is ... else model
        if (http := _http_response_in(annotation)) is not None:
            raise SetupError(
                subject,
                f"its result is a {http.__name__}, which answers an HTTP request",
                "return the value itself, or the Response of this package; response_model=None leaves the type alone",
            )
        self.type = _payload_of(annotation)
        self._adapter: Any = None
        serialization = _serialization(options)
        if self.type is None:
            if given := [name for name in serialization if name != "by_alias" or not serialization[name]]:
                raise SetupError(
                    subject,
                    f"{', '.join(f'response_model_{name}' for name in given)} has no effect without a response model",
                    "give the type of the result as response_model=, or as the return annotation",
                )
            return
        wrong = SetupError(
            subject,
            f"pydantic can't use the {'return annotation' if model is ... else 'response_model'} {self.type!r}",
            "use a type that it knows, or switch the response model off with response_model=None",
        )
        if not is_type(self.type):
            raise wrong
        try:
            field = field_of("result", self.type, "serialization")
        except Exception as error:
            raise wrong from error
        if not is_complete(field):
            raise wrong
        self._adapter = adapter_of(field)
        self._validate = self._adapter.validator.validate_python
        self._options = serialization
        self._to_json = self._adapter.serializer.to_json

    def encode(self, value: Any) -> tuple[bytes, str | None]:
        """Return the body and its content type; None is an empty body, also where the response model has no None.

        Raises:
            ResponseValidationError: the value is not what the response model says.
            EncodeError: it has no JSON.
        """
        if self._adapter is None or value is None:
            return encode(value)
        try:
            value = self._validate(value, from_attributes=True)
        except ValidationError as error:
            raise ResponseValidationError(errors_at(error, "response"), body=value) from None
        if value is None or isinstance(value, bytes):
            return encode(value)
        if isinstance(value, str):
            return encode(self._adapter.dump_python(value, mode="json", **self._options))
        try:
            return self._to_json(value, **self._options), JSON
        except ValueError as error:
            raise EncodeError(value, error) from None


def _serialization(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of pydantic's serializer that differ from its defaults."""
    chosen: dict[str, Any] = {"by_alias": options.get("response_model_by_alias", True)}
    for name in ("include", "exclude", "exclude_unset", "exclude_defaults", "exclude_none"):
        value = options.get(f"response_model_{name}")
        if value or (name == "include" and value is not None):  # an empty one includes nothing, as in FastAPI
            chosen[name] = set(value) if isinstance(value, (list, tuple)) else value
    return chosen


def _payload_of(annotation: Any) -> Any:
    """Return what a return annotation says of the payload; None when it says nothing."""
    if annotation is None or annotation is type(None) or _is_response(annotation):
        return None
    if get_origin(annotation) in (Union, types.UnionType):
        members = get_args(annotation)
        kept = [one for one in members if not _is_response(one)]
        if len(kept) < len(members):
            return _payload_of(Union[tuple(kept)]) if kept else None  # noqa: UP007
    return annotation


def _http_response_in(annotation: Any) -> type | None:
    """Return the class of a response of HTTP that a type names, or None."""
    if isinstance(annotation, type) and issubclass(annotation, HTTPResponse):
        return annotation
    return next((one for one in map(_http_response_in, get_args(annotation)) if one is not None), None)


def _is_response(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Response)
