"""Measures native batches: `python -m simulator.native.bench` prints processor time and memory of 120,000 rows."""

from __future__ import annotations

import argparse
import http.client
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
import psutil

from simulator.handle import SimulatorHandle

_KEY = {"authorization": "Bearer sk-bench"}
_CHAT = "/v1/chat/completions"
_BOUNDARY = "bench"
_MEBIBYTE = 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m simulator.native.bench")
    parser.add_argument("--rows", type=int, default=120_000, help="two thirds of them OpenAI's")
    parser.add_argument("--bytes", type=int, default=400, help="of each prompt")
    options = parser.parse_args()
    with SimulatorHandle() as simulator:
        process = psutil.Process(simulator.pid)
        rest = process.memory_info().rss
        text = "x" * options.bytes
        openai = options.rows * 2 // 3
        steps = [
            ("two uploads", lambda: [_upload(simulator, text, *part) for part in _halves(openai)]),
            ("a creation at Anthropic", lambda: [_anthropic(simulator, text, openai, options.rows)]),
        ]
        files: list[Any] = []
        for name, step in steps:
            files.append(_measured(name, process, step))
        for name in files[0]:
            body = {"input_file_id": name, "endpoint": _CHAT, "completion_window": "24h"}
            _ask(simulator, "POST", "/v1/batches", orjson.dumps(body))
        _measured("all rows", process, lambda: simulator.advance(0))
        outputs = [batch["output_file_id"] for batch in simulator.native()["batches"] if batch["vendor"] == "openai"]
        paths = [f"/v1/files/{name}/content" for name in outputs] + [f"/v1/messages/batches/{files[1][0]}/results"]
        lines = _measured("all downloads", process, lambda: sum(_download(simulator, path) for path in paths))
        ledger = simulator.ledger()
        grown = (process.memory_info().rss - rest) / _MEBIBYTE
        rows, twice = ledger["native"]["rows"], ledger["duplicates"]
        print(f"rows {rows}, lines {lines}, paid twice {twice}, memory +{grown:.0f} MiB")


def _measured(name: str, process: psutil.Process, step: Any) -> Any:
    before, start = sum(process.cpu_times()[:2]), time.monotonic()
    result = step()
    spent, passed = sum(process.cpu_times()[:2]) - before, time.monotonic() - start
    print(f"{name}: {spent:.2f} s of processor time, {passed:.2f} s, {process.memory_info().rss / _MEBIBYTE:.0f} MiB")
    return result


def _halves(rows: int) -> list[tuple[int, int]]:
    return [(0, rows // 2), (rows // 2, rows)]


def _upload(simulator: SimulatorHandle, text: str, first: int, last: int) -> str:
    def body() -> Iterator[bytes]:
        part = f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n'
        yield (part % ("purpose", "") + "batch\r\n" + part % ("file", '; filename="in.jsonl"')).encode()
        for at in range(first, last, 1_000):
            rows = range(at, min(at + 1_000, last))
            yield b"".join(orjson.dumps(_openai_row(n, text)) + b"\n" for n in rows)
        yield f"\r\n--{_BOUNDARY}--\r\n".encode()

    headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return orjson.loads(_ask(simulator, "POST", "/v1/files", body(), headers))["id"]


def _openai_row(n: int, text: str) -> dict[str, Any]:
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": f"nonce-{n} {text}"}]}
    return {"custom_id": f"r{n}", "method": "POST", "url": _CHAT, "body": body}


def _anthropic(simulator: SimulatorHandle, text: str, first: int, last: int) -> str:
    def body() -> Iterator[bytes]:
        yield b'{"requests":['
        for n in range(first, last):
            messages = [{"role": "user", "content": f"nonce-{n} {text}"}]
            params = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": messages}
            yield (b"," if n > first else b"") + orjson.dumps({"custom_id": f"r{n}", "params": params})
        yield b"]}"

    return orjson.loads(_ask(simulator, "POST", "/v1/messages/batches", b"".join(body())))["id"]


def _ask(simulator: SimulatorHandle, method: str, path: str, body: Any = None, headers: Any = None) -> bytes:
    with _answer(simulator, method, path, body, headers or {}) as answer:
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        return answer.read()


def _download(simulator: SimulatorHandle, path: str) -> int:
    lines = 0
    with _answer(simulator, "GET", path, None, {}) as answer:
        while piece := answer.read(_MEBIBYTE):
            lines += piece.count(b"\n")
    return lines


def _answer(simulator: SimulatorHandle, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
    address = urlsplit(simulator.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
    version = {"anthropic-version": "2026-10-21"} if path.startswith("/v1/messages") else {}
    connection.request(method, path, body, _KEY | version | headers, encode_chunked=True)
    return connection.getresponse()


if __name__ == "__main__":
    main()
