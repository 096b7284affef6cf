"""Memory stays flat for a shard of 50,000 rows of 4 KB, on its way out and back: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.core.egress_server import Peer, Server, serving
from tests.core.native.provider import answer_line

ROWS, LINE_BYTES = 50_000, 4_000
MIB = 1 << 20

CLIENT = """
import os, sys
from core.native.remote import Remote
from core.providers.batches import Phase, RemoteBatch
from tests.core.native.provider import NOON, connection

rows, line_bytes = int(sys.argv[2]), int(sys.argv[3])
client = Remote(connection(sys.argv[1]))

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10

def lines():
    for number in range(rows):
        yield b"%0*d" % (line_bytes, number)

client.upload("warm.jsonl", lambda: iter([b"{}"]), 1, 2)
before = peak()
client.upload("shard.jsonl", lines, rows, rows * line_bytes)
up = peak() - before
batch = RemoteBatch(remote_id="b", phase=Phase.DONE, status="completed", total=rows, completed=rows, failed=0,
                    created_at=NOON, result_refs=("file-out",))
seen = sum(result.row_id is not None for result in client.results(batch))
print(seen, up, peak() - before)
"""


def test_memory_is_flat_both_ways() -> None:
    line = answer_line(7, "x" * (LINE_BYTES - 200)) + b"\n"
    got: list[int] = []

    def script(peer: Peer, server: Server) -> None:
        """Swallow uploads without keeping them; give ROWS lines of results."""
        buffer = bytearray(MIB)
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := peer.sock.recv(4096)):
                    return
                head += data
            head, _, rest = head.partition(b"\r\n\r\n")
            if head.startswith(b"GET"):
                peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (ROWS * len(line)))
                for _ in range(ROWS // 100):
                    peer.send(line * 100)
                continue
            length = left = int(head.lower().partition(b"content-length: ")[2].split()[0])
            left -= len(rest)
            while left:
                left -= peer.sock.recv_into(buffer, min(left, MIB))
            got.append(length)
            peer.answer(b'{"id":"file-1"}')

    with serving(script) as server:
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, server.url(path=""), str(ROWS), str(LINE_BYTES)],
            cwd=Path(__file__).parents[3],
            env={"PYTHONPATH": ".", "LLM_SERVICE_EGRESS_ALLOW": "127.0.0.0/8"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert done.returncode == 0, done.stderr
    seen, up, both = map(int, done.stdout.split())
    assert seen == ROWS
    assert got[1] > 200_000_000
    assert up < 16 * MIB
    assert both < 32 * MIB
