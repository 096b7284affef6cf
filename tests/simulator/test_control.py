"""The control endpoint, the ledger, and the server's own manners."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from simulator.handle import SimulatorHandle, key_label


def test_the_ledger_counts_calls_and_what_was_charged(client, simulator):
    for text in ("nonce-1", "nonce-2", "nonce-1", "none"):
        client.chat(text)
    client.message("nonce-3", model="claude-haiku-4-5")
    client.chat(key="invalid")

    ledger = simulator.ledger()

    assert (ledger["calls"], ledger["executed"], ledger["duplicates"]) == (6, 5, 1)
    assert ledger["by_status"] == {"200": 5, "401": 1}
    assert ledger["by_key"] == {key_label("sk-test"): 4, key_label("sk-ant-test"): 1}
    assert ledger["by_model"] == {"gpt-4o": 4, "claude-haiku-4-5": 1}
    assert simulator.nonces()["nonce-1"] == {"calls": 2, "executed": 2}
    rows = simulator.calls()
    assert [row["n"] for row in rows] == list(range(6))
    assert rows[0]["nonce"] == "nonce-1"
    assert rows[0]["prompt_hash"] == rows[2]["prompt_hash"] != rows[1]["prompt_hash"]
    assert ledger["first_call_at"] == rows[0]["t_start"]


def test_rows_are_paged(client, simulator):
    for _ in range(5):
        client.chat()

    page = client.get("/_sim/ledger/calls?offset=3&limit=10").json()

    assert [row["n"] for row in page["data"]] == [3, 4]
    assert page["total"] == 5


def test_concurrency_is_seen(client, simulator):
    simulator.config(latency=0.3)

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.chat) for _ in range(8)]
        simulator.wait_for(lambda ledger: ledger["in_flight"] == 8)
        assert [call.result().status_code for call in calls] == [200] * 8

    ledger = simulator.ledger()
    assert (ledger["max_concurrency"], ledger["in_flight"]) == (8, 0)


def test_a_client_that_hangs_up_is_charged(simulator):
    simulator.config(latency=30)
    address = urlsplit(simulator.url)
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"nonce-gone"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ncontent-length: %d\r\n\r\n"
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(head % len(body) + body)
        simulator.wait_for(lambda ledger: ledger["in_flight"] == 1)

    ledger = simulator.wait_for(lambda ledger: ledger["in_flight"] == 0)

    assert (ledger["abandoned"], ledger["executed"], ledger["by_status"]) == (1, 1, {"499": 1})


@pytest.mark.parametrize(
    ("latency", "low", "high"),
    [
        (0.05, 0.05, 0.5),
        ({"kind": "uniform", "low": 0.02, "high": 0.04}, 0.02, 0.5),
        ({"kind": "lognormal", "seconds": 0.02, "sigma": 1, "at_most": 0.05}, 0, 0.5),
    ],
)
def test_latency(client, simulator, latency, low, high):
    simulator.config(latency=latency)

    start = time.monotonic()
    client.chat()

    assert low <= time.monotonic() - start < high


def test_a_stream_comes_in_chunks_with_time_between(client, simulator):
    simulator.config(stream={"chunks": 5, "interval": 0.02})

    answer = client.message(stream=True)

    assert answer.text.count("event: content_block_delta") == 5
    assert answer.elapsed.total_seconds() < 5
    assert simulator.calls()[0]["t_end"] - simulator.calls()[0]["t_start"] >= 0.2


def test_a_wrong_configuration_is_refused_whole(simulator):
    before = simulator.config()

    for changes in ({"latencies": 1}, {"latency": -1}, {"faults": [{"kind": "nope"}], "latency": 3}):
        with pytest.raises(ValueError, match="invalid configuration"):
            simulator.config(**changes)

    assert simulator.config() == before


def test_a_configuration_can_be_posted_back_as_it_was_read(client, simulator):
    simulator.config(faults=[{"kind": "429", "retry_after": None}, {"kind": "429", "key": "b"}])

    assert simulator.config(**simulator.config()) == simulator.config()
    assert "retry-after" not in client.chat().headers


def test_a_reset_returns_to_the_start(client, simulator):
    simulator.config(faults=[{"kind": "500"}], valid_keys=["only"])
    assert client.chat().status_code == 401

    simulator.reset()

    assert simulator.ledger()["calls"] == 0
    assert client.chat().status_code == 200


def test_pipelined_requests_are_answered_in_order(simulator):
    simulator.config(latency=0.05)
    address = urlsplit(simulator.url)
    requests = b""
    for n in range(3):
        body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": f"nonce-{n}"}]}).encode()
        requests += b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
        requests += b"connection: close\r\n" if n == 2 else b""
        requests += b"content-length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(requests)
        received = b""
        while data := connection.recv(65536):
            received += data

    assert received.index(b"nonce-0") < received.index(b"nonce-1") < received.index(b"nonce-2")
    assert simulator.ledger()["max_concurrency"] == 1


def test_a_body_in_pieces_and_one_that_is_too_large(client):
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "nonce-pieces " + "x" * 200_000}]})
    headers = {"authorization": "Bearer k"}
    url = f"{client.url}/v1/chat/completions"
    pieces = (body[at : at + 1000].encode() for at in range(0, len(body), 1000))

    assert client.session.post(url, data=pieces, headers=headers).status_code == 200
    assert client.message("x" * (33 * 1024 * 1024)).json()["error"]["type"] == "request_too_large"


def test_sigterm_ends_it_at_once_with_calls_in_flight():
    with SimulatorHandle(latency=60) as simulator:
        address = urlsplit(simulator.url)
        body = b'{"model":"gpt-4","messages":[{"role":"user","content":"x"}]}'
        with socket.create_connection((address.hostname, address.port)) as connection:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer k\r\ncontent-length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)
            simulator.wait_for(lambda ledger: ledger["in_flight"] == 1)
            start = time.monotonic()

            simulator.stop()

            assert time.monotonic() - start < 2


def test_a_bad_start_says_why(capfd):
    with pytest.raises(RuntimeError):
        SimulatorHandle(latency="soon")

    assert "configuration is not valid" in capfd.readouterr().err
