"""All native batches and files of one simulator, their clock, and the turns that batches take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from simulator.ledger import key_label
from simulator.native.batch import Batch
from simulator.native.openai_batch import OpenAIBatch
from simulator.native.openai_files import Files
from simulator.native.webhook import Webhooks
from simulator.prompt import Refusal

if TYPE_CHECKING:
    from simulator.config import BatchSpeed, Fault
    from simulator.config import Native as Settings
    from simulator.simulation import Simulation

#: a timer is set no further ahead
_LONGEST_SECONDS = 3_600.0


class Native:
    """`surfaces`: path -> what answers a row of a batch with that endpoint."""

    def __init__(self, simulation: Simulation, settings: Settings) -> None:
        self.simulation = simulation
        self.settings = settings
        self.surfaces: dict[str, Any] = {}
        self.files = Files(self)
        self.batches: dict[str, Batch] = {}
        self._offset = settings.clock_offset_seconds
        self._turns: dict[str, Any] = {}
        self._webhooks = Webhooks(simulation.loop)

    def now(self) -> float:
        """Unix seconds by the clock that tests drive."""
        return time.time() + self._offset

    def configure(self, settings: Settings) -> None:
        """Other settings. The clock moves only if its offset was changed; batches keep the speed they began with."""
        if settings.clock_offset_seconds != self.settings.clock_offset_seconds:
            self._offset = settings.clock_offset_seconds
        self.settings = settings
        self._wake_all()

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._offset += seconds
        self._wake_all()

    @property
    def behind(self) -> bool:
        """Some batch has yet to do what its time has come for."""
        return any(batch.behind for batch in self.batches.values())

    def clear(self) -> None:
        """No batches, no files, the clock as configured."""
        for turn in self._turns.values():
            turn.cancel()
        self._turns.clear()
        self.batches.clear()
        self.files = Files(self)
        self._offset = self.settings.clock_offset_seconds

    def add(self, batch: Batch) -> None:
        """A batch that was created."""
        self.batches[batch.id] = batch
        self.simulation.ledger.native[f"{batch.vendor}_batches"] += 1
        self.wake(batch)

    def get(self, kind: type[Batch], key: str, batch_id: str) -> Any:
        """The batch. Raises Refusal (404) unless it is there, of that vendor, and this key's."""
        batch = self.batches.get(batch_id)
        if not isinstance(batch, kind) or batch.key != key:
            raise Refusal(404, f"No batch found with id '{batch_id}'.")
        return batch

    def listed(self, kind: type[Batch], key: str) -> list[Any]:
        """A key's batches of a vendor, newest first."""
        own = [batch for batch in self.batches.values() if isinstance(batch, kind) and batch.key == key]
        return own[::-1]

    def wake(self, batch: Batch) -> None:
        """Give the batch a turn soon, whatever it was waiting for."""
        if (turn := self._turns.pop(batch.id, None)) is not None:
            turn.cancel()
        if not batch.ended:
            batch.behind = True
            self._turns[batch.id] = self.simulation.loop.call_soon(self._turn, batch)

    def tell(self, batch: OpenAIBatch) -> None:
        """Tell the webhook's receiver, if there is one, how the batch ended."""
        if self.settings.webhook is not None:
            data = {"id": batch.id}
            self._webhooks.send(self.settings.webhook, f"batch.{batch.state}", int(self.now()), data)

    def speed(self, vendor: str, fault: Fault | None) -> Any:
        """How a batch that is created now will run, with what a fault rule for batches makes of it."""
        speed: BatchSpeed = getattr(self.settings, vendor)
        changes: dict[str, Any] = {}
        if fault is not None and fault.kind == "stuck":
            changes = {"stuck": fault.share}
        elif fault is not None and fault.kind == "slow":
            changes = {"seconds": fault.seconds if fault.seconds is not None else 3_600.0}
        elif fault is not None and fault.kind == "expires":
            changes = {"expires_after_seconds": fault.seconds or 0.0}
        return speed.model_copy(update=changes)

    def shown(self) -> dict[str, Any]:
        """Everything there is, whoever's it is, for /_sim/native."""
        return {
            "now": self.now(),
            "behind": self.behind,
            "batches": [_batch_shown(batch) for batch in self.batches.values()],
            "files": [file.shown() | {"key": key_label(file.key)} for file in self.files.all()],
        }

    def _wake_all(self) -> None:
        for batch in self.batches.values():
            self.wake(batch)

    def _turn(self, batch: Batch) -> None:
        self._turns.pop(batch.id, None)
        now = self.now()
        following = batch.step(now)
        batch.behind = following is not None and following <= now
        if following is None:
            return
        loop = self.simulation.loop
        if batch.behind:
            self._turns[batch.id] = loop.call_soon(self._turn, batch)
        else:
            self._turns[batch.id] = loop.call_later(min(following - now, _LONGEST_SECONDS), self._turn, batch)


def _batch_shown(batch: Batch) -> dict[str, Any]:
    shown = {
        "id": batch.id,
        "vendor": batch.vendor,
        "key": key_label(batch.key),
        "status": batch.state,
        "behind": batch.behind,
        "created_at": batch.created,
        "rows": batch.total,
        "done": batch.taken,
    }
    if isinstance(batch, OpenAIBatch):
        body = batch.shown()
        names = ("model", "metadata", "request_counts", "input_file_id", "output_file_id", "error_file_id")
        return shown | {name: body[name] for name in names}
    return shown | {"metadata": None, "request_counts": getattr(batch, "counts", {})}
