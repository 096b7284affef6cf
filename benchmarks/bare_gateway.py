"""The least that a gateway can be: Flask, gevent and urllib3 hand a body on and its answer back. No keys, no log.

Served as the API is, by gunicorn's gevent workers; BARE_GATEWAY_TARGET is the provider's base URL.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import urllib3  # noqa: E402
from flask import Flask, Response, request  # noqa: E402

_HEADERS = {"authorization": "Bearer sk-benchmark-bare", "content-type": "application/json"}
_URL = os.environ["BARE_GATEWAY_TARGET"] + "/chat/completions"
_pool = urllib3.PoolManager(maxsize=1024)

app = Flask(__name__)


@app.post("/v1/chat/completions")
def complete() -> Response:
    body = request.get_data()
    if b'"stream":true' in body:
        return Response(_pieces(body), mimetype="text/event-stream")
    answer = _pool.request("POST", _URL, body=body, headers=_HEADERS)
    return Response(answer.data, answer.status, mimetype="application/json")


def _pieces(body: bytes) -> Iterator[bytes]:
    answer = _pool.request("POST", _URL, body=body, headers=_HEADERS, preload_content=False)
    yield from answer.read_chunked()
