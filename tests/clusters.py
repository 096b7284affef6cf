"""A PostgreSQL data directory that was made and migrated once, and is copied for every server that a test starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

from launcher.postgres import Postgres


def make(directory: Path) -> Path:
    """A stopped server's directory, its database at this version's schema. Raises ServerFailed."""
    from core import migrate

    server = Postgres(directory, fast=True)
    server.start()
    try:
        migrate.upgrade(server.url)
    finally:
        server.stop()
    return directory


def copy(made: Path, directory: Path) -> None:
    """Lay a copy where a Postgres(directory) finds it when it starts, with its password and its owner."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(made), str(directory)], check=True)


def copy_for_house(made: Path, house_directory: Path) -> None:
    """The same for the server of its own that a House(house_directory, migrated=True) has."""
    copy(made, house_directory / "data" / "postgres")
