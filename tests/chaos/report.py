"""What trials found, as JSON for machines and as a table for people."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.trial import Report, Trial

HEAD = ("seed", "faults", "weather", "rows", "calls", "paid", "unknown", "settled", "took", "")


def of(trial: Trial, faults: Sequence[str]) -> Report:
    """What a trial found, printed as soon as it is over. That the trial itself failed is a violation."""
    try:
        found = trial.run()
    except Exception:
        broken = f"the trial itself failed: {traceback.format_exc()}"
        found = Report(trial.seed, list(faults), trial.weather, trial.rows, [broken])
    print("  ".join(line(found)), *found.violations, sep="\n    ", flush=True)
    return found


def conclude(reports: Sequence[Report], directory: Path) -> int:
    """Print what all trials found; the exit status. The directory with their logs is kept if anything did not hold."""
    failed = [report for report in reports if report.violations]
    print(f"\n{table(reports)}\n\n{len(reports)} trials, {len(failed)} with violations")
    if not failed:
        shutil.rmtree(directory, ignore_errors=True)
        return 0
    print(f"logs: {directory}")
    return 1


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
