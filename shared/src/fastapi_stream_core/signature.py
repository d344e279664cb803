"""What is wrong with a handler's signature: found at decoration, with the parameter and the fix."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fastapi import UploadFile, params

from .context import ContextValue
from .errors import SetupError
from .fastapi_compat import Dependant, code_of, dependant_of, is_complete, kind_of, typed_signature, walk
from .injection import Injections

__all__ = ("blame", "check")

_NO_FORM = "take the payload as a pydantic model, or as `bytes`"
_VARIADIC = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
_UNFILLABLE = {
    inspect.Parameter.VAR_POSITIONAL: ("*{}", "name the parameters, or take the whole payload as `dict`"),
    inspect.Parameter.VAR_KEYWORD: ("**{}", "name the parameters, or take the whole payload as `dict`"),
    inspect.Parameter.POSITIONAL_ONLY: ("{}, /", "remove the `/`: arguments are given by name"),
}


def check(dependant: Dependant, subject: str, injections: Injections) -> None:
    """Refuse what no message can fill, in a handler and in everything it depends on.

    Raises:
        SetupError: naming the parameter and the fix.
    """
    for node in walk(dependant):
        if isinstance(node.call, ContextValue) or node.call is None:
            continue
        who = subject if node is dependant else _dependency(subject, node.call)
        _check_kinds(node.call, who)
        for field in node.cookie_params:
            raise SetupError(who, f"parameter {field.name!r} is a Cookie, and a message has none", "use Header()")
        for field in node.body_params:
            if isinstance(field.field_info, params.Form):
                raise SetupError(who, f"parameter {field.name!r} is form data, and a message has none", _NO_FORM)
        for field in (*node.path_params, *node.query_params, *node.header_params, *node.body_params):
            if not is_complete(field):
                raise SetupError(
                    who,
                    f"parameter {field.name!r}: {_shown(field.field_info.annotation)} is not defined yet",
                    "define every name of the annotation at module level, above the handler",
                )
            injections.refuse_others(field.name, field.field_info.annotation, who)
        if node.websocket_param_name:
            raise SetupError(
                who, f"parameter {node.websocket_param_name!r} is a WebSocket", "take the message or the Request"
            )
    if kind_of(dependant) in ("generator", "async generator"):
        raise SetupError(subject, "it is a generator, and a handler returns its result", "use `return`, not `yield`")


def _check_kinds(call: Callable[..., Any], who: str) -> None:
    code = code_of(call)
    if code is not None and not code.co_posonlyargcount and not code.co_flags & _VARIADIC:
        return
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind in _UNFILLABLE:
            shown, fix = _UNFILLABLE[parameter.kind]
            raise SetupError(who, f"parameter `{shown.format(name)}` can't be filled from a message", fix)


def blame(call: Callable[..., Any], path: str, subject: str, error: Exception) -> SetupError:
    """Return the error that names the parameter because of which FastAPI refused a signature."""
    try:
        signature = typed_signature(call)
    except Exception as reason:
        return SetupError(
            subject,
            f"its signature can't be read: {_first_line(reason)}",
            "use a function whose annotations can be evaluated where it is decorated",
        )
    for name, parameter in signature.parameters.items():
        refusal = _refusal(parameter, path)
        if refusal is None:
            continue
        below = _depends(parameter)
        if below is not None and callable(below):
            return blame(below, path, _dependency(subject, below), refusal)
        if _is_form(parameter):
            return SetupError(subject, f"parameter {name!r} is form data, and a message has none", _NO_FORM)
        return SetupError(
            subject,
            f"parameter {name!r}: {_shown(parameter.annotation)} can't be read from a message ({_first_line(refusal)})",
            "annotate it with a type that pydantic knows, or fill it with Depends()",
        )
    return SetupError(subject, _first_line(error), "change the signature so that FastAPI takes it")


def _refusal(parameter: inspect.Parameter, path: str) -> Exception | None:
    def probe() -> None: ...

    probe.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    )
    try:
        dependant_of(probe, path)
    except Exception as error:
        return error
    return None


def _marks(parameter: inspect.Parameter) -> tuple[Any, ...]:
    return (*getattr(parameter.annotation, "__metadata__", ()), parameter.default)


def _depends(parameter: inspect.Parameter) -> Any:
    for mark in _marks(parameter):
        if isinstance(mark, params.Depends):
            return mark.dependency or getattr(parameter.annotation, "__origin__", parameter.annotation)
    return None


def _is_form(parameter: inspect.Parameter) -> bool:
    annotation = getattr(parameter.annotation, "__origin__", parameter.annotation)
    is_upload = isinstance(annotation, type) and issubclass(annotation, UploadFile)
    return is_upload or any(isinstance(mark, params.Form) for mark in _marks(parameter))


def _dependency(subject: str, call: Any) -> str:
    return f"{subject}, dependency {getattr(call, '__name__', type(call).__name__)!r}"


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
