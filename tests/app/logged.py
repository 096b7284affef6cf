"""A project with completions of every kind in its logs, and its key's headers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson

from core import db, identity
from core.dispatch import live
from core.ids import public
from core.providers.types import Usage
from core.states import FailureReason, RowStatus
from tests.core.dispatch.world import World


class Project(World):
    """A World that calls the API."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pair = identity.create_key(self.principal.tenant_id, self.principal.project_id).pair
        self.tenant, self.project = (
            public("tenant", self.principal.tenant_id),
            public("proj", self.principal.project_id),
        )
        self.headers = {
            "x-api-key": pair.api_key.reveal(),
            "x-secret-key": pair.secret_key.reveal(),
            "x-tenant-id": self.tenant,
            "x-project-id": self.project,
        }
        self.logs = f"/v1/logs/{self.tenant}/{self.project}"
        self.stats = f"/v1/stats/{self.tenant}/{self.project}"

    def live_row(self, **fields: Any) -> live.LiveRow:
        """A live completion that has ended, a second long, just now."""
        now = datetime.now(UTC)
        request = {"model": "fast", "messages": [{"role": "user", "content": fields.pop("prompt", "2 + 2?")}]}
        body = orjson.dumps(request)
        answer = {"choices": [{"message": {"role": "assistant", "content": fields.pop("answer", "4")}}]}
        values: dict[str, Any] = {
            "tenant_id": self.principal.tenant_id,
            "project_id": self.principal.project_id,
            "status": RowStatus.SUCCEEDED,
            "model_requested": "fast",
            "model": "gpt-4o-mini-2024-07-18",
            "model_called": "gpt-4o-mini",
            "provider": "openai",
            "connection_id": self.connections["openai"],
            "request_id": "req_1",
            "request_sha256": hashlib.sha256(body).digest(),
            "request": body.decode(),
            "response": orjson.dumps(answer).decode(),
            "usage": Usage(input_tokens=12, output_tokens=3, cached_tokens=4, reasoning_tokens=1),
            "cost_usd": Decimal("0.0000027"),
            "list_cost_usd": Decimal("0.000003"),
            "price_version": "test",
            "attempts": 1,
            "reason": None,
            "message": None,
            "provider_status": 200,
            "started_at": now - timedelta(seconds=1),
            "ended_at": now,
        }
        return live.LiveRow(**{**values, **fields})

    def failed_row(self, **fields: Any) -> live.LiveRow:
        """A live completion to which the provider gave no answer."""
        nothing = dict.fromkeys(("response", "usage", "cost_usd", "list_cost_usd", "price_version"))
        failure = {"reason": FailureReason.OVERLOADED, "message": "Overloaded.", "provider_status": 529}
        return self.live_row(**{**nothing, **failure, "status": RowStatus.FAILED, "model": "gpt-4o-mini", **fields})


def write_live(*rows: live.LiveRow) -> None:
    """Write live rows as their recorder does; a block of ids belongs to one database."""
    live._next = live.BLOCK_SIZE
    live._write(list(rows))


def count(table: str) -> int:
    with db.connection() as connection:
        row = connection.execute(f"SELECT count(*) AS n FROM {table}").fetchone()
    assert row is not None
    return int(row["n"])
