"""Brings the database to this version's schema: what `python -m core.migrate` and the tests run."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from core.settings import settings

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def upgrade(database_url: str | None = None) -> None:
    """Run all migrations that have not run yet; safe to call from several hosts at once (advisory lock)."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["database_url"] = database_url or settings().database_url
    command.upgrade(config, "head")


if __name__ == "__main__":
    upgrade()
