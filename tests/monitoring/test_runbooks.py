"""What the runbooks have an operator type works as it is written; their PromQL is tried in test_running_service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from core import db
from core.settings import Settings
from tests.monitoring import files

STATEMENTS = [
    (page.stem, code)
    for page in files.runbook_pages()
    for code in files.runbook_code(page)
    if code.startswith("SELECT")
]


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize(("page", "sql"), STATEMENTS, ids=[page for page, _ in STATEMENTS])
def test_statements_run(page: str, sql: str) -> None:
    with db.connection() as connection:
        found = connection.execute(sql)
        assert found.description, page


def test_statements_are_found() -> None:
    assert len(STATEMENTS) >= 10


@pytest.mark.parametrize("page", files.runbook_pages(), ids=lambda page: page.stem)
def test_settings_and_services_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {name.lower() for name in re.findall(r"LLM_SERVICE_([A-Z_]+)", text)}
    # the number of API processes is read by gunicorn's configuration alone
    gunicorn = (files.ROOT / "app" / "gunicorn_conf.py").read_text(encoding="utf-8")
    assert {name for name in named if f"LLM_SERVICE_{name.upper()}" not in gunicorn} <= set(Settings.model_fields)
    services = yaml.safe_load((files.ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert set(re.findall(r"docker compose \w+ (\w+)", text)) <= set(services)
    # a file that is named is there
    for path in re.findall(r"`((?:core|app|monitoring|docs)/[\w/.-]+)`", text):
        assert (files.ROOT / path).exists(), path
