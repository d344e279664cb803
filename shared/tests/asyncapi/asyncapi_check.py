"""Whether a document is valid: the official JSON Schema, and the rules that it does not hold.

Load it with `runpy.run_path`, tests are not importable.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

KEY = re.compile(r"[a-zA-Z0-9.\-_]+")
VALUES = ("default", "examples", "enum", "const")
BARE = ("nats", "redis")
"""Brokers whose bindings have no fields but extensions; an operation of NATS has `queue`."""


@cache
def validator(version: str) -> Draft7Validator:
    path = Path(__file__).parent / f"{version}.json.gz"
    return Draft7Validator(json.loads(gzip.decompress(path.read_bytes())))


def check(document: dict[str, Any], *, secrets: tuple[str, ...] = ()) -> None:
    """Raise `AssertionError` with everything that is wrong."""
    problems = [*_schema_problems(document), *_lint(document)]
    text = json.dumps(document, allow_nan=False)
    problems += [f"{secret!r} is in the document" for secret in secrets if secret in text]
    assert not problems, "\n".join(problems)


def _schema_problems(document: dict[str, Any]) -> Iterator[str]:
    for error in validator(document["asyncapi"]).iter_errors(document):
        deepest = max(error.context or [error], key=lambda one: len(one.absolute_path))
        yield f"{'/'.join(map(str, deepest.absolute_path))}: {deepest.message[:300]}"


def _lint(document: dict[str, Any]) -> Iterator[str]:
    components = document.get("components", {})
    groups = [document.get(name, {}) for name in ("servers", "channels", "operations")] + list(components.values())
    groups += [channel["messages"] for channel in document["channels"].values()]
    yield from (f"bad key {key!r}" for group in groups for key in group if not KEY.fullmatch(key))
    yield from (f"{where}: no {ref}" for where, ref in _references(document, "") if _find(document, ref) is None)
    for key, server in document["servers"].items():
        if "@" in server["host"] or "://" in server["host"]:
            yield f"server {key}: host {server['host']!r}"
    for key, channel in document["channels"].items():
        names = set(re.findall(r"\{([^{}]*)\}", channel["address"] or ""))
        if names != set(channel.get("parameters", {})):
            yield f"channel {key}: parameters of {channel['address']!r} are {list(channel.get('parameters', {}))}"
        yield from _bindings(f"channel {key}", channel, ())
    for key, operation in document["operations"].items():
        yield from _operation(key, operation, document)
        yield from _bindings(f"operation {key}", operation, ("queue",))
    for key, message in components.get("messages", {}).items():
        yield from _message(key, message, components)
    for key, schema in components.get("schemas", {}).items():
        yield from _schema(schema, f"schema {key}")


def _references(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref" and isinstance(inner, str):
                yield where, inner
            elif key not in VALUES:
                yield from _references(inner, f"{where}/{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _references(inner, f"{where}/{index}")


def _find(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    for key in reference[2:].split("/"):
        document = document.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(document, dict) else None
    return document


def _operation(key: str, operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    for part in (operation, *([operation["reply"]] if "reply" in operation else [])):
        channel = part["channel"]["$ref"]
        if not channel.startswith("#/channels/"):
            yield f"operation {key}: {channel} is no channel of the root"
        for message in part.get("messages", ()):
            if not message["$ref"].startswith(f"{channel}/messages/"):
                yield f"operation {key}: {message['$ref']} is not of {channel}"
    reply = operation.get("reply", {})
    if "address" in reply and _find(document, reply["channel"]["$ref"])["address"] is not None:
        yield f"operation {key}: the reply has two addresses"


def _bindings(where: str, value: dict[str, Any], fields: tuple[str, ...]) -> Iterator[str]:
    for name, binding in value.get("bindings", {}).items():
        allowed = (*fields, "bindingVersion") if name == "nats" and fields else ()
        if name in BARE:
            yield from (f"{where}: {name}.{key}" for key in binding if key not in allowed and not key.startswith("x-"))
        elif "bindingVersion" not in binding:
            yield f"{where}: {name} has no bindingVersion"


def _message(key: str, message: dict[str, Any], components: dict[str, Any]) -> Iterator[str]:
    headers = message.get("headers", {"type": "object"})
    if headers.get("type") != "object":
        yield f"message {key}: headers are no object"
    yield from _schema(headers, f"message {key} headers")
    payload = message.get("payload", {})
    yield from _schema(payload, f"message {key} payload")
    for example in message.get("examples", ()):
        root = {"allOf": [payload], "components": components}
        for error in Draft7Validator(root).iter_errors(example["payload"]):
            yield f"message {key}: the example {example['payload']!r}: {error.message}"


def _schema(schema: Any, where: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if "$ref" in schema and len(schema) > 1:
        yield f"{where}: siblings of $ref: {sorted(schema)}"
    yield from (f"{where}: {key}" for key in ("prefixItems", "$defs", "nullable") if key in schema)
    if isinstance(schema.get("discriminator"), dict):
        yield f"{where}: the discriminator is an object"
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            for name, inner in value.items():
                yield from _schema(inner, f"{where}.{name}")
        elif key not in VALUES:
            for inner in value if isinstance(value, list) else [value]:
                yield from _schema(inner, f"{where}/{key}")
