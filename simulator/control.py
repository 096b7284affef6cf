"""The control endpoint `/_sim`: configuration, reset, and what the ledger says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import orjson
from pydantic import ValidationError

from simulator.faults import KINDS
from simulator.simulation import Simulation
from simulator.spoil import gzip_bomb
from simulator.wire import Connection, Request, head

_ROWS_AT_ONCE = 2_000


def serve(simulation: Simulation, connection: Connection, request: Request) -> None:
    """Answer a request to /_sim/..., 404 and 400 included."""
    route = (request.method, request.path)
    if route == ("GET", "/_sim/ledger/calls"):
        _calls(simulation, connection, request)
        return
    if route == ("POST", "/_sim/native/advance"):
        _advance(simulation, connection, request)
        return
    status, answer = 200, {}
    try:
        if route == ("GET", "/_sim/config"):
            answer = simulation.config.model_dump(exclude_defaults=False)
        elif route == ("POST", "/_sim/config"):
            answer = _configure(simulation, request)
        elif route == ("POST", "/_sim/reset"):
            simulation.reset(config=bool(_object(request).get("config")))
        elif route == ("GET", "/_sim/ledger"):
            answer = simulation.ledger.summary()
        elif route == ("GET", "/_sim/ledger/nonces"):
            answer = simulation.ledger.nonces()
        elif route == ("GET", "/_sim/native"):
            answer = simulation.native.shown()
        elif route == ("GET", "/_sim/faults"):
            answer = {
                name: {"stage": kind.stage, "executed": kind.executed, "status": kind.status}
                for name, kind in KINDS.items()
            }
        else:
            status, answer = 404, {"error": f"no such control: {request.method} {request.path}"}
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        status, answer = 400, {"error": "invalid configuration", "problems": problems}
    except ValueError as error:
        status, answer = 400, {"error": str(error)}
    _reply(connection, status, answer)


def _reply(connection: Connection, status: int, answer: Any) -> None:
    body = orjson.dumps(answer)
    connection.write(head(status, b"application/json", b"", len(body)) + body)
    connection.finish()


def _object(request: Request) -> dict[str, Any]:
    body = orjson.loads(request.body) if request.body else {}
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    return body


def _configure(simulation: Simulation, request: Request) -> dict[str, Any]:
    config = simulation.configure(_object(request))
    for rule in config.faults:
        if rule.kind == "gzip_bomb":
            # Packed now, so that no call pays for it.
            gzip_bomb(rule.bytes or 256 * 1024 * 1024)
    return config.model_dump()


def _advance(simulation: Simulation, connection: Connection, request: Request) -> None:
    """Move the clock; the answer comes when every native batch has done what its time has come for."""
    try:
        seconds = float(_object(request).get("seconds", 0.0))
    except (TypeError, ValueError):
        _reply(connection, 400, {"error": "seconds must be a number"})
        return
    simulation.native.advance(seconds)

    def settle() -> None:
        if simulation.native.behind:
            simulation.loop.call_later(0.002, settle)
        else:
            _reply(connection, 200, {"now": simulation.native.now()})

    settle()


def _calls(simulation: Simulation, connection: Connection, request: Request) -> None:
    """Rows as NDJSON, or as {"data": [...]} when a limit is given; in slices, so that a million rows block nobody."""
    query = parse_qs(request.query)
    try:
        offset = max(0, int(query.get("offset", ["0"])[0]))
        limit = int(query["limit"][0]) if "limit" in query else None
    except ValueError:
        body = b'{"error":"offset and limit are integers"}'
        connection.write(head(400, b"application/json", b"", len(body)) + body)
        connection.finish()
        return
    rows = simulation.ledger.rows(offset, limit)
    if limit is not None:
        body = orjson.dumps({"data": list(rows), "total": simulation.ledger.calls})
        connection.write(head(200, b"application/json", b"", len(body)) + body)
        connection.finish()
        return
    connection.write(head(200, b"application/x-ndjson"))
    _write_rows(simulation, connection, rows)


def _write_rows(simulation: Simulation, connection: Connection, rows: Iterator[dict[str, Any]]) -> None:
    lines = [orjson.dumps(row) + b"\n" for _, row in zip(range(_ROWS_AT_ONCE), rows, strict=False)]
    if lines:
        data = b"".join(lines)
        connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        simulation.loop.call_soon(_write_rows, simulation, connection, rows)
        return
    connection.write(b"0\r\n\r\n")
    connection.finish()
