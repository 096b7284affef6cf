"""The figures of a benchmark: gathered over its runs, printed as a table, kept as JSON under benchmarks/out/."""

from __future__ import annotations

import json
import statistics
import sys
import time
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import machine

OUT = Path(__file__).resolve().parent / "out"


@dataclass(slots=True)
class Figure:
    """One line of the table: a value per run, and the goal that the median is held against."""

    unit: str
    at_least: float | None
    at_most: float | None
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def goal(self) -> str:
        if self.at_least is not None:
            return f">= {_number(self.at_least)}"
        return "" if self.at_most is None else f"<= {_number(self.at_most)}"

    @property
    def met(self) -> bool | None:
        """None if there is no goal."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.median >= self.at_least) and (
            self.at_most is None or self.median <= self.at_most
        )


class Report:
    """Everything that one command found out.

    Parameters
    ----------
    name
        The command's.
    options
        Its options, which are kept with the figures.
    """

    def __init__(self, name: str, options: Namespace) -> None:
        self.name = name
        self.options = vars(options)
        #: the short form is too short to be held against the goals
        self._judged = not options.quick
        self.machine = machine()
        self.figures: dict[str, Figure] = {}
        self._started = time.monotonic()

    def add(
        self, label: str, value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        """One run's value of the figure of this label; said at once, for a run may take long."""
        figure = self.figures.setdefault(label, Figure(unit, at_least, at_most))
        figure.values.append(value)
        self.say(f"{label}: {_number(value)} {unit}")

    def say(self, text: str) -> None:
        """A word on how far it is."""
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Print the table and write the JSON."""
        print(f"\n{self.name}: {', '.join(f'{name} {_plain(value)}' for name, value in self.options.items())}")
        for name, value in self.machine.items():
            print(f"  {name}: {value}")
        head = ("figure", "unit", "min", "median", "max", "goal", "")
        lines = [head, *(self._line(label, figure) for label, figure in self.figures.items())]
        widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
        for line in lines:
            cells = [
                cell.ljust(width) if at < 2 else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            print("  ".join(cells).rstrip())
        OUT.mkdir(exist_ok=True)
        file = OUT / f"{self.name}.json"
        file.write_text(json.dumps(self._as_json(), indent=2) + "\n")
        print(f"written to {file}", flush=True)

    def _as_json(self) -> dict[str, object]:
        return {
            "benchmark": self.name,
            "options": self.options,
            "machine": self.machine,
            "seconds": round(time.monotonic() - self._started, 1),
            "figures": {
                label: {
                    "unit": figure.unit,
                    "min": min(figure.values),
                    "median": figure.median,
                    "max": max(figure.values),
                    "values": figure.values,
                    "at_least": figure.at_least,
                    "at_most": figure.at_most,
                    "met": figure.met if self._judged else None,
                }
                for label, figure in self.figures.items()
            },
        }

    def _line(self, label: str, figure: Figure) -> tuple[str, ...]:
        met = {None: "", True: "met", False: "missed"}[figure.met] if self._judged else ""
        low, high = min(figure.values), max(figure.values)
        return (label, figure.unit, _number(low), _number(figure.median), _number(high), figure.goal, met)


def _number(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4g}"


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
