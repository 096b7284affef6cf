"""One trial: batches of two tenants, a fault in the middle, and what must be true at most a minute after its end."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import orjson
import requests

from launcher.client import Client, wait_until
from tests.chaos import weather
from tests.chaos.faults import Fault, Strike
from tests.chaos.ground import Ground, let_pass
from tests.e2e.batches import rows

#: The invariants hold so long after a fault's end (RELIABILITY.md section 3).
SETTLE_SECONDS = 60.0
#: Between two looks at all batches of a trial: more often, the looks would be a good part of its load.
POLL_SECONDS = 0.25
#: A client gives up a submission that nobody answered for so long.
SUBMIT_SECONDS = 150.0
#: How long a call takes, in seconds.
CALLS = {"low": 0.1, "high": 0.8}
SLOW_CALLS = {"low": 1.0, "high": 7.0}
WEATHERS: dict[str, Callable[[random.Random], list[dict[str, Any]]]] = {
    "fair": lambda rng: weather.fair(),
    "changing": weather.changing,
    "foul": weather.foul,
}


@dataclass(slots=True)
class Planned:
    """One batch of a trial, and what its client knows of it."""

    client: Client
    tenant: int
    #: in its nonces, and its Idempotency-Key
    name: str
    count: int
    body: bytes
    path: str
    id: str | None = None
    #: the first answer 201
    answer: bytes = b""
    #: how often it had to be sent
    tries: int = 0
    answered_at: float = 0.0
    #: its key was still held by a request that had died when its client gave up
    locked: bool = False
    last: dict[str, Any] = field(default_factory=dict)

    def submit(self, timeout_seconds: float = SUBMIT_SECONDS) -> None:
        """Send it until it is answered 201, always under one Idempotency-Key: what a careful client does."""

        def taken() -> bool:
            self.tries += 1
            with suppress(requests.RequestException):
                answer = self.post()
                self.locked = answer.status_code == 409
                if answer.status_code == 201:
                    self.answered_at = time.monotonic()
                    self.id, self.answer = answer.json()["id"], answer.content
                    return True
                if answer.status_code not in (409, 429, 500, 503):
                    raise AssertionError(f"{self.name} was answered {answer.status_code}: {answer.text[:300]}")
            return False

        wait_until(taken, timeout_seconds, lambda: f"{self.name} was never answered 201")

    def post(self) -> requests.Response:
        """A fresh session each time: threads share none."""
        headers = {**self.client.headers, "Idempotency-Key": self.name, "Content-Type": "application/json"}
        with requests.Session() as session:
            session.trust_env = False
            return session.post(self.client.url + "/v1/batch", data=self.body, headers=headers, timeout=30)

    def look(self) -> bool:
        """Ask for the batch, resume it if it is paused as its owner would; True once it has ended."""
        if self.id is None:
            return False
        with suppress(requests.RequestException):
            answer = self.client.get(f"/v1/batch/{self.id}")
            if answer.status_code == 200:
                self.last = answer.json()
                if self.last["status"] == "paused":
                    self.client.post(f"/v1/batch/{self.id}/resume")
        return self.last.get("ended_at") is not None


@dataclass(slots=True)
class Report:
    """What a trial found."""

    seed: int
    faults: list[str]
    weather: str
    rows: int
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: from the fault's end until everything had ended; None: it had not
    settled_seconds: float | None = None
    seconds: float = 0.0
    calls: int = 0
    executed: int = 0
    attempts: int = 0
    unknown: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Trial:
    """A trial about to run.

    Parameters
    ----------
    down_seconds : what is killed stays down for at most so long.
    settle_seconds : how long after the fault's end the invariants may take to hold.
    submit_seconds : when a client gives up a submission; a short trial does not wait until the key of a request that
        died with the API is given back.
    """

    ground: Ground
    seed: int
    faults: list[Fault]
    rows: int
    weather: str = "fair"
    down_seconds: float = 10.0
    settle_seconds: float = SETTLE_SECONDS
    submit_seconds: float = SUBMIT_SECONDS
    batches: list[Planned] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)

    def run(self) -> Report:
        from tests.chaos.invariants import check

        began = time.monotonic()
        rng = random.Random(self.seed)
        report = Report(self.seed, [fault.name for fault in self.faults], self.weather, self.rows)
        self._prepare(rng)
        early, late = self.batches[:2], self.batches[2:]
        for batch in early:
            batch.submit()
        submissions = [
            threading.Thread(target=self._guarded, args=(report, partial(self._submit, batch))) for batch in late
        ]
        strikes = [threading.Thread(target=self._strike, args=(report, fault, rng.random())) for fault in self.faults]
        self.ground.simulator.wait_for(lambda ledger: ledger["calls"] > 0, timeout_seconds=self.settle_seconds)
        let_pass(rng.uniform(0.0, 2.0))
        for thread in (*submissions, *strikes):
            thread.start()
        for thread in strikes:
            thread.join()
        over = time.monotonic()
        # What a fault killed is up again within a moment; the minute starts here.
        for thread in submissions:
            thread.join()
        for batch in late:
            if (waited := batch.answered_at - over) > self.settle_seconds:
                report.violations.append(f"I6: {batch.name} was answered only {waited:.0f} s after the fault's end")
        began_to_settle = max([over, *(batch.answered_at for batch in late)])
        try:
            wait_until(self._settled, self.settle_seconds, poll_seconds=POLL_SECONDS)
            report.settled_seconds = round(time.monotonic() - began_to_settle, 1)
        except TimeoutError:
            report.violations.append(f"I3: not all has ended {self.settle_seconds:.0f} s after the fault's end")
        for strike in self.strikes:
            report.unknown += strike.unknown
            report.violations += strike.violations
            report.notes += strike.notes
        with suppress(TimeoutError):
            self.ground.wait_ready(30.0)
        check(self, report)
        report.seconds = round(time.monotonic() - began, 1)
        return report

    def _prepare(self, rng: random.Random) -> None:
        """Two new tenants, and four batches: two that run when the fault strikes, two that are submitted in it."""
        simulator = self.ground.simulator
        simulator.reset()
        # What lasts a minute is to strike in the middle of batches that last a minute.
        latency = SLOW_CALLS if any(fault.needs == "hosts" and fault.long for fault in self.faults) else CALLS
        simulator.config(latency={"kind": "uniform", **latency}, faults=WEATHERS[self.weather](rng), seed=self.seed)
        clients = [self.ground.new_client(f"trial {self.seed} {side}") for side in ("left", "right")]
        shares = (0.4, 0.3, 0.2, 0.1)
        for n, share in enumerate(shares):
            tenant = n % 2
            name = f"t{self.seed}-{'lr'[tenant]}{n}"
            count = max(4, int(self.rows * share))
            options = {
                "name": name,
                "webhook_url": f"{self.ground.receiver.url}/{name}",
                "priority": rng.randint(-2, 2),
            }
            body = orjson.dumps({"requests": rows(name, count), **options})
            self.batches.append(Planned(clients[tenant], tenant, name, count, body, f"/{name}"))

    def _strike(self, report: Report, fault: Fault, seed: float) -> None:
        strike = Strike(self.ground, random.Random(seed), self.down_seconds)
        self.strikes.append(strike)
        self._guarded(report, lambda: fault.strike(strike))

    def _submit(self, batch: Planned) -> None:
        try:
            batch.submit(self.submit_seconds)
        except TimeoutError:
            if not batch.locked or self.submit_seconds >= self.settle_seconds:
                raise

    def _guarded(self, report: Report, work: Callable[[], None]) -> None:
        """A thread's failure is the trial's."""
        try:
            work()
        except Exception:
            report.violations.append(f"the trial itself failed: {traceback.format_exc(limit=-3)}")

    def _settled(self) -> bool:
        """All batches have ended, no lease and no unsent event is left."""
        ended = [batch.look() for batch in self.batches if batch.id is not None]
        if not all(ended):
            return False
        with suppress(Exception):
            left = self.ground.query(_LEFT, {"batches": uuids(self.batches)})[0]
            return not left["leases"] and not left["events"]
        return False


def uuids(batches: Iterable[Planned]) -> list[str]:
    """The ids as the database has them."""
    return [batch.id.removeprefix("batch_") for batch in batches if batch.id is not None]


_LEFT = """
SELECT (SELECT count(*) FROM lease WHERE batch_id = ANY(%(batches)s::uuid[])) AS leases,
       (SELECT count(*) FROM webhook_delivery
        WHERE batch_id = ANY(%(batches)s::uuid[]) AND status = 'pending') AS events
"""
