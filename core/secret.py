"""The one type a secret travels in: its text form is fixed, so it cannot slip into a log or an error."""

from __future__ import annotations


class Secret:
    """A secret string that prints as ****.

    `reveal()` is the only way to its value. It cannot be pickled or put into JSON, so that it
    does not end up in a message or a row by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def hint(self) -> str:
        """The last four characters, or nothing when that would be all of the secret."""
        return self._value[-4:] if len(self._value) > 4 else ""

    def __repr__(self) -> str:
        return "****"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not serialised")
