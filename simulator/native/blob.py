"""Bytes on disk without a name, which go with their last reader, and lines read from them piece by piece."""

from __future__ import annotations

import os
import random
import tempfile

_PIECE = 256 * 1024


class Blob:
    """A temporary file: written once, then read from any place, by any number of readers."""

    __slots__ = ("_file", "size")

    def __init__(self) -> None:
        # Nameless: nothing is left behind, whatever ends this process.
        self._file = tempfile.TemporaryFile(buffering=_PIECE)  # noqa: SIM115 - closed when the last reader lets go
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)

    def seal(self) -> Blob:
        """All has been written."""
        self._file.flush()
        return self

    def read(self, at: int, size: int = _PIECE) -> bytes:
        """Up to `size` bytes from `at`; empty at the end. Only after `seal`."""
        return os.pread(self._file.fileno(), size, at)


class Lines:
    """The lines of a blob, one after another; empty lines are passed over."""

    __slots__ = ("_at", "_blob", "_rest", "_waiting", "number")

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._at = 0
        self._rest = b""
        self._waiting: list[bytes] = []
        #: of the line that `take` gave last, from 1
        self.number = 0

    def take(self) -> bytes | None:
        """The next line without its end, or None after the last one."""
        while True:
            while self._waiting:
                self.number += 1
                if line := self._waiting.pop().strip():
                    return line
            pieces = [self._rest]
            while piece := self._blob.read(self._at):
                self._at += len(piece)
                pieces.append(piece)
                if b"\n" in piece:
                    break
            whole = b"".join(pieces)
            if not whole:
                return None
            *lines, self._rest = whole.split(b"\n") if piece else [whole, b""]
            self._waiting = lines[::-1]


class Results:
    """Result lines on their way to a blob, in another order than they came in if `shuffle`.

    A window of lines is held back and drawn from at random: cheap, and no line's place can be relied upon.
    """

    _WINDOW = 1_000

    def __init__(self, shuffle: random.Random | None) -> None:
        self.blob = Blob()
        self.lines = 0
        self._random = shuffle
        self._held: list[bytes] = []

    def add(self, line: bytes) -> None:
        """One line, with its end."""
        self.lines += 1
        if self._random is None:
            self.blob.write(line)
        elif len(self._held) < self._WINDOW:
            self._held.append(line)
        else:
            at = self._random.randrange(self._WINDOW)
            self._held[at], line = line, self._held[at]
            self.blob.write(line)

    def finish(self) -> Blob:
        """No more lines."""
        if self._random is not None:
            self._random.shuffle(self._held)
        for line in self._held:
            self.blob.write(line)
        self._held = []
        return self.blob.seal()
