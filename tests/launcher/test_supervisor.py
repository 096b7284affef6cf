"""The supervisor keeps what it started alive, says why it cannot, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launcher import supervisor as supervisors
from launcher.client import wait_until
from launcher.console import Console
from launcher.process import ChildProcess
from launcher.supervisor import HouseFailed, Program, StopRequested, Supervisor

#: Writes a line when it begins and one when it is stopped, each with its name, and waits in between.
SERVICE = """
import signal, sys, time
name, file = sys.argv[1:]
def say(word):
    with open(file, "a") as out:
        out.write(f"{word} {name}\\n")
def stop(*_):
    say("stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say("start")
print("hello", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    file = tmp_path / "journal"
    file.touch()
    return file


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def house(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(supervisors, "FIRST_BACKOFF_SECONDS", 0.01)
    supervisor = Supervisor(Console(out))
    yield supervisor
    supervisor.request_stop()
    supervisor.request_stop()
    supervisor.stop()


def service(name: str, journal: Path, code: str = SERVICE) -> Program:
    process = ChildProcess(name, [sys.executable, "-c", code, name, str(journal)], output=subprocess.PIPE)
    return Program(process, lambda _: f"start {name}" in journal.read_text(), grace_seconds=5)


def watch(house: Supervisor) -> tuple[threading.Thread, list[BaseException]]:
    """Watch on another thread; what ended it comes in the list."""
    ended: list[BaseException] = []

    def run() -> None:
        try:
            house.watch()
        except (StopRequested, HouseFailed) as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def test_stages_start_in_order_and_stop_in_reverse(house: Supervisor, journal: Path, out: io.StringIO) -> None:
    house.start(service("first", journal))
    house.start(service("second", journal))
    house.stop()
    assert journal.read_text().split("\n")[:4] == ["start first", "start second", "stop second", "stop first"]
    assert "first      | hello\n" in out.getvalue()


def test_one_that_is_killed_is_started_again(house: Supervisor, journal: Path, out: io.StringIO) -> None:
    program = service("worker", journal)
    house.start(program)
    thread, ended = watch(house)
    first = program.process.pid
    psutil.Process(first).kill()
    wait_until(lambda: journal.read_text().count("start worker") == 2, 10)
    assert program.process.pid != first
    assert "worker was ended by SIGKILL: starting it again" in out.getvalue()
    house.request_stop()
    thread.join(10)
    assert [type(error) for error in ended] == [StopRequested]


def test_one_that_keeps_dying_brings_the_house_down_with_its_reason(house: Supervisor, journal: Path) -> None:
    code = SERVICE.replace("while True:", "sys.exit(7)\nwhile True:")
    program = service("broken", journal, code)
    journal.write_text("start broken\n")
    house.start(program)
    thread, ended = watch(house)
    thread.join(20)
    assert [str(error) for error in ended] == [
        "broken ended with status 7, for the 5th time within 60 s: its own lines above say why"
    ]


def test_one_that_ends_while_it_starts_is_named(house: Supervisor, journal: Path) -> None:
    with pytest.raises(HouseFailed, match="broken ended with status 3 while it started"):
        house.start(service("broken", journal, "import sys; sys.exit(3)"))


def test_grandchildren_go_too(house: Supervisor, journal: Path) -> None:
    code = "import subprocess\nsubprocess.Popen(['sleep', '300'], start_new_session=True)\n" + textwrap.dedent(SERVICE)
    program = service("parent", journal, code)
    house.start(program)
    grandchildren = psutil.Process(program.process.pid).children()
    assert [child.name() for child in grandchildren] == ["sleep"]
    house.stop()
    assert not any(child.is_running() for child in grandchildren)


def test_a_second_request_ends_one_that_does_not_stop(house: Supervisor, journal: Path) -> None:
    code = SERVICE.replace('say("stop")\n    sys.exit(0)', 'say("asked")')
    program = service("stubborn", journal, code)
    house.start(program)
    house.request_stop()
    stopping = threading.Thread(target=house.stop)
    stopping.start()
    wait_until(lambda: "asked" in journal.read_text(), 10)
    house.request_stop()
    stopping.join(3)
    assert not stopping.is_alive()
    assert not program.alive


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent is gone")
def test_children_end_when_the_launcher_is_killed(journal: Path) -> None:
    code = f"""
import os, sys
from launcher.process import ChildProcess
child = ChildProcess("child", [sys.executable, "-c", {SERVICE!r}, "child", {str(journal)!r}])
child.start()
print(child.pid, flush=True)
sys.stdin.read()
"""
    launcher = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert launcher.stdout is not None
    child = psutil.Process(int(launcher.stdout.readline()))
    wait_until(lambda: "start child" in journal.read_text(), 10)
    launcher.kill()
    launcher.wait()
    wait_until(lambda: "stop child" in journal.read_text(), 10)
    child.wait(10)


def test_children_from_before_are_none_of_its_business(out: io.StringIO, journal: Path) -> None:
    # given: a process that somebody else in this program started
    stranger = subprocess.Popen([sys.executable, "-c", SERVICE, "stranger", str(journal)])
    wait_until(lambda: "start stranger" in journal.read_text(), 10)
    # when
    house = Supervisor(Console(out))
    house.start(service("own", journal))
    house.stop()
    # then
    assert stranger.poll() is None
    stranger.terminate()
    stranger.wait(10)
