"""Security objects as options of aiokafka."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.security import (
    SASLGSSAPI,
    BaseSecurity,
    SASLOAuthBearer,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
)

__all__ = ("check_security", "client_options", "is_secure")

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
    return security is not None and security.use_ssl


def client_options(security: BaseSecurity | None) -> dict[str, Any]:
    """Return the client's options of a security object.

    Raises:
        SetupError: it is of a class that Kafka does not know.
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
    mechanism = MECHANISMS[known]
    secure = is_secure(security)
    options: dict[str, Any] = {"ssl_context": _context(security) if secure else None}
    if mechanism is None:
        return {**options, "security_protocol": "SSL" if secure else "PLAINTEXT"}
    options |= {"security_protocol": "SASL_SSL" if secure else "SASL_PLAINTEXT", "sasl_mechanism": mechanism}
    if isinstance(security, SASLPlaintext):
        options |= {"sasl_plain_username": security.username, "sasl_plain_password": security.password}
    return options


def check_security(security: BaseSecurity | None, given: Mapping[str, Any], subject: str) -> None:
    """Refuse options that do nothing with this security object, and an object that lacks one.

    Raises:
        SetupError: one of them.
    """
    for name in ("sasl_kerberos_service_name", "sasl_kerberos_domain_name"):
        if name in given and not isinstance(security, SASLGSSAPI):
            raise SetupError(subject, f"{name} has no effect without security=SASLGSSAPI()", "leave it out")
    provider = given.get("sasl_oauth_token_provider")
    if provider is not None and not isinstance(security, SASLOAuthBearer):
        raise SetupError(
            subject,
            "sasl_oauth_token_provider has no effect without security=SASLOAuthBearer()",
            "leave it out, or give both",
        )
    if provider is None and isinstance(security, SASLOAuthBearer):
        raise SetupError(
            subject, "SASLOAuthBearer() has nothing that gives it tokens", "give sasl_oauth_token_provider="
        )


def _context(security: BaseSecurity) -> Any:
    if security.ssl_context is not None:
        return security.ssl_context
    from aiokafka.helpers import create_ssl_context

    return create_ssl_context()
