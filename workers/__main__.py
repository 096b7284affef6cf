"""`python -m workers`: one worker process. SIGTERM lets running calls finish; a second one does not."""

from core import startup

startup.begin()

import logging  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from uuid import UUID  # noqa: E402

import dramatiq  # noqa: E402
import gevent  # noqa: E402
import gevent.event  # noqa: E402

from core import db, garbage, logs, metrics_process, notifications, tracing  # noqa: E402
from core.db import DatabaseDown  # noqa: E402
from core.dispatch.doorbell import FIRST_QUEUE, QUEUE  # noqa: E402
from core.settings import settings  # noqa: E402
from workers import broker as brokers  # noqa: E402
from workers.execute import Executor  # noqa: E402

log = logging.getLogger("workers")

#: Messages taken at once, by queue. Each is done when its rows are in hand, so this bounds nothing but the start
#: statements. The queue that does not stand in line has consumers of its own: the others may all be waiting.
CONSUMERS = {QUEUE: 8, FIRST_QUEUE: 2}
#: How long an idle consumer waits for a message before it looks whether it is to stop, in milliseconds: a stop waits
#: as long, and each look costs an idle worker processor time.
IDLE_MILLISECONDS = 1000


def main() -> int:
    logs.configure("worker")
    tracing.configure("worker")
    _allow_many_sockets()
    executor = Executor(settings().worker_concurrency)
    sampler = metrics_process.start("worker", executor.sample)
    _begin(executor)
    broker = brokers.build(executor)
    consumers = [
        dramatiq.Worker(broker, queues={queue}, worker_timeout=IDLE_MILLISECONDS, worker_threads=count)
        for queue, count in CONSUMERS.items()
    ]
    stop = gevent.event.Event()

    def on_signal() -> None:
        if stop.is_set():
            log.warning("second signal: calls that still run are left to be rescued")
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, on_signal)
    gevent.spawn(_keep_alive, executor)
    gevent.spawn(_hear_of_stops, executor)
    for consumer in consumers:
        brokers.start(consumer)
    garbage.settle()
    log.info("worker ready: holds up to %d calls", executor.capacity)
    stop.wait()

    log.info("stopping: %d rows in hand", len(executor.in_hand))
    executor.draining = True
    for consumer in consumers:
        # All end their wait at once, and not those for messages only after those for work.
        for listener in consumer.consumers.values():
            listener.stop()
    gevent.joinall([gevent.spawn(consumer.stop, timeout=5_000) for consumer in consumers])
    drained = executor.drain(settings().drain_seconds)
    sampler.sample()
    tracing.shutdown()
    try:
        executor.end()
    except DatabaseDown:
        log.warning("the database is away; this worker's leases run out by themselves")
    db.configure(None)
    log.info("stopped%s", "" if drained else f" with {len(executor.in_hand)} calls left unfinished")
    return 0


def _begin(executor: Executor) -> None:
    while True:
        try:
            executor.begin()
            return
        except DatabaseDown:
            log.warning("the database is away; trying again")
            time.sleep(1)


def _keep_alive(executor: Executor) -> None:
    """The heartbeat, several times in a lease, and now and then a look for rows that fell between the stools."""
    interval = settings().worker_lease_seconds / 4
    strays: set[int] = set()
    beats = 0
    while True:
        time.sleep(interval)
        try:
            executor.beat()
            beats += 1
            if beats % 2 == 0:
                strays = executor.release_strays(strays)
        except DatabaseDown:
            log.warning("the database is away; no heartbeat")
        except Exception:
            log.exception("the heartbeat failed")


def _hear_of_stops(executor: Executor) -> None:
    """Batches that were cancelled or paused, from the moment that commits."""
    for channel, payload in notifications.listen(("llm_stop", "llm_go")):
        if channel == "llm_stop":
            executor.stop_batch(UUID(hex=payload))
        elif channel == "llm_go":
            executor.resume_batch(UUID(hex=payload))
        else:
            # A resume may have been missed; that nothing of a stopped batch starts is the database's word anyway.
            executor.forget_stops()


def _allow_many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
