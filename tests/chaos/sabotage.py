"""Starts a worker or the scheduler with something of it taken out or bent: `python -m tests.chaos.sabotage KIND ...`.

no-fence      a worker that starts whatever it is rung for, without asking whether the row is still its to start
no-rescue     a scheduler that takes nothing back from dead workers and rings no missed doorbell again
poison        a worker that dies, as of SIGKILL, with any row in hand whose prompt says POISON
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

POISON = "POISON"


def no_fence() -> int:
    from core.dispatch import start
    from workers.__main__ import main

    fence = "AND lease.fence = slice.fence"
    not_started = "AND lease.rung_at IS NOT NULL AND lease.call_started_at IS NULL"
    assert fence in start._START
    assert not_started in start._START
    start._START = start._START.replace(fence, "").replace(not_started, "")
    return main()


def no_rescue() -> int:
    from scheduler import tasks
    from scheduler.__main__ import main

    tasks.Rescue.tick = lambda self: 1.0  # type: ignore[method-assign]
    return main()


def poison() -> int:
    from workers import execute
    from workers.__main__ import main

    harmless = execute.call

    def call(connection: Any, model: str, params: dict[str, Any], **options: Any) -> Any:
        if POISON in str(params["messages"]):
            os._exit(137)
        return harmless(connection, model, params, **options)

    execute.call = call  # type: ignore[assignment]
    return main()


if __name__ == "__main__":
    kinds: dict[str, Any] = {
        "no-fence": no_fence,
        "no-rescue": no_rescue,
        "poison": poison,
    }
    sys.exit(kinds[sys.argv[1]](*sys.argv[2:]))
