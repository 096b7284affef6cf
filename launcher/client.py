"""A caller of a running service, for tests and benchmarks: its calls, and new tenants made over the admin API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import requests

from launcher.demo import PROVIDERS

_POLL_SECONDS = 0.05


class Client:
    """A caller of the API with the keys of one project; each call gives the `requests.Response` as it is."""

    def __init__(self, exports: Mapping[str, str]) -> None:
        self.url = exports["LLM_SERVICE_URL"]
        self.tenant_id = exports["LLM_SERVICE_TENANT_ID"]
        self.project_id = exports["LLM_SERVICE_PROJECT_ID"]
        self.token = exports["LLM_SERVICE_TOKEN"]
        self.headers = {
            "x-api-key": exports["LLM_SERVICE_API_KEY"],
            "x-secret-key": exports["LLM_SERVICE_SECRET_KEY"],
            "x-tenant-id": self.tenant_id,
            "x-project-id": self.project_id,
        }
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(self.headers)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self._call("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> requests.Response:
        return self._call("POST", path, json=json, **options)

    def put(self, path: str, json: Any = None, **options: Any) -> requests.Response:
        return self._call("PUT", path, json=json, **options)

    def patch(self, path: str, json: Any = None, **options: Any) -> requests.Response:
        return self._call("PATCH", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self._call("DELETE", path, **options)

    def wait_for_batch(self, batch_id: str, *, timeout_seconds: float = 60.0) -> dict[str, Any]:
        """The batch object once it has ended; meanwhile, an API that is away is asked again.

        Raises
        ------
        TimeoutError
            It has not ended in time; the message holds the batch as it was last seen.
        """
        seen: dict[str, Any] = {}

        def ended() -> bool:
            try:
                answer = self.get(f"/v1/batch/{batch_id}")
            except requests.ConnectionError:
                return False
            if answer.status_code != 200:
                return False
            seen.update(answer.json())
            return seen["status"] in {"completed", "failed", "cancelled", "expired"}

        wait_until(ended, timeout_seconds, lambda: f"batch {batch_id} has not ended: {seen}")
        return seen

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", 60)
        return self.session.request(method, self.url + path, **options)


def new_client(url: str, admin_token: str, name: str) -> Client:
    """A client of a new tenant, with a project, a key, and both providers with the demo's keys.

    Raises
    ------
    RuntimeError
        One of them was not made; the message holds the answer.
    """
    tenant = _admin(url, admin_token, "", name)
    project = _admin(url, admin_token, f"/{tenant['id']}/projects", name)
    key = _admin(url, admin_token, f"/{tenant['id']}/projects/{project['id']}/keys", name)
    client = Client(
        {
            "LLM_SERVICE_URL": url,
            "LLM_SERVICE_TENANT_ID": tenant["id"],
            "LLM_SERVICE_PROJECT_ID": project["id"],
            "LLM_SERVICE_TOKEN": key["token"],
            "LLM_SERVICE_API_KEY": key["api_key"],
            "LLM_SERVICE_SECRET_KEY": key["secret_key"],
        }
    )
    for provider_type, text in PROVIDERS.items():
        _made(partial(client.post, "/v1/providers", {"providerType": provider_type, "apiKey": text}))
    return client


def _admin(url: str, admin_token: str, path: str, name: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {admin_token}"}
    with requests.Session() as session:
        session.trust_env = False
        return _made(
            partial(session.post, f"{url}/v1/admin/tenants{path}", json={"name": name}, headers=headers, timeout=30)
        )


def _made(ask: Callable[[], requests.Response]) -> dict[str, Any]:
    """What was made, asked for again on a 503: the first call after an outage may meet a dead connection."""
    answer = ask()
    if answer.status_code == 503:
        answer = ask()
    if answer.status_code != 201:
        raise RuntimeError(f"{answer.request.method} {answer.url} was answered {answer.status_code}: {answer.text}")
    return dict(answer.json())


def wait_until(
    condition: Callable[[], bool],
    timeout_seconds: float,
    otherwise: Callable[[], str] = lambda: "not in time",
    *,
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Return once the condition holds; TimeoutError with the words of `otherwise` if it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise())
        time.sleep(poll_seconds)
