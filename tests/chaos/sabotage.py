"""Starts a process with something of it taken out or bent: `python -m tests.chaos.sabotage PROCESS KIND[,KIND...]`.

worker     no-fence    starts whatever it is rung for, without asking whether the row is still its to start (I5)
           mixed-up    now and then keeps the answer to another row's call (I1, I7)
           miscounted  counts more cost than rows have (I2)
           unsigned    sends webhooks whose signature is another event's (I4)
           poison      dies, as of SIGKILL, with any row in hand whose prompt says POISON
scheduler  no-rescue   takes nothing back from dead workers and rings no missed doorbell again (I1, I3)
api        forgetful   does not know an Idempotency-Key again (I6)
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Callable  # noqa: E402
from decimal import Decimal  # noqa: E402
from typing import Any  # noqa: E402

POISON = "POISON"


def no_fence() -> None:
    from core.dispatch import start

    fence = "AND lease.fence = slice.fence"
    not_started = "AND lease.rung_at IS NOT NULL AND lease.call_started_at IS NULL"
    assert fence in start._START
    assert not_started in start._START
    start._START = start._START.replace(fence, "").replace(not_started, "")


def mixed_up() -> None:
    from workers import execute

    right, kept = execute.call, []

    def call(*arguments: Any, **options: Any) -> Any:
        kept.append(right(*arguments, **options))
        return kept[-2] if len(kept) % 5 == 0 else kept[-1]

    execute.call = call


def miscounted() -> None:
    from core.batches import ending

    right = ending.add

    def add(connection: Any, tallies: Any) -> Any:
        for tally in tallies.values():
            tally.cost_usd += Decimal("0.000001")
        return right(connection, tallies)

    ending.add = add


def unsigned() -> None:
    from core import webhooks

    right = webhooks.headers
    webhooks.headers = lambda delivery: right(delivery) | {"webhook-signature": "v1,bm90IHRoZSBzaWduYXR1cmU="}


def poison() -> None:
    from workers import execute

    harmless = execute.call

    def call(connection: Any, model: str, params: dict[str, Any], **options: Any) -> Any:
        if POISON in str(params["messages"]):
            os._exit(137)
        return harmless(connection, model, params, **options)

    execute.call = call


def no_rescue() -> None:
    from scheduler import tasks

    tasks.Rescue.tick = lambda self: 1.0  # type: ignore[method-assign]


def forgetful() -> None:
    from core import idempotency

    right = idempotency.claim
    idempotency.claim = lambda principal, key, **options: right(principal, f"{key}-{uuid.uuid4()}", **options)


def worker() -> int:
    from workers.__main__ import main

    return main()


def scheduler() -> int:
    from scheduler.__main__ import main

    return main()


def api() -> int:
    from gunicorn.app.wsgiapp import run

    sys.argv = ["gunicorn", "-c", "app/gunicorn_conf.py", "app.wsgi:app"]
    run()
    return 0


if __name__ == "__main__":
    kinds: dict[str, Callable[[], None]] = {
        "no-fence": no_fence,
        "mixed-up": mixed_up,
        "miscounted": miscounted,
        "unsigned": unsigned,
        "poison": poison,
        "no-rescue": no_rescue,
        "forgetful": forgetful,
    }
    processes: dict[str, Callable[[], int]] = {"worker": worker, "scheduler": scheduler, "api": api}
    for kind in sys.argv[2].split(","):
        kinds[kind]()
    sys.exit(processes[sys.argv[1]]())
