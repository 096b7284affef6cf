"""A service at DEBUG is given secrets and prompts to leak, in every way that a call can fail; then all is searched."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psutil
import psycopg
import pytest
import redis

from launcher.client import wait_until
from launcher.house import House
from launcher.postgres import Postgres
from tests.canaries import secrets_of
from tests.e2e.hostile_provider import FINAL, MODELS, REFUSING, STREAMS, HostileProvider
from tests.e2e.receiver import Receiver

pytestmark = pytest.mark.e2e

_MARK = secrets.token_hex(6)
#: In every prompt, and in the answers: the simulator echoes what follows `nonce-`.
PROMPT = f"nonce-canary{_MARK}"
OPENAI, ANTHROPIC = f"sk-canary-openai-{_MARK}", f"sk-ant-canary-{_MARK}"
HOSTILE, STOPPED = f"sk-canary-hostile-{_MARK}", f"sk-canary-stopped-{_MARK}"
#: A receiver's address may be a secret as well.
HOOK = f"hook-{_MARK}"
_FAULTS = ("401", "403", "400", "429", "500", "reset", "close", "truncated_json", "not_json", "error_in_200")


class _Redis:
    """Every command that Redis was sent meanwhile, and every value that it holds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = redis.Redis.from_url(url)
        self._monitor = self._client.monitor()
        self.commands: list[str] = []
        self._monitor.__enter__()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for command in self._monitor.listen():
                self.commands.append(str(command["command"]))
        except (redis.RedisError, OSError, ValueError):
            return

    def values(self) -> Iterator[str]:
        base, _, number = self._url.rpartition("/")
        reads: dict[bytes, Callable[[redis.Redis, bytes], object]] = {
            b"string": lambda client, key: client.get(key),
            b"hash": lambda client, key: client.hgetall(key),
            b"list": lambda client, key: client.lrange(key, 0, -1),
            b"set": lambda client, key: client.smembers(key),
            b"zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
        }
        for database in (int(number), int(number) + 1):
            with redis.Redis.from_url(f"{base}/{database}") as client:
                for key in client.scan_iter():
                    yield f"{key!r} {reads[client.type(key)](client, key)!r}"

    def close(self) -> None:
        self._client.close()


def test_no_canary_is_found_anywhere(make_house: Callable[..., House], postgres: Postgres) -> None:
    house = make_house(
        environment={
            "LLM_SERVICE_API_PROCESSES": "1",
            "LLM_SERVICE_LOG_FORMAT": "json",
            "LLM_SERVICE_METRICS_TENANT_LABELS": "5",
        }
    )
    watched = _Redis(house.address.redis_url)
    with HostileProvider() as hostile, Receiver([500]) as receiver:
        # given secrets of every kind, and a service that has been through everything
        signing = _set_up(house, hostile, receiver)
        said = _batches(house, receiver) + _live(house) + _wrong(house)
        wait_until(lambda: len(receiver.received()) >= 4, 60, lambda: f"webhooks: {len(receiver.received())}")
        assert hostile.calls >= len(MODELS) + len(STREAMS)
        delivered = [found.body.decode() for found in receiver.received()]
        listed = [house.client.get(path).text for path in ("/v1/providers", "/v1/webhooks", "/v1/webhooks/deliveries")]
    hidden = {
        **secrets_of(house),
        "OpenAI's key": OPENAI,
        "Anthropic's key": ANTHROPIC,
        "a hostile server's key": HOSTILE,
        "a refused key": STOPPED,
        **{f"signing secret {number}": secret for number, secret in enumerate(signing)},
    }
    metrics = house.client.get("/metrics").text
    document = house.client.get("/openapi.json").text
    shown = [
        *((f"log of {name}", house.log(name)) for name in house.names),
        ("PostgreSQL's log", (postgres.directory / "server.log").read_text(errors="replace")),
        ("metrics", metrics),
        ("OpenAPI", document),
        *(("Redis", value) for value in watched.values()),
        ("commands to Redis", "\n".join(watched.commands)),
        *(("a command line", line) for line in _command_lines(house)),
    ]
    watched.close()
    # (what is searched is there)
    assert len(watched.commands) > 100
    assert "llm_service_completions_total" in metrics
    assert all(PROMPT in text for text in _stored(house, "completion_request"))

    # then secrets are in nothing that was answered, delivered, logged, counted, or stored
    answered = [("an answer", text) for text in (*said, *listed)] + [("a webhook", text) for text in delivered]
    stored = [(f"table {table}", text) for table in _tables(house) for text in _stored(house, table)]
    for where, text in (*shown, *answered, *stored):
        for what, secret in hidden.items():
            for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("="), quote(secret, safe="")):
                assert form not in text, f"{what} is in {where}: {_around(text, form)}"
    # and prompts, answers and receivers' addresses only where they belong: in tables, and in answers to their owner
    for where, text in shown:
        for what, canary in (("a prompt", PROMPT), ("an answer", f"canary{_MARK}"), ("a receiver's address", HOOK)):
            assert canary not in text, f"{what} is in {where}: {_around(text, canary)}"


