"""docker-compose.yml passes on every setting that a deployment may want to change."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from core.settings import Settings

_ROOT = Path(__file__).parents[2]
#: Settings that are the image's or bin/up's affair.
_NOT_PASSED = {
    "LLM_SERVICE_BIND",  # the image's
    "LLM_SERVICE_LOG_FORMAT",  # the image's
    "LLM_SERVICE_KEK_FILE",  # instead of LLM_SERVICE_KEK, which is required here
    "LLM_SERVICE_CALL_TIMEOUT_SECONDS",  # the grace periods of the file go with its default
    "LLM_SERVICE_WORKER_LEASE_SECONDS",
}


def _settings() -> set[str]:
    names = set()
    for name, field in Settings.model_fields.items():
        alias = getattr(field.validation_alias, "choices", [f"LLM_SERVICE_{name.upper()}"])[0]
        names.add(str(alias))
    return names


def test_every_setting_reaches_the_containers() -> None:
    composed = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())
    for service in ("migrate", "api", "worker", "scheduler"):
        assert _settings() - _NOT_PASSED <= composed["services"][service]["environment"].keys(), service


def test_every_setting_is_in_the_table_of_the_deployments_page() -> None:
    page = (_ROOT / "docs" / "deployment.md").read_text()
    # A row may name several that begin alike: `LLM_SERVICE_MAX_ROWS`, `_MAX_DEPTH`.
    named = {
        f"LLM_SERVICE_{each}" if each.startswith("MAX_") else each for each in re.findall(r"`_?([A-Z_]{6,})`", page)
    }
    assert _settings() <= named
