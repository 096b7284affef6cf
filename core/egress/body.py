"""A request body of known length that is produced while it is sent: a file of 200 MB never lies in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from core.egress.errors import BodyFailed

#: Small pieces are gathered to this size for one system call.
GATHER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Body:
    """`length` bytes, at least one, that `pieces()` produces; it is called anew when a request is sent again."""

    length: int
    pieces: Callable[[], Iterator[bytes]]

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError("a streamed body has at least one byte")

    def __len__(self) -> int:
        return self.length

    def send(self, head: bytes, put: Callable[[bytes], None]) -> None:
        """Send `head` and the body with `put`, in large pieces.

        The last bytes leave only when the producer has ended at the announced length: the server never gets something
        else that looks whole.

        Raises
        ------
        BodyFailed
            The producer gave more or less than `length` bytes, or an OSError came out of it. Its other errors pass
            through as they are.
        """
        held, size, left = [head], len(head), self.length
        with closing(self._produced()) as produced:
            for piece in produced:
                left -= len(piece)
                if left < 0:
                    raise BodyFailed(f"The request's body is longer than the {self.length} bytes announced.")
                held.append(piece)
                size += len(piece)
                if size >= GATHER_BYTES and left:
                    put(b"".join(held))
                    held, size = [], 0
        if left:
            raise BodyFailed(f"The request's body ended {left} bytes short of the {self.length} announced.")
        put(b"".join(held))

    def _produced(self) -> Generator[bytes, None, None]:
        """The pieces; an OSError of the producer is not taken for one of the connection."""
        try:
            yield from self.pieces()
        except OSError as error:
            raise BodyFailed("The request's body could not be produced.") from error
