"""Credentials and TLS, as nats-py takes them."""

from __future__ import annotations

import importlib.util
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.security import BaseSecurity, SASLPlaintext

__all__ = ("NatsCredentials", "NatsNKey", "NatsToken", "NatsUserPassword", "connect_options")


class NatsUserPassword(SASLPlaintext):
    """User and password: the same as `SASLPlaintext`, by the name that NATS uses."""


class NatsToken(BaseSecurity):
    """A token.

    Args:
        token: the token, or what returns it; it is asked again for each connection.
        ssl_context: the TLS context of the connection.
        use_ssl: whether TLS is used; by default when there is a context.
    """

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "apiKey", "in": "password"}

    def __init__(
        self, token: str | Callable[[], str], ssl_context: ssl.SSLContext | None = None, use_ssl: bool | None = None
    ) -> None:
        super().__init__(ssl_context, use_ssl)
        if not (isinstance(token, str) or callable(token)):
            kind = type(token).__name__  # what it is may be a secret
            raise SetupError("NatsToken", f"token= is a {kind}", "give a text, or a function that returns one")
        self.token = token


class NatsCredentials(BaseSecurity):
    """A JWT and its key, in one file as `nsc` writes it. Needs `nats-py[nkeys]`.

    Args:
        path: the `.creds` file.
        ssl_context: the TLS context of the connection.
        use_ssl: whether TLS is used; by default when there is a context.
    """

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "asymmetricEncryption"}

    def __init__(
        self, path: str | os.PathLike[str], ssl_context: ssl.SSLContext | None = None, use_ssl: bool | None = None
    ) -> None:
        super().__init__(ssl_context, use_ssl)
        self.path = _path("NatsCredentials", "path", path)
        _need_nkeys(self)


class NatsNKey(BaseSecurity):
    """An NKey. Needs `nats-py[nkeys]`.

    Args:
        seed_file: the file with the seed.
        ssl_context: the TLS context of the connection.
        use_ssl: whether TLS is used; by default when there is a context.
    """

    scheme: ClassVar[Mapping[str, Any] | None] = {"type": "asymmetricEncryption"}

    def __init__(
        self, seed_file: str | os.PathLike[str], ssl_context: ssl.SSLContext | None = None, use_ssl: bool | None = None
    ) -> None:
        super().__init__(ssl_context, use_ssl)
        self.seed_file = _path("NatsNKey", "seed_file", seed_file)
        _need_nkeys(self)


def _path(subject: str, name: str, path: object) -> str:
    """Return where a file is.

    Raises:
        SetupError: something else was given.
    """
    given = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(given, str):
        raise SetupError(subject, f"{name}= is a {type(path).__name__}, no path", "give the path of the file")
    return given


def _need_nkeys(security: BaseSecurity) -> None:
    if importlib.util.find_spec("nkeys") is None:
        raise SetupError(type(security).__name__, "the package nkeys is missing", 'pip install "nats-py[nkeys]"')


def connect_options(security: BaseSecurity | None) -> dict[str, Any]:
    """Return a security object as arguments of nats-py's `connect()`.

    Raises:
        SetupError: NATS knows no such security.
    """
    if security is None:
        return {}
    options: dict[str, Any] = {}
    if security.use_ssl:
        options["tls"] = security.ssl_context or ssl.create_default_context()
    if isinstance(security, NatsToken):
        options["token"] = security.token
    elif isinstance(security, NatsCredentials):
        options["user_credentials"] = security.path
    elif isinstance(security, NatsNKey):
        options["nkeys_seed"] = security.seed_file
    elif type(security) in (SASLPlaintext, NatsUserPassword):
        options.update(user=security.username, password=security.password)  # type: ignore[attr-defined]
    elif type(security) is not BaseSecurity:
        raise SetupError(
            type(security).__name__,
            "NATS does not know it",
            "use BaseSecurity (TLS), NatsUserPassword or SASLPlaintext, NatsToken, NatsCredentials or NatsNKey",
        )
    return options
