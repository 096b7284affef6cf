"""The values that labels may have: closed sets, and `other` for the rest, whatever callers send."""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from uuid import UUID

from core import catalogue, db
from core.ids import public
from core.settings import settings
from core.states import ProviderType

OTHER = "other"
#: How often the tenants with a label are read, in seconds.
TENANTS_SECONDS = 60.0

_PROVIDERS = frozenset(ProviderType)
_STATUSES = frozenset(
    {200, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429, 500, 502, 503, 504, 520, 522, 524, 529}
)


def provider(name: str) -> str:
    return name if name in _PROVIDERS else OTHER


@lru_cache(maxsize=4096)
def model(name: str, served_by: str) -> str:
    """The catalogue's name of a model; `other` for one that is not listed, or that an unknown server calls so."""
    if catalogue.provider_of(name) != served_by:
        return OTHER
    return catalogue.entry_name(name) or OTHER


def status(code: int | None) -> str:
    """An HTTP status that a provider is known to answer with; `none` without an answer."""
    if code is None:
        return "none"
    return str(code) if code in _STATUSES else OTHER


class Tenants:
    """The oldest LLM_SERVICE_METRICS_TENANT_LABELS tenants have a label of their own; the same ones in every process.

    With 0, the default, nobody has, and nothing is counted by tenant.
    """

    def __init__(self) -> None:
        self._known: dict[UUID, str] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def label(self, tenant_id: UUID) -> str | None:
        """The tenant's public id, `other`, or None if nothing is counted by tenant."""
        most = settings().metrics_tenant_labels
        if not most:
            return None
        if time.monotonic() - self._read_at > TENANTS_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._read(most)
            finally:
                self._lock.release()
        return self._known.get(tenant_id, OTHER)

    def _read(self, most: int) -> None:
        self._read_at = time.monotonic()
        try:
            with db.connection() as connection:
                rows = connection.execute("SELECT id FROM tenant ORDER BY created_at, id LIMIT %s", (most,)).fetchall()
        except db.DatabaseDown:
            return
        for row in rows:
            # A label once given stays, so that there are never more than `most`, also when tenants are removed.
            if len(self._known) < most:
                self._known[row["id"]] = public("tenant", row["id"])


tenants = Tenants()
