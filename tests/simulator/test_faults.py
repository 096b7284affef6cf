"""Faults: each kind as it looks on the wire, whom it strikes, and what the ledger says of it."""

from __future__ import annotations

import gzip
import json
import socket
from urllib.parse import urlsplit

import pytest
import requests

from simulator.config import Fault
from simulator.faults import KINDS, Faults

SURFACES = ["chat", "message"]
REFUSALS = [name for name, kind in KINDS.items() if kind.stage == "refuse"]


def raw(simulator, *, stream: bool = False, until_silent: float = 2.0) -> bytes:
    """The bytes that answer one chat completion, until its connection ends or `until_silent` seconds of nothing."""
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "nonce-raw"}], "stream": stream})
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    )
    address = urlsplit(simulator.url)
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=until_silent) as connection:
        connection.sendall(request.encode())
        try:
            while data := connection.recv(65536):
                received += data
        except TimeoutError:
            pass
    return received


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_have_their_status_and_the_vendors_body(client, simulator, surface, kind):
    simulator.config(faults=[{"kind": kind}])

    answer = getattr(client, surface)("nonce-f")

    assert answer.status_code == KINDS[kind].status
    if kind == "502":
        assert answer.headers["content-type"] == "text/html"
    else:
        assert answer.json()["error"]["message"]
    assert simulator.ledger()["by_fault"] == {kind: 1}
    assert simulator.nonces() == {"nonce-f": {"calls": 1, "executed": 0}}


def test_hints_of_a_429(client, simulator):
    simulator.config(faults=[{"kind": "429"}])
    assert client.chat().headers["retry-after"] == "1"

    rule = {"kind": "429", "retry_after": None, "retry_after_ms": 250, "should_retry": False}
    simulator.config(faults=[rule])
    headers = client.chat().headers
    assert "retry-after" not in headers
    assert (headers["retry-after-ms"], headers["x-should-retry"]) == ("250", "false")

    simulator.config(faults=[{"kind": "429_no_hint"}])
    assert not [name for name in client.chat().headers if "retry" in name or "ratelimit" in name]


def test_terminal_429s_name_their_cause(client, simulator):
    simulator.config(faults=[{"kind": "quota"}])

    assert client.chat().json()["error"]["code"] == "insufficient_quota"
    answer = client.message()
    assert answer.json()["error"]["details"]["error_code"] == "enforced_spend_limit_reached"
    assert "retry-after" not in answer.headers
    simulator.config(faults=[{"kind": "quota", "code": "billing_hard_limit_reached"}])
    assert client.chat().json()["error"]["code"] == "billing_hard_limit_reached"


@pytest.mark.parametrize(("kind", "executed"), [("reset", 0), ("close", 0), ("reset_after", 1)])
def test_broken_connections(client, simulator, kind, executed):
    simulator.config(faults=[{"kind": kind}])

    with pytest.raises(requests.ConnectionError) as caught:
        client.chat()

    assert ("reset by peer" in str(caught.value)) == (kind != "close")
    ledger = simulator.ledger()
    assert (ledger["calls"], ledger["executed"], ledger["in_flight"]) == (1, executed, 0)


@pytest.mark.parametrize("surface", SURFACES)
def test_half_of_a_body(client, simulator, surface):
    simulator.config(faults=[{"kind": "half_close"}])
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        getattr(client, surface)()

    simulator.config(faults=[{"kind": "truncated_json"}])
    answer = getattr(client, surface)()
    assert answer.status_code == 200
    with pytest.raises(ValueError):
        answer.json()
    assert simulator.ledger()["executed"] == 2


@pytest.mark.parametrize("surface", SURFACES)
def test_answers_that_are_no_answers(client, simulator, surface):
    ask = getattr(client, surface)

    simulator.config(faults=[{"kind": "wrong_json"}])
    assert ask().json() == {"unexpected": [1, 2, 3]}
    simulator.config(faults=[{"kind": "not_json"}])
    assert ask().headers["content-type"] == "text/html"
    simulator.config(faults=[{"kind": "error_in_200"}])
    answer = ask()
    assert (answer.status_code, "message" in answer.json()["error"]) == (200, True)
    assert simulator.ledger()["executed"] == 2


