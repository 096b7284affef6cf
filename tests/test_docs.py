"""What README, ARCHITECTURE and docs/ name is there: files, modules, settings; and every setting is told of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
#: Settings that have no place in core/settings.py: gunicorn's, docker-compose's, and what bin/up prints for callers.
ELSEWHERE = ("app/gunicorn_conf.py", "docker-compose.yml", "launcher/demo.py")
_TREES = "core|app|workers|scheduler|simulator|launcher|tests|benchmarks|monitoring|migrations|docs|bin"


def _variables(text: str) -> set[str]:
    return set(re.findall(r"LLM_SERVICE_[A-Z_]+[A-Z]", text))


def _variable(field: str) -> str:
    stores = {"database_url", "redis_url", "prometheus_url"}
    return field.upper() if field in stores else f"LLM_SERVICE_{field.upper()}"


def _is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__main__.py").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = {link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link}
    paths = set(re.findall(rf"`((?:{_TREES})/[\w./*-]+|[\w-]+\.(?:toml|txt|yml))`", text))
    modules = {name.rstrip(".") for name in re.findall(rf"python -m ((?:{_TREES})[\w.]*)", text)}
    assert [link for link in links if not (page.parent / link).exists()] == []
    # What benchmarks write is there when they have run.
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/"))) and "/out/" not in path] == []
    assert [name for name in modules if not _is_module(name)] == []


def test_every_setting_that_is_named_exists() -> None:
    known = {_variable(field) for field in Settings.model_fields}
    for name in ELSEWHERE:
        known |= _variables((ROOT / name).read_text(encoding="utf-8"))
    unknown = {page.name: found for page in PAGES if (found := _variables(page.read_text(encoding="utf-8")) - known)}
    assert unknown == {}


def test_every_setting_has_its_row() -> None:
    table = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8").partition("\n## Settings\n")[2]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    told = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    missing = [field for field in Settings.model_fields if told.count(_variable(field)) != 1]
    assert missing == []
