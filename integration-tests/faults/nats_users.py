"""A NATS server of two users: an app whose permissions an operator takes and gives back, and the operator."""

from __future__ import annotations

import json
from pathlib import Path

from servers import ProcessServer


class StrictServer(ProcessServer):
    """A server whose app may do everything as long as it is not told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._permissions: dict[str, dict[str, object]] = {}

    def command(self) -> list[str]:
        self._configure()
        return [*super().command(), "-c", str(self._config)]

    def deny(self, *, publish: str = "", subscribe: str = "") -> None:
        """Take permissions, and give back what was taken before; return when the server has done so."""
        denied = {"publish": publish, "subscribe": subscribe}
        self._permissions = {what: {"allow": ">", "deny": [subject]} for what, subject in denied.items() if subject}
        self._configure()
        self.reload()

    def _configure(self) -> None:
        app = {"user": "app", "password": "app", "permissions": self._permissions}
        users = [app, {"user": "operator", "password": "operator"}]
        self._config.write_text(json.dumps({"authorization": {"users": users}}, ensure_ascii=False))

    @property
    def _config(self) -> Path:
        return Path(self._folder) / "server.conf"

    def url_of(self, user: str) -> str:
        return self.url.replace("nats://", f"nats://{user}:{user}@")
