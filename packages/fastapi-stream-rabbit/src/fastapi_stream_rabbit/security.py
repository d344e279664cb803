"""Credentials and TLS for a connection to RabbitMQ."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.security import BaseSecurity, SASLPlaintext
from yarl import URL

__all__ = ("RabbitExternalAuth", "secured")


class RabbitExternalAuth(BaseSecurity):
    """The certificate of the TLS context says who connects (SASL EXTERNAL).

    Args:
        ssl_context: the TLS context with the client's certificate.
        use_ssl: whether TLS is used.
    """

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "X509"}

    def __init__(self, ssl_context: ssl.SSLContext | None = None, use_ssl: bool = True) -> None:
        super().__init__(ssl_context, use_ssl)


def secured(url: URL, security: BaseSecurity | None) -> tuple[URL, ssl.SSLContext | None]:
    """Return the address with what a security object adds to it, and the TLS context.

    Raises:
        SetupError: RabbitMQ's client knows no such security, or it would have no effect.
    """
    if security is None:
        return url, None
    external = isinstance(security, RabbitExternalAuth)
    if url.scheme == "amqp" and not security.use_ssl and (external or security.ssl_context is not None):
        raise SetupError(
            type(security).__name__,
            "use_ssl=False, and amqp:// does not encrypt: the certificates would not be used",
            "leave use_ssl out, or write amqps://",
        )
    if security.use_ssl and url.scheme == "amqp":
        port = None if url.explicit_port in (None, 5672) else url.explicit_port
        url = url.with_scheme("amqps").with_port(port)
    if type(security) is SASLPlaintext:
        return url.with_user(security.username).with_password(security.password), security.ssl_context
    if external:
        return url.update_query(auth="external"), security.ssl_context
    if type(security) is BaseSecurity:
        return url, security.ssl_context
    raise SetupError(
        type(security).__name__,
        "RabbitMQ's client does not support it",
        "use BaseSecurity (TLS only), SASLPlaintext or RabbitExternalAuth",
    )
