"""A server that speaks OpenAI's form and says what it was sent: in answers the prompt, in errors the key too."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

#: Models that it answers for, by what it does; first those after which a row has ended.
FINAL = ("echo-200", "echo-400", "echo-404")
MODELS = (*FINAL, "echo-429", "echo-500", "echo-html", "echo-not-json", "echo-half", "echo-error-in-200")
#: Of streams beside those.
STREAMS = ("echo-stream", "echo-stream-error", "echo-stream-cut", "echo-stream-nonsense")
#: These stop the connection.
REFUSING = ("echo-401", "echo-403")


class HostileProvider:
    """Use it as a context manager; `url` is the base URL."""

    def __init__(self) -> None:
        self.calls = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.calls += 1
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                said = f"you sent {dict(self.headers)} and {body}"
                _answer(self, json.loads(body)["model"], said, f"you asked {body}")

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> HostileProvider:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(handler: BaseHTTPRequestHandler, model: str, said: str, content: str) -> None:
    _, _, what = model.partition("-")
    error = json.dumps({"error": {"message": said, "type": said, "code": said, "param": said}})
    if what.startswith("stream"):
        _stream(handler, what, said, content, error)
    elif what == "html":
        _send(handler, 502, f"<html>{said}</html>", "text/html")
    elif what == "not-json":
        _send(handler, 200, said)
    elif what == "half":
        _send(handler, 200, json.dumps(_completion(content))[:-40])
    elif what == "error-in-200":
        _send(handler, 200, error)
    elif what == "200":
        _send(handler, 200, json.dumps(_completion(content)))
    else:
        _send(handler, int(what), error)


def _stream(handler: BaseHTTPRequestHandler, what: str, said: str, content: str, error: str) -> None:
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "echo"}
    first = {**chunk, "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}]}
    last = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    events = {
        "stream": [json.dumps(first), json.dumps(last), "[DONE]"],
        "stream-error": [json.dumps(first), error],
        "stream-cut": [json.dumps(first)],
        "stream-nonsense": [json.dumps(first), said, json.dumps([said])],
    }[what]
    _send(handler, 200, "".join(f"data: {event}\n\n" for event in events), "text/event-stream")


def _completion(said: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "echo",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }


def _send(handler: BaseHTTPRequestHandler, status: int, text: str, kind: str = "application/json") -> None:
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(text.encode())))
    handler.send_header("retry-after", "0")
    handler.end_headers()
    handler.wfile.write(text.encode())
