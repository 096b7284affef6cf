"""Draws a Grafana dashboard's panels from a Prometheus server, as one page of HTML with SVG: a picture without Grafana.

It knows what the dashboards here use: time series and stats, legends, units, the grid of 24 columns.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

WIDTH, ROW_HEIGHT, GAP = 1440, 30, 8
_COLORS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a", "#96d98d", "#ffa6b0")
_LEGEND = 6
#: What Grafana fills in, with everything chosen.
_VARIABLES = {"$__rate_interval": "30s", "$__range": "10m", "$provider": ".*", "$tenant": ".*"}


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its name, and (time, value) points in Unix seconds."""

    name: str
    points: Sequence[tuple[float, float]]


def read(url: str, panel: Mapping[str, Any], start: float, end: float, step: float) -> list[Line]:
    """The series of a panel's queries, as Prometheus gives them for the range."""
    found = []
    for target in panel["targets"]:
        query = target["expr"]
        for name, value in _VARIABLES.items():
            query = query.replace(name, value)
        answer = requests.get(
            f"{url}/api/v1/query_range",
            params={"query": query, "start": str(start), "end": str(end), "step": str(step)},
            timeout=30,
        ).json()
        if answer["status"] != "success":
            raise RuntimeError(f"{panel['title']}: {answer}")
        for series in answer["data"]["result"]:
            points = [(float(at), float(value)) for at, value in series["values"]]
            points = [point for point in points if math.isfinite(point[1])]
            found.append(Line(_name(target.get("legendFormat") or panel["title"], series["metric"]), points))
    return [line for line in found if line.points]


def page(dashboard: Mapping[str, Any], lines: Mapping[int, Sequence[Line]], start: float, end: float) -> str:
    """The dashboard as HTML; `lines` are the series by panel id."""
    panels = []
    column = (WIDTH + GAP) / 24
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        width, height = at["w"] * column - GAP, at["h"] * ROW_HEIGHT - GAP
        place = f"left:{at['x'] * column:.0f}px;top:{at['y'] * ROW_HEIGHT + 44}px;width:{width:.0f}px;height:{height}px"
        draw = _stat if panel["type"] == "stat" else _series
        body = draw(panel, lines[panel["id"]], start, end, width, height - 28)
        panels.append(f'<div class="panel" style="{place}"><h2>{html.escape(panel["title"])}</h2>{body}</div>')
    return _PAGE.format(title=html.escape(dashboard["title"]), panels="\n".join(panels), width=WIDTH)


def height(dashboard: Mapping[str, Any]) -> int:
    """Pixels of the page."""
    return max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * ROW_HEIGHT + 60


def _name(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), form)


def _unit(panel: Mapping[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"]["unit"])


def _shown(value: float, unit: str) -> str:
    """A value as Grafana would write it, about."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or not value else f"{value * 1000:.3g} ms"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    text = f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value / 1e3:.3g} k" if value >= 1e3 else f"{value:.3g}"
    return {"currencyUSD": f"${text}", "reqps": f"{text} /s", "cps": f"{text} /s"}.get(unit, text)


def _stat(panel: Mapping[str, Any], lines: Sequence[Line], *_: float) -> str:
    values = "".join(
        f"<div><b>{_shown(line.points[-1][1], _unit(panel))}</b>"
        + (f"<span>{html.escape(line.name)}</span>" if len(lines) > 1 else "")
        + "</div>"
        for line in lines[:_LEGEND]
    )
    return f'<div class="stat">{values or "no data"}</div>'


def _series(
    panel: Mapping[str, Any], lines: Sequence[Line], start: float, end: float, width: float, height: float
) -> str:
    left, bottom = 58.0, 16.0
    shown = sorted(lines, key=lambda line: -max(value for _, value in line.points))
    plot = height - bottom - 15 * min(len(shown), _LEGEND) - 8
    top = max((value for line in lines for _, value in line.points), default=0.0) * 1.08 or 1.0

    def x(at: float) -> float:
        return left + (at - start) / (end - start) * (width - left - 12)

    def y(value: float) -> float:
        return 4 + (plot - 4) * (1 - max(0.0, value) / top)

    parts = []
    for share in (0, 0.5, 1):
        at = y(top * share)
        parts.append(f'<line x1="{left}" x2="{width - 12:.0f}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        parts.append(f'<text x="{left - 5}" y="{at + 4:.1f}" class="y">{_shown(top * share, _unit(panel))}</text>')
    for share in (0, 0.5, 1):
        seconds = (end - start) * (share - 1)
        anchor = ("start", "middle", "end")[int(share * 2)]
        at = x(start + (end - start) * share)
        parts.append(f'<text x="{at:.0f}" y="{plot + 13:.0f}" text-anchor="{anchor}">{seconds:.0f} s</text>')
    for number, line in enumerate(shown):
        color = _COLORS[number % len(_COLORS)]
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
        parts.append(f'<polyline points="{points}" stroke="{color}"/>')
        if number < _LEGEND:
            last, most = line.points[-1][1], max(value for _, value in line.points)
            words = f"{line.name}   last {_shown(last, _unit(panel))}, max {_shown(most, _unit(panel))}"
            below = plot + bottom + 15 * number + 12
            parts.append(f'<rect x="{left}" y="{below - 7:.0f}" width="12" height="4" fill="{color}"/>')
            parts.append(f'<text x="{left + 18}" y="{below:.0f}">{html.escape(words)}</text>')
    if not lines:
        parts.append(f'<text x="{width / 2:.0f}" y="{plot / 2:.0f}" text-anchor="middle">no data</text>')
    return f'<svg width="{width:.0f}" height="{height:.0f}">{"".join(parts)}</svg>'


_PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body {{ margin: 0; padding: 0; width: {width}px; background: #111217; color: #ccccdc; font: 11px sans-serif;
       position: relative }}
h1 {{ font-size: 17px; margin: 0; padding: 12px 10px }}
h2 {{ font-size: 12px; margin: 0; padding: 6px 10px }}
.panel {{ position: absolute; background: #181b1f; border: 1px solid #2a2d33; box-sizing: border-box;
         overflow: hidden }}
.stat {{ display: flex; gap: 24px; justify-content: center; align-items: center; height: 65% }}
.stat b {{ font-size: 26px; color: #73bf69; display: block; text-align: center }}
.stat span {{ display: block; text-align: center }}
svg text {{ fill: #ccccdc; white-space: pre }} svg .y {{ text-anchor: end }}
svg .grid {{ stroke: #2a2d33 }} svg polyline {{ fill: none; stroke-width: 1.5 }}
</style><h1>{title}</h1>{panels}
"""
