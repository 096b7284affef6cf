"""The options of a benchmark: a full form by default, a short one with --quick, each number open to be given."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """One number (or list of numbers) of a benchmark: what it is by default, in the short form, and what it means."""

    full: Any
    quick: Any
    help: str


#: How often everything is measured; the table shows minimum, median and maximum.
RUNS = Option(3, 1, "how often each figure is measured")


def parse(name: str, doc: str, arguments: Sequence[str] | None, **known: Option) -> argparse.Namespace:
    """The values: given ones, else those of the short form with --quick, else those of the full one.

    A tuple is written with commas: `--latency 0,1`.
    """
    first = doc.strip().splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=first)
    parser.add_argument("--quick", action="store_true", help="a short form, which only proves that the command works")
    parser.add_argument(
        "--fast", action="store_true", help="the database and Redis do not wait for the disk (bin/up's do)"
    )
    for option, value in known.items():
        shown = f"{value.help} (default {_text(value.full)}, with --quick {_text(value.quick)})"
        parser.add_argument(f"--{option.replace('_', '-')}", type=_kind(value.full), help=shown)
    chosen = parser.parse_args(arguments)
    for option, value in known.items():
        if getattr(chosen, option) is None:
            setattr(chosen, option, value.quick if chosen.quick else value.full)
    return chosen


def _kind(value: Any) -> Callable[[str], Any]:
    if not isinstance(value, tuple):
        return type(value)
    element = type(value[0])
    return lambda text: tuple(element(part) for part in text.split(","))


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
