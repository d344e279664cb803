"""What the query of a URL may say: nothing that would have no effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi_stream_core.errors import SetupError, shorten
from fastapi_stream_core.keywords import unknown_option

__all__ = ("check_query",)

BESIDE_OPTIONS = (
    "db",
    "client_name",
    "socket_connect_timeout",
    "socket_timeout",
    "socket_keepalive",
    "socket_read_size",
)
"""What an option of the broker says, too."""
TAKEN = (*BESIDE_OPTIONS, "username", "password", "lib_name", "lib_version", "retry_on_timeout")
"""What the client takes from a URL, and this package leaves to it; and whatever begins with `ssl`."""
NO_POOL = "leave it out: there is no pool, each subscription has one connection, and publishing has one"
AS_BYTES = "leave it out: names are UTF-8, and a body is decoded by its content type"
INSTEAD = {
    "host": "write it behind the scheme, or give host=",
    "port": "write it behind the host, or give port=",
    "path": "write it behind unix://",
    "max_connections": NO_POOL,
    "timeout": "give socket_timeout or socket_connect_timeout",
    "protocol": "leave it out: RESP2 is spoken, which all servers know",
    "legacy_responses": "leave it out: RESP2 is spoken, which all servers know",
    "decode_responses": AS_BYTES,
    "encoding": AS_BYTES,
    "encoding_errors": AS_BYTES,
    "health_check_interval": "give socket_timeout: a silent server is asked whether it is there",
    "retry_on_error": "leave it out: what a lost connection costs is sent again",
    "socket_keepalive_options": "give socket_keepalive_options= to the broker",
}
"""What the client takes, and has no effect here, or none that a text can have."""


def check_query(url: str, options: Mapping[str, Any]) -> None:
    """See that whatever the query of a URL says has an effect.

    Args:
        url: a URL of Redis.
        options: what the broker was given.

    Raises:
        SetupError: something has none, does not exist, is said twice or of no value, or asks for TLS without it.
    """
    parts = urlsplit(url)
    said = parse_qsl(parts.query, keep_blank_values=True)
    often = Counter(name for name, _ in said)
    for name, value in said:
        label = shorten(name)
        if name.startswith("ssl"):
            if parts.scheme != "rediss":
                problem = f"TLS is asked for ({label}=) in the query of a {parts.scheme}:// URL"
                raise SetupError("RedisBroker", problem, "begin it with rediss://")
        elif name in INSTEAD:
            raise SetupError("RedisBroker", f"{name} has no effect in the query of the URL", INSTEAD[name])
        elif name not in TAKEN:
            raise unknown_option(name, dict.fromkeys(TAKEN), "the query of RedisBroker's URL")
        if not value:
            raise SetupError(
                "RedisBroker", f"{label} has no value in the query of the URL", "give one, or leave it out"
            )
        if often[name] > 1:
            raise SetupError("RedisBroker", f"{label} is twice in the query of the URL", "leave one of them out")
        if name in BESIDE_OPTIONS and options.get(name) is not None:
            problem = f"{name} is in the query of the URL, and an option too"
            raise SetupError("RedisBroker", problem, "leave one of them out")
    if "db" in often and parts.scheme != "unix" and parts.path.strip("/"):
        problem = "the URL names a database by its path and by its query"
        raise SetupError("RedisBroker", problem, "leave one of them out")
