"""The database's disk is full."""

from __future__ import annotations

import psycopg
import requests

from launcher.client import Client
from tests.chaos.faults.registry import Strike, fault
from tests.chaos.ground import let_pass
from tests.e2e.batches import rows

#: What the server's disk must at least stay full for, in seconds.
FULL_SECONDS = 3.0


@fault("postgres", needs="disks")
def disk_full(strike: Strike) -> None:
    """No room where the data is (SQLSTATE 53100): what must be written waits, what comes in is answered 503."""
    client = strike.ground.new_client("of a full disk")
    disk = strike.ground.disks["data"]
    disk.fill()
    try:
        let_pass(FULL_SECONDS)
        _refused(strike, client)
        strike.wait()
        disk.fill()
        _refused(strike, client)
    finally:
        disk.clear()


@fault("postgres", needs="disks")
def wal_disk_full(strike: Strike) -> None:
    """No room for the write-ahead log: the server panics, and cannot start until there is room again."""
    ground = strike.ground
    ground.disks["wal"].fill()
    try:
        _use_up_log(strike)
        strike.wait()
    finally:
        ground.disks["wal"].clear()
    strike.notes.append("the server stayed" if ground.alive("postgres") else "the server ended")
    # As a supervisor does; nothing if it came up by itself.
    ground.start_process("postgres")


def _use_up_log(strike: Strike) -> None:
    """Write log until the segments that were there before the disk was full are used up."""
    try:
        for _ in range(64):
            strike.ground.query("SELECT pg_logical_emit_message(false, 'chaos', repeat('x', 4 << 20))")
    except psycopg.OperationalError as error:
        strike.notes.append(str(error).splitlines()[0])
        return
    strike.violations.append("the log was not full: the fault did not strike")


def _refused(strike: Strike, client: Client) -> None:
    """A batch that does not fit is answered 503 with Retry-After."""
    requests_ = rows("no-room", 400)
    for row in requests_:
        row["messages"].insert(0, {"role": "system", "content": strike.rng.randbytes(6000).hex()})
    try:
        answer = client.post("/v1/batch", {"requests": requests_}, timeout=30)
    except requests.RequestException as error:
        strike.violations.append(f"the API did not answer with the disk full: {type(error).__name__}")
        return
    if answer.status_code != 503 or "Retry-After" not in answer.headers:
        strike.violations.append(f"with the disk full the API answered {answer.status_code}: {answer.text[:200]}")
