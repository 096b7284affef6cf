"""gunicorn's gevent worker: an answer's head and body leave in one system call, and idle callers do not delay a stop.

Both change only how bytes leave and when a connection without a request is closed; requests are parsed by gunicorn.
"""

from __future__ import annotations

import select
import time
from functools import lru_cache
from types import TracebackType
from typing import Any

import gevent
from gevent import monkey
from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.message import HeaderPolicy
from gunicorn.workers.ggevent import GeventWorker

from core import startup
from core.sockets import send_all

#: How long a connection may stay without a request while the process stops, in seconds: one that was just opened has
#: its request on the way.
_LAST_REQUEST_SECONDS = 0.5
_KEPT_PEERS = 10_000


class OneWrite(wsgi.Response):
    """Keeps the head back until the first piece of the body, so that the two leave together."""

    headers_sent: bool

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._head = b""
        #: the rest of what was interjected and did not go out at once
        self._owed = b""
        # Known to a streamed answer that is made in this greenlet.
        gevent.getcurrent().answer = self

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self._head = util.to_bytestring("".join(lines), "latin-1")
        self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        head, self._head = self._owed + self._head, b""
        self._owed = b""
        send_all(self.sock, head + self._framed(data))

    def _framed(self, data: bytes) -> bytes:
        return b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data

    def interject(self, data: bytes) -> None:
        """Send a piece from another greenlet while this answer's own waits for its next. Never waits itself."""
        if not self.headers_sent or self._head or self._owed or self.cfg.is_ssl:
            return
        framed = self._framed(data)
        try:
            # gevent keeps the plain, non-blocking socket in _sock.
            sent = self.sock._sock.send(framed)
        except OSError:
            # Its buffer is full, so there is enough for the caller to read; or it is broken, which others notice.
            return
        self._owed = framed[sent:]

    def write_file(self, respiter: Any) -> None:
        self.send_headers()
        self._flush()
        super().write_file(respiter)

    def close(self) -> None:
        self.send_headers()
        self._flush()
        super().close()

    def _flush(self) -> None:
        head, self._head = self._owed + self._head, b""
        self._owed = b""
        if head:
            self.sock.sendall(head)


# gunicorn has no setting for it.
wsgi.Response = OneWrite


class _Date:
    """The Date of answers as gunicorn writes it, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def __call__(self, timestamp: float | None = None) -> str:
        now = int(time.time() if timestamp is None else timestamp)
        if now != self._second:
            self._text = _http_date(now)
            self._second = now
        return self._text


_http_date = util.http_date
util.http_date = _Date()

_base_environ = lru_cache(maxsize=1)(wsgi.base_environ)
wsgi.base_environ = lambda settings: dict(_base_environ(settings))

_is_trusted = HeaderPolicy._peer_is_trusted_proxy
_trusted: dict[str, bool] = {}


def _peer_is_trusted_proxy(request: Any) -> bool:
    """gunicorn's own answer, kept by address: it parses the address anew with every request."""
    peer = request.peer_addr
    if not isinstance(peer, tuple):
        return bool(_is_trusted(request))
    found = _trusted.get(peer[0])
    if found is None:
        if len(_trusted) >= _KEPT_PEERS:
            _trusted.clear()
        found = _trusted[peer[0]] = bool(_is_trusted(request))
    return found


HeaderPolicy._peer_is_trusted_proxy = _peer_is_trusted_proxy


class Worker(GeventWorker):
    """The worker of `worker_class`."""

    cfg: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: connections that wait for a request
        self._idle: set[_Idle] = set()

    def patch(self) -> None:
        startup.begin()
        super().patch()

    def init_process(self) -> None:
        self.cfg = _Settled(self.cfg)
        super().init_process()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        # Known to the wait for a request that follows in this greenlet.
        gevent.getcurrent().client = client
        super().handle(listener, client, addr)

    def timeout_ctx(self) -> _Idle:
        return _Idle(self._idle, self.cfg.keepalive if self.alive else _LAST_REQUEST_SECONDS)

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        # Not in the signal's own frame: it may have interrupted the event loop.
        gevent.spawn(self._close_idle)

    def _close_idle(self) -> None:
        """Close the connections on which nothing has come; who is being answered is answered to the end."""
        for idle in list(self._idle):
            idle.end()


class _Settled:
    """gunicorn's configuration once nothing changes it any more: plain attributes, of which a request reads dozens."""

    def __init__(self, config: Any) -> None:
        self._config = config
        for name in (*config.settings, "is_ssl", "address", "ssl_options"):
            setattr(self, name, getattr(config, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)


class _Idle:
    """The wait for a request: at most so long, and ended early when the process stops. Then the block is left."""

    __slots__ = ("_all", "_greenlet", "_timeout")

    def __init__(self, others: set[_Idle], seconds: float) -> None:
        self._all = others
        self._timeout = gevent.Timeout(seconds, False)
        self._greenlet: Any = gevent.getcurrent()

    def __enter__(self) -> None:
        self._timeout.start()
        self._all.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._all.discard(self)
        self._timeout.close()
        return error is self._timeout

    def end(self) -> None:
        if self in self._all and not _has_come(self._greenlet.client):
            self._all.discard(self)
            self._greenlet.kill(self._timeout, block=False)


def _has_come(client: Any) -> bool:
    """True if there is something to read: then the request is on its way, and is answered."""
    poll = monkey.get_original("select", "poll")()
    try:
        poll.register(client, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
