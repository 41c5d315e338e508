"""WebSockets: one reading of every frame, judged as an operation, recorded and masked message by message. `websockets` is the peer."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Answer, World, hear, world

from ostiary.kernel import websocket as ws
from ostiary.model.errors import PeerMisbehaved
from ostiary.model.results import SocketMessage
from ostiary.testing.waiting import until

POLICY = """
permit (principal, action, resource);
@id("not-there") forbid (principal, action, resource in Ostiary::Path::"app/private");
"""
ROUTES = [
    {"match": "GET /chat", "action": "execute", "name": "chat", "websocket": True},
    {"match": "GET /private/{name}", "action": "execute", "websocket": True},
    {"match": "GET /plain", "action": "read"},
]
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\1\2\3\4"


class Peer:
    """A service that answers each message with what stands in `says`, or with itself."""

    def __init__(self) -> None:
        self.heard: list[str | bytes] = []
        self.says: list[str | bytes] = []
        self.closed: list[int | None] = []
        self.requests: list[Any] = []
        self.server: Server = serve(
            self._serve, "127.0.0.1", 0, select_subprotocol=lambda _, offered: next(iter(offered), None)
        )
        self.port = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _serve(self, link: ServerConnection) -> None:
        self.requests.append(link.request)
        with contextlib.suppress(ConnectionClosed):
            for message in link:
                self.heard.append(message)
                for said in self.says or [message]:
                    link.send(said)
        self.closed.append(link.close_code)


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def made(peer: Peer) -> Iterator[World]:
    with world(
        POLICY, {"session_seconds": 2.0}, address=f"127.0.0.1:{peer.port}", prefix="/app", routes=ROUTES, detect=["ssn"],
        protect={"json:/**/name": {"class": "pii"}}, max_message_bytes=100_000, actor_headers=True,
    ) as each:  # fmt: skip
        yield each


@pytest.fixture
def app(made: World, peer: Peer) -> World:
    peer.heard.clear()
    peer.says, peer.closed, peer.requests = [], [], []
    return made


@contextlib.contextmanager
def opened(app: World, path: str = "/chat", **more: Any) -> Iterator[ClientConnection]:
    token = {"Authorization": f"Bearer {app.gateway.token()}"}
    with connect(f"ws://127.0.0.1:{app.port}/app{path}", additional_headers=token, **more) as link:
        yield link


def handshake(app: World, path: bytes = b"/app/chat", key: bytes = KEY, more: bytes = b"", version: bytes = b"13") -> bytes:
    return (
        b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + app.gateway.token().encode() + b"\r\nUpgrade: websocket\r\n"
        b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: " + version + b"\r\nSec-WebSocket-Key: " + key + b"\r\n" + more + b"\r\n"
    )  # fmt: skip


def raw(app: World, *frames: bytes) -> tuple[bytes, int]:
    """Open one by hand, send these bytes; what came back after the handshake, and the code of the close in it."""
    with app.connect() as sock:
        sock.sendall(handshake(app) + b"".join(frames))  # what is sent ahead is read once it is open
        heard = b""
        with contextlib.suppress(OSError):
            while data := sock.recv(65536):
                heard += data
    head, _, rest = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols"), head
    code = 0
    with contextlib.suppress(PeerMisbehaved):
        for message in ws.FrameReader(masked=False, most=1 << 20).feed(rest):
            if message.opcode == ws.CLOSE:
                code = int.from_bytes(message.data[:2], "big")
    return rest, code


# --- through the gateway ---


def test_messages_go_both_ways_and_each_is_on_record(app: World, peer: Peer) -> None:
    with opened(app, subprotocols=[Subprotocol("v2.chat")]) as link:
        assert link.subprotocol == "v2.chat"
        for said in ("hello", b"", "ü" * 20_000):
            link.send(said if isinstance(said, str) else "")
            assert link.recv() == (said if isinstance(said, str) else "")
        assert link.ping().wait(10)
    until(lambda: peer.closed == [1000])
    intent = app.records("intent")[-1]
    assert (intent["op"]["action"], intent["op"]["name"], intent["op"]["objects"][0]["name"]) == ("execute", "chat", "/chat")
    outcome = until(lambda: [each for each in app.records("outcome") if each["result"]["tag"] == "101"])[-1]
    assert outcome["result"]["status"] == "ok"
    shown = app.gateway.run("sessions", "replay", intent["session"]).stdout
    assert shown.count("hello") >= 2


def test_nothing_of_the_caller_reaches_the_service_but_the_handshake_it_asked_for(app: World, peer: Peer) -> None:
    with opened(app) as link:
        link.send("x")
        link.recv()
    headers = peer.requests[-1].headers
    assert "Authorization" not in headers
    assert "Sec-WebSocket-Extensions" not in headers
    assert headers["X-Ostiary-Subject"] == "ana"


def test_a_fragmented_message_goes_on_whole(app: World, peer: Peer) -> None:
    with opened(app) as link:
        link.send(iter(["one ", "two ", "three"]))
        assert link.recv() == "one two three"
    assert peer.heard == ["one two three"]


def test_text_is_masked_as_it_reads(app: World, peer: Peer) -> None:
    peer.says = ["call 078-05-1120 now", '{"person": {"name": "Ana", "n": "\\u0030\\u0037\\u0038-05-1120", "ok": 1}}', "no JSON at all"]
    with opened(app) as link:
        link.send("go")
        assert link.recv() == "call *********** now"
        assert link.recv() == '{"person": {"name": "***", "n": "***********", "ok": 1}}'
        assert link.recv() == "no JSON at all"
    outcome = until(lambda: [each for each in app.records("outcome") if each["result"].get("masked")])[-1]
    assert outcome["result"]["masked"] == {"pii": 1, "ssn": 2}


@pytest.mark.parametrize("said", [b"\x89PNG", "{not json 078-05-1120", "a\0b"], ids=["binary", "no JSON", "NUL"])
def test_what_must_be_masked_and_cannot_be_ends_it(app: World, peer: Peer, said: str | bytes) -> None:
    peer.says = [said]
    with opened(app) as link, pytest.raises(ConnectionClosed) as closed:
        link.send("go")
        link.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    until(lambda: any(each["result"].get("error") == "UNMASKABLE" for each in app.records("outcome")))


@pytest.mark.parametrize("path", ["/other", "/plain", "/private/x"], ids=["no route", "a route of plain requests", "forbidden"])
def test_one_that_policy_does_not_permit_is_not_opened(app: World, peer: Peer, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused, opened(app, path):
        pass
    assert refused.value.response.status_code == (403 if "private" in path else 400)
    assert peer.requests == []
    assert app.records("deny")[-1]["op"]["name"] == ("GET /private/{name}" if "private" in path else "WEBSOCKET")


def test_silence_ends_it(app: World, peer: Peer) -> None:
    with opened(app, ping_interval=None) as link, pytest.raises(ConnectionClosed) as closed:
        link.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


def test_whoever_vanishes_is_closed_towards_the_service(app: World, peer: Peer) -> None:
    with app.connect() as sock:
        sock.sendall(handshake(app))
        assert sock.recv(65536).startswith(b"HTTP/1.1 101 ")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: peer.closed == [1001])


def text(data: bytes, opcode: int = ws.TEXT) -> bytes:
    return ws.frame(opcode, data, MASK)


MALFORMED = {
    "not masked": (ws.frame(ws.TEXT, b"hi"), 1002),
    "reserved bit": (bytes((0xC1, 0x80)) + MASK, 1002),
    "unknown opcode": (bytes((0x83, 0x80)) + MASK, 1002),
    "unknown control": (bytes((0x8B, 0x80)) + MASK, 1002),
    "continuation of nothing": (text(b"hi", ws.CONTINUATION), 1002),
    "a message inside another": (bytes((0x01, 0x80)) + MASK + text(b"hi"), 1002),
    "fragmented ping": (bytes((0x09, 0x80)) + MASK, 1002),
    "long ping": (bytes((0x89, 0xFE, 0, 126)) + MASK + b"x" * 126, 1002),
    "length not short (16)": (bytes((0x81, 0xFE, 0, 5)) + MASK + b"hello", 1002),
    "length not short (64)": (bytes((0x81, 0xFF)) + (5).to_bytes(8, "big") + MASK + b"hello", 1002),
    "length beyond reason": (bytes((0x81, 0xFF)) + b"\xff" * 8 + MASK, 1009),
    "too long": (text(b"x" * 100_001), 1009),
    "too long in parts": (bytes((0x01, 0xFE)) + (60_000).to_bytes(2, "big") + MASK + b"\0" * 60_000 + bytes((0x80, 0xFE)) + (60_000).to_bytes(2, "big"), 1009),
    "not UTF-8": (text(b"\xff"), 1007),
    "a surrogate": (text(b"\xed\xa0\x80"), 1007),
    "overlong": (text(b"\xc0\xaf"), 1007),
    "half a code": (text(b"\x03", ws.CLOSE), 1002),
    "a code that nobody sends": (text(ws.close(1006), ws.CLOSE), 1002),
    "a reason that is no text": (text(ws.close(1000) + b"\xff", ws.CLOSE), 1007),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_frame_with_another_reading_ends_it_and_the_service_hears_nothing_of_it(app: World, peer: Peer, case: str) -> None:
    frames, code = MALFORMED[case]
    assert raw(app, frames)[1] == code
    until(lambda: peer.closed)
    assert peer.heard == []


def test_what_was_said_before_a_bad_frame_is_delivered_and_what_follows_is_not(app: World, peer: Peer) -> None:
    raw(app, text(b"good"), bytes((0xF1, 0x80)) + MASK, text(b"late"))
    until(lambda: peer.closed)
    assert peer.heard == ["good"]


@pytest.mark.parametrize(
    ("key", "more", "version"),
    [
        (KEY, b"", b"8"), (b"short", b"", b"13"), (KEY + b"=", b"", b"13"), (KEY, b"Content-Length: 5\r\n", b"13"),
        (KEY, b"Sec-WebSocket-Key: " + KEY + b"\r\n", b"13"), (KEY, b"Upgrade: h2c\r\n", b"13"),
        (KEY, b"Sec-WebSocket-Protocol: a b\r\n", b"13"), (KEY, b"Transfer-Encoding: chunked\r\n", b"13"),
    ],
)  # fmt: skip
def test_a_handshake_with_another_reading_is_refused(app: World, peer: Peer, key: bytes, more: bytes, version: bytes) -> None:
    with app.connect() as sock:
        sock.sendall(handshake(app, key=key, more=more, version=version) + b"GET /app/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        heard = hear(sock)
    assert Answer.read(heard).status == 400
    assert peer.requests == []


GOOD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (GOOD.replace(b"s3pP", b"S3pP") + b"\r\n", 502),
        (GOOD + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 502),
        (GOOD + b"Sec-WebSocket-Protocol: other\r\n\r\n", 502),
        (GOOD.replace(b"Upgrade: websocket", b"Upgrade: h2c") + b"\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n", 426),
    ],
)
def test_what_does_not_agree_to_just_this_opens_nothing(answer: bytes, status: int, plain: World) -> None:
    """The client believes in a WebSocket and sends frames: they are no request, and no frames either."""
    plain.service.says, plain.service.pause = [answer], 0.0
    with plain.connect() as sock:
        sock.sendall(handshake(plain) + text(b"GET /smuggled HTTP/1.1\r\nHost: app\r\n\r\n"))
        assert Answer.read(hear(sock)).status == status
    time.sleep(0.1)
    assert b"smuggled" not in plain.service.heard
    assert MASK not in plain.service.heard


@pytest.fixture(scope="module")
def plain() -> Iterator[World]:
    with world(POLICY, prefix="/app", routes=ROUTES, detect=[]) as each:
        yield each


def test_a_frame_of_the_service_with_another_reading_ends_it(plain: World) -> None:
    for bad in (text(b"masked"), bytes((0xC1, 0)), ws.frame(ws.TEXT, b"\xff"), ws.frame(ws.CLOSE, b"\x03")):
        plain.service.says, plain.service.pause = [GOOD + b"\r\n" + ws.frame(ws.TEXT, b"good"), bad], 0.1
        heard, code = raw(plain)
        assert (heard[:6], code) == (b"\x81\x04good", 1011)


# --- the reader ---


def read(data: bytes, *, masked: bool = True, cut: int = 0) -> list[SocketMessage]:
    reader, found = ws.FrameReader(masked=masked, most=1000), []
    for at in range(0, len(data), cut or len(data) or 1):
        found += list(reader.feed(data[at : at + (cut or len(data))]))
    return found


@given(st.lists(st.tuples(st.sampled_from([ws.TEXT, ws.BINARY, ws.PING, ws.PONG]), st.text(max_size=30)), max_size=5), st.integers(1, 9))
def test_a_reader_reads_what_was_written_however_it_is_cut(said: list[tuple[int, str]], cut: int) -> None:
    wire = b"".join(ws.frame(opcode, each.encode(), MASK) for opcode, each in said)
    expected = [SocketMessage(opcode, each.encode()) for opcode, each in said]
    assert read(wire) == read(wire, cut=cut) == expected


@given(st.binary(max_size=60), st.booleans())
def test_a_reader_has_three_outcomes(data: bytes, masked: bool) -> None:
    with contextlib.suppress(PeerMisbehaved):
        read(data, masked=masked)
