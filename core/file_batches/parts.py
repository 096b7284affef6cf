"""The files of a batch: its requests, its answers, and what went wrong with the others, each under an id of its own."""

from __future__ import annotations

import re
from enum import StrEnum
from uuid import UUID


class Part(StrEnum):
    """Which lines of a batch a file holds: its requests, its answers, or what went wrong with the others."""

    INPUT = "input"
    OUTPUT = "output"
    ERROR = "error"


_FILE_ID = re.compile(r"file-([0-9a-f]{32})-(input|output|error)\Z")


def file_id(batch_id: UUID, part: Part) -> str:
    """The id of a file that is made of a batch's rows when it is read."""
    return f"file-{batch_id.hex}-{part}"


def parse_file_id(text: str) -> tuple[UUID, Part] | None:
    """What `file_id` put together; None if it is no such id."""
    found = _FILE_ID.match(text)
    return (UUID(hex=found[1]), Part(found[2])) if found else None
