"""Why a cluster with topics can't be reached, which client libraries hardly say: who answers, and does it speak TLS?"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Sequence

from .report import describe

__all__ = ("why_unreachable",)

SECONDS = 1.0
"""For one server to connect, and for it to answer."""
MOST_SERVERS = 2
CLOSED = "the server closed the connection at once: is it {}, and does it speak TLS there?"
OTHER = "what answers there does not speak {}'s protocol"
NO_TLS = "the server took no part in the handshake of TLS: does it speak TLS there?"
SILENT = "no answer in {}'s protocol"
ONLY_TLS = "the server speaks TLS there, and the client was not told to"
CORRELATION = 0x66617374
# ApiVersions, version 0, without a name: what every client asks first, before it says who it is.
_QUESTION = struct.pack(">hhih", 18, 0, CORRELATION, -1)
_ENDS = (OSError, EOFError, asyncio.TimeoutError)  # of TLS too: its errors are OSErrors


async def why_unreachable(servers: Sequence[str], product: str, tls: bool) -> str | None:
    """Look at servers that a client could not use, the first ones, three seconds each at most; nothing secret is sent.

    Args:
        servers: `host:port` of each.
        product: what the servers are.
        tls: whether the client speaks TLS; then nothing else is tried.

    Returns:
        What is wrong with the first one of which that can be told.
    """
    for server in servers[:MOST_SERVERS]:
        host, _, port = server.rpartition(":")
        if reason := await _fault(host.strip("[]"), int(port), tls):
            return reason.replace("{}", product)
    return None


async def _fault(host: str, port: int, tls: bool) -> str | None:
    try:
        connecting = asyncio.open_connection(host, port)
        reader, writer = await asyncio.wait_for(connecting, SECONDS)
    except asyncio.TimeoutError:
        return f"nothing answers at {host}:{port}"
    except ConnectionRefusedError:
        return f"{host}:{port} refused the connection: nothing listens there"
    except (OSError, UnicodeError) as error:  # a name that can't be one of a host
        return describe(error)
    try:
        fault = None if tls else await _fault_of_answer(reader, writer)
    finally:
        writer.transport.abort()
    if tls:
        speaks = await _speaks_tls(host, port)
        return None if speaks else NO_TLS if speaks is False else SILENT
    if fault in (CLOSED, OTHER) and await _speaks_tls(host, port):
        return ONLY_TLS
    return fault


async def _fault_of_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
    """Ask what every client asks first; return what is wrong with the answer."""
    writer.write(struct.pack(">i", len(_QUESTION)) + _QUESTION)
    try:
        answer = await asyncio.wait_for(reader.readexactly(8), SECONDS)
    except asyncio.TimeoutError:
        return SILENT
    except asyncio.IncompleteReadError as error:
        return OTHER if error.partial else CLOSED
    except _ENDS:
        return CLOSED
    return None if int.from_bytes(answer[4:], "big") == CORRELATION else OTHER


async def _speaks_tls(host: str, port: int) -> bool | None:
    """Tell whether a server takes part in a handshake of TLS, whatever its certificate; None when it is silent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), SECONDS)
    except asyncio.TimeoutError:
        return None
    except ssl.SSLError as error:
        # An alert is an answer in TLS, a refusal for want of a client's certificate for example.
        return "ALERT" in (error.reason or "")
    except _ENDS:
        return False
    writer.transport.abort()
    return True
