"""Sending on a socket."""

from __future__ import annotations

from typing import Any


def send_all(sock: Any, data: bytes) -> None:
    """`sock.sendall` for what the system nearly always takes at once.

    gevent's asks the system for the size of its buffer first, and cuts what it sends by that.
    """
    sent = sock.send(data)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])
