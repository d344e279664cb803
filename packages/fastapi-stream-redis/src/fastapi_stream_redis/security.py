"""Credentials and TLS for a connection to Redis."""

from __future__ import annotations

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.security import BaseSecurity, SASLPlaintext

__all__ = ("check_security",)


def check_security(security: BaseSecurity | None, scheme: str) -> None:
    """Tell early what Redis does not know, and what would not be enforced.

    Raises:
        SetupError: Redis knows no such security, or the connection has no TLS to use it for.
    """
    if security is not None and type(security) not in (BaseSecurity, SASLPlaintext):
        raise SetupError(
            type(security).__name__,
            "Redis knows user and password and TLS only",
            "use SASLPlaintext or BaseSecurity (TLS only)",
        )
    if security is None:
        return
    if security.use_ssl and scheme == "unix":
        raise SetupError("RedisBroker", "a unix:// socket has no TLS", "leave use_ssl and ssl_context out")
    if security.ssl_context is not None and not security.use_ssl and scheme != "rediss":
        raise SetupError("RedisBroker", "use_ssl=False with an ssl_context: TLS is not used", "leave use_ssl out")