def test_a_gzip_bomb_unpacks_to_its_size(simulator):
    simulator.config(faults=[{"kind": "gzip_bomb", "bytes": 20_000_000}])

    head, _, body = raw(simulator, until_silent=0.3).partition(b"\r\n\r\n")

    assert b"content-encoding: gzip" in head
    assert len(body) < 200_000
    assert 20_000_000 <= len(gzip.decompress(body)) < 20_001_000


def test_headers_then_silence_then_a_reset(simulator):
    simulator.config(faults=[{"kind": "silence", "seconds": 0.2}])
    with pytest.raises(ConnectionResetError):
        raw(simulator)

    simulator.config(faults=[{"kind": "silence"}])
    assert raw(simulator, until_silent=0.2).endswith(b"\r\n\r\n")
    ledger = simulator.wait_for(lambda ledger: ledger["in_flight"] == 0)
    assert ledger["executed"] == 2


def test_hanging_and_dripping(simulator):
    simulator.config(faults=[{"kind": "hang"}])
    assert raw(simulator, until_silent=0.2) == b""
    simulator.wait_for(lambda ledger: ledger["in_flight"] == 0)
    assert simulator.ledger()["executed"] == 0

    simulator.config(faults=[{"kind": "drip", "seconds": 0.001}])
    answer = raw(simulator, until_silent=0.3)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["object"] == "chat.completion"


def test_a_huge_chunk_and_a_split_character_still_make_an_answer(client, simulator):
    simulator.config(faults=[{"kind": "huge_chunk", "bytes": 3_000_000}])
    assert len(client.chat("nonce-h").json()["choices"][0]["message"]["content"]) > 3_000_000

    simulator.config(faults=[{"kind": "split_utf8"}])
    assert "漢字" in client.message("nonce-u").json()["content"][0]["text"]
    assert "漢字" in client.chat("nonce-u", stream=True).content.decode()


def test_streams_that_fail_half_way(client, simulator):
    simulator.config(faults=[{"kind": "stream_error"}])
    assert client.chat().status_code == 200
    text = client.chat(stream=True).text
    assert '"error"' in text
    assert "[DONE]" not in text
    # Each stream ends with its connection, which must not meet the next call in the moment it is closed.
    client.session.close()
    assert "event: error" in client.message(stream=True).text

    for kind in ("stream_cut", "stream_reset"):
        simulator.config(faults=[{"kind": kind}])
        client.session.close()
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
            client.message(stream=True)

    simulator.config(faults=[{"kind": "stream_unfinished"}])
    client.session.close()
    assert "message_stop" not in client.message(stream=True).text


def test_a_rule_strikes_whom_it_names(client, simulator):
    simulator.config(
        faults=[{"kind": 500, "key": "sk-bad"}, {"kind": 503, "model": "gpt-4"}, {"kind": 529, "contains": "x-7"}]
    )

    assert client.chat(key="sk-bad").status_code == 500
    assert client.chat(model="gpt-4").status_code == 503
    assert client.message("row x-7").status_code == 529
    assert client.message("row x-8").status_code == 200
    simulator.config(faults=[{"kind": 500, "vendor": "anthropic"}])
    assert (client.chat().status_code, client.message().status_code) == (200, 500)


def test_a_rule_can_be_limited_in_number_and_to_first_attempts(client, simulator):
    simulator.config(faults=[{"kind": 500, "count": 2}])
    assert [client.chat().status_code for _ in range(3)] == [500, 500, 200]

    simulator.config(faults=[{"kind": 500, "first_attempts": 1}])
    assert [client.chat(f"nonce-{n}").status_code for n in (1, 2, 1, 2, 1)] == [500, 500, 200, 200, 200]


def test_shares_hold_and_draws_repeat_whatever_the_order():
    rules = [Fault(kind=kind, probability=0.05) for kind in ("429", "500", "reset")]

    def drawn(order) -> dict:
        faults = Faults(rules, seed=7)
        asked = {"vendor": "openai", "key": "k", "model": "m", "prompt": "", "stream": False, "attempt": 1}
        return {n: faults.choose(nonce=f"nonce-{n}", **asked) for n in order}

    forwards, backwards = drawn(range(10_000)), drawn(reversed(range(10_000)))

    assert forwards == backwards
    for rule in rules:
        assert 400 < sum(found is rule for found in forwards.values()) < 600
