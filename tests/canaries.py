"""What may turn up in no log: every house of the tests runs at DEBUG, and what it wrote is searched when it closes.

Prompts and answers of the tests carry `nonce-...` (tests/e2e/batches.py, and the simulator echoes it), provider keys
begin with `sk-`, signing secrets with `whsec_`; a house's own keys, tokens, password and key-encryption key are read
from it. So each test of a whole service is a canary run too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from launcher.house import House

#: By the word for what they are.
PATTERNS = {
    "a prompt or an answer": re.compile(r"\bnonce-\w"),
    "a provider's key": re.compile(r"\bsk-[a-z0-9]"),
    "a signing secret": re.compile(r"\bwhsec_\w"),
    "a credential's header": re.compile(r"\bBearer \w", re.IGNORECASE),
}


def secrets_of(house: House) -> dict[str, str]:
    """The secrets that a house has and was given by the launcher, by the word for what they are."""
    kek = house.address.kek_file.read_text().strip().partition(":")[2]
    found = {"the key-encryption key": kek, "the operator's token": house.address.admin_token}
    for number, client in enumerate(house.clients):
        found[f"api key {number}"] = client.headers["x-api-key"]
        found[f"secret key {number}"] = client.headers["x-secret-key"]
        found[f"token {number}"] = client.token
    for name, url in (("PostgreSQL", house.address.database_url), ("Redis", house.address.redis_url)):
        password = urlsplit(url).password
        if password:
            found[f"the password of {name}"] = password
    return found


def in_logs(house: House) -> list[str]:
    """What is in a house's logs and must not be: process, what it is, and the beginning of its line."""
    secrets = secrets_of(house)
    found = []
    for file in sorted(house.logs.glob("*.log")):
        text = file.read_text(errors="replace")
        for line in text.splitlines():
            what = [name for name, value in secrets.items() if value in line]
            what += [name for name, pattern in PATTERNS.items() if pattern.search(line)]
            found += [f"{file.stem}: {name}: {line[:300]}" for name in what]
    return found


class WatchedHouse(House):
    """A house that logs at DEBUG; closing it fails if something is in its logs that must not be."""

    def __init__(self, directory: Path, *, environment: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(directory, environment={"LLM_SERVICE_LOG_LEVEL": "DEBUG", **(environment or {})}, **options)

    def close(self) -> None:
        super().close()
        if hasattr(self, "address"):
            assert in_logs(self) == []
