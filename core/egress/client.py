"""The one way out: HTTP calls to addresses that tenants chose, for providers and webhooks alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from core.egress import pool
from core.egress.body import Body
from core.egress.clock import Clock
from core.egress.decode import decoded
from core.egress.errors import ConnectionLost, EgressError
from core.egress.policy import Url, parse
from core.egress.wire import Headers, Reading, request_head
from core.sockets import send_all

#: The most bytes of a body, decompressed, that a call takes unless told otherwise.
MAX_BYTES = 64 * 1024 * 1024
CONNECT_TIMEOUT_SECONDS = 5.0

#: Up to this size head and body leave in one system call.
_ONE_PIECE_BYTES = 256 * 1024
_DEFAULTS = {"accept-encoding": "identity", "user-agent": "llm-service"}
#: The most that `Stream.finish` reads.
_REST_BYTES = 16 * 1024
_IDEMPOTENT = frozenset({"GET", "HEAD", "DELETE", "PUT", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: any status, redirects included, which are never followed."""

    status: int
    headers: Headers
    body: bytes


class Stream:
    """An answer whose body is read as it arrives. Leaving the `with` block early closes the connection.

    Iterating gives pieces of the body as the network brings them (decompressed, not aligned with lines or events) and
    raises TimedOut, ConnectionLost, TooMuchData or BadAnswer.
    """

    __slots__ = ("_body", "_call", "_done", "_ends_at", "_idle_seconds", "headers", "status")

    def __init__(self, call: _Call, max_bytes: int, idle_seconds: float | None) -> None:
        self._call = call
        call.clock.lasting = True
        self._ends_at = call.clock.ends_at
        self._idle_seconds = idle_seconds
        self.status = call.reading.status
        self.headers = call.reading.headers
        self._body = call.body(max_bytes)
        self._done = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._done:
            raise StopIteration
        clock = self._call.clock
        if self._idle_seconds is not None:
            clock.ends_at = min(self._ends_at, time.monotonic() + self._idle_seconds)
        try:
            with clock:
                return next(self._body)
        except StopIteration:
            self._done = True
            self._call.finish()
            raise
        except OSError as error:
            self.close()
            raise ConnectionLost(sent=True) from error
        except BaseException:
            self.close()
            raise

    def run_until(self, ends_at: float) -> None:
        """Give what is left of the body until `ends_at` (monotonic seconds) instead of the call's own time."""
        self._ends_at = self._call.clock.ends_at = ends_at

    def read(self) -> bytes:
        """What is left of the body."""
        return b"".join(self)

    def finish(self, *, wait_seconds: float = 0.01) -> None:
        """Read what little is left, so that the connection can carry another call; close it if that takes longer.

        For an answer whose own last word has come, while the end of the body has not been read.
        """
        if self._done:
            return
        clock = self._call.clock
        clock.ends_at = min(self._ends_at, time.monotonic() + wait_seconds)
        left = _REST_BYTES
        try:
            with clock:
                for piece in self._body:
                    left -= len(piece)
                    if left < 0:
                        break
                else:
                    self._done = True
                    self._call.finish()
        except (EgressError, OSError):
            # Nobody waits for these bytes any more.
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection, whatever is still to come on it."""
        if not self._done:
            self._done = True
            self._call.abandon()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | Body | None = None,
    timeout_seconds: float,
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    max_bytes: int = MAX_BYTES,
) -> Answer:
    """One call, its answer read whole.

    Parameters
    ----------
    body
        Bytes, or a Body that is produced while it is sent.
    timeout_seconds
        Wall-clock time for everything from the look-up of the name to the last byte.
    connect_timeout_seconds
        The part of it that connecting may take, TLS included.
    max_bytes
        The largest body that is taken, counted after decompression.

    Raises
    ------
    AddressRefused
        The URL or one of its host's addresses is not allowed; nothing was sent.
    EgressError
        One of ConnectFailed, TimedOut, ConnectionLost, TooMuchData, BadAnswer, BodyFailed; `sent` says whether the
        server may have run the request.
    ValueError
        A header contains a line break or characters that HTTP cannot carry.
    """
    call = _Call(method, parse(url), headers or {}, body, Clock(timeout_seconds), connect_timeout_seconds)
    try:
        with call.clock:
            call.exchange()
            content = b"".join(call.body(max_bytes))
    except BaseException as error:
        call.abandon()
        if isinstance(error, OSError):
            raise ConnectionLost(sent=call.clock.sent) from error
        raise
    call.finish()
    return Answer(call.reading.status, call.reading.headers, content)


def stream(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | Body | None = None,
    timeout_seconds: float,
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    max_bytes: int = MAX_BYTES,
    idle_seconds: float | None = None,
) -> Stream:
    """One call, handed over as soon as its status and headers are there; use it in a `with` block.

    Parameters and errors are those of `request`; the time runs on while the body is read. `idle_seconds` is the
    longest wait for each piece of it: a long transfer that stands still ends sooner than its time.
    """
    call = _Call(method, parse(url), headers or {}, body, Clock(timeout_seconds), connect_timeout_seconds)
    try:
        with call.clock:
            call.exchange()
        return Stream(call, max_bytes, idle_seconds)
    except BaseException as error:
        call.abandon()
        if isinstance(error, OSError):
            raise ConnectionLost(sent=call.clock.sent) from error
        raise


class _Call:
    """A request on its way: its connection and what has been read of its answer."""

    __slots__ = ("_body", "_connect_seconds", "_head", "_method", "_url", "_wire", "clock", "reading")

    reading: Reading

    def __init__(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        body: bytes | Body | None,
        clock: Clock,
        connect_seconds: float,
    ) -> None:
        self._method = method
        self._url = url
        names = {name.lower() for name in headers}
        missing = {name: value for name, value in _DEFAULTS.items() if name not in names}
        if not names.isdisjoint(("host", "content-length", "transfer-encoding", "connection")):
            raise ValueError("host, length and connection are set by the client")
        self._head = request_head(method, url.target, url.authority, {**missing, **headers}, body)
        self._body = body or b""
        self.clock = clock
        self._connect_seconds = connect_seconds
        self._wire: pool.Wire | None = None

    def exchange(self) -> None:
        """Send the request and read the answer's head.

        A kept connection may be closed by the server in the very moment it is used. The request is then sent again,
        once, on a new one, but only if the server cannot have had all of it, or if running it twice does no harm.
        """
        wire = self._wire = pool.take(self._url, self.clock, connect_timeout_seconds=self._connect_seconds)
        try:
            self._send_and_read_head(wire)
        except (OSError, ConnectionLost) as error:
            harmless = not self.clock.sent or self._method in _IDEMPOTENT
            if isinstance(error, TimeoutError) or not wire.used or not harmless:
                raise
            self._close()
            self.clock.sent = False
            wire = self._wire = pool.take(
                self._url, self.clock, connect_timeout_seconds=self._connect_seconds, fresh=True
            )
            self._send_and_read_head(wire)

    def _send_and_read_head(self, wire: pool.Wire) -> None:
        sock, body = wire.sock, self._body
        reading = self.reading = Reading(self._receive, self._method)
        try:
            if isinstance(body, Body):
                body.send(self._head, self._put)
            elif len(body) <= _ONE_PIECE_BYTES:
                self.clock.arm(sock)
                send_all(sock, self._head + body)
            else:
                self._put(self._head)
                self._put(body)
            self.clock.sent = True
        except TimeoutError:
            raise
        except OSError:
            # A server that refuses a body may answer and close before it has read all of it: 413, 401.
            try:
                reading.head()
            except (OSError, ConnectionLost):
                raise ConnectionLost("The server closed the connection during the request.", sent=False) from None
            reading.reusable = False
            return
        reading.head()

    def _put(self, data: bytes) -> None:
        wire = self._wire
        if wire is None:
            raise ConnectionLost(sent=False)
        self.clock.arm(wire.sock)
        wire.sock.sendall(data)

    def _receive(self, size: int) -> bytes:
        wire = self._wire
        if wire is None:
            raise ConnectionLost(sent=self.clock.sent)
        self.clock.arm(wire.sock)
        return wire.sock.recv(size)

    def body(self, max_bytes: int) -> Iterator[bytes]:
        return decoded(self.reading.chunks(), self.reading.headers.get("content-encoding"), max_bytes)

    def finish(self) -> None:
        """The answer was read to its end."""
        self.clock.stop()
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if self.reading.reusable:
            pool.give_back(wire, self.reading.headers)
        else:
            wire.close()

    def abandon(self) -> None:
        """Close the connection: what is still to come on it must never meet another call."""
        self.clock.stop()
        self._close()

    def _close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
