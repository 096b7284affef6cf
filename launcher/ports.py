"""TCP ports on this machine: finding a free one, asking whether one is taken, waiting for one to answer."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections.

    A server that is killed and started again finds its port free: with thousands of calls in flight, one of them
    would soon have taken a port of the kernel's own range.
    """
    while is_taken(port := random.randrange(20_000, 32_000)):
        pass
    return port


def is_taken(port: int, host: str = LOOPBACK) -> bool:
    """True if a server could not listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a port whose last connections are still timing out is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
        return False


def answers(port: int, host: str = LOOPBACK) -> bool:
    """True if something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
