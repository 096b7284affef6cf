"""A disk of its own, small enough to be filled: a tmpfs, which takes root to mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

MIB = 1 << 20


class SmallDisk:
    """A file system in memory at `path`.

    Parameters
    ----------
    path : made when missing.
    size : bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._ballast = path / "ballast"
        path.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path))

    def fill(self) -> None:
        """Leave no room, as another program's file would."""
        size = self._ballast.stat().st_size if self._ballast.exists() else 0
        step = 64 * MIB
        with open(self._ballast, "ab") as file:
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError:
                    step //= 2

    def clear(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        # What was killed a moment ago may still hold a file there.
        _run("umount", "--lazy", str(self.path))


def permitted() -> str | None:
    """None if disks can be mounted here; else why not."""
    if os.geteuid() != 0:
        return "a small disk is a tmpfs, and only root can mount it"
    done = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return None if done.returncode == 0 else f"a tmpfs cannot be mounted: {done.stderr.decode().strip()}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
