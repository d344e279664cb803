"""Credentials and TLS of a connection."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, ClassVar

from .errors import SetupError
from .keywords import check_keywords

__all__ = ("SASLGSSAPI", "BaseSecurity", "SASLOAuthBearer", "SASLPlaintext", "SASLScram256", "SASLScram512")


@check_keywords
class BaseSecurity:
    """TLS, without credentials.

    Args:
        ssl_context: the TLS context of the connection.
        use_ssl: whether TLS is used; by default when there is a context.

    Raises:
        SetupError: the context is none, or `use_ssl` is no bool.
    """

    scheme: ClassVar[Mapping[str, Any] | None] = None
    """The AsyncAPI security scheme."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None, use_ssl: bool | None = None) -> None:
        self._check("ssl_context", ssl_context, ssl.SSLContext, "ssl.create_default_context()")
        self._check("use_ssl", use_ssl, bool, "True or False")
        self.ssl_context = ssl_context
        self.use_ssl = ssl_context is not None if use_ssl is None else use_ssl

    def _check(self, name: str, value: object, kind: type, example: str) -> None:
        """Refuse a value of another type, without showing it: it may be a password in the wrong place."""
        if value is not None and not isinstance(value, kind):
            raise SetupError(type(self).__name__, f"{name}= is a {type(value).__name__}, not shown", f"give {example}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(use_ssl={self.use_ssl})"


@check_keywords
class SASLPlaintext(BaseSecurity):
    """User and password, sent as they are: use it with TLS.

    Args:
        username: the user.
        password: the password; never logged, never in the document.
        ssl_context: the TLS context of the connection.
        use_ssl: whether TLS is used; by default when there is a context.

    Raises:
        SetupError: user or password is no text, or what `BaseSecurity` raises it for.
    """

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "userPassword"}

    def __init__(
        self, username: str, password: str, ssl_context: ssl.SSLContext | None = None, use_ssl: bool | None = None
    ) -> None:
        super().__init__(ssl_context, use_ssl)
        for name, value in (("username", username), ("password", password)):
            if not isinstance(value, str):
                raise SetupError(type(self).__name__, f"{name}= is a {type(value).__name__}, not shown", "give text")
        self.username = username
        self.password = password


class SASLScram256(SASLPlaintext):
    """User and password by SCRAM-SHA-256."""

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "scramSha256"}


class SASLScram512(SASLPlaintext):
    """User and password by SCRAM-SHA-512."""

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "scramSha512"}


class SASLOAuthBearer(BaseSecurity):
    """A token, which the broker's own option provides."""

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "oauth2", "flows": {}}


class SASLGSSAPI(BaseSecurity):
    """Kerberos."""

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "gssapi"}
