"""`python -m scheduler`: one scheduler process. Several may run; one leads, the others stand by."""

from core import startup

startup.begin()

import logging  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402

import gevent  # noqa: E402
import gevent.event  # noqa: E402

from core import db, garbage, logs, metrics_process, notifications, tracing  # noqa: E402
from core.dispatch.doorbell import make_broker  # noqa: E402
from core.metrics_backlog import Backlog  # noqa: E402
from core.metrics_dispatch import timed  # noqa: E402
from scheduler import retention, tasks  # noqa: E402
from scheduler.contact import Contact  # noqa: E402
from scheduler.dispatch import Dispatcher  # noqa: E402
from scheduler.leader import lead, name_connections  # noqa: E402
from scheduler.native import Native  # noqa: E402
from scheduler.poller import Poller  # noqa: E402

log = logging.getLogger("scheduler")


def main() -> int:
    logs.configure("scheduler")
    tracing.configure("scheduler")
    name_connections()
    broker = make_broker()
    leading, contact = threading.Event(), Contact()
    work = {
        "dispatch": Dispatcher(broker).tick,
        "stops and windows": tasks.stops_and_windows,
        "rescue": tasks.Rescue(broker, contact).tick,
        "webhooks": tasks.Webhooks(broker).tick,
        "native batches": Native(broker, contact).tick,
        "housekeeping": tasks.housekeeping,
        "retention": retention.remove_old,
    }
    pollers = [Poller(name, timed(name, task), leading) for name, task in work.items()]
    for poller in pollers:
        poller.start()
    gevent.spawn(lead, leading, contact)
    gevent.spawn(_wake_on_news, pollers)
    metrics_process.start("scheduler")
    backlog = Backlog(leading)
    gevent.spawn(backlog.run)
    stop = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    garbage.settle()
    log.info("scheduler ready")
    stop.wait()
    backlog.clear()
    tracing.shutdown()
    db.configure(None)
    log.info("stopped")
    return 0


def _wake_on_news(pollers: list[Poller]) -> None:
    for _ in notifications.listen(("llm_dispatch",)):
        for poller in pollers:
            if poller.name in ("dispatch", "stops and windows", "webhooks", "native batches"):
                poller.wake()


if __name__ == "__main__":
    sys.exit(main())
