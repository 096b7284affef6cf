"""A child process that lives in a session of its own, dies with us, and goes away with its whole tree.

Each child leads a session, so that a Ctrl-C in the terminal reaches only us and we decide the order in which
children stop. On Linux the kernel signals it when we are gone (prctl), so that our SIGKILL leaves no orphans.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True) if _LINUX else None

# linux/prctl.h, linux/capability.h and linux/securebits.h
_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 4
_CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who a child runs as, when that is not who we are."""

    uid: int
    gid: int
    #: a capability that is kept over the change of user
    capability: int | None = None


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent died (Linux), so that the last sweep finds them."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class ChildProcess:
    """One command that can be started, stopped, killed and started again.

    Parameters
    ----------
    name
        What people call it, in messages.
    command
        Program and arguments.
    env
        The whole environment; None: ours.
    output
        Where stdout and stderr go: a file, a descriptor, subprocess.PIPE, or None for ours.
    account
        Who it runs as; None: as we do. Anything else needs root.
    stop_signal
        What asks it to stop in order, and what the kernel sends it when we die.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        output: IO[Any] | int | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.env = env
        self.output = output
        self.cwd = cwd
        self.account = account
        self.stop_signal = stop_signal
        self.popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Raises RuntimeError before the first start."""
        if self.popen is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return None if self.popen is None else self.popen.poll()

    def start(self) -> None:
        """Start the command; OSError if it cannot be."""
        if self.alive:
            return
        self.popen = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output if self.output is None else subprocess.STDOUT,
            env=None if self.env is None else dict(self.env),
            cwd=self.cwd,
            start_new_session=True,
            preexec_fn=_after_fork(self.account, self.stop_signal),
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children; no error if it has gone."""
        if self.popen is not None:
            self.popen.send_signal(number)

    def stop(self, grace_seconds: float = 10.0) -> bool:
        """Ask it to stop, wait, then kill what is left of its tree; True if it went by itself."""
        if self.popen is None:
            return True
        tree = self.tree()
        self.signal(self.stop_signal)
        try:
            self.popen.wait(grace_seconds)
            in_order = True
        except subprocess.TimeoutExpired:
            in_order = False
        self._kill_all(tree)
        return in_order

    def kill(self) -> None:
        """SIGKILL it and everything below it, as a power cut would; returns once they are gone."""
        if self.popen is not None:
            self._kill_all(self.tree())

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants, parents first."""
        if not self.alive:
            return []
        try:
            top = psutil.Process(self.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _kill_all(self, tree: list[psutil.Process]) -> None:
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        if self.popen is not None:
            self.popen.wait()
        psutil.wait_procs(tree, timeout=10)


def _after_fork(account: Account | None, death_signal: signal.Signals) -> Callable[[], None] | None:
    """What the child does between fork and exec. Only system calls: other threads' locks may be held."""
    libc = _libc
    if libc is None and account is None:
        return None
    parent = os.getpid()
    # The kernel counts the thread that forked as the parent: from a short-lived thread the child would die with it.
    dies_with_us = libc is not None and threading.current_thread() is threading.main_thread()

    def run() -> None:
        if account is not None:
            _become(account)
        if libc is not None and dies_with_us:
            libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return run


def _become(account: Account) -> None:
    keep = account.capability if _libc is not None else None
    if _libc is not None and keep is not None:
        # The kernel leaves capabilities alone when the user changes, and counts them in access(2) too, which
        # PostgreSQL's programs ask whether they may run each other.
        _libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.gid)
    os.setuid(account.uid)
    if _libc is not None and keep is not None:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        bits = 1 << keep
        sets = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
        if _libc.capset(header, sets) != 0 or _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, keep, 0, 0) != 0:
            os._exit(126)
