"""The rules and dashboards of monitoring/, read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
MONITORING = ROOT / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((MONITORING / "rules").glob("*.yml"))


@cache
def rules() -> list[dict[str, Any]]:
    """Every recording and alert rule."""
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def dashboard(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def panel_queries() -> Iterator[tuple[str, str]]:
    """(where, query) of every panel's targets."""
    for file in DASHBOARDS:
        for panel in dashboard(file)["panels"]:
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']}", target["expr"]


def rule_queries() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]


def runbook_pages() -> list[Path]:
    return sorted(RUNBOOKS.glob("LLM*.md"))


def runbook_code(page: Path) -> list[str]:
    """What stands between backticks on a page, each on one line; not the query that fires, which the rules have."""
    text = page.read_text(encoding="utf-8").partition("```promql")[0]
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def runbook_queries() -> Iterator[tuple[str, str]]:
    """(page, query) of everything on the pages that names a metric of the service."""
    for page in runbook_pages():
        for code in runbook_code(page):
            if re.search(r"\b(llm_service_|gen_ai_client_)", code):
                yield page.stem, code
