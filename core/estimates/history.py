"""What calls of a project's models took lately: the better guess of durations and answers, where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from core import histogram
from core.db import RawConnection
from core.principal import Principal
from core.states import RowStatus

#: How far back calls count.
RECENT = timedelta(days=7)
#: Fewer calls than this say nothing.
ENOUGH_CALLS = 20


@dataclass(frozen=True, slots=True)
class Recent:
    """Means over a model's calls that succeeded; None where there were too few."""

    calls: int
    output_tokens: float | None
    #: of calls in real time
    seconds: float | None


def recent(connection: RawConnection, principal: Principal) -> dict[tuple[str, str], Recent]:
    """By provider and model, from the project's hourly sums (core/rollup.py): a read that no batch's size makes longer.

    Parameters
    ----------
    connection : of the principal's tenant.
    """
    rows = connection.execute(
        _RECENT,
        {"tenant": principal.tenant_id, "project": principal.project_id, "since": RECENT, "ok": RowStatus.SUCCEEDED},
        binary=True,
    )
    found = {}
    for row in rows:
        calls = int(row["calls"])
        latency = histogram.counts_of(row["latency"]) if row["latency"] else histogram.NOTHING
        mean_ms = histogram.mean(latency)
        found[row["provider"], row["model"]] = Recent(
            calls,
            float(row["output_tokens"]) / calls if calls >= ENOUGH_CALLS else None,
            mean_ms / 1000 if mean_ms is not None and sum(latency.counts) >= ENOUGH_CALLS else None,
        )
    return found


_RECENT = """
SELECT provider, model, sum(requests) AS calls, sum(output_tokens) AS output_tokens,
       numeric_send(sum(latency) FILTER (WHERE processing = 'realtime')) AS latency
FROM rollup
WHERE tenant_id = %(tenant)s AND project_id = %(project)s AND hour >= now() - %(since)s AND status = %(ok)s
GROUP BY provider, model
HAVING sum(requests) > 0
"""
