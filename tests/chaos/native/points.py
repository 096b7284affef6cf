"""The points between two steps of a shard at which something dies, brought about by what the provider holds back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.native.steps import let_pass

if TYPE_CHECKING:
    from tests.chaos.native.trial import NativeTrial

Rule = dict[str, Any]

#: An answer is held back for longer than the lease of a worker that died; if another one was killed, it is lost then.
HELD_SECONDS = 15
#: Calls to a provider's batch API, each of whose replies can be lost.
CALLS = ("upload", "create", "get", "list", "list_files", "cancel", "content", "delete")

WORKERS = ("workers", "worker-1", "everything")
ANYBODY = (*WORKERS, "scheduler", "api", "redis", "postgres")


@dataclass(frozen=True, slots=True)
class Point:
    """Where a trial strikes.

    Parameters
    ----------
    rules : what the simulator does so that the point is reached, and lasts.
    reached : whether it is, seen from outside.
    victims : who may die there.
    before : what is done once the shards are at the provider.
    """

    name: str
    rules: tuple[Rule, ...]
    reached: Callable[[NativeTrial], bool]
    victims: tuple[str, ...] = ANYBODY
    window: str = "24h"
    before: Callable[[NativeTrial], None] | None = None


def _held(call: str, kind: str = "silence", **more: Any) -> Rule:
    return {"kind": kind, "on": call, "count": 1, "seconds": HELD_SECONDS, **more}


def _uploaded(trial: NativeTrial) -> bool:
    return any(file["purpose"] == "batch" for file in trial.ground.simulator.native()["files"])


def _created(vendor: str) -> Callable[[NativeTrial], bool]:
    return lambda trial: any(batch["vendor"] == vendor for batch in trial.ground.simulator.native()["batches"])


def _shards(condition: str) -> Callable[[NativeTrial], bool]:
    return lambda trial: trial.has(f"SELECT 1 FROM native_shard WHERE {condition} LIMIT 1")


def _handed_back(trial: NativeTrial) -> bool:
    return trial.has("SELECT 1 FROM lease JOIN native_shard USING (lane_id) LIMIT 1")


def _cancel(trial: NativeTrial) -> None:
    for batch in trial.native:
        batch.client.post(f"/v1/batch/{batch.id}/cancel")


def _nearly_too_late(trial: NativeTrial) -> None:
    """The window closes on what the provider does not get done."""
    for batch in trial.native:
        assert batch.id is not None
        let_pass(trial.ground, batch.id, hours=2.84)


def _asked_to_stop(trial: NativeTrial) -> bool:
    return any("cancel" in batch["status"] for batch in trial.ground.simulator.native()["batches"])


_STUCK: Rule = {"kind": "stuck", "on": "batch", "share": 0.4}

POINTS = {
    point.name: point
    for point in (
        Point("uploaded", (_held("upload"),), _uploaded, WORKERS),
        Point("created-openai", (_held("create", vendor="openai"),), _created("openai"), (*WORKERS, "postgres")),
        Point("created-anthropic", (_held("create", vendor="anthropic"),), _created("anthropic"), WORKERS),
        Point(
            "downloading",
            ({"kind": "slow_body", "on": "content", "vendor": "openai", "count": 4, "seconds": 4},),
            _shards("state = 'sent' AND answered BETWEEN 1 AND rows - 1"),
            (*WORKERS, "postgres"),
        ),
        Point(
            "cleaning-up", (_held("delete", "hang"),), _shards("state = 'taken_in' AND begun_at IS NOT NULL"), WORKERS
        ),
        Point("cancelling", (_STUCK, _held("cancel")), _asked_to_stop, WORKERS, before=_cancel),
        Point("handing-back", ({"kind": "vanish", "on": "row", "probability": 0.6},), _handed_back),
        Point("window-closes", (_STUCK,), _handed_back, window="3h", before=_nearly_too_late),
        Point(
            "replies-lost",
            tuple({"kind": "reset_after", "on": call, "probability": 0.3} for call in CALLS),
            _shards("state <> 'waiting'"),
        ),
        Point(
            "crowded",
            ({"kind": "fails", "on": "batch", "probability": 0.5, "count": 4},),
            _shards("state <> 'waiting'"),
        ),
        Point("anywhere", (), _shards("true")),
    )
}

#: What rows meet besides, in trials that are not fair: lost, doubled, failed for a passing reason.
CHANGING: tuple[Rule, ...] = (
    # Claude's simulated batches leave vanished rows out of their counts, by which a batch without an answer is found.
    {"kind": "vanish", "on": "row", "vendor": "openai", "probability": 0.05},
    {"kind": "duplicate", "on": "row", "probability": 0.1},
    {"kind": "500", "on": "row", "probability": 0.05},
    {"kind": "503", "on": "get", "probability": 0.1},
    {"kind": "429", "on": "create", "probability": 0.1},
    {"kind": "truncated_json", "on": "list", "probability": 0.1},
    {"kind": "half_close", "on": "content", "probability": 0.2},
)
