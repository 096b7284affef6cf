"""The rules are valid, fire when they should and not otherwise, and each alert has its page."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring import files
from tests.monitoring.tools import program

TESTS = files.MONITORING / "rules" / "tests" / "alerts_test.yml"


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", str(files.MONITORING / "prometheus.yml")],
        ["check", "rules", *map(str, files.RULES)],
        ["test", "rules", str(TESTS)],
    ],
    ids=["config", "rules", "tests"],
)
def test_promtool_is_content(arguments: list[str]) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_both_ways() -> None:
    # given the cases that promtool runs
    tried: dict[str, set[bool]] = {}
    for case in yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]:
        for rule in case["alert_rule_test"]:
            tried.setdefault(rule["alertname"], set()).add(bool(rule["exp_alerts"]))
    # then each alert fires in one and stays quiet in another
    assert tried == {name: {True, False} for name in files.alerts()}


@pytest.mark.parametrize("name", sorted(files.alerts()))
def test_every_alert_has_a_runbook_that_fits(name: str) -> None:
    rule = files.alerts()[name]
    page = files.ROOT / rule["annotations"]["runbook_url"]
    text = page.read_text(encoding="utf-8")
    assert page.parent == files.RUNBOOKS
    assert text.startswith(f"# {name}\n")
    assert "## Where to look" in text
    assert "## What to do" in text
    # the page shows the query that fires
    shown = text.partition("```promql")[2].partition("```")[0]
    assert shown.split() == rule["expr"].split()
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_no_runbook_without_an_alert() -> None:
    pages = {page.stem for page in files.RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == set(files.alerts())
    index = (files.RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name}.md)" in index for name in pages)


@pytest.mark.parametrize("page", files.runbook_pages(), ids=lambda page: page.stem)
def test_runbooks_refer_to_alerts_that_exist(page: Path) -> None:
    words = {word.strip("`.,;:()?") for word in page.read_text(encoding="utf-8").split()}
    assert {word for word in words if word.startswith("LLMService")} <= set(files.alerts())
