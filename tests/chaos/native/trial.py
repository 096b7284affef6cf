"""One native trial: batches of two tenants, a kill at a point, and what must be true at most a minute after it."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass, field

import orjson
import psycopg

from launcher.client import wait_until
from tests.chaos.ground import let_pass
from tests.chaos.native.points import CHANGING, Point
from tests.chaos.trial import POLL_SECONDS, Planned, Report, Trial, uuids
from tests.e2e.batches import rows

#: So long a point may take to be reached.
REACH_SECONDS = 30.0
OPENAI, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"


@dataclass(slots=True)
class NativeTrial(Trial):
    """A trial about to run: `point` with `victim` instead of faults; `rows` of all batches together."""

    point: Point = field(kw_only=True)
    victim: str = field(kw_only=True)

    @property
    def native(self) -> list[Planned]:
        """The batches that go through providers' batch APIs; the last one does not."""
        return [batch for batch in self.batches[:-1] if batch.id is not None]

    def has(self, statement: str) -> bool:
        """Whether the database has such a row; False while it is away."""
        with suppress(psycopg.Error):
            return bool(self.ground.query(statement))
        return False

    def run(self) -> Report:
        from tests.chaos.native.invariants import check

        began = time.monotonic()
        rng = random.Random(self.seed)
        report = Report(self.seed, [self.point.name, self.victim], self.weather, self.rows)
        self._prepare(rng)
        for batch in self.batches:
            batch.submit(self.submit_seconds)
        if self.point.before is not None:
            wait_until(lambda: not self.has(_UNSENT), REACH_SECONDS, lambda: "not all shards were sent")
            self.point.before(self)
        wait_until(lambda: self.point.reached(self), REACH_SECONDS, lambda: f"{self.point.name} was not reached")
        if self.point.name == "anywhere":
            let_pass(rng.uniform(0.0, 2.0))
        self._kill(rng, report)
        over = time.monotonic()
        try:
            wait_until(self._settled, self.settle_seconds, poll_seconds=POLL_SECONDS)
            report.settled_seconds = round(time.monotonic() - over, 1)
        except TimeoutError:
            report.violations.append(f"I3: not all has ended {self.settle_seconds:.0f} s after the fault's end")
        with suppress(TimeoutError):
            self.ground.wait_ready(30.0)
        check(self, report)
        report.seconds = round(time.monotonic() - began, 1)
        return report

    def _prepare(self, rng: random.Random) -> None:
        """Two new tenants with accounts of their own: a native batch of both providers each, and one in real time."""
        simulator = self.ground.simulator
        simulator.reset()
        weather = CHANGING if self.weather == "changing" else ()
        simulator.config(faults=[*self.point.rules, *weather], seed=self.seed)
        shares = (0.6, 0.3, 0.1)
        clients = [self.ground.new_client(f"native trial {self.seed} {side}") for side in ("left", "right")]
        for side, client in enumerate(clients):
            for provider_type, key in (
                ("openai", f"sk-{self.seed}-{side}"),
                ("anthropic", f"sk-ant-{self.seed}-{side}"),
            ):
                client.post("/v1/providers", {"providerType": provider_type, "apiKey": key})
        for n, share in enumerate(shares):
            tenant = n % 2
            name = f"n{self.seed}-{'lr'[tenant]}{n}"
            count = int(self.rows * share)
            body = {
                # More of one provider, so that its results are read in more than one piece.
                "requests": rows(name, count, models=(OPENAI, OPENAI, CLAUDE)),
                "name": name,
                "webhook_url": f"{self.ground.receiver.url}/{name}",
                "completion_window": self.point.window,
                "processing": "realtime" if n == len(shares) - 1 else "auto",
            }
            planned = Planned(clients[tenant], tenant, name, count, orjson.dumps(body), f"/{name}")
            self.batches.append(planned)

    def _kill(self, rng: random.Random, report: Report) -> None:
        """SIGKILL of the victim; it is up again after a moment."""
        ground = self.ground
        names = {"workers": ground.workers, "everything": ["scheduler", *ground.workers]}.get(
            self.victim, [self.victim]
        )
        since = time.time()
        for name in names:
            ground.kill(name)
        workers = [name for name in names if name in ground.workers]
        if workers:
            report.unknown += ground.in_calls_of(workers, since)
        let_pass(rng.uniform(0.0, self.down_seconds))
        for name in names:
            ground.start_process(name)

    def _settled(self) -> bool:
        """Besides what every trial waits for: nothing is left at the providers, or in doubt."""
        if not Trial._settled(self):
            return False
        with suppress(psycopg.Error):
            return not self.ground.query(_UNCLEAN, {"batches": uuids(self.batches)})
        return False


_UNSENT = "SELECT 1 FROM native_shard WHERE state = 'waiting' LIMIT 1"

_UNCLEAN = "SELECT 1 FROM native_shard WHERE batch_id = ANY(%(batches)s::uuid[]) AND state <> 'cleaned' LIMIT 1"