def _around(text: str, canary: str) -> str:
    at = text.index(canary)
    return text[max(0, at - 300) : at + 100]


def _set_up(house: House, hostile: HostileProvider, receiver: Receiver) -> list[str]:
    """Keys, a stop of one, endpoints; the signing secrets."""
    client = house.client
    for body in (
        {"providerType": "openai", "apiKey": OPENAI},
        {"providerType": "anthropic", "apiKey": ANTHROPIC},
        {"providerType": "openai_compatible", "name": "hostile", "baseUrl": hostile.url, "apiKey": HOSTILE},
        {"providerType": "openai_compatible", "name": "refusing", "baseUrl": hostile.url, "apiKey": STOPPED},
    ):
        assert client.post("/v1/providers", body).status_code in (200, 201)
    endpoint = client.post("/v1/webhooks", {"url": f"{receiver.url}/{HOOK}"}).json()
    found = [
        client.get(f"/v1/webhooks/{endpoint['id']}/secret").json()["secret"],
        client.post(f"/v1/webhooks/{endpoint['id']}/secret/rotate").json()["secret"],
        client.get("/v1/webhooks/secret").json()["secret"],
        client.post("/v1/webhooks/secret/rotate").json()["secret"],
    ]
    assert all(secret.startswith("whsec_") for secret in found)
    # their bytes, too, without the prefix
    return [secret.removeprefix("whsec_") for secret in found]


def _messages(n: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Please answer {PROMPT}-{n} now"}]


def _batches(house: House, receiver: Receiver) -> list[str]:
    """A batch over everything that can go wrong, and one that is cancelled; what was answered."""
    client = house.client
    house.simulator.config(faults=[{"kind": kind, "first_attempts": 1, "probability": 0.03} for kind in _FAULTS[2:]])
    models = [*(f"hostile/{model}" for model in FINAL), *["gpt-4o-mini", "claude-haiku-4-5"] * 40]
    asked = [{"custom_id": f"row-{n}", "model": model, "messages": _messages(n)} for n, model in enumerate(models)]
    options = {"webhook_url": f"{receiver.url}/{HOOK}", "processing": "realtime"}
    one = client.post("/v1/batch", {"requests": asked, **options}, headers={"idempotency-key": "once"})
    assert one.status_code == 201, one.text
    other = client.post("/v1/batch", {"requests": asked[len(FINAL) :], **options}).json()
    cancelled = client.post(f"/v1/batch/{other['id']}/cancel")
    ended = [client.wait_for_batch(batch["id"], timeout_seconds=120) for batch in (one.json(), other)]
    assert {batch["status"] for batch in ended} == {"completed", "cancelled"}
    return [
        one.text,
        cancelled.text,
        *map(json.dumps, ended),
        client.get(f"/v1/batch/{ended[0]['id']}/results").text,
        client.get(f"/v1/logs/{client.tenant_id}/{client.project_id}", params={"q": PROMPT}).text,
    ]


def _live(house: House) -> list[str]:
    """Completions, streams, both vendors' surfaces, while calls fail in each way; what was answered."""
    client = house.client
    token = {"authorization": f"Bearer {client.token}"}
    chat = {"model": "gpt-4o-mini", "messages": _messages(1), "max_tokens": 9}
    hostile = [
        {"model": model, "messages": _messages(0), "stream": stream}
        for model in (*(f"hostile/{name}" for name in (*MODELS, *STREAMS)), *(f"refusing/{name}" for name in REFUSING))
        for stream in (False, True)
    ]
    keys = ({"providerType": "openai", "apiKey": OPENAI}, {"providerType": "anthropic", "apiKey": ANTHROPIC})
    # Calls that fail are tried again after a while: they wait side by side.
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda body: client.post("/v1/completions", body).text, hostile))
        assert "stopped" in client.get("/v1/providers").text
        for kind in (None, *_FAULTS):
            house.simulator.config(faults=[{"kind": kind, "probability": 1.0}] if kind else [])
            asked = [
                pool.submit(client.post, "/v1/completions", chat),
                pool.submit(client.post, "/v1/chat/completions", {**chat, "stream": True}, headers=token),
                pool.submit(client.post, "/v1/messages", {**chat, "model": "claude-haiku-4-5"}, headers=token),
                pool.submit(client.post, "/v1/providers/test", {"providerType": "openai"}),
            ]
            said += [future.result().text for future in asked]
            # a key that was refused works again once it is given again
            said += [client.post("/v1/providers", body).text for body in keys]
    house.simulator.config(faults=[])
    return said


