"""From a checked URL to the addresses that may be connected to: resolved once, all of them acceptable, kept briefly."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass

from core.egress.errors import ConnectFailed
from core.egress.policy import Url, literal, parse, refusal
from core.errors import AddressRefused
from core.settings import settings

#: How long a decision holds before the name is resolved and checked again, in seconds; a refusal holds shorter.
DECISION_SECONDS = 30.0
REFUSAL_SECONDS = 2.0
#: Decisions kept; the oldest goes first. Tenants choose the names, so the number is bounded.
MAX_DECISIONS = 10_000
#: Addresses of one name that a call tries.
MAX_ADDRESSES = 4

_Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Decision:
    """The addresses of one origin that a call may connect to, in the resolver's order; or why it may not."""

    addresses: tuple[str, ...]
    error: AddressRefused | ConnectFailed | None
    expires_at: float


_decisions: dict[_Key, Decision] = {}
_pending: dict[_Key, Future[Decision]] = {}
_lock = threading.Lock()


def addresses(url: Url, *, timeout_seconds: float) -> tuple[str, ...]:
    """The addresses to connect to for this URL.

    Raises
    ------
    AddressRefused
        One of the name's addresses is not acceptable: then none is used.
    ConnectFailed
        The name does not resolve, or not in time.
    """
    key = (url.scheme, url.host, url.port)
    found = _decisions.get(key)
    if found is None or found.expires_at < time.monotonic():
        found = _decide_once(key, url, timeout_seconds)
    if found.error is not None:
        raise type(found.error)(found.error.detail)
    return found.addresses


def check(url: str, *, timeout_seconds: float = 2.0) -> None:
    """Whether a URL would be accepted for a call: to tell a tenant at once, where it is entered.

    A name that does not resolve now is let through with https: what counts is the check at each connection.

    Raises
    ------
    AddressRefused
        The URL is malformed, or leads to an address, a port or a scheme that is not allowed.
    """
    parts = parse(url)
    try:
        addresses(parts, timeout_seconds=timeout_seconds)
    except ConnectFailed:
        if parts.scheme != "https":
            raise AddressRefused(f"{parts.host} does not resolve, and only https is allowed for such names.") from None
        if parts.port not in settings().allowed_ports() and not settings().allowed_networks():
            raise AddressRefused(f"Port {parts.port} is not allowed.") from None


def forget() -> None:
    """Drop what is kept: for tests, and after the settings changed."""
    _decisions.clear()


def _decide_once(key: _Key, url: Url, timeout_seconds: float) -> Decision:
    """Decide, with one look-up for all callers that wait for the same origin."""
    with _lock:
        future = _pending.get(key)
        if future is None:
            future = _pending[key] = Future()
            if url.address is not None:
                _settle(key, url, future)
            else:
                # A thread of its own, because getaddrinfo knows no time-out. Under gevent it is a greenlet.
                threading.Thread(target=_settle, args=(key, url, future), daemon=True).start()
    try:
        return future.result(timeout_seconds)
    except FutureTimeout:
        raise ConnectFailed(f"The name {url.host} was not resolved in time.") from None


def _settle(key: _Key, url: Url, future: Future[Decision]) -> None:
    decision = _decide(url)
    while len(_decisions) >= MAX_DECISIONS:
        _decisions.pop(next(iter(_decisions)), None)
    _decisions[key] = decision
    _pending.pop(key, None)
    future.set_result(decision)


def _decide(url: Url) -> Decision:
    error: AddressRefused | ConnectFailed | None = None
    found: tuple[str, ...] = ()
    try:
        found = (str(url.address),) if url.address is not None else _look_up(url.host, url.port)
        networks, ports = settings().allowed_networks(), settings().allowed_ports()
        for text in found:
            reason = refusal(literal(text), scheme=url.scheme, port=url.port, networks=networks, ports=ports)
            if reason is not None:
                error = AddressRefused(f"{url.host}: {reason}")
                break
    except (OSError, UnicodeError):
        error = ConnectFailed(f"The name {url.host} does not resolve.")
    seconds = DECISION_SECONDS if error is None else REFUSAL_SECONDS
    return Decision(() if error else found[:MAX_ADDRESSES], error, time.monotonic() + seconds)


def _look_up(host: str, port: int) -> tuple[str, ...]:
    # The dot at the end keeps the resolver from trying the search domains of this machine, except for short names
    # (of a Docker network, say), which only exist there.
    name = f"{host}." if "." in host else host
    answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
