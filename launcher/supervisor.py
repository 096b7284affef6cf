"""Starts services in stages, keeps them running, gives up with a reason, and stops them in the reverse order.

Of the kept process runners, honcho starts all at once and ends with the first that ends, circus and supervisor restart
and order but show no readable common output, neither waits for one service to be ready before the next nor brings the
house down when one cannot be kept up, and circus drags in tornado and ZeroMQ. What is needed is this one file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from launcher.console import Console
from launcher.process import ChildProcess, adopt_orphans

#: So many deaths of one service within this time, and the house comes down.
MAX_DEATHS = 5
DEATHS_WITHIN_SECONDS = 60.0
#: Before the first restart and at most; it doubles in between.
FIRST_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0
READY_WITHIN_SECONDS = 60.0
_POLL_SECONDS = 0.05


class StopRequested(Exception):
    """Somebody asked us to stop while we were waiting."""


class HouseFailed(Exception):
    """A service cannot be started or kept up; the message says which and why."""


class Service(Protocol):
    """What can be supervised; an embedded server, or a Program."""

    name: str

    @property
    def alive(self) -> bool: ...

    def spawn(self) -> ChildProcess: ...

    def ready(self) -> bool: ...

    def stop(self, grace_seconds: float = ...) -> bool: ...

    def kill(self) -> None: ...


class Program:
    """A process of ours as a service.

    Parameters
    ----------
    process
        How it is started.
    is_ready
        Asked with the process until it says yes.
    grace_seconds
        How long it may take to stop.
    """

    def __init__(
        self, process: ChildProcess, is_ready: Callable[[ChildProcess], bool], *, grace_seconds: float = 10.0
    ) -> None:
        self.name = process.name
        self.process = process
        self._is_ready = is_ready
        self._grace_seconds = grace_seconds

    @property
    def alive(self) -> bool:
        return self.process.alive

    def spawn(self) -> ChildProcess:
        self.process.start()
        return self.process

    def ready(self) -> bool:
        return self._is_ready(self.process)

    def stop(self, grace_seconds: float | None = None) -> bool:
        return self.process.stop(self._grace_seconds if grace_seconds is None else grace_seconds)

    def kill(self) -> None:
        self.process.kill()


@dataclass
class _Watched:
    service: Service
    process: ChildProcess
    started_at: float
    is_ready: bool = False
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_DEATHS))
    restart_at: float | None = None


class Supervisor:
    """The services of one house.

    Parameters
    ----------
    console
        Where their output and our own words go. A service's process is made with `output=subprocess.PIPE`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watched: list[_Watched] = []
        self._stop = threading.Event()
        self._hurry = threading.Event()
        #: children that were there before: not ours to end
        self._strangers = {child.pid for child in psutil.Process().children()}
        adopt_orphans()

    @property
    def has_started(self) -> bool:
        """True once any service has been started."""
        return bool(self._watched)

    def request_stop(self, *_signal: object) -> None:
        """Stop in order; asked again: at once. A signal handler."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def start(self, *services: Service) -> None:
        """Start one stage and wait until all of it is ready.

        Raises
        ------
        HouseFailed
            One of them ended, or was not ready in time.
        StopRequested
            A stop was asked for meanwhile.
        """
        stage = [self._spawn(service) for service in services]
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while waiting := [watched for watched in stage if not watched.is_ready]:
            for watched in waiting:
                watched.is_ready = watched.service.ready()
                if not watched.is_ready and not watched.service.alive:
                    raise HouseFailed(f"{watched.service.name} {_how_it_ended(watched.process)} while it started")
            if time.monotonic() > deadline:
                names = ", ".join(watched.service.name for watched in waiting)
                raise HouseFailed(f"not ready after {READY_WITHIN_SECONDS:.0f} s: {names}")
            self._pause()

    def run(self, name: str, command: Sequence[str], env: dict[str, str]) -> None:
        """Run a command to its end.

        Raises
        ------
        HouseFailed
            It did not end with status 0.
        StopRequested
            A stop was asked for meanwhile; the command is killed.
        """
        process = ChildProcess(name, command, env=env, output=subprocess.PIPE)
        process.start()
        self._follow(name, process)
        try:
            while process.alive:
                self._pause()
        finally:
            process.kill()
        if process.returncode != 0:
            raise HouseFailed(f"{name} {_how_it_ended(process)}")

    def watch(self) -> None:
        """Keep every service up until a stop is asked for.

        Raises
        ------
        HouseFailed
            One of them keeps dying.
        StopRequested
            The way it normally ends.
        """
        while True:
            for watched in self._watched:
                self._look_after(watched)
            self._pause()

    def stop(self) -> None:
        """Stop everything in the reverse order of starting, and leave no process behind."""
        for watched in reversed(self._watched):
            if watched.service.alive:
                stopping = threading.Thread(target=watched.service.stop)
                stopping.start()
                while stopping.is_alive():
                    stopping.join(_POLL_SECONDS)
                    if self._hurry.is_set():
                        watched.service.kill()
        # What died on the way, and grandchildren that lost their parent.
        left = self._own_descendants()
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=5)

    def _own_descendants(self) -> list[psutil.Process]:
        found = []
        for child in psutil.Process().children():
            if child.pid not in self._strangers:
                with suppress(psutil.NoSuchProcess):
                    found += [child, *child.children(recursive=True)]
        return found

    def _spawn(self, service: Service) -> _Watched:
        process = service.spawn()
        watched = _Watched(service, process, time.monotonic())
        self._watched.append(watched)
        self._follow(service.name, process)
        return watched

    def _follow(self, name: str, process: ChildProcess) -> None:
        if process.popen is not None and process.popen.stdout is not None:
            self._console.follow(name, process.popen.stdout)

    def _look_after(self, watched: _Watched) -> None:
        now = time.monotonic()
        service = watched.service
        if watched.restart_at is not None:
            if now >= watched.restart_at:
                watched.restart_at = None
                watched.process = service.spawn()
                watched.started_at, watched.is_ready = now, False
                self._follow(service.name, watched.process)
            return
        if service.alive:
            if not watched.is_ready:
                watched.is_ready = service.ready()
                if not watched.is_ready and now - watched.started_at > READY_WITHIN_SECONDS:
                    self._console.say(f"{service.name} runs but is not ready: it is killed")
                    service.kill()
            return
        self._clear_remains(watched.process)
        watched.deaths.append(now)
        recent = [death for death in watched.deaths if now - death < DEATHS_WITHIN_SECONDS]
        if len(recent) >= MAX_DEATHS:
            raise HouseFailed(
                f"{service.name} {_how_it_ended(watched.process)}, "
                f"for the {MAX_DEATHS}th time within {DEATHS_WITHIN_SECONDS:.0f} s: its own lines above say why"
            )
        backoff = min(FIRST_BACKOFF_SECONDS * 2 ** (len(recent) - 1), MAX_BACKOFF_SECONDS)
        self._console.say(f"{service.name} {_how_it_ended(watched.process)}: starting it again in {backoff:g} s")
        watched.restart_at = now + backoff

    def _clear_remains(self, dead: ChildProcess) -> None:
        """Kill the children of a process that died before them: they hold its port and its shared memory."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(dead.pid, signal.SIGKILL)
        ours = {watched.process.pid for watched in self._watched}
        for orphan in psutil.Process().children():
            if orphan.pid not in ours and orphan.pid not in self._strangers:
                try:
                    orphan.kill()
                    orphan.wait(5)
                except (psutil.NoSuchProcess, psutil.TimeoutExpired):
                    continue

    def _pause(self) -> None:
        if self._stop.wait(_POLL_SECONDS):
            raise StopRequested


def _how_it_ended(process: ChildProcess) -> str:
    status = process.returncode
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
