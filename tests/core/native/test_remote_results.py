"""Results of a provider's batch over sockets: cut, refused, too long, left early; and cleaning up."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from core import egress
from core.native import remote
from core.native.remote import Remote, RemoteProblem
from core.native.result_lines import lines_of
from core.states import FailureReason
from tests.core.egress_server import Peer
from tests.core.native.provider import KEY, NO, answer_line, answering, calls, connection, openai_batch

pytestmark = pytest.mark.usefixtures("loopback")


def done(server_url: str) -> tuple[Remote, Any]:
    client = Remote(connection(server_url))
    return client, client._wire.parse_batch(200, {}, orjson.dumps(openai_batch(status="completed", output_file_id="f")))


def test_results_that_break_off_are_a_problem_after_what_came() -> None:
    def cut(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n" + answer_line(1, "a") + b"\n" + b'{"custom')

    with answering({"GET /v1/files/f/content": cut}) as server:
        client, batch = done(server.url(path=""))
        results = client.results(batch)
        assert next(results).row_id == 1
        with pytest.raises(RemoteProblem) as caught:
            next(results)
        assert caught.value.failure.reason is FailureReason.NETWORK


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, NO), FailureReason.INVALID_REQUEST),
        ((401, {"error": {"message": f"bad key {KEY}"}}), FailureReason.AUTHENTICATION),
        ((302, b""), FailureReason.INVALID_RESPONSE),
        ((204, b""), FailureReason.INVALID_RESPONSE),
        ((500, b"x" * (2 << 20)), FailureReason.PROVIDER_ERROR),
    ],
)
def test_results_that_are_refused(answer: Any, reason: FailureReason) -> None:
    with answering({"GET /v1/files/f/content": answer}) as server:
        client, batch = done(server.url(path=""))
        with pytest.raises(RemoteProblem) as caught:
            list(client.results(batch))
        assert caught.value.failure.reason is reason
        assert KEY not in str(caught.value)


def test_a_line_that_is_too_long_costs_only_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"\n".join([answer_line(1, "a"), answer_line(2, "b" * 300_000), b"<html>", answer_line(3, "c")])
    monkeypatch.setattr(remote, "lines_of", lambda pieces: lines_of(pieces, 100_000))
    with answering({"GET /v1/files/f/content": (200, lines)}) as server:
        client, batch = done(server.url(path=""))
        assert [result.row_id for result in client.results(batch)] == [1, None, None, 3]


def test_results_left_early_close_their_connection() -> None:
    with answering({"GET /v1/files/f/content": (200, (answer_line(1, "a") + b"\n") * 9999)}) as server:
        client, batch = done(server.url(path=""))
        results = client.results(batch)
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert egress.request("GET", server.url(), timeout_seconds=5).status == 404
        assert server.connections == 2


def test_clean_up_goes_on_after_a_refusal_and_tells_it() -> None:
    table: dict[str, Any] = {"DELETE /v1/files/in": (500, NO), "DELETE /v1/files/f": (200, {"deleted": True})}
    with answering(table) as server:
        client, batch = done(server.url(path=""))
        with pytest.raises(RemoteProblem):
            client.clean_up(batch, "in")
        assert calls(server) == ["DELETE /v1/files/in", "DELETE /v1/files/f"]
        client.clean_up(None, None)
        assert len(server.requests) == 2
