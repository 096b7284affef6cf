"""What a batch is asked for beyond its rows, checked once for every way it can be submitted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from core.db import RawConnection
from core.errors import AddressRefused, FieldError, InvalidInput
from core.states import Processing

_WINDOW = re.compile(r"(\d{1,6})(m|h|d)\Z")
_UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86400}
WINDOW_MIN_SECONDS, WINDOW_MAX_SECONDS = 3600, 7 * 86400

#: The names the API takes beside `requests`.
NAMES = frozenset(
    {
        "webhook_url",
        "name",
        "metadata",
        "processing",
        "completion_window",
        "priority",
        "max_cost_usd",
        "max_error_rate",
        "prompt_caching",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    name: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    processing: Processing = Processing.AUTO
    window_seconds: int = 86400
    priority: int = 0
    max_cost_usd: Decimal | None = None
    #: share of ended rows that may have failed, 0 to 1
    max_error_rate: float | None = None
    webhook_url: str | None = None
    retry_of: UUID | None = None
    #: native requests that begin alike are put together and marked for the provider's prompt cache
    prompt_caching: bool = True
    #: called with the new batch's id inside its transaction, right before the commit
    on_commit: Callable[[RawConnection, UUID], None] | None = None


def parse(given: dict[str, Any], check_url: Callable[[str], object]) -> BatchOptions:
    """The options in a request body (or, as strings, in a query).

    Parameters
    ----------
    check_url : raises AddressRefused for an address that webhooks may not be sent to.

    Raises
    ------
    InvalidInput
        With every wrong option, not just the first.
    """
    errors: list[FieldError] = []

    def refuse(name: str, message: str) -> None:
        errors.append(FieldError(f"/{name}", message))

    for unknown in sorted(given.keys() - NAMES):
        refuse(unknown, "is not a known option; a batch takes " + ", ".join(sorted(NAMES)))

    name = given.get("name")
    if name is not None and not (_plain(name) and 1 <= len(name) <= 200):
        refuse("name", "must be a string of 1 to 200 characters")

    metadata = given.get("metadata")
    if metadata is not None and not _pairs(metadata):
        refuse(
            "metadata", "must be an object of at most 16 pairs of strings: keys up to 64 characters, values up to 512"
        )

    processing = given.get("processing")
    if processing is None:
        processing = Processing.AUTO
    if processing not in list(Processing):
        refuse("processing", "must be `auto`, `realtime` or `native`")

    window = 86400
    if given.get("completion_window") is not None:
        found = _WINDOW.match(given["completion_window"]) if isinstance(given["completion_window"], str) else None
        window = int(found[1]) * _UNIT_SECONDS[found[2]] if found else 0
        if not WINDOW_MIN_SECONDS <= window <= WINDOW_MAX_SECONDS:
            refuse("completion_window", 'must be a time from "1h" to "7d", such as "24h"')

    priority = _number(given.get("priority"), int, 0)
    if priority is None or not -10 <= priority <= 10:
        refuse("priority", "must be a whole number from -10 to 10")

    max_cost = None
    if given.get("max_cost_usd") is not None:
        max_cost = _money(given["max_cost_usd"])
        if max_cost is None:
            refuse("max_cost_usd", 'must be an amount of US dollars above 0, such as "12.50"')

    max_error_rate = None
    if given.get("max_error_rate") is not None:
        max_error_rate = _number(given["max_error_rate"], float, None)
        if max_error_rate is None or not 0 <= max_error_rate <= 1:
            refuse("max_error_rate", "must be a number from 0 to 1, the share of rows that may fail")

    prompt_caching = _switch(given.get("prompt_caching"))
    if prompt_caching is None:
        refuse("prompt_caching", "must be true or false")

    webhook_url = given.get("webhook_url")
    if webhook_url is not None:
        if not _plain(webhook_url) or len(webhook_url) > 2048:
            refuse("webhook_url", "must be a URL of at most 2048 characters")
        else:
            try:
                check_url(webhook_url)
            except AddressRefused as error:
                refuse("webhook_url", error.detail)

    if errors:
        raise InvalidInput(errors)
    return BatchOptions(
        name=name,
        metadata=metadata or {},
        processing=Processing(processing),
        window_seconds=window,
        priority=priority or 0,
        max_cost_usd=max_cost,
        max_error_rate=max_error_rate,
        webhook_url=webhook_url,
        prompt_caching=prompt_caching is True,
    )


def _plain(value: object) -> bool:
    """A string that the database can hold."""
    return isinstance(value, str) and "\0" not in value


def _pairs(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 16
        and all(_plain(key) and 1 <= len(key) <= 64 for key in value)
        and all(_plain(text) and len(text) <= 512 for text in value.values())
    )


def _switch(value: object) -> bool | None:
    """True if absent; a truth value, or its text as a query carries it; None if it is neither."""
    if value is None or isinstance(value, bool):
        return value is not False
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


def _number(value: object, kind: type[int] | type[float], default: Any) -> Any:
    """A number, or its text as a query carries it; None if it is neither."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if kind is int and isinstance(value, float):
        return None
    try:
        return kind(value) if len(str(value)) <= 32 else None
    except ValueError:
        return None


def _money(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 32:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 < amount <= 10**9 and amount.as_tuple().exponent >= -10 else None  # type: ignore[operator]
