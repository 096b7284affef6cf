"""What the tests of native batches do and look at besides the API: time that passes, shards, the provider's side."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from launcher.client import wait_until
from launcher.house import House


def shards(house: House, batch_id: str) -> list[dict[str, Any]]:
    """The batch's shards as the database has them."""
    with psycopg.connect(house.address.database_url, row_factory=dict_row) as connection:
        return connection.execute(
            "SELECT * FROM native_shard WHERE batch_id = %s::uuid ORDER BY formed_at", (batch_id[6:],)
        ).fetchall()


def wait_for_shards(house: House, batch_id: str, state: str, *, timeout_seconds: float = 30.0) -> None:
    """Wait until the batch has shards and all are in this state."""
    wait_until(
        lambda: (found := shards(house, batch_id)) != [] and all(shard["state"] == state for shard in found),
        timeout_seconds,
        lambda: f"not all are {state}: {shards(house, batch_id)}",
    )


def let_pass(house: House, batch_id: str, *, hours: float) -> None:
    """Let time pass for one batch and its shards, and for the provider: everything that is dated moves back."""
    with psycopg.connect(house.address.database_url) as connection:
        connection.execute(
            "UPDATE batch SET expires_at = expires_at - make_interval(secs => %s) WHERE id = %s::uuid",
            (hours * 3600, batch_id[6:]),
        )
        connection.execute(
            "UPDATE native_shard SET formed_at = formed_at - make_interval(secs => %(s)s),"
            " sent_at = sent_at - make_interval(secs => %(s)s), due_at = due_at - make_interval(secs => %(s)s),"
            " cancel_asked_at = cancel_asked_at - make_interval(secs => %(s)s) WHERE batch_id = %(batch)s::uuid",
            {"s": hours * 3600, "batch": batch_id[6:]},
        )
    house.simulator.advance(hours * 3600)


def out_of_patience(house: House, batch_id: str) -> None:
    """Let the time pass that a provider is given to stop, and nothing else."""
    with psycopg.connect(house.address.database_url) as connection:
        connection.execute(
            "UPDATE native_shard SET cancel_asked_at = cancel_asked_at - interval '1 hour' WHERE batch_id = %s::uuid",
            (batch_id[6:],),
        )


def wait_until_clean(house: House, batch_id: str) -> None:
    """Wait until nothing of the batch is left at the provider or in doubt."""
    wait_for_shards(house, batch_id, "cleaned")


def money(found: list[dict[str, Any]]) -> Decimal:
    """What the rows cost together."""
    return sum((Decimal(row["cost_usd"] or 0) for row in found), Decimal(0))


def ways(found: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """How many rows came to which end which way."""
    return Counter((row["status"], row["processing"]) for row in found)


def executed_twice(house: House, name: str) -> list[str]:
    """Nonces of this name that the provider ran more than once, either way."""
    return [
        nonce
        for nonce, counts in house.simulator.nonces().items()
        if nonce.startswith(f"nonce-{name}-") and counts["executed"] > 1
    ]
