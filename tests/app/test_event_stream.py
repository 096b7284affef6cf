"""Streamed answers: errors before and after the first piece, signs of life, a caller who leaves."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import gevent.event
import gevent.socket
import pytest
from flask import Flask, Response

from app import event_stream
from core.errors import Unavailable
from core.streaming import CallerGone


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(event_stream, "_LOOK_SECONDS", 0.02)
    with Flask(__name__).test_request_context():
        yield


class _Answer:
    """The server's answer, as far as a stream knows it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.said = gevent.event.Event()

    def interject(self, data: bytes) -> None:
        self.pieces.append(data)
        self.said.set()


@pytest.mark.usefixtures("context")
class TestStream:
    def test_pieces_go_out_in_their_order(self) -> None:
        answer = event_stream.stream(iter([b"a", b"b"]))

        assert isinstance(answer, Response)
        assert answer.mimetype == "text/event-stream"
        assert b"".join(answer.response) == b"ab"  # type: ignore[arg-type]

    def test_an_error_before_the_first_piece_is_an_ordinary_one(self) -> None:
        def events() -> Iterator[bytes]:
            raise Unavailable
            yield b""

        with pytest.raises(Unavailable):
            event_stream.stream(events())

    def test_a_silence_is_filled_and_an_error_after_it_is_an_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_stream, "KEEP_ALIVE_SECONDS", 0.05)
        silent = gevent.event.Event()

        def events() -> Iterator[bytes]:
            silent.wait()
            raise Unavailable("the database is away")
            yield b""

        pieces = iter(event_stream.stream(events()).response)
        for _ in range(2):
            assert next(pieces) == b": ping\n\n"
        silent.set()
        rest = b"".join(pieces).replace(b": ping\n\n", b"")  # type: ignore[arg-type]
        assert rest.startswith(b"data: ")
        assert b"the database is away" in rest

    def test_a_silence_between_pieces_is_filled_beside_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_stream, "KEEP_ALIVE_SECONDS", 0.05)
        answer = _Answer()
        monkeypatch.setattr(gevent.getcurrent(), "answer", answer, raising=False)

        def events() -> Iterator[bytes]:
            yield b"a"
            answer.said.wait()
            yield b"b"

        assert list(event_stream.stream(events()).response) == [b"a", b"b"]
        assert set(answer.pieces) == {b": ping\n\n"}

    def test_a_caller_who_leaves_between_pieces_stops_the_events(self) -> None:
        ours, theirs = gevent.socket.socketpair()
        seen: list[str] = []

        def events() -> Iterator[bytes]:
            yield b"a"
            theirs.close()
            try:
                gevent.sleep(60)
            except CallerGone:
                seen.append("gone")
                raise

        with Flask(__name__).test_request_context(environ_overrides={"gunicorn.socket": ours}):
            assert list(event_stream.stream(events()).response) == [b"a"]
        assert seen == ["gone"]
        ours.close()

    @pytest.mark.parametrize("taken", [0, 1])
    def test_closing_it_raises_in_the_events_wherever_they_wait(self, taken: int) -> None:
        seen: list[str] = []

        def events() -> Iterator[bytes]:
            try:
                yield b"a"
                gevent.sleep(60)
            except CallerGone:
                seen.append("gone")
                raise

        answer = event_stream.stream(events())
        pieces = iter(answer.response)
        for _ in range(taken):
            next(pieces)
        gevent.sleep(0)

        answer.close()
        gevent.sleep(0.01)

        assert seen == ["gone"]

    def test_a_slow_reader_holds_the_events_up(self) -> None:
        made = []

        def events() -> Iterator[bytes]:
            for n in range(1000):
                made.append(n)
                yield b"%d" % n

        answer = event_stream.stream(events())
        gevent.sleep(0.01)

        assert len(made) < 20
        assert b"".join(answer.response) == b"".join(b"%d" % n for n in range(1000))  # type: ignore[arg-type]
