"""The AsyncAPI document of several brokers, as plain data in a stable order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..codec import JSON
from ..shown_address import without_credentials
from .description import ChannelDescription
from .operation import Operation, guarded, read_operations
from .payload import Payload, choices, content_type
from .schema import Schema, Schemas, unique
from .visibility import Visibility

if TYPE_CHECKING:
    from ..broker import Broker
    from .description import ServerDescription

__all__ = ("build",)

T = TypeVar("T")

_CORRELATION = {"description": "Ties messages together.", "location": "$message.header#/correlation_id"}
_REPLY_TO = {"description": "Where the message asks for its answer.", "location": "$message.header#/reply_to"}


@dataclass
class _Message:
    """One message of a channel while the document grows."""

    key: str
    payload: Payload
    body: Schema
    headers: dict[str, tuple[str, Any, bool]] = field(default_factory=dict)


@dataclass
class _Channel:
    """One channel while the document grows: what it shows, and its messages by key."""

    key: str
    shown: Schema
    messages: dict[str, _Message] = field(default_factory=dict)


def build(
    brokers: Iterable[Broker],
    info: Mapping[str, Any],
    version: str,
    identifier: str | None = None,
    visibility: Visibility | None = None,
) -> Schema:
    """Return the document.

    Args:
        brokers: whose subscribers and publishers are shown.
        info: the Info Object.
        version: of AsyncAPI, `3.0.0` or `3.1.0`.
        identifier: the `id` of the application.
        visibility: which subscribers and publishers are shown.
    """
    return _Builder(visibility or Visibility(None)).build(brokers, info, version, identifier)


class _Builder:
    def __init__(self, visibility: Visibility) -> None:
        self.visibility = visibility
        self.schemas = Schemas()
        self.servers: dict[str, Schema] = {}
        self.channels: dict[tuple[Any, ...], _Channel] = {}
        self.channel_keys: dict[str, Broker] = {}
        self.operations: dict[str, Schema] = {}
        self.requests: dict[str, Operation] = {}
        self.messages: dict[str, Schema] = {}
        self.security: dict[str, Schema] = {}

    def build(self, brokers: Iterable[Broker], info: Mapping[str, Any], version: str, identifier: str | None) -> Schema:
        servers: dict[int, list[str]] = {}
        operations: list[Operation] = []
        for broker in brokers:
            described = guarded(f"a server of {broker.name}", broker.servers)
            servers[id(broker)] = [self._server(broker.name, one) for one in described]
            operations += read_operations(broker, self.schemas, self.visibility)
        self.schemas.build()
        for one in operations:
            for channel in one.channels:
                guarded(
                    f"an operation on {channel.name!r}", partial(self._operation, one, channel, servers[id(one.broker)])
                )
        for key, one in self.requests.items():
            guarded("an answer", partial(self._answer, key, one, servers[id(one.broker)]))
        return self._document(info, version, identifier)

    def _server(self, name: str, description: ServerDescription) -> str:
        shown: Schema = {"host": without_credentials(description.host), "protocol": description.protocol}
        if description.pathname:
            shown["pathname"] = description.pathname
        if description.protocol_version:
            shown["protocolVersion"] = description.protocol_version
        if description.description:
            shown["description"] = description.description
        schemes = [self._scheme(key, scheme) for key, scheme in description.security.items()]
        if schemes:
            shown["security"] = [{"$ref": f"#/components/securitySchemes/{key}"} for key in schemes]
        if tags := tag_objects(description.tags):
            shown["tags"] = tags
        return _keep(self.servers, key_of(name), shown)

    def _scheme(self, key: str, scheme: Mapping[str, Any]) -> str:
        shown = dict(scheme)
        if shown.get("type") == "oauth2":
            shown.setdefault("flows", {})
        return _keep(self.security, key_of(key), shown)

    def _channel(self, one: Operation, description: ChannelDescription, servers: list[str]) -> _Channel:
        place = (tuple(servers) or one.broker.name, description.address is None, description.name, description.kind)
        channel = self.channels.get(place)
        if channel is None:
            base = key_of(description.name)
            key = self._channel_key(one.broker, base, description.kind)
            shown: Schema = {"address": description.address}
            if description.address is None and description.name:
                shown["title"] = description.name
            if servers:
                shown["servers"] = [{"$ref": f"#/servers/{name}"} for name in servers]
            channel = self.channels[place] = _Channel(key, shown)
        _parameters(channel.shown, description, one.path_params)
        _bind(channel.shown, description.channel_bindings)
        for extension, value in description.extensions.items():
            channel.shown.setdefault(extension, value)
        return channel

    def _channel_key(self, broker: Broker, base: str, kind: str = "") -> str:
        """Take a free name: with the broker before it or the kind behind it, or a number, when `base` is taken."""
        other, of_kind = f"{broker.name}_{base}", f"{base}_{key_of(kind)}" if kind else base
        names = (base, of_kind, other) if self.channel_keys.get(base) is broker else (base, other, of_kind)
        key = next((name for name in names if name not in self.channel_keys), unique(base, self.channel_keys))
        self.channel_keys[key] = broker
        return key

    def _operation(self, one: Operation, description: ChannelDescription, servers: list[str]) -> list[str]:
        """Add an operation, its channel and its messages; return its name."""
        channel = self._channel(one, description, servers)
        several = len(one.channels) > 1
        if one.handler is not None:
            base = key_of(one.handler_name)
            base = f"{base}_{channel.key}" if several else base
        else:
            base = key_of(one.title) if one.title else f"send_{channel.key}"
        key = unique(base, self.operations)
        shown: Schema = {"action": one.action, "channel": {"$ref": f"#/channels/{channel.key}"}}
        if one.title:
            shown["title"] = one.title
        summary, text = one.documentation()
        shown.update({name: value for name, value in (("summary", summary), ("description", text)) if value})
        if tags := tag_objects(getattr(one.source, "tags", ())):
            shown["tags"] = tags
        _bind(shown, description.operation_bindings)
        shown["messages"] = self._messages(
            channel, one.payloads, f"{channel.key}_message", description.message_bindings
        )
        if one.replies:
            shown["reply"] = self._reply(one, servers)
        if one.reply_to:
            self.requests[key] = one
        self.operations[key] = shown
        return [key]

    def _reply(self, one: Operation, servers: list[str]) -> Schema:
        """Return the Operation Reply Object; the channel of the answers is known only to the message that asks."""
        place = ("reply", id(one))
        channel = self.channels.get(place)
        if channel is None:
            key = self._channel_key(one.broker, f"{key_of(one.handler_name)}_reply")
            channel = self.channels[place] = _Channel(
                key, {"address": None, "title": f"Replies of {key_of(one.handler_name)}"}
            )
            if servers:
                channel.shown["servers"] = [{"$ref": f"#/servers/{name}"} for name in servers]
        messages = self._messages(channel, one.replies, f"{channel.key}_message", {})
        reference = {"$ref": "#/components/replyAddresses/reply_to"}
        return {"address": reference, "channel": {"$ref": f"#/channels/{channel.key}"}, "messages": messages}

    def _answer(self, key: str, one: Operation, servers: list[str]) -> list[str]:
        """Say where answers to what a publisher sends are expected."""
        place = (tuple(servers) or one.broker.name, False, one.reply_to)
        found = next((channel for known, channel in self.channels.items() if known[:3] == place), None)
        channel = found or self._channel(one, ChannelDescription(one.reply_to, one.reply_to), servers)
        self.operations[key]["reply"] = {"channel": {"$ref": f"#/channels/{channel.key}"}}
        return [key]

    def _messages(
        self, channel: _Channel, payloads: Sequence[Payload], otherwise: str, bindings: Mapping[str, Mapping[str, Any]]
    ) -> list[Schema]:
        """Add messages to a channel, together with equal ones that are there, and return their references."""
        references: list[Schema] = []
        for payload in payloads:
            body: Schema = {}
            if kind := content_type(payload.type):
                body["contentType"] = kind
            if payload.type is not None:
                body["payload"] = self.schemas[payload.number]
            headers = {
                head.name.lower(): (head.name, self.schemas[head.number], head.required) for head in payload.headers
            }
            message = next((known for known in channel.messages.values() if _same(known, body, headers)), None)
            if message is None:
                key = unique(key_of(payload.name(self.schemas, otherwise)), channel.messages)
                message = channel.messages[key] = _Message(key, payload, body)
            for name, head in headers.items():
                known = message.headers.get(name, head)
                message.headers[name] = (*known[:2], known[2] or head[2])
            _bind(message.body, bindings)
            reference = {"$ref": f"#/channels/{channel.key}/messages/{message.key}"}
            if reference not in references:
                references.append(reference)
        return references

    def _message(self, message: _Message) -> Schema:
        shown: Schema = {"name": message.key, "title": message.key}
        shown.update({name: message.body[name] for name in ("contentType",) if name in message.body})
        shown["correlationId"] = {"$ref": "#/components/correlationIds/correlation_id"}
        properties = {name: schema for name, schema, _ in message.headers.values()}
        properties.setdefault("correlation_id", {"type": "string"})
        shown["headers"] = {"type": "object", "properties": properties}
        if required := [name for name, _, needed in message.headers.values() if needed]:
            shown["headers"]["required"] = required
        shown.update({name: message.body[name] for name in ("payload", "bindings") if name in message.body})
        if examples := message.payload.examples(self.schemas, shown.get("payload", {})):
            shown["examples"] = examples
        return shown

    def _document(self, info: Mapping[str, Any], version: str, identifier: str | None) -> Schema:
        channels: dict[str, Schema] = {}
        for channel in self.channels.values():
            references: dict[str, Schema] = {}
            for key, message in channel.messages.items():
                name = _keep(self.messages, key, self._message(message))
                references[key] = {"$ref": f"#/components/messages/{name}"}
            channels[channel.key] = {"address": channel.shown.pop("address"), "messages": references, **channel.shown}
        components: Schema = {"messages": self.messages, "schemas": self.schemas.components}
        if self.security:
            components["securitySchemes"] = self.security
        if self.messages:
            components["correlationIds"] = {"correlation_id": _CORRELATION}
        if any("address" in one.get("reply", {}) for one in self.operations.values()):
            components["replyAddresses"] = {"reply_to": _REPLY_TO}
        document: Schema = {"asyncapi": version}
        if identifier:
            document["id"] = identifier
        document.update(info=dict(info), defaultContentType=JSON, servers=self.servers, channels=channels)
        document.update(
            operations=self.operations, components={name: part for name, part in components.items() if part}
        )
        return document


def key_of(text: str) -> str:
    """Return a text as a key of the document; wildcards become words."""
    for mark, word in (("*", "any"), (">", "all"), ("#", "all"), ("{", ""), ("}", "")):
        text = text.replace(mark, word)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_") or "unnamed"


def tag_objects(tags: Iterable[Any]) -> list[Schema]:
    """Return tags (names, enums, AsyncAPI objects, models of them) as Tag Objects without repetitions."""
    shown: dict[str, Schema] = {}
    for tag in tags:
        value = tag.value if isinstance(tag, Enum) else tag
        if hasattr(value, "model_dump"):
            value = value.model_dump(by_alias=True, exclude_none=True)
        one = dict(value) if isinstance(value, Mapping) else {"name": str(value)}
        shown.setdefault(str(one.get("name")), one)
    return list(shown.values())


def _keep(known: dict[str, Schema], name: str, shown: Schema) -> str:
    """Keep an object under its name, or the number behind it, unless the same one is there; return the key."""
    for key, other in known.items():
        if key.startswith(name) and other == shown:
            return key
    key = unique(name, known)
    known[key] = shown
    return key


def _bind(shown: Schema, bindings: Mapping[str, Mapping[str, Any]]) -> None:
    """Add bindings that say something; those that contradict what is there already are left out."""
    for name, values in bindings.items():
        if values.keys() <= {"bindingVersion"}:
            continue
        known = shown.setdefault("bindings", {}).setdefault(name, dict(values))
        if all(known.get(key, value) == value for key, value in values.items()):
            known.update(values)


def _parameters(shown: Schema, description: ChannelDescription, path_params: Iterable[Any]) -> None:
    if description.address is None:
        return
    names = dict.fromkeys(re.findall(r"\{([^{}]+)\}", description.address))
    if not names:
        return
    fields = {one.alias: one.field_info for one in path_params}
    parameters = shown.setdefault("parameters", {})
    for name in names:
        known = parameters.setdefault(name, {})
        info = fields.get(name)
        if info is None:
            continue
        if info.description:
            known.setdefault("description", info.description)
        if values := choices(info.annotation):
            known.setdefault("enum", values)
        if info.examples:
            known.setdefault("examples", [str(example) for example in info.examples])


def _same(message: _Message, body: Schema, headers: Mapping[str, tuple[str, Any, bool]]) -> bool:
    if any(message.body.get(name) != body.get(name) for name in ("contentType", "payload")):
        return False
    return all(message.headers[name][1] == head[1] for name, head in headers.items() if name in message.headers)
