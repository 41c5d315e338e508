"""A PostgreSQL client that knows the wire and nothing else: for attacks, and for what no driver would send.

Blocking sockets, no cleverness: it sends what it is told to, reads until the answer is over, and keeps every byte that it
ever received (`received`), because a leak may stand in any message. PostgreSQL 15 manual, chapters 55.2 and 55.7.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST: Final = struct.pack("!II", 8, 80877104)
PROTOCOL_3_0: Final = 196608


class Closed(Exception):
    """The other side closed the connection, or went silent for longer than the client waits."""


class ServerError(Exception):
    """An ErrorResponse arrived where the conversation cannot go on. `fields`: by field code."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(f"{fields.get('C', '')}: {fields.get('M', '')}")
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Message:
    """One backend message: type byte and body, without the length."""

    tag: bytes
    body: bytes

    def error_fields(self) -> dict[str, str]:
        """Fields of an ErrorResponse or NoticeResponse, by their code (manual, 55.8)."""
        out: dict[str, str] = {}
        for item in self.body.split(b"\0"):
            if item:
                out[chr(item[0])] = item[1:].decode("utf-8", "replace")
        return out

    def cells(self) -> tuple[bytes | None, ...]:
        """Values of a DataRow."""
        (count,) = struct.unpack_from("!H", self.body)
        at = 2
        out: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from("!i", self.body, at)
            at += 4
            if length < 0:
                out.append(None)
            else:
                out.append(self.body[at : at + length])
                at += length
        return tuple(out)


@dataclass(slots=True)
class Reply:
    """All messages up to and with a ReadyForQuery, or what came before the connection ended."""

    messages: list[Message] = field(default_factory=list)
    closed: bool = False

    @property
    def rows(self) -> list[tuple[bytes | None, ...]]:
        """Values of every DataRow."""
        return [m.cells() for m in self.messages if m.tag == b"D"]

    @property
    def copied(self) -> bytes:
        """Bodies of CopyData, joined."""
        return b"".join(m.body for m in self.messages if m.tag == b"d")

    @property
    def errors(self) -> list[dict[str, str]]:
        """Fields of every ErrorResponse."""
        return [m.error_fields() for m in self.messages if m.tag == b"E"]

    @property
    def notices(self) -> list[dict[str, str]]:
        """Fields of every NoticeResponse."""
        return [m.error_fields() for m in self.messages if m.tag == b"N"]

    @property
    def tags(self) -> list[str]:
        """Command tags of CommandComplete."""
        return [m.body.rstrip(b"\0").decode() for m in self.messages if m.tag == b"C"]

    @property
    def kinds(self) -> bytes:
        """The type bytes, in order: `TDDCZ`."""
        return b"".join(m.tag for m in self.messages)

    @property
    def status(self) -> str:
        """Transaction status of the last ReadyForQuery: `I`, `T`, `E`; empty if there was none."""
        for message in reversed(self.messages):
            if message.tag == b"Z":
                return message.body.decode()
        return ""

    @property
    def is_refused(self) -> bool:
        """Some error came, or the connection ended."""
        return self.closed or bool(self.errors)


def packet(tag: bytes, body: bytes) -> bytes:
    """One frontend message."""
    return tag + struct.pack("!I", len(body) + 4) + body


def query(sql: bytes) -> bytes:
    """Query."""
    return packet(b"Q", sql + b"\0")


