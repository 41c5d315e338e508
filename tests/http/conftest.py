"""A service that says what the test wants, byte for byte, and a gateway before it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.peers import free_port

POLICY = """
permit (principal, action, resource);
@id("no-opaque") forbid (principal, action == Ostiary::Action::"opaque", resource);
@id("no-delete") forbid (principal, action == Ostiary::Action::"delete", resource);
@id("no-admin") forbid (principal, action, resource in Ostiary::Path::"app/admin");
"""


@dataclass
class Service:
    """Echoes requests as JSON, or sends the bytes that `says` holds. `heard` is everything that reached it."""

    says: list[bytes] = field(default_factory=list)
    pause: float = 0.0
    closes: bool = False
    heard: bytearray = field(default_factory=bytearray)
    connections: int = 0
    port: int = 0

    def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, _ = listener.accept()
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            held = b""
            while True:
                while b"\r\n\r\n" not in held:
                    data = sock.recv(65536)
                    if not data:
                        return
                    self.heard += data
                    held += data
                head, _, held = held.partition(b"\r\n\r\n")
                body, held = self._body(sock, head, held)
                if self.says:
                    for segment in self.says:
                        sock.sendall(segment)
                        time.sleep(self.pause)
                    if self.closes:
                        return
                else:
                    sock.sendall(echo(head, body))

    def _body(self, sock: socket.socket, head: bytes, held: bytes) -> tuple[bytes, bytes]:
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            while not held.endswith(b"0\r\n\r\n"):
                data = sock.recv(65536)
                self.heard += data
                held += data
            return held, b""
        length = 0
        for line in lower.split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        came = bytearray(held)
        while len(came) < length:
            data = sock.recv(65536)
            if not data:
                break
            self.heard += data
            came += data
        return bytes(came[:length]), bytes(came[length:])


def echo(head: bytes, body: bytes) -> bytes:
    line, *fields = head.decode("latin-1").split("\r\n")
    said = {"line": line, "headers": [each.split(": ", 1) for each in fields], "bytes": len(body)}
    told = b"" if line.startswith("HEAD") else json.dumps(said).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told)


@dataclass
class World:
    """The gateway, its service, and a client that sends bytes."""

    gateway: Gateway
    service: Service
    port: int

    token: str = ""
    """One token for all that does not say otherwise: one session."""

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def say(self, *segments: bytes, token: str | None = None, pause: float = 0.0) -> bytes:
        """Send these bytes, the token put behind each request's `Host`, and hear until the answer's end or 20 seconds."""
        self.token = self.token or self.gateway.token()
        shown = token or self.token
        with self.connect() as sock:
            for segment in segments:
                with contextlib.suppress(OSError):
                    sock.sendall(with_token(segment, shown))
                time.sleep(pause)
            return hear(sock, bodiless=segments[0].startswith(b"HEAD "))

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request in the plain way."""
        named = {"Host": "app", **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT") else ""
        return Answer.read(self.say(f"{method} {path} HTTP/1.1\r\n{lines}{length}\r\n".encode() + body))

    def recorded(self) -> int:
        """How many requests are on record, let through or not."""
        return sum(entry["kind"] in ("deny", "intent", "login") for entry in self.gateway.entries())

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.gateway.entries() if entry["kind"] == kind]


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def read(cls, raw: bytes) -> Answer:
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in fields)]
        if ("transfer-encoding", "chunked") in headers:
            body = unchunked(body)
        return cls(int(line.split(" ")[1]) if line else 0, headers, body)

    def json(self) -> Any:
        return json.loads(self.body)


def unchunked(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        out, body = out + body[:length], body[length + 2 :]
        if not length:
            break
    return out


def with_token(segment: bytes, token: str) -> bytes:
    """Put the token behind the first `Host` line, if there is one."""
    line = f"Authorization: Bearer {token}".encode()
    at = segment.lower().find(b"host:")
    if at < 0 or b"authorization: bearer" in segment.lower():
        return segment
    end = segment.index(b"\n", at) + 1
    return segment[:end] + line + b"\r\n" + segment[end:]


def hear(sock: socket.socket, *, bodiless: bool = False) -> bytes:
    """Everything up to the end of one answer, as its framing says, or until the peer closes."""
    data = b""
    with contextlib.suppress(OSError):
        while not (whole(data) or (bodiless and b"\r\n\r\n" in data)):
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
    return data


def whole(data: bytes) -> bool:
    head, mark, body = data.partition(b"\r\n\r\n")
    if not mark:
        return False
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        return body.endswith(b"0\r\n\r\n")
    for line in lower.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


@contextlib.contextmanager
def world(
    policy: str = POLICY, listener: dict[str, object] | None = None, *, sections: dict[str, Any] | None = None,
    tables: dict[str, Any] | None = None, **connection: object,
) -> Iterator[World]:  # fmt: skip
    service, port = Service(), free_port()
    service.start()
    settings: dict[str, object] = {
        "type": "http",
        "address": f"127.0.0.1:{service.port}",
        "tls": "disable",
        "hosts": ["app"],
        "actor_headers": False,
    }
    sections = {"listen.http": {"address": f"127.0.0.1:{port}", **(listener or {})}} | (sections or {})
    with gateway(
        connections={"app": settings | connection}, policy=policy, sections=sections, tables=tables,
        secrets_by_name={"key": "s3cret-of-the-target"},
    ) as running:
        yield World(running, service, port)


@pytest.fixture(scope="session")
def shared() -> Iterator[World]:
    """One gateway for the tests that change nothing of it."""
    with world(detect=["ssn", "card"], protect={"json:/people/*/name": {"class": "pii"}}) as made:
        yield made


@pytest.fixture
def app(shared: World) -> World:
    """The shared gateway, its service as new."""
    shared.service.says, shared.service.pause, shared.service.closes = [], 0.0, False
    shared.service.heard.clear()
    return shared
