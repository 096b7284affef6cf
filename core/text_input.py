"""Checks of short texts that callers give, with messages that say what to do: shared by small resources."""

from __future__ import annotations

import re
from typing import Any

from core.errors import FieldError

# Control characters, and the halves of surrogate pairs that JSON's \\u escapes let through and PostgreSQL refuses.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Problems(list[FieldError]):
    """What is wrong with one input, collected so that all of it is reported at once."""

    def add(self, pointer: str, message: str) -> None:
        self.append(FieldError(pointer, message))

    def unknown(self, given: Any, known: set[str], pointer: str = "") -> None:
        """Report fields that do not exist: a misspelt one would otherwise be ignored silently."""
        for name in given:
            if name not in known:
                self.add(
                    f"{pointer}/{escape(str(name))}", f"There is no such field; known are {', '.join(sorted(known))}."
                )

    def text(self, value: Any, pointer: str, *, longest: int, shortest: int = 1) -> str | None:
        """The text, stripped; None (and a problem) if it is none, too long, or has control characters."""
        if not isinstance(value, str):
            self.add(pointer, "Must be a string.")
            return None
        stripped = value.strip()
        if not shortest <= len(stripped) <= longest:
            self.add(pointer, f"Must have {shortest} to {longest} characters.")
        elif not is_storable(stripped):
            self.add(pointer, "Must not contain control characters.")
        else:
            return stripped
        return None

    def whole_number(self, value: Any, pointer: str, *, most: int) -> int | None:
        """The number from 1 to `most`."""
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            self.add(pointer, f"Must be a whole number from 1 to {most}.")
            return None
        return value


def is_storable(text: str) -> bool:
    """True for text without control characters and lone surrogates: PostgreSQL takes it, and a line stays a line."""
    return _UNPRINTABLE.search(text) is None


def escape(name: str) -> str:
    """A field's name as part of a JSON pointer (RFC 6901), shortened: it comes from the caller."""
    return name[:100].encode("utf-8", "replace").decode().replace("~", "~0").replace("/", "~1")
