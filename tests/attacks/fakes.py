"""Targets that lie: a script answers whoever dials."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from ostiary.testing.pgclient import packet

Script = Callable[[socket.socket], None]

AUTH_OK = packet(b"R", struct.pack("!I", 0))
SASL = packet(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")


def sasl_continue(text: str) -> bytes:
    return packet(b"R", struct.pack("!I", 11) + text.encode())


def ready() -> bytes:
    """AuthenticationOk, what a server says of itself, its cancel key, ReadyForQuery."""
    said = b"".join(
        packet(b"S", name + b"\0" + value + b"\0")
        for name, value in (
            (b"server_version", b"15.18"),
            (b"server_encoding", b"UTF8"),
            (b"client_encoding", b"UTF8"),
            (b"standard_conforming_strings", b"on"),
        )
    )
    return AUTH_OK + said + packet(b"K", struct.pack("!II", 4711, 0xDEADBEEF)) + packet(b"Z", b"I")


def read_startup(sock: socket.socket) -> bytes:
    """One StartupMessage or SSLRequest."""
    head = _exactly(sock, 4)
    return head + _exactly(sock, struct.unpack("!I", head)[0] - 4)


def read_packet(sock: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(sock, 5)
    return head[:1], _exactly(sock, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("the gateway hung up")
        data += more
    return data


class Fake:
    """A listening fake, and what the gateway did to it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.dialled = 0
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.dialled += 1
                self._socks.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(30)
        with contextlib.suppress(OSError), sock:
            self.script(sock)

    def close(self) -> None:
        self.listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


@contextlib.contextmanager
def fakes(**scripts: Script) -> Iterator[dict[str, Fake]]:
    """One listening fake for each script."""
    running = {name.replace("_", "-"): Fake(script) for name, script in scripts.items()}
    try:
        yield running
    finally:
        for fake in running.values():
            fake.close()


def stuffs_bytes_after_s(sock: socket.socket) -> None:
    """CVE-2021-23222: plaintext answers ride behind the `S`, before TLS."""
    read_startup(sock)
    sock.sendall(b"S" + ready())
    sock.recv(65536)


def skips_the_server_signature(sock: socket.socket) -> None:
    """SCRAM without SASLFinal: AuthenticationOk straight after the client's proof."""
    read_startup(sock)
    sock.sendall(SASL)
    _, first = read_packet(sock)
    nonce = first.split(b"r=", 1)[1].decode()
    sock.sendall(sasl_continue(f"r={nonce}abc,s=QSXCR+Q6sek8bf92,i=4096"))
    read_packet(sock)
    sock.sendall(ready())
    sock.recv(65536)


def forges_the_server_signature(sock: socket.socket) -> None:
    read_startup(sock)
    sock.sendall(SASL)
    _, first = read_packet(sock)
    nonce = first.split(b"r=", 1)[1].decode()
    sock.sendall(sasl_continue(f"r={nonce}abc,s=QSXCR+Q6sek8bf92,i=4096"))
    read_packet(sock)
    final = packet(b"R", struct.pack("!I", 12) + b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    sock.sendall(final + ready())
    sock.recv(65536)


def demands_two_billion_rounds(sock: socket.socket) -> None:
    read_startup(sock)
    sock.sendall(SASL)
    _, first = read_packet(sock)
    nonce = first.split(b"r=", 1)[1].decode()
    sock.sendall(sasl_continue(f"r={nonce}{'x' * 65536},s=QSXCR+Q6sek8bf92,i=2147483647"))
    sock.recv(65536)


def asks_in_the_clear(sock: socket.socket) -> None:
    """AuthenticationCleartextPassword without TLS: a thief of credentials."""
    read_startup(sock)
    sock.sendall(packet(b"R", struct.pack("!I", 3)))
    sock.recv(65536)


def never_answers(sock: socket.socket) -> None:
    """Accepts, and says nothing at all."""
    while sock.recv(65536):
        pass
