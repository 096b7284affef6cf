"""As whom PostgreSQL runs where the launcher is root, which it refuses to be."""

from __future__ import annotations

import pwd
from pathlib import Path

from launcher.embedded import ServerFailed
from launcher.process import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, Account


def unprivileged(*paths: Path) -> Account:
    """The user nobody; where it may not enter a directory on the way to a path, with the capability to pass.

    Passing by capability leaves the permissions of directories such as /root as they are.
    """
    nobody = pwd.getpwnam("nobody")
    above = {parent for path in paths for parent in path.resolve().parents}
    if all(parent.stat().st_mode & 0o001 for parent in above):
        return Account(uid=nobody.pw_uid, gid=nobody.pw_gid)
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if _permitted_capabilities() >> capability & 1:
            return Account(uid=nobody.pw_uid, gid=nobody.pw_gid, capability=capability)
    closed = sorted(str(parent) for parent in above if not parent.stat().st_mode & 0o001)
    raise ServerFailed(
        f"PostgreSQL does not run as root, and the user nobody may not enter {closed[0]}: "
        "run as an ordinary user, or keep the checkout and --data where everybody may enter"
    )


def _permitted_capabilities() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return 0
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapPrm:")), 16)