def _wrong(house: House) -> list[str]:
    """Requests that are refused: with prompts and keys where they do not belong. What was answered."""
    client = house.client
    text = f"Please answer {PROMPT} now"
    row = {"custom_id": "a", "model": "gpt-4o-mini", "messages": _messages(2)}
    json_type = {"content-type": "application/json"}
    answers = [
        client.post("/v1/completions", {"model": "gpt-4o-mini", "messages": text}),
        client.post("/v1/completions", {"model": "gpt-4o-mini", "messages": [{"role": text, "content": text}]}),
        client.post("/v1/completions", {"model": "gpt-4o-mini", "messages": _messages(3), "temperature": text}),
        client.post("/v1/completions", data=json.dumps(row)[:-5], headers=json_type),
        client.post("/v1/completions", data=text.encode() + b"\xff\x00", headers=json_type),
        client.post("/v1/batch", {"requests": [row, row]}),
        client.post("/v1/batch", {"requests": [{**row, "messages": text}]}),
        client.post("/v1/batch", data=f"{json.dumps(row)}\n{text}\n", headers={"content-type": "application/x-ndjson"}),
        client.post("/v1/providers", {"providerType": "openai", "apiKey": OPENAI, "baseUrl": "http://10.0.0.1"}),
        client.post("/v1/providers", {"providerType": "openai_compatible", "apiKey": f"{HOSTILE}\n"}),
        client.post("/v1/webhooks", {"url": "http://10.0.0.1/"}),
        client.get("/v1/batch", headers={"x-secret-key": OPENAI, "x-request-id": "r" * 300}),
        client.get("/v1/admin/tenants", headers={"authorization": f"Bearer {HOSTILE}"}),
        client.post("/v1/chat/completions", row, headers={"authorization": f"Bearer {OPENAI}"}),
    ]
    assert all(400 <= answer.status_code < 500 for answer in answers), [answer.status_code for answer in answers]
    found = [answer.text for answer in answers]
    # what we refuse ourselves names the place, and does not repeat what was written there
    for text in found:
        assert PROMPT not in text, text
    return found


def _command_lines(house: House) -> Iterator[str]:
    for name in house.names:
        for process in (psutil.Process(house.pid(name)), *psutil.Process(house.pid(name)).children(recursive=True)):
            yield " ".join(process.cmdline())


def _tables(house: House) -> list[str]:
    with psycopg.connect(house.address.database_url) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
                                  " AND relnamespace = 'public'::regnamespace")  # fmt: skip
        return [name for (name,) in rows]


def _stored(house: House, table: str) -> list[str]:
    with psycopg.connect(house.address.database_url) as connection:
        return [text for (text,) in connection.execute(f"SELECT t::text FROM {table} t")]
