"""A receiver of webhooks on this machine, which answers as it is told and keeps what it got."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Received:
    """One POST, with its headers in lower case."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """Use it as a context manager. `answers`: the statuses of the first requests of each event; afterwards 200."""

    def __init__(self, answers: Sequence[int] = (), *, host: str = "127.0.0.1") -> None:
        self._answers = tuple(answers)
        self._lock = threading.Lock()
        self._received: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(receiver._take(Received(time.time(), self.path, headers, body)))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://{host}:{self._server.server_port}"

    def received(self, path: str | None = None) -> list[Received]:
        """Everything so far, in order; with a path only what came there."""
        with self._lock:
            return [found for found in self._received if path is None or found.path == path]

    def _take(self, found: Received) -> int:
        with self._lock:
            before = sum(
                earlier.headers.get("webhook-id") == found.headers.get("webhook-id") for earlier in self._received
            )
            self._received.append(found)
        return self._answers[before] if before < len(self._answers) else 200

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
