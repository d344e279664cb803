"""A writer of YAML for JSON-like data; what it writes is the same under YAML 1.1 and 1.2."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ("to_yaml",)

_PLAIN = re.compile(r"[A-Za-z_/$](?:[A-Za-z0-9_./-]|:(?=[A-Za-z0-9]))*(?: [A-Za-z0-9_./-]+)*")
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_MARKED = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def to_yaml(value: Any) -> str:
    """Return dicts, lists, strings, finite numbers, booleans and None as a YAML document."""
    if _block(value):
        return "\n".join(_lines(value, 0)) + "\n"
    return f"{_scalar(value)}\n"


def _block(value: Any) -> bool:
    return isinstance(value, (dict, list)) and bool(value)


def _lines(value: Any, depth: int) -> list[str]:
    pad = "  " * depth
    lines: list[str] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            lines += _entry(f"{pad}{_string(str(key))}:", inner, depth)
        return lines
    for inner in value:
        if _block(inner):
            first, *rest = _lines(inner, depth + 1)
            lines += [f"{pad}- {first.lstrip(' ')}", *rest]
        else:
            lines += _entry(f"{pad}-", inner, depth)
    return lines


def _entry(start: str, value: Any, depth: int) -> list[str]:
    if _block(value):
        return [start, *_lines(value, depth + 1)]
    if isinstance(value, str) and _is_text(value):
        pad = "  " * (depth + 1)
        mark = "|" if value.endswith("\n") else "|-"
        text = value.removesuffix("\n").split("\n")
        return [f"{start} {mark}", *(pad + line if line else "" for line in text)]
    return [f"{start} {_scalar(value)}"]


def _is_text(value: str) -> bool:
    """Whether a string is best read as a block of lines."""
    if "\n" not in value or _UNPRINTABLE.search(value) or value.endswith("\n\n"):
        return False
    first = value.lstrip("\n")
    return (
        value[0] != "\n" and not first.startswith((" ", "\t")) and not any(line.isspace() for line in value.split("\n"))
    )


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return json.dumps(value)


def _string(value: str) -> str:
    if len(value) < 120 and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return _MARKED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
