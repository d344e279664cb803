"""The addresses of a cluster with topics, as a user gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .errors import SetupError, shorten
from .option_type import show
from .shown_address import without_credentials

__all__ = ("servers_of",)

SUBJECT = "bootstrap_servers"
DEFAULT_PORT = 9092
LAST_PORT = 65535
_HOST = re.compile(r"[\w.-]+|\[[0-9a-fA-F:.%]+\]")


def servers_of(given: object, product: str) -> list[str]:
    """Return `host:port` of each server.

    Args:
        given: a text with commas, or several texts; the port is by default 9092.
        product: what the servers are, for errors; in small letters it may stand before an address, as a scheme.

    Raises:
        SetupError: it is neither, there is none, or more than host and port, such as credentials, which
            such addresses have not.
    """
    if isinstance(given, str):
        servers: list[object] = list(given.split(","))
    elif isinstance(given, Iterable) and not isinstance(given, (bytes, bytearray, Mapping)):
        servers = list(given)
    else:
        raise SetupError(SUBJECT, f"{show(given)} is neither a text nor a list of texts", "give 'host:port'")
    if not servers:
        raise SetupError(SUBJECT, "no server is given", "give at least one 'host:port'")
    return [_with_port(one, product) for one in servers]


def _with_port(given: object, product: str) -> str:
    if not isinstance(given, str):
        raise SetupError(SUBJECT, f"{show(given)} in the list is no text", "give 'host:port'")
    host = given.strip()
    scheme, _, server = host.rpartition("://")
    name, _, port = server.rpartition(":")
    if not (name and port.isdigit()):
        name, port = server, str(DEFAULT_PORT)
    if without_credentials(host) != host or "/" in server:
        raise SetupError(
            SUBJECT,
            f"{without_credentials(host)!r} came with more than host and port, or can't be read",
            "give 'host:port', and credentials by security=SASLPlaintext(...)",
        )
    if scheme not in ("", product.lower(), "plaintext"):
        raise SetupError(
            SUBJECT,
            f"{host!r} is the address of something else than {product}",
            "give 'host:port', and TLS by security=BaseSecurity(use_ssl=True)",
        )
    if _HOST.fullmatch(name) is None or not _can_be_host(name) or not 0 < int(port) <= LAST_PORT:
        raise SetupError(SUBJECT, f"{shorten(host)} is no 'host:port'", "give 'host:port', such as 'localhost:9092'")
    return f"{name}:{port}"


def _can_be_host(name: str) -> bool:
    """Tell whether a name may be one of a host: no empty part, and none of more than 63 characters."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True
