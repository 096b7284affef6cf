"""Connections to checked addresses: opened with the name's certificate checked, kept for reuse while they are fresh."""

from __future__ import annotations

import _socket
import re
import socket
import ssl
import threading
import time
from collections import deque
from functools import lru_cache

import certifi

from core.egress.clock import Clock
from core.egress.errors import ConnectFailed, TimedOut
from core.egress.policy import Url
from core.egress.resolve import addresses
from core.egress.wire import Headers

#: An idle connection older than this is not used again, in seconds. Servers close theirs after some tens of seconds,
#: and a request that crosses such a close on its way may or may not have been run.
IDLE_SECONDS = 20.0
#: How often idle connections of all origins are looked through, in seconds.
SWEEP_SECONDS = 20.0

_KEEP_ALIVE = re.compile(r"timeout=([0-9]{1,6})")

Origin = tuple[str, str, int]


class Wire:
    """One open connection. `fresh_until` is set while it is idle (monotonic seconds)."""

    __slots__ = ("address", "fresh_until", "origin", "sock", "used")

    def __init__(self, origin: Origin, address: str, sock: socket.socket) -> None:
        self.origin = origin
        self.address = address
        self.sock = sock
        self.fresh_until = 0.0
        #: it has carried a request before
        self.used = False

    def close(self) -> None:
        self.sock.close()

    def is_quiet(self) -> bool:
        """True if the peer has neither closed nor said anything unasked: only then may a request follow."""
        try:
            # gevent keeps the plain, non-blocking socket in _sock. TLS is passed by on purpose: any byte counts.
            plain = getattr(self.sock, "_sock", None)
            if plain is None:
                plain = self.sock
                plain.settimeout(0.0)
            _socket.socket.recv(plain, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


_idle: dict[Origin, deque[Wire]] = {}
_lock = threading.Lock()
_next_sweep = 0.0


def take(url: Url, clock: Clock, *, connect_timeout_seconds: float, fresh: bool = False) -> Wire:
    """A connection for this URL: an idle one whose address is still acceptable, else (or if `fresh`) a new one.

    Raises
    ------
    AddressRefused, ConnectFailed, TimedOut
    """
    origin = (url.scheme, url.host, url.port)
    acceptable = addresses(url, timeout_seconds=min(connect_timeout_seconds, clock.left()))
    idle = _idle.get(origin)
    if idle and not fresh:
        now = time.monotonic()
        while idle:
            try:
                wire = idle.pop()
            except IndexError:
                break
            if wire.fresh_until > now and wire.address in acceptable and wire.is_quiet():
                return wire
            wire.close()
    return _open(url, origin, acceptable, clock, connect_timeout_seconds)


def give_back(wire: Wire, headers: Headers) -> None:
    """Keep a connection whose answer was read to its end, as long as the server says it will."""
    seconds = IDLE_SECONDS
    hint = headers.get("keep-alive")
    if hint is not None and (found := _KEEP_ALIVE.search(hint)):
        # A second earlier than the server, which may count from before we had the answer.
        seconds = min(seconds, int(found[1]) - 1)
    if seconds <= 0:
        wire.close()
        return
    wire.used = True
    now = time.monotonic()
    wire.fresh_until = now + seconds
    idle = _idle.get(wire.origin)
    if idle is None:
        with _lock:
            idle = _idle.setdefault(wire.origin, deque())
    idle.append(wire)
    if now > _next_sweep:
        _sweep(now)


def _sweep(now: float) -> None:
    """Close what has gone stale, of every origin: the stalest lie to the left."""
    global _next_sweep
    with _lock:
        _next_sweep = now + SWEEP_SECONDS
        origins = list(_idle.items())
    for origin, idle in origins:
        while idle:
            try:
                wire = idle.popleft()
            except IndexError:
                break
            if wire.fresh_until > now:
                idle.appendleft(wire)
                break
            wire.close()
        if not idle and len(_idle) > 1000:
            # A give_back that holds the deque in this moment loses one connection to the garbage collector.
            _idle.pop(origin, None)


def close_all() -> None:
    """Close every idle connection: for tests, and for a process that stops."""
    for idle in list(_idle.values()):
        while idle:
            idle.pop().close()


def _open(url: Url, origin: Origin, acceptable: tuple[str, ...], clock: Clock, seconds: float) -> Wire:
    """Connect to the first address that answers; all of them together get `seconds`."""
    ends_at = time.monotonic() + seconds
    problem: ConnectFailed | None = None
    for index, address in enumerate(acceptable):
        share = max(ends_at - time.monotonic(), 0.0) / (len(acceptable) - index)
        attempt = Clock(min(share, clock.left()))
        try:
            with attempt:
                return Wire(origin, address, _connect(url, address, attempt))
        except TimedOut:
            clock.left()
            problem = ConnectFailed(f"{url.host} did not accept a connection within {seconds:g} s.")
        except ConnectFailed as error:
            problem = error
    raise problem or ConnectFailed(f"The name {url.host} has no address.")


def _connect(url: Url, address: str, clock: Clock) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectFailed(f"No connection can be opened: {error.strerror}.") from error
    try:
        clock.arm(sock)
        sock.connect((address, url.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if url.scheme == "https":
            clock.arm(sock)
            sock = trust().wrap_socket(sock, server_hostname=url.host)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise ConnectFailed(f"The certificate of {url.host} is not valid: {error.verify_message}.") from error
    except TimeoutError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise ConnectFailed(f"No connection to {url.host}: {error.strerror or 'TLS failed'}.") from error
    except BaseException:
        sock.close()
        raise
    return sock


@lru_cache(maxsize=1)
def trust() -> ssl.SSLContext:
    """Which certificates are believed: Mozilla's roots and those of the system (or of SSL_CERT_FILE)."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context
