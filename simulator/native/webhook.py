"""OpenAI's webhooks: an event, signed as Standard Webhooks has it, posted until it is taken (PROVIDERS.md 5.5)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

if TYPE_CHECKING:
    from simulator.config import Webhook

#: waits before the second attempt and those after it; the vendor goes on for three days
_WAITS_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_TIMEOUT_SECONDS = 10.0


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


class Webhooks:
    """Deliveries under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, webhook: Webhook, kind: str, created: int, data: dict[str, Any]) -> None:
        """Deliver an event. `created`: Unix seconds."""
        event = {"id": f"evt_{os.urandom(12).hex()}", "object": "event", "type": kind, "created_at": created}
        task = self._loop.create_task(self._deliver(webhook, event | {"data": data}))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, webhook: Webhook, event: dict[str, Any]) -> None:
        body = orjson.dumps(event)
        for wait in (*_WAITS_SECONDS, None):
            # Receivers compare it with their own clock, which is the real one.
            now = int(time.time())
            headers = {
                "webhook-id": event["id"],
                "webhook-timestamp": str(now),
                "webhook-signature": signature(webhook.secret, event["id"], now, body),
            }
            try:
                status = await asyncio.wait_for(_post(webhook.url, headers, body), _TIMEOUT_SECONDS)
            except (OSError, TimeoutError, ValueError):
                status = 0
            if 200 <= status < 300 or wait is None:
                return
            await asyncio.sleep(wait)


async def _post(url: str, headers: dict[str, str], body: bytes) -> int:
    """The status of the answer. Raises OSError, ValueError."""
    target = urlsplit(url)
    secure = target.scheme == "https"
    host = target.hostname or ""
    reader, writer = await asyncio.open_connection(host, target.port or (443 if secure else 80), ssl=secure or None)
    try:
        lines = [f"POST {target.path or '/'}{'?' + target.query if target.query else ''} HTTP/1.1"]
        lines += [f"host: {target.netloc}", "content-type: application/json", "user-agent: OpenAI/Simulator"]
        lines += [f"content-length: {len(body)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        return int((await reader.readline()).split()[1])
    except IndexError:
        raise ValueError("no HTTP answer") from None
    finally:
        writer.close()
