"""How the tests are dealt out to the processes of pytest-xdist: what shares a house stays together, the longest first.

A house costs seconds of processor time to start, so the folders that have one for all their files go to one process
each. What takes long goes first: begun last, it would run alone while the other processes have nothing left.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

#: Folders whose files share one house, but for those files that start houses of their own.
SHARED = ("tests/native/", "tests/e2e/", "tests/app/anthropic_surface/", "tests/app/openai_surface/")
OWN_HOUSE = ("tests/e2e/test_processes.py", "tests/e2e/test_recovery.py", "tests/e2e/test_canaries.py")
#: Longest first; the others come after them in the order of their names. One that is missing here costs time only.
LONGEST = (
    "tests/native/",
    "tests/chaos/test_short.py",
    "tests/e2e/",
    "tests/monitoring/test_running_service.py",
    "tests/chaos/test_harness.py",
    "tests/launcher/test_up.py",
    "tests/chaos/native/test_native_harness.py",
    "tests/app/anthropic_surface/",
    "tests/chaos/native/test_native_short.py",
    "tests/core/limits/test_simulated.py",
    "tests/app/openai_surface/",
    "tests/e2e/test_processes.py",
    "tests/e2e/test_recovery.py",
    "tests/chaos/test_hosts.py",
    "tests/launcher/test_house.py",
    "tests/e2e/test_canaries.py",
    "tests/monitoring/test_tracing.py",
    "tests/app/test_hostile_input.py",
)


def part_of(nodeid: str) -> str:
    """The folder or the file with which a test stays in one process."""
    file = nodeid.partition("::")[0]
    if file not in OWN_HOUSE:
        for folder in SHARED:
            if file.startswith(folder):
                return folder
    return file


def place(nodeid: str) -> int:
    """Where a test's part stands in the order; a stable sort keeps the tests of a part as they were."""
    part = part_of(nodeid)
    return LONGEST.index(part) if part in LONGEST else len(LONGEST)


class Dealing(LoadScopeScheduling):
    """xdist's dealing by scope, with the scope of `part_of`, in the order in which the tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return part_of(nodeid)
