"""Security objects as options of librdkafka."""

from __future__ import annotations

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.security import (
    SASLGSSAPI,
    BaseSecurity,
    SASLOAuthBearer,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
)

__all__ = ("is_secure", "security_config")

MECHANISMS: dict[type[BaseSecurity], str | None] = {
    BaseSecurity: None,
    SASLPlaintext: "PLAIN",
    SASLScram256: "SCRAM-SHA-256",
    SASLScram512: "SCRAM-SHA-512",
    SASLOAuthBearer: "OAUTHBEARER",
    SASLGSSAPI: "GSSAPI",
}


def is_secure(security: BaseSecurity | None) -> bool:
    """Tell whether connections use TLS."""
    return security is not None and bool(security.use_ssl)


def security_config(security: BaseSecurity | None) -> dict[str, str]:
    """Return the options of librdkafka for a security object.

    Raises:
        SetupError: the client supports no such class, or no `ssl_context`.
    """
    if security is None:
        return {}
    known = next((one for one in type(security).__mro__ if one in MECHANISMS), None)
    if known is None or (known is BaseSecurity and type(security) is not BaseSecurity):
        raise SetupError(
            "security",
            f"{type(security).__name__} is not known to Kafka",
            f"use one of {', '.join(one.__name__ for one in MECHANISMS)}",
        )
    if security.ssl_context is not None:
        raise SetupError(
            "security",
            "ssl_context is given, and librdkafka makes its TLS itself",
            "give use_ssl=True, and files by config={'ssl.ca.location': ..., 'ssl.certificate.location': ...}",
        )
    mechanism, secure = MECHANISMS[known], is_secure(security)
    if mechanism is None:
        return {"security.protocol": "SSL" if secure else "PLAINTEXT"}
    config = {"security.protocol": "SASL_SSL" if secure else "SASL_PLAINTEXT", "sasl.mechanism": mechanism}
    if isinstance(security, SASLPlaintext):
        config |= {"sasl.username": security.username, "sasl.password": security.password}
    return config
