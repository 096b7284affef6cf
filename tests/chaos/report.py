"""What trials found, as JSON for machines and as a table for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.trial import Report

HEAD = ("seed", "faults", "weather", "rows", "calls", "paid", "unknown", "settled", "took", "")


def write(reports: Sequence[Report], file: Path) -> None:
    """All trials with their violations and notes."""
    failed = sum(bool(report.violations) for report in reports)
    found = {"trials": len(reports), "failed": failed, "reports": [report.as_json() for report in reports]}
    file.write_text(json.dumps(found, indent=1, default=str) + "\n")


def line(report: Report) -> tuple[str, ...]:
    settled = "-" if report.settled_seconds is None else f"{report.settled_seconds:.1f} s"
    return (
        str(report.seed),
        "+".join(report.faults),
        report.weather,
        str(report.rows),
        str(report.calls),
        str(report.executed),
        str(report.unknown),
        settled,
        f"{report.seconds:.0f} s",
        "ok" if not report.violations else f"{len(report.violations)} VIOLATIONS",
    )


def table(reports: Sequence[Report]) -> str:
    """One line a trial, then what went wrong in each."""
    lines = [HEAD, *map(line, reports)]
    widths = [max(len(cells[n]) for cells in lines) for n in range(len(HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in lines]
    for report in reports:
        text += [f"{report.seed}: {violation}" for violation in report.violations]
        text += [f"{report.seed}: ({note})" for note in report.notes if report.violations]
    return "\n".join(text)
