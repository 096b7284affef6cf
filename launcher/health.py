"""What a container asks itself: `python -m launcher.health api|worker|scheduler` ends with 0 if that process works.

It runs in the service's image, so it uses nothing but the service's own packages.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from launcher.local_http import status_of

#: The state of a connection in /proc/net/tcp: established.
_ESTABLISHED = "01"


def api() -> bool:
    """The API says that it can serve."""
    port = os.environ.get("LLM_SERVICE_BIND", "127.0.0.1:8000").rpartition(":")[2]
    return status_of(f"http://127.0.0.1:{port}/readyz", timeout_seconds=4) == 200


def worker() -> bool:
    """The worker of this host beats; one that drains is healthy too, or it would be killed amid its last calls."""
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=4) as connection:
            query = "SELECT FROM worker WHERE host = %s AND lease_expires_at > now()"
            return connection.execute(query, (socket.gethostname(),)).fetchone() is not None
    except psycopg.Error:
        return False


def scheduler() -> bool:
    """The scheduler of this container holds its connection to the database, as leader or standing by."""
    port = int(conninfo_to_dict(os.environ["DATABASE_URL"]).get("port") or 5432)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _number, _local, remote, state = line.split()[:4]
            if state == _ESTABLISHED and int(remote.rpartition(":")[2], 16) == port:
                return True
    return False


if __name__ == "__main__":
    sys.exit(not {"api": api, "worker": worker, "scheduler": scheduler}[sys.argv[1]]())
