"""Starts a worker or the scheduler without one safeguard: `python -m tests.chaos.native.sabotage ROLE KIND`.

no-look    a batch whose answer was lost is not looked for before another is made (I5)
no-gate    an answer is written whether or not its row has ended: the tables refuse the second one, for ever (I3)
no-fence   a doorbell that is heard twice begins two steps (I5)
"""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402


def no_look() -> None:
    from core.native import sending

    sending._lost_batch = lambda step, remote: None


def no_gate() -> None:
    from core.native import record

    assert "AND c.status = 'pending'" in record._END
    record._END = record._END.replace("AND c.status = 'pending'", "")


def no_fence() -> None:
    from core.native import holds

    for gate in ("fence = fence + 1,", "AND shard.fence = %(fence)s"):
        assert gate in holds._BEGIN
        holds._BEGIN = holds._BEGIN.replace(gate, "")


KINDS: dict[str, Callable[[], None]] = {"no-look": no_look, "no-gate": no_gate, "no-fence": no_fence}

if __name__ == "__main__":
    KINDS[sys.argv[2]]()
    if sys.argv[1] == "scheduler":
        from scheduler.__main__ import main
    else:
        from workers.__main__ import main
    sys.exit(main())
