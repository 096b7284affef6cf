"""The dashboards load as they are: complete, with the one data source, no two of one name."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
import yaml

from monitoring import draw
from tests.monitoring import files

#: Ids that Grafana has for units (getValueFormats of @grafana/data): an id that it does not know is shown as a suffix.
UNITS = {"short", "s", "reqps", "currencyUSD", "percentunit", "cps", "bytes"}

PROVISIONED = files.MONITORING / "grafana" / "provisioning"


def test_uids_and_titles_are_unique() -> None:
    found = [files.dashboard(file) for file in files.DASHBOARDS]
    assert {file.stem for file in files.DASHBOARDS} >= {
        "overview",
        "batches",
        "providers",
        "workers",
        "cost",
        "tenants",
    }
    assert len({each["uid"] for each in found}) == len({each["title"] for each in found}) == len(found)


@pytest.mark.parametrize("file", files.DASHBOARDS, ids=lambda file: file.stem)
def test_every_panel_is_complete(file: Path) -> None:
    source = yaml.safe_load((PROVISIONED / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ][0]
    expected = {"type": source["type"], "uid": source["uid"]}
    panels = files.dashboard(file)["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"] == expected
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == expected
            assert target["expr"]


@pytest.mark.parametrize("file", files.DASHBOARDS, ids=lambda file: file.stem)
def test_grafana_can_take_it_as_it_is(file: Path) -> None:
    # what Grafana asks of a provisioned dashboard: a short uid, no id of another installation, queries told apart
    found = files.dashboard(file)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", found["uid"])
    assert found.get("id") is None
    assert found["schemaVersion"] >= 39
    for panel in found["panels"]:
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), panel["title"]
    # and each variable is declared, filled from the one data source, and used
    variables = {variable["name"]: variable for variable in found["templating"]["list"]}
    used = {
        name
        for panel in found["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\$(\w+)", target["expr"])
        if not name.startswith("__")
    }
    assert used == set(variables)
    for variable in variables.values():
        assert variable["datasource"] == found["panels"][0]["datasource"]
        assert variable["query"]["query"] == variable["definition"]


@pytest.mark.parametrize("file", files.DASHBOARDS, ids=lambda file: file.stem)
def test_panels_lie_side_by_side_and_are_of_known_kinds(file: Path) -> None:
    # Grafana's grid has 24 columns; what overlaps it moves, so that the dashboard looks unlike its file
    taken: dict[tuple[int, int], str] = {}
    for panel in files.dashboard(file)["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0 < place["w"], panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert place["y"] >= 0 < place["h"], panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
        assert panel["type"] in ("timeseries", "stat"), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]


@pytest.mark.parametrize("file", files.DASHBOARDS, ids=lambda file: file.stem)
def test_it_can_be_drawn(file: Path) -> None:
    found = files.dashboard(file)
    line = draw.Line("a <name>", [(0.0, 1.0), (30.0, 2.5), (60.0, 2.0)])
    empty = found["panels"][-1]
    lines = {panel["id"]: [] if panel is empty else [line] for panel in found["panels"]}
    page = draw.page(found, lines, 0.0, 60.0)
    drawn = sum(panel["type"] == "timeseries" for panel in found["panels"] if panel is not empty)
    assert page.count("<polyline") == drawn
    assert page.count("no data") == 1
    assert "<name>" not in page
    assert all(html.escape(panel["title"]) in page for panel in found["panels"])


@pytest.mark.parametrize("file", files.DASHBOARDS, ids=lambda file: file.stem)
def test_panels_do_not_overlap(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in files.dashboard(file)["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_grafana_and_prometheus_find_the_files_in_containers() -> None:
    compose = yaml.safe_load((files.ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    mounts = compose["services"]["grafana"]["volumes"] + compose["services"]["prometheus"]["volumes"]
    places = dict(mount.split(":")[:2] for mount in mounts if mount.startswith("./"))
    provider = yaml.safe_load((PROVISIONED / "dashboards" / "dashboards.yml").read_text(encoding="utf-8"))["providers"][
        0
    ]
    assert places["./monitoring/grafana/dashboards"] == provider["options"]["path"]
    assert places["./monitoring/rules"] == "/etc/prometheus/rules"
    # and the port that Prometheus asks is the one that workers answer on
    port = compose["services"]["worker"]["environment"]["LLM_SERVICE_METRICS_PORT"]
    scraped = yaml.safe_load((files.MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    ports = {job["job_name"]: job["dns_sd_configs"][0]["port"] for job in scraped}
    assert ports == {"api": 8000, "worker": int(port), "scheduler": int(port)}
