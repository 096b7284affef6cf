"""Times and money as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal


def time_text(value: datetime | None) -> str | None:
    """RFC 3339 in UTC, with microseconds."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z") if value else None


def money_text(value: Decimal | None) -> str | None:
    """US dollars as plain decimal text: no exponent, no zeros that say nothing."""
    if value is None:
        return None
    return plain_decimal(format(value, "f"))


def plain_decimal(text: str) -> str:
    """The same of a decimal that is text already, without an exponent, as PostgreSQL writes it."""
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
