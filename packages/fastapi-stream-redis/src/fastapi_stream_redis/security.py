"""Credentials and TLS for a connection to Redis."""

from __future__ import annotations

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.security import BaseSecurity, SASLPlaintext

__all__ = ("check_security",)


def check_security(security: BaseSecurity | None) -> None:
    """Tell early what Redis does not know.

    Raises:
        SetupError: Redis knows no such security.
    """
    if security is not None and type(security) not in (BaseSecurity, SASLPlaintext):
        raise SetupError(
            type(security).__name__,
            "Redis knows user and password and TLS only",
            "use SASLPlaintext or BaseSecurity (TLS only)",
        )