def parse(name: bytes, sql: bytes, types: Iterable[int] = ()) -> bytes:
    """Parse, with parameter type OIDs."""
    oids = tuple(types)
    return packet(b"P", name + b"\0" + sql + b"\0" + struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def bind(
    portal: bytes,
    statement: bytes,
    values: Iterable[bytes | None] = (),
    *,
    formats: Iterable[int] = (),
    results: Iterable[int] = (),
) -> bytes:
    """Bind with `values` in `formats`; `results` are the result columns' formats (0 text, 1 binary)."""
    codes, cells, wanted = tuple(formats), tuple(values), tuple(results)
    body = portal + b"\0" + statement + b"\0" + struct.pack(f"!H{len(codes)}H", len(codes), *codes)
    body += struct.pack("!H", len(cells))
    for cell in cells:
        body += struct.pack("!i", -1) if cell is None else struct.pack("!I", len(cell)) + cell
    return packet(b"B", body + struct.pack(f"!H{len(wanted)}H", len(wanted), *wanted))


def describe(kind: bytes, name: bytes) -> bytes:
    """`kind`: b"S" a statement, b"P" a portal."""
    return packet(b"D", kind + name + b"\0")


def execute(portal: bytes = b"", limit: int = 0) -> bytes:
    """Execute; `limit` rows, 0 for all."""
    return packet(b"E", portal + b"\0" + struct.pack("!I", limit))


def close(kind: bytes, name: bytes) -> bytes:
    """Close a statement (b"S") or a portal (b"P")."""
    return packet(b"C", kind + name + b"\0")


def function_call(oid: int, values: Iterable[bytes | None]) -> bytes:
    """FunctionCall, all in text."""
    cells = tuple(values)
    body = struct.pack("!IHH", oid, 0, len(cells))
    for cell in cells:
        body += struct.pack("!i", -1) if cell is None else struct.pack("!I", len(cell)) + cell
    return packet(b"F", body + struct.pack("!H", 0))


SYNC: Final = packet(b"S", b"")
FLUSH: Final = packet(b"H", b"")
TERMINATE: Final = packet(b"X", b"")
COPY_DONE: Final = packet(b"c", b"")


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return packet(b"d", data)


def copy_fail(why: bytes) -> bytes:
    """CopyFail."""
    return packet(b"f", why + b"\0")


def startup(parameters: Mapping[str, str], *, version: int = PROTOCOL_3_0) -> bytes:
    """StartupMessage."""
    body = struct.pack("!I", version)
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    return struct.pack("!I", len(body) + 5) + body + b"\0"


class PgClient:
    """One connection. Use as a context manager; `login` before asking anything."""

    def __init__(self, host: str, port: int, *, timeout: float = 30.0) -> None:
        self.sock: socket.socket = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = (host, port)
        self.received = bytearray()
        self.parameters: dict[str, str] = {}
        self.cancel_key = b""
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye if anyone still listens, and close."""
        with contextlib.suppress(OSError):
            self.sock.sendall(TERMINATE)
        self.sock.close()

    def vanish(self) -> None:
        """Close with a reset: a client whose machine went away."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send raw bytes; `Closed` if nobody takes them."""
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise Closed("nobody reads") from None
        except OSError as gone:
            raise Closed(str(gone)) from None

    def start_tls(self, context: ssl.SSLContext, *, direct: bool = False) -> None:
        """SSLRequest and handshake; `direct` leaves the request out (PostgreSQL 17, ALPN `postgresql`)."""
        if not direct:
            self.send(SSL_REQUEST)
            answer = self._read_exactly(1)
            if answer != b"S":
                raise Closed(f"TLS refused: {answer!r}")
        self.sock = context.wrap_socket(self.sock, server_hostname=self.address[0])

    def login(self, *, user: str, database: str, password: str = "", **extra: str) -> Reply:
        """Send StartupMessage, answer cleartext, md5 or SCRAM questions, and read up to ReadyForQuery.

        Raises `ServerError` when refused, `Closed` when hung up on.
        """
        parameters = {"user": user, "database": database, "client_encoding": "UTF8"} | extra
        self.send(startup({name: value for name, value in parameters.items() if value}))
        reply = Reply()
        while True:
            message = self.read_message()
            reply.messages.append(message)
            if message.tag == b"E":
                raise ServerError(message.error_fields())
            if message.tag == b"R":
                self._answer(message.body, user, password)
            elif message.tag == b"S":
                name, value = message.body.split(b"\0")[:2]
                self.parameters[name.decode()] = value.decode("utf-8", "replace")
            elif message.tag == b"K":
                self.cancel_key = message.body
            elif message.tag == b"Z":
                return reply

    def cancel(self, key: bytes | None = None) -> None:
        """Send a CancelRequest over a connection of its own."""
        body = struct.pack("!I", 80877102) + (self.cancel_key if key is None else key)
        with socket.create_connection(self.address, timeout=10) as other:
            other.sendall(struct.pack("!I", len(body) + 4) + body)
            with contextlib.suppress(OSError):
                other.recv(1)

    def read_message(self) -> Message:
        """Read one message; `Closed` at the end, or after the time-out."""
        head = self._read_exactly(5)
        (length,) = struct.unpack_from("!I", head, 1)
        if length < 4:
            raise Closed("the server's framing is broken")
        return Message(head[:1], self._read_exactly(length - 4))

    def read_reply(self) -> Reply:
        """Read up to the next ReadyForQuery, or the end of the connection."""
        reply = Reply()
        with contextlib.suppress(Closed):
            while True:
                message = self.read_message()
                reply.messages.append(message)
                if message.tag == b"Z":
                    return reply
        reply.closed = True
        return reply

    def read_until(self, tags: bytes) -> Reply:
        """Read until a message of one of these types has come, or the end."""
        reply = Reply()
        with contextlib.suppress(Closed):
            while True:
                message = self.read_message()
                reply.messages.append(message)
                if message.tag in tags:
                    return reply
        reply.closed = True
        return reply

    def ask(self, data: bytes) -> Reply:
        """Send, then read up to ReadyForQuery. COPY IN in between is failed, so that the answer ends."""
        reply = Reply()
        try:
            self.send(data)
            while True:
                message = self.read_message()
                reply.messages.append(message)
                if message.tag == b"G":
                    self.send(copy_fail(b"this client sends no data"))
                if message.tag == b"Z":
                    return reply
        except Closed:
            reply.closed = True
            return reply

    def query(self, sql: str | bytes) -> Reply:
        """One simple Query."""
        return self.ask(query(sql.encode() if isinstance(sql, str) else sql))

    def extended(
        self, sql: str, values: Iterable[bytes | None] = (), *, mode: str = "", types: Iterable[int] = ()
    ) -> Reply:
        """Ask by the extended protocol.

        `mode`: `binary` (results in binary), `describe_then_execute` (describe the statement in one round, execute it in
        another), `portal_suspend` (one row an Execute), else Parse, Bind, Describe, Execute at once.
        """
        text = sql.encode()
        if mode == "describe_then_execute":
            first = self.ask(parse(b"s1", text, types) + describe(b"S", b"s1") + SYNC)
            if first.is_refused:
                return first
            second = self.ask(bind(b"", b"s1", values) + execute() + SYNC)
            return Reply(first.messages + second.messages, second.closed)
        if mode == "portal_suspend":
            first = self.ask(query(b"BEGIN"))
            whole = parse(b"", text, types) + bind(b"p1", b"", values) + describe(b"P", b"p1")
            rest = self.ask(whole + execute(b"p1", 1) * 8 + SYNC)
            last = self.ask(query(b"ROLLBACK"))
            return Reply(first.messages + rest.messages + last.messages, last.closed)
        results = (1,) if mode == "binary" else ()
        whole = (
            parse(b"", text, types) + bind(b"", b"", values, results=results) + describe(b"P", b"") + execute() + SYNC
        )
        return self.ask(whole)

    def _read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                more = self.sock.recv(262144)
            except TimeoutError:
                raise Closed("no answer in time") from None
            except OSError as gone:
                raise Closed(str(gone)) from None
            if not more:
                raise Closed("closed by the server")
            self.received += more
            self._buffer += more
        out = bytes(self._buffer[:count])
        del self._buffer[:count]
        return out

    def _answer(self, body: bytes, user: str, password: str) -> None:
        """Answer one Authentication request (manual, 55.2.1)."""
        (kind,) = struct.unpack_from("!I", body)
        if kind == 3:  # AuthenticationCleartextPassword
            self.send(packet(b"p", password.encode() + b"\0"))
        elif kind == 5:  # AuthenticationMD5Password
            inner = hashlib.md5(password.encode() + user.encode()).hexdigest()  # noqa: S324 - the protocol's own
            outer = hashlib.md5(inner.encode() + body[4:8]).hexdigest()  # noqa: S324
            self.send(packet(b"p", b"md5" + outer.encode() + b"\0"))
        elif kind == 10:  # AuthenticationSASL
            self._scram(password)

    def _scram(self, password: str) -> None:
        """SCRAM-SHA-256 without channel binding (RFC 5802, 7677)."""
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        first = b"n,," + bare.encode()
        self.send(packet(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        challenge = self.read_message()
        if challenge.tag == b"E":
            raise ServerError(challenge.error_fields())
        server_first = challenge.body[4:].decode()
        parts = dict(item.split("=", 1) for item in server_first.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={parts['r']}"
        signed = f"{bare},{server_first},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self.send(packet(b"p", f"{without_proof},p={base64.b64encode(proof).decode()}".encode()))
