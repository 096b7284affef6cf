"""Scripted servers for the tests of the egress client: a function answers each connection, and misbehaves at will."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET, create_server, socket

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self._buffer = b""

    def request(self) -> bytes | None:
        """The next request, head and body; None when the client closed."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(self._buffer) < length:
            self._buffer += self.sock.recv(65536)
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return head + b"\r\n\r\n" + body

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, body: bytes = b"ok", *headers: bytes, status: bytes = b"200 OK") -> None:
        lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
        self.send(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(SOL_SOCKET, SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class Server:
    """Listens on a free port of 127.0.0.1; `connections` counts, `requests` holds what came in (for `keep`)."""

    def __init__(self, script: Callable[[Peer, Server], None], context: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._context = context
        self._listener = create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.requests: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str = "/", scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            self._script(Peer(sock), self)
        except OSError:
            pass
        finally:
            sock.close()

    def close(self) -> None:
        with suppress(OSError):
            # Closing alone would leave it listening for as long as the other thread waits in accept.
            self._listener.shutdown(SHUT_RDWR)
        self._listener.close()


@contextmanager
def serving(script: Callable[[Peer, Server], None], context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(script, context)
    try:
        yield server
    finally:
        server.close()


def keep(peer: Peer, server: Server) -> None:
    """A server as it should be: answers each request with its body, keeps the connection."""
    while (request := peer.request()) is not None:
        server.requests.append(request)
        peer.answer(request.partition(b"\r\n\r\n")[2], b"X-Two: a", b"X-Two: b")


def certificate(directory: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for these host names that signs itself: (its file, to be trusted; the server's context)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "certificate.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file = directory / "key.pem"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return file, context
