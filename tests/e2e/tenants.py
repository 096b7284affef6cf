"""New tenants of a running house, made over the admin API: a test or a trial has its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import requests

from launcher.house import Client, House

#: The simulator takes any key.
KEYS = {"openai": "sk-simulated-of-a-test", "anthropic": "sk-ant-simulated-of-a-test"}


def new_client(house: House, name: str = "a test's") -> Client:
    """A client of a new tenant, with a project, a key, and both providers at the simulator."""
    tenant = _admin(house, "/v1/admin/tenants", {"name": name})
    project = _admin(house, f"/v1/admin/tenants/{tenant['id']}/projects", {"name": name})
    key = _admin(house, f"/v1/admin/tenants/{tenant['id']}/projects/{project['id']}/keys", {"name": name})
    client = Client(
        {
            "LLM_SERVICE_URL": house.url,
            "LLM_SERVICE_TENANT_ID": tenant["id"],
            "LLM_SERVICE_PROJECT_ID": project["id"],
            "LLM_SERVICE_TOKEN": key["token"],
            "LLM_SERVICE_API_KEY": key["api_key"],
            "LLM_SERVICE_SECRET_KEY": key["secret_key"],
        }
    )
    for provider_type, text in KEYS.items():
        _made(partial(client.post, "/v1/providers", {"providerType": provider_type, "apiKey": text}))
    return client


def _admin(house: House, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {house.address.admin_token}"}
    with requests.Session() as session:
        session.trust_env = False
        return _made(lambda: session.post(house.url + path, json=body, headers=headers, timeout=30))


def _made(ask: Callable[[], requests.Response]) -> dict[str, Any]:
    """What was made, asked for again on a 503: the first call after an outage may meet a dead connection."""
    answer = ask()
    if answer.status_code == 503:
        answer = ask()
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
