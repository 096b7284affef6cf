"""How each kind of fault is carried out on the wire."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from simulator.answer import rewrite
from simulator.faults import KINDS
from simulator.wire import LAST_CHUNK, chunk

if TYPE_CHECKING:
    from simulator.call import Call
    from simulator.config import Fault
    from simulator.native.exchange import Exchange

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
HTML = b"text/html"

_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
_FOREVER_SECONDS = 600.0
_MEBIBYTE = 1024 * 1024


def strike(call: Call | Exchange, fault: Fault, key: str) -> None:
    """Let the fault happen to the call, whose time has come."""
    kind = KINDS[fault.kind]
    if kind.stage == "refuse":
        _refuse(call, fault, key)
    elif kind.stage == "connection":
        _break_before(call, fault)
    elif kind.stage == "stream":
        _spoil_stream(call, fault)
    else:
        _spoil_body(call, fault)


def _refuse(call: Call | Exchange, fault: Fault, key: str) -> None:
    status = KINDS[fault.kind].status
    headers = _hints(fault)
    if call.allowance is not None and fault.kind not in ("401", "502", "429_no_hint"):
        headers = call.limits() + headers
    if status == 502:
        call.connection.write(call.head(502, HTML, len(_BAD_GATEWAY), headers) + _BAD_GATEWAY)
        call.end(502, fault=fault.kind)
        return
    model = call.plan.model if call.plan is not None else ""
    call.refuse(call.surface.manners.fault(fault, fault.kind, model, key), headers, fault.kind)


def _hints(fault: Fault) -> bytes:
    headers = b""
    if fault.retry_after is not None:
        headers += b"retry-after: %b\r\n" % f"{fault.retry_after:g}".encode()
    if fault.retry_after_ms is not None:
        headers += b"retry-after-ms: %b\r\n" % f"{fault.retry_after_ms:g}".encode()
    if fault.should_retry is not None:
        headers += b"x-should-retry: %b\r\n" % (b"true" if fault.should_retry else b"false")
    return headers


def _break_before(call: Call | Exchange, fault: Fault) -> None:
    if fault.kind == "reset":
        _reset(call, fault, 0, executed=False)
    elif fault.kind == "close":
        call.end(0, fault=fault.kind, keep=False)
        call.connection.close()
    else:
        call.later(_seconds(fault, _FOREVER_SECONDS), _reset, call, fault, 0, False)


def _reset(call: Call | Exchange, fault: Fault, status: int, executed: bool) -> None:
    call.end(status, executed=executed, fault=fault.kind, keep=False)
    call.connection.reset()


def _cut(call: Call | Exchange, fault: Fault) -> None:
    """End the connection inside the body."""
    call.end(200, executed=True, fault=fault.kind, keep=False)
    call.connection.close()


def _done(call: Call | Exchange, fault: Fault) -> None:
    call.end(200, executed=KINDS[fault.kind].executed, fault=fault.kind)


def _seconds(fault: Fault, default: float) -> float:
    return default if fault.seconds is None else fault.seconds


def _whole(call: Call | Exchange, body: bytes, content_type: bytes | None = None, extra: bytes = b"") -> bytes:
    """A complete HTTP answer with this body, in chunks if the call streams."""
    assert call.plan is not None
    extra = call.limits() + extra
    if call.plan.stream and content_type is None:
        return call.head(200, SSE, None, extra) + chunk(body) + LAST_CHUNK
    return call.head(200, content_type or JSON, len(body), extra) + body


def _spoil_body(call: Call | Exchange, fault: Fault) -> None:
    plan, connection, kind = call.plan, call.connection, fault.kind
    assert plan is not None
    if kind == "error_in_200":
        failure = {"message": "The server had an error while processing your request", "type": "server_error"}
        body = orjson.dumps({"error": failure | {"param": None, "code": None}})
        if call.surface.vendor == "anthropic":
            error = {"type": "api_error", "message": "Internal server error"}
            body = orjson.dumps({"type": "error", "error": error, "request_id": f"req_{call.number}"})
        connection.write(_whole(call, body, JSON))
        _done(call, fault)
        return
    if kind == "huge_chunk":
        rewrite(plan, f"{plan.nonce or 'large'} " + "x" * (fault.bytes or 8 * _MEBIBYTE))
    elif kind == "split_utf8":
        rewrite(plan, f"{plan.nonce or 'split'} \u00e9 \u2603 \u6f22\u5b57 \U0001f600 end")
    elif kind == "refusal":
        rewrite(plan, "I cannot help with that.")
        plan.finish = "refusal"
    if kind == "slow_first_byte":
        call.later(_seconds(fault, 5.0), _send_late, call, fault)
        return
    body = _joined(call)
    if kind == "reset_after":
        _reset(call, fault, 0, executed=True)
    elif kind == "truncated_json":
        connection.write(_whole(call, body[: len(body) // 2]))
        _done(call, fault)
    elif kind == "wrong_json":
        connection.write(_whole(call, b'{"unexpected": [1, 2, 3]}', JSON))
        _done(call, fault)
    elif kind == "not_json":
        connection.write(_whole(call, b"<html><body>It works!</body></html>", HTML))
        _done(call, fault)
    elif kind == "gzip_bomb":
        bomb = gzip_bomb(fault.bytes or 256 * _MEBIBYTE)
        connection.write(_whole(call, bomb, JSON, b"content-encoding: gzip\r\n"))
        _done(call, fault)
    elif kind == "half_close":
        answer = _whole(call, body)
        connection.write(answer[: len(answer) - len(body) // 2])
        _cut(call, fault)
    elif kind == "silence":
        answer = _whole(call, body)
        connection.write(answer[: answer.index(b"\r\n\r\n") + 4])
        call.later(_seconds(fault, _FOREVER_SECONDS), _reset, call, fault, 200, True)
    elif kind == "drip":
        answer = _whole(call, body)
        start = answer.index(b"\r\n\r\n") + 4
        connection.write(answer[:start])
        _drip(call, fault, answer, start)
    elif kind == "split_utf8":
        _split(call, fault, body)
    else:
        connection.write(_whole(call, body))
        _done(call, fault)


def _joined(call: Call | Exchange) -> bytes:
    answer = call.produce()
    return answer if isinstance(answer, bytes) else b"".join(answer)


def _send_late(call: Call | Exchange, fault: Fault) -> None:
    call.connection.write(_whole(call, _joined(call)))
    _done(call, fault)


def _drip(call: Call | Exchange, fault: Fault, answer: bytes, at: int) -> None:
    if at >= len(answer):
        _done(call, fault)
        return
    call.connection.write(answer[at : at + 1])
    call.later(_seconds(fault, 1.0), _drip, call, fault, answer, at + 1)


def _split(call: Call | Exchange, fault: Fault, body: bytes) -> None:
    """Two writes, and two chunks, that meet inside a character."""
    at = body.index("\u6f22".encode()) + 1
    head = call.head(200, SSE if call.plan and call.plan.stream else JSON, None, call.limits())
    call.connection.write(head + chunk(body[:at]))
    call.later(_seconds(fault, 0.02), _send_rest, call, fault, chunk(body[at:]) + LAST_CHUNK)


def _send_rest(call: Call | Exchange, fault: Fault, rest: bytes) -> None:
    call.connection.write(rest)
    _done(call, fault)


def _spoil_stream(call: Call | Exchange, fault: Fault) -> None:
    events = call.produce()
    assert isinstance(events, list)
    start = call.head(200, SSE, None, call.limits())
    half = b"".join(map(chunk, events[: max(1, len(events) // 2)]))
    if fault.kind == "stream_error":
        error = call.surface.stream_error(call.number)
        call.connection.write(start + half + chunk(error) + LAST_CHUNK)
        call.end(200, executed=True, fault=fault.kind, keep=False)
        call.connection.close()
    elif fault.kind == "stream_cut":
        call.connection.write(start + half)
        _cut(call, fault)
    elif fault.kind == "stream_reset":
        call.connection.write(start + half)
        # A reset discards what was not yet sent: let the half leave first.
        call.later(0.05, _reset, call, fault, 200, True)
    elif fault.kind == "stream_unfinished":
        call.connection.write(start + half + LAST_CHUNK)
        _done(call, fault)
    else:
        call.connection.write(start + half)
        call.later(_seconds(fault, _FOREVER_SECONDS), _reset, call, fault, 200, True)


@lru_cache(maxsize=4)
def gzip_bomb(size: int) -> bytes:
    """A small gzip body that unpacks to `size` bytes of valid JSON."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [packer.compress(b'{"id":"bomb","padding":"')]
    block = b" " * _MEBIBYTE
    for _ in range(size // _MEBIBYTE):
        parts.append(packer.compress(block))
    parts += [packer.compress(b" " * (size % _MEBIBYTE) + b'"}'), packer.flush()]
    return b"".join(parts)
