"""The demo tenant: made at the first start, kept as shell exports, shown with calls to paste.

`python -m launcher.demo FILE [NAME]` makes a tenant of that name in the database of the settings, with a project, a key
and both providers, and writes its exports to the file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from launcher.data_directory import write_exports
from launcher.local_http import status_of

#: What the demo's file exports, apart from LLM_SERVICE_URL.
NAMES = (
    "LLM_SERVICE_API_KEY",
    "LLM_SERVICE_SECRET_KEY",
    "LLM_SERVICE_TENANT_ID",
    "LLM_SERVICE_PROJECT_ID",
    "LLM_SERVICE_TOKEN",
)

#: The simulator takes any key; these say in a listing what they are.
PROVIDERS = {"openai": "sk-simulated-openai-demo", "anthropic": "sk-ant-simulated-anthropic-demo"}


def seed(name: str) -> dict[str, str]:
    """Make a tenant with a project, a key and both providers; its exports by name."""
    from core import connections, identity, ids

    tenant = identity.create_tenant(name)
    project = identity.create_project(tenant.id, "demo")
    made = identity.create_key(tenant.id, project.id, name="demo")
    principal = identity.Principal(tenant.id, project.id, made.key.id)
    for provider_type, text in PROVIDERS.items():
        connections.put(principal, {"providerType": provider_type, "apiKey": text})
    values = (
        made.pair.api_key.reveal(),
        made.pair.secret_key.reveal(),
        ids.public("tenant", tenant.id),
        ids.public("proj", project.id),
        made.pair.token.reveal(),
    )
    return dict(zip(NAMES, values, strict=True))


def is_accepted(exports: Mapping[str, str], url: str) -> bool:
    """True if the API takes these keys: the database is the one that they were made in."""
    if not set(NAMES) <= set(exports):
        return False
    headers = {
        "x-api-key": exports["LLM_SERVICE_API_KEY"],
        "x-secret-key": exports["LLM_SERVICE_SECRET_KEY"],
        "x-tenant-id": exports["LLM_SERVICE_TENANT_ID"],
        "x-project-id": exports["LLM_SERVICE_PROJECT_ID"],
    }
    return status_of(f"{url}/v1/batch?limit=1", headers, timeout_seconds=10) == 200


def greeting(exports: Mapping[str, str], data: Path, *, simulated: bool) -> str:
    """What the terminal shows once everything is ready."""
    providers = (
        "OpenAI and Anthropic are played by a simulator on this machine: no call leaves it, none costs anything."
        if simulated
        else "Calls go to OpenAI and Anthropic: store your keys with POST /v1/providers, or in the browser at /docs."
    )
    shown = "\n".join(f"  {name.removeprefix('LLM_SERVICE_').lower():<11} {exports[name]}" for name in NAMES)
    return f"""
LLM Service is ready: {exports["LLM_SERVICE_URL"]}
{providers}

{shown}
  dashboard   {exports["LLM_SERVICE_URL"]}/dashboard (sign in: paste the lines above into any field)
  docs        {exports["LLM_SERVICE_URL"]}/docs
  data        {data}

A first completion and a first batch, to paste into another terminal:

  source {data / "demo.env"}
  call() {{ curl -sS -H "x-api-key: $LLM_SERVICE_API_KEY" -H "x-secret-key: $LLM_SERVICE_SECRET_KEY" \\
    -H "x-tenant-id: $LLM_SERVICE_TENANT_ID" -H "x-project-id: $LLM_SERVICE_PROJECT_ID" \\
    -H "content-type: ${{TYPE:-application/json}}" "$@"; echo; }}

  call $LLM_SERVICE_URL/v1/completions -d '{{"model": "gpt-4o-mini",
    "messages": [{{"role": "user", "content": "Say hello"}}]}}'

  call $LLM_SERVICE_URL/v1/batch -d '{{"requests": [
    {{"custom_id": "a", "model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "One"}}]}},
    {{"custom_id": "b", "model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "Two"}}]}},
    {{"custom_id": "c", "model": "claude-sonnet-4-5", "messages": [{{"role": "user", "content": "Three"}}]}}]}}'

Ctrl-C stops everything; the next start goes on with the same data.
"""


if __name__ == "__main__":
    write_exports(Path(sys.argv[1]), seed(sys.argv[2] if len(sys.argv) > 2 else "demo"))
