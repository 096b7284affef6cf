"""Everything the processes say, on one terminal: each line behind the name of who said it."""

from __future__ import annotations

import sys
import threading
from typing import IO

#: ANSI colours that can be read on dark and on light ground.
_COLOURS = (36, 33, 32, 35, 34, 31)
_NAME_WIDTH = 10


class Console:
    """Prints lines of many sources, whole and one at a time.

    Parameters
    ----------
    stream
        Where to; names are coloured if it is a terminal.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._coloured = self._stream.isatty()
        self._lock = threading.Lock()
        self._colours: dict[str, int] = {}

    def say(self, text: str) -> None:
        """Our own words, without a name before them."""
        self._write(text + "\n")

    def line(self, name: str, text: str) -> None:
        """One line of a process's output."""
        prefix = f"{name:<{_NAME_WIDTH}} |"
        if self._coloured:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self._write(f"{prefix} {text}\n")

    def follow(self, name: str, stream: IO[bytes]) -> threading.Thread:
        """Print a process's output from now until it closes it, on a thread of its own."""
        thread = threading.Thread(target=self._pump, args=(name, stream), name=f"output of {name}", daemon=True)
        thread.start()
        return thread

    def _pump(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self.line(name, line.decode("utf-8", "replace").rstrip())

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                # The terminal is gone: the processes must not stall on a full pipe for that.
                return
