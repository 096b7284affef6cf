"""Rows that take down whatever worker calls them."""

from __future__ import annotations

import time

from launcher.client import wait_until
from tests.chaos.faults.registry import GRACE_SECONDS, Strike, fault
from tests.e2e.batches import results, rows, submit


@fault("workers", long=True)
def poison(strike: Strike) -> None:
    """A row that takes down whatever worker calls it: it ends as worker_crashed, and takes no other row with it."""
    ground = strike.ground
    client = ground.new_client("poison")
    for name in ground.workers:
        ground.stop(name, GRACE_SECONDS)
        ground.instead[name] = "poison"
        ground.start_process(name)
    requests = rows(f"poison-{strike.rng.getrandbits(32)}", 30)
    requests[7]["messages"][0]["content"] += " POISON"
    batch_id = submit(client, requests)["id"]

    def ended() -> bool:
        for name in ground.workers:
            if not ground.alive(name):
                # As a supervisor does.
                strike.unknown += ground.in_calls_of([name], time.time())
                ground.start_process(name)
        return client.get(f"/v1/batch/{batch_id}").json()["ended_at"] is not None

    try:
        wait_until(ended, 8 * ground.lease_seconds + 30.0)
        found = {row["custom_id"]: row for row in results(client, batch_id)}
        if (found["row-7"]["error"] or {}).get("type") != "worker_crashed":
            strike.violations.append(f"poison: the row ended as {found['row-7']['status']}: {found['row-7']['error']}")
        innocent = [key for key, row in found.items() if row["status"] != "succeeded" and key != "row-7"]
        if innocent:
            strike.violations.append(f"poison: {len(innocent)} other rows failed: {found[innocent[0]]['error']}")
    except TimeoutError:
        strike.violations.append("poison: the batch has not ended")
    for name in ground.workers:
        del ground.instead[name]
        ground.stop(name, GRACE_SECONDS)
        ground.start_process(name)
