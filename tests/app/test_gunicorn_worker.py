"""The worker of gunicorn: it sends what gunicorn would, and its stop waits for answers, not for idle callers."""

import http.client
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.client import wait_until
from launcher.ports import LOOPBACK, answers, free_port
from launcher.process import ChildProcess
from launcher.services import ROOT

_APP = """
import io, gevent

def interjected(answer):
    # With the first piece the head leaves: before it there is nothing to put anything into.
    gevent.spawn(answer.interject, b"too early").join()
    yield b"01"
    gevent.spawn(answer.interject, b"--").join()
    yield b"234"

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        gevent.sleep(1.5)
    headers = [("content-type", "text/plain")]
    if path in ("/whole", "/slow"):
        headers.append(("content-length", "5"))
    start_response("204 No Content" if path == "/nothing" else "200 OK", headers)
    if path == "/file":
        return environ["wsgi.file_wrapper"](io.BytesIO(b"abc" * 10_000))
    if path == "/interjected":
        return interjected(gevent.getcurrent().answer)
    return [] if path in ("/nothing", "/empty") else [b"01", b"234"]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[ChildProcess, int]]:
    (tmp_path / "tried.py").write_text(_APP)
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "-k", "app.gunicorn_worker.Worker", "-w", "1", "-b", f"{LOOPBACK}:{port}",
        "--keep-alive", "75", "--graceful-timeout", "60", "--no-control-socket", "--pythonpath", str(tmp_path),
        "tried:app",
    ]  # fmt: skip
    process = ChildProcess("gunicorn", command, cwd=ROOT)
    process.start()
    try:
        wait_until(lambda: answers(port), 30)
        yield process, port
    finally:
        process.kill()


def _ask(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_every_form_of_an_answer_arrives_whole_on_one_connection(server: tuple[ChildProcess, int]) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, server[1], timeout=20)
    assert _ask(connection, "/whole") == (200, b"01234")
    assert _ask(connection, "/chunked") == (200, b"01234")
    assert _ask(connection, "/whole", "HEAD") == (200, b"")
    assert _ask(connection, "/nothing") == (204, b"")
    assert _ask(connection, "/empty") == (200, b"")
    assert _ask(connection, "/file") == (200, b"abc" * 10_000)
    assert _ask(connection, "/whole") == (200, b"01234")


def test_a_piece_is_sent_while_the_answer_waits_for_its_next(server: tuple[ChildProcess, int]) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, server[1], timeout=20)
    assert _ask(connection, "/interjected") == (200, b"01--234")
    assert _ask(connection, "/whole") == (200, b"01234")


def test_head_and_body_leave_together(server: tuple[ChildProcess, int]) -> None:
    with socket.create_connection((LOOPBACK, server[1]), timeout=20) as plain:
        plain.sendall(b"GET /whole HTTP/1.1\r\nhost: x\r\n\r\n")
        first = plain.recv(65536)
    assert b"\r\n\r\n01" in first


def test_a_stop_closes_idle_connections_and_answers_what_is_being_asked(server: tuple[ChildProcess, int]) -> None:
    # given: one caller who asked before and keeps his connection, one who opened his and has not asked, one who waits
    process, port = server
    idle = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    assert _ask(idle, "/whole") == (200, b"01234")
    silent = socket.create_connection((LOOPBACK, port), timeout=20)
    asking = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    asking.connect()
    told: list[tuple[int, bytes]] = []
    asking.request("GET", "/slow")
    waiting = threading.Thread(target=lambda: told.append((asking.getresponse().status, b"")))
    waiting.start()
    # when: it is stopped with a grace far below its drain time of a minute
    stopped = process.stop(15)
    waiting.join(20)
    # then
    assert stopped
    assert told == [(200, b"")]
    assert silent.recv(1) == b""
    silent.close()
