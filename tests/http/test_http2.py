"""HTTP/2: what comes by it is read, decided, recorded and masked as by HTTP/1.1; and what a client can make us do by its frames has an end."""

from __future__ import annotations

import contextlib
import json
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.settings
import httpx
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from conftest import World, world

from ostiary.model.errors import PeerMisbehaved
from ostiary.protocols.http.decode import request_framing
from ostiary.protocols.http.http2 import PREFACE, Frames, Unfit, answer_fields, request_of
from ostiary.testing.waiting import until

Fields = list[tuple[bytes, bytes]]
SSN = b"078-05-1120"


class Wire:
    """A client that can also say what no client should."""

    def __init__(self, app: World, *, checks: bool = True, tls: ssl.SSLContext | None = None) -> None:
        self.app = app
        self.sock = app.connect() if tls is None else tls.wrap_socket(app.connect(), server_hostname="localhost")
        config = h2.config.H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=checks, normalize_outbound_headers=checks
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.fields: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goodbye: int | None = None
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(self.h2.data_to_send())

    def ask(self, path: bytes = b"/x", *more: tuple[bytes, bytes], method: bytes = b"GET", body: bytes | None = None, ends: bool = True, authority: bytes = b"app") -> int:
        token = self.app.token or self.app.gateway.token()
        self.app.token = token
        fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", authority)]
        number = self.h2.get_next_available_stream_id()
        fields += [(b"authorization", b"Bearer " + token.encode()), *more]
        self.h2.send_headers(number, fields, end_stream=ends and body is None)
        if body is not None:
            for at in range(0, len(body), 16_384) or [0]:
                self.h2.send_data(number, body[at : at + 16_384], end_stream=ends and at + 16_384 >= len(body))
        self.flush()
        return number

    def raw(self, kind: int, flags: int, number: int, payload: bytes = b"") -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(frame(kind, flags, number, payload))

    def hear(self, done: Any, seconds: float = 20.0, *, takes: bool = True) -> bool:
        """Read until `done()`, or the end."""
        ends = time.monotonic() + seconds
        self.sock.settimeout(0.2)
        while not done():
            if time.monotonic() > ends:
                return False
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                return bool(done())
            if not data:
                return bool(done())
            for event in self.h2.receive_data(data):
                self.heed(event, takes=takes)
            self.flush()
        return True

    def heed(self, event: Any, *, takes: bool) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.fields[event.stream_id] = dict(event.headers)
            case h2.events.DataReceived():
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                if takes:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets[event.stream_id] = event.error_code
            case h2.events.ConnectionTerminated():
                self.goodbye = event.error_code
            case _:
                pass

    def answer(self, number: int) -> tuple[int, bytes]:
        assert self.hear(lambda: number in self.ended or number in self.resets), "no whole answer"
        return int(self.fields[number][b":status"]), self.bodies.get(number, b"")

    def is_refused(self, number: int) -> bool:
        """Whether the gateway answers with a fault of the client's, or resets the stream, or ends the connection, for a fault."""
        assert self.hear(lambda: number in self.ended or number in self.resets or self.goodbye is not None), "it is heard and dropped"
        status = int(self.fields.get(number, {}).get(b":status", b"0"))
        return 400 <= status < 500 if number in self.fields else bool(self.resets.get(number) or self.goodbye)

    def is_cut(self) -> bool:
        """Whether the gateway ends the connection."""
        self.hear(lambda: self.goodbye is not None)
        return self.goodbye not in (None, 0)


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", number) + payload


# --- ordinary use --------------------------------------------------------------------------------------------------------


def test_requests_of_one_connection_are_decided_and_answered_each_by_itself(app: World) -> None:
    before = app.recorded()
    with Wire(app) as wire:
        numbers = [wire.ask(path, method=method) for method, path in ((b"GET", b"/a?b=1"), (b"DELETE", b"/a"), (b"GET", b"/c"))]
        answers = [wire.answer(number) for number in numbers]
    assert [status for status, _ in answers] == [200, 403, 200]
    assert json.loads(answers[0][1])["line"] == "GET /a?b=1 HTTP/1.1"
    assert app.recorded() - before == 3
    assert b"DELETE" not in app.service.heard
    assert app.token.encode() not in bytes(app.service.heard)


def test_a_body_arrives_whole_with_a_length_and_without_one(app: World) -> None:
    body = bytes(range(256)) * 200
    with Wire(app) as wire:
        for more in ((b"content-length", b"%d" % len(body)),), ():
            status, said = wire.answer(wire.ask(b"/up", (b"content-type", b"application/octet-stream"), *more, method=b"PUT", body=body))
            assert status == 200
            assert json.loads(said)["bytes"] == len(body)
    assert bytes(app.service.heard).count(body) == 2


def test_what_comes_back_is_masked_and_frames_are_the_gateways_own(app: World) -> None:
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nssn: " + SSN + b"\r\n0\r\n\r\n"]
    with Wire(app) as wire:
        number = wire.ask()
        assert wire.answer(number) == (200, b"ssn: ***********")
    assert wire.fields[number][b"content-length"] == b"16"
    assert not {b"connection", b"x-hop", b"transfer-encoding"} & wire.fields[number].keys()


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_says_no_length(app: World, status: int) -> None:
    app.service.says = [b"HTTP/1.1 %d X\r\nX-Y: z\r\n\r\n" % status]
    with Wire(app) as wire:
        number = wire.ask()
        assert wire.answer(number) == (status, b"")
    assert b"content-length" not in wire.fields[number]
    assert "content-length" not in dict(app.ask("GET", "/x", Connection="close").headers)


def test_a_large_answer_waits_for_the_client_and_arrives_whole(app: World) -> None:
    size = 3 << 20
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size, b"x" * size]
    with Wire(app) as wire:
        number = wire.ask()
        assert not wire.hear(lambda: number in wire.ended, 1.0, takes=False)
        assert len(wire.bodies[number]) == 65_535
        wire.h2.acknowledge_received_data(65_535, number)
        wire.flush()
        assert wire.answer(number) == (200, b"x" * size)


def test_a_body_that_begins_a_while_after_its_head_is_taken(app: World) -> None:
    with Wire(app) as wire:
        number = wire.ask(b"/late", (b"content-type", b"application/octet-stream"), method=b"PUT", ends=False)
        assert not wire.hear(lambda: number in wire.ended or number in wire.resets, 2.5), "the gateway looks at its clock once a second"
        wire.h2.send_data(number, b"z" * 100, end_stream=True)
        wire.flush()
        assert wire.answer(number)[0] == 200


def test_a_client_with_large_windows_gets_large_answers_at_its_own_pace(app: World) -> None:
    """An answer that is masked whole is there all at once, and many are there together: what waits for the socket stays small all the same."""
    whole = b"<a>" + b"x" * ((8 << 20) - 16) + b"</a>"
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(whole), whole]
    with Wire(app) as wire:
        wire.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: (1 << 31) - 1})
        wire.h2.increment_flow_control_window((1 << 31) - 65_536)
        wire.flush()
        numbers = [wire.ask(b"/x") for _ in range(3)]
        time.sleep(3.0)
        for number in numbers:
            assert wire.answer(number) == (200, whole)


def test_curl_speaks_it_with_prior_knowledge(app: World) -> None:
    done = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "-H", "Host: app", "-H", f"Authorization: Bearer {app.gateway.token()}",
         "-w", "%{http_version} %{http_code}", "--data-binary", "@-", f"http://127.0.0.1:{app.port}/curl"],
        input=b"z" * 300_000, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.endswith(b"2 200")


def test_an_upgrade_to_h2c_is_not_made(app: World) -> None:
    answer = app.ask("GET", "/x", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQAAP__")
    assert answer.status == 200
    assert b"pgrade" not in app.service.heard
    assert b"HTTP2" not in app.service.heard


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[World, ssl.SSLContext]]:
    """A gateway that speaks TLS, and patience that is short."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        chain = stack.enter_context(certificate.private_key_and_cert_chain_pem.tempfile())
        roots = ssl.create_default_context()
        authority.configure_trust(roots)
        listener = {"tls_cert": chain, "tls_key": chain, "body_seconds": 1.0, "keep_seconds": 2.0}
        yield stack.enter_context(world(listener=listener, prefix="/app", reply_seconds=30.0)), roots


def test_httpx_agrees_on_it_by_tls(secured: tuple[World, ssl.SSLContext]) -> None:
    app, roots = secured
    with httpx.Client(http2=True, http1=True, verify=roots, headers={"Authorization": f"Bearer {app.gateway.token()}"}) as client:
        said = [client.get(f"https://localhost:{app.port}/app/{n}") for n in range(3)]
    assert [(each.status_code, each.http_version) for each in said] == [(200, "HTTP/2")] * 3
    with httpx.Client(verify=roots, headers={"Authorization": f"Bearer {app.gateway.token()}"}) as client:
        assert client.get(f"https://localhost:{app.port}/app/1").http_version == "HTTP/1.1"


def test_who_has_not_shaken_hands_yet_counts_as_connected() -> None:
    certificate = trustme.CA().issue_cert("localhost", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        chain = stack.enter_context(certificate.private_key_and_cert_chain_pem.tempfile())
        app = stack.enter_context(world(listener={"tls_cert": chain, "tls_key": chain, "max_connections": 2}))
        silent = [stack.enter_context(app.connect()) for _ in range(2)]
        for sock in silent:
            sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        with app.connect() as third:
            third.settimeout(3.0)  # which is before hands must be shaken
            assert third.recv(1) == b""


def test_over_tls_it_is_spoken_where_it_was_agreed_on_alone(secured: tuple[World, ssl.SSLContext]) -> None:
    app, roots = secured
    with app.connect() as sock, roots.wrap_socket(sock, server_hostname="localhost") as tls:
        tls.sendall(PREFACE + frame(4, 0, 0))
        assert tls.recv(1 << 16).startswith(b"HTTP/1.1 400")


# --- what no service may hear ---------------------------------------------------------------------------------------------

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"app")]


def changed(*more: tuple[bytes, bytes], without: bytes = b"") -> Fields:
    names = {name for name, _ in more if name.startswith(b":")} | {without}
    return [field for field in GET if field[0] not in names] + list(more)


@pytest.mark.parametrize(
    "fields",
    [
        changed((b":path", b"/x HTTP/1.1\r\nHost: evil\r\n\r\nGET /admin")), changed((b":path", b"/x y")), changed((b":path", b"*")),
        changed((b":path", b"")), changed((b":path", b"http://evil/x")), changed((b":path", b"x")), changed((b":path", b"/x\ty")),
        changed((b":method", b"GET /admin HTTP/1.1\r\nX: y\r\n\r\nGET")), changed((b":method", b"G ET")), changed((b":method", b"")),
        changed((b":authority", b"app\r\nX: y")), changed((b":authority", b"user@app")), changed((b":authority", b"")),
        changed((b"host", b"evil")), changed((b"host", b"app"), (b"host", b"evil"), without=b":authority"), changed(without=b":authority"),
        changed((b":scheme", b"ftp")), changed((b":scheme", b"http://evil/?")), changed(without=b":scheme"), changed(without=b":path"),
        changed((b"transfer-encoding", b"chunked")), changed((b"connection", b"close")), changed((b"upgrade", b"websocket")),
        changed((b"keep-alive", b"5")), changed((b"proxy-connection", b"x")), changed((b"X-Upper", b"y")), changed((b":status", b"200")),
        changed((b":protocol", b"websocket")), changed((b"x", b"a\r\nTransfer-Encoding: chunked")), changed((b"x", b"a\nb")),
        changed((b"x", b"a\0b")), changed((b"x y", b"z")), changed((b"x:", b"z")), changed((b"", b"z")), changed((b"x\r\ny", b"z")),
        changed((b"x", b"y"), (b":path", b"/late")), [*GET, (b":path", b"/twice")], changed((b"x", b"y" * 70_000)),
        changed(*[(b"x%d" % n, b"y") for n in range(200)]), changed((b"content-length", b"5")), changed((b"content-length", b"00")),
    ],
)  # fmt: skip
def test_a_request_that_http_1_1_has_no_one_form_for_is_refused(app: World, fields: Fields) -> None:
    """By the library where it sees it; and here, whatever the library sees."""
    with pytest.raises(Unfit):
        request_of(fields, ends=True)
    before = app.recorded()
    with Wire(app, checks=False) as wire:
        number = wire.h2.get_next_available_stream_id()
        with contextlib.suppress(h2.exceptions.ProtocolError):
            wire.h2.send_headers(number, [*fields, (b"authorization", b"Bearer " + app.gateway.token().encode())], end_stream=True)
        wire.flush()
        assert wire.is_refused(number)
    assert bytes(app.service.heard) == b""
    assert until(lambda: app.recorded() - before == 1)


@pytest.mark.parametrize(("said", "body"), [(b"5", b"hello GET /admin"), (b"50", b"hello"), (b"0", b"x"), (b"+5", b"hello"), (b"5, 5", b"hello")])
def test_a_length_that_does_not_hold_is_refused(app: World, said: bytes, body: bytes) -> None:
    with Wire(app, checks=False) as wire:
        number = wire.ask(b"/x", (b"content-type", b"text/plain"), (b"content-length", said), method=b"POST", body=body)
        assert wire.is_refused(number)
    assert b"/admin" not in app.service.heard
    assert b"hello" not in app.service.heard


def test_paths_and_identities_are_read_as_in_http_1_1(app: World) -> None:
    with Wire(app) as wire:
        for path in (b"/admin/x", b"/x/../admin", b"/%2561dmin", b"//admin", b"/x;/admin", b"/x%2f..%2fadmin"):
            assert wire.answer(wire.ask(path))[0] in (400, 403)
        assert bytes(app.service.heard) == b""
        assert wire.answer(wire.ask(b"/x", (b"x-forwarded-user", b"forged"), (b"x_ostiary_subject", b"forged"), (b"x-http-method", b"forged")))[0] == 200
        assert wire.answer(wire.ask(b"/x", authority=b"other-internal"))[0] == 421
        assert wire.answer(wire.ask(b"/x", (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")))[0] == 400
    assert b"forged" not in app.service.heard


@pytest.mark.parametrize("kind", [b"application/grpc", b"application/grpc+proto", b"Application/gRPC ; x=y"])
def test_a_call_of_grpc_is_refused_before_it_ends_and_reaches_nobody(app: World, kind: bytes) -> None:
    with Wire(app) as wire:
        number = wire.ask(b"/pkg.Service/Do", (b"content-type", kind), (b"te", b"trailers"), method=b"POST", body=b"\0\0\0\0\x02hi", ends=False)
        status, body = wire.answer(number)
        assert status == 501
        assert json.loads(body)["detail"] == "gRPC is not spoken: HTTP/2 ends here, and trailers with it"
        assert bytes(app.service.heard) == b""
        assert wire.answer(wire.ask(b"/x", (b"content-type", b"application/grpc-web+proto"), method=b"POST", body=b"hi"))[0] == 200
    assert app.records("deny")[-1]["op"]["name"] == "POST"


NAMES = st.sampled_from([b":method", b":path", b":scheme", b":authority", b"host", b"content-length", b"transfer-encoding", b"te", b"cookie", b"x", b"x-y"])
VALUES = st.one_of(
    st.binary(max_size=24), st.sampled_from([b"GET", b"POST", b"/x", b"http", b"app", b"5", b"chunked", b"trailers", b"a=b", b"/x\r\nHost: y"])
)


@given(st.lists(st.tuples(st.one_of(NAMES, st.binary(max_size=8)), VALUES), max_size=8), st.booleans(), st.booleans())
def test_fields_are_one_request_or_none(fields: Fields, whole: bool, ends: bool) -> None:
    try:
        head = request_of([*GET, *fields] if whole else fields, ends=ends)
    except Unfit:
        return
    said = dict(fields) | dict(GET if whole else [])
    assert head.raw.count(b"\r\n\r\n") == 1
    assert (head.method, head.target) == (said[b":method"], said[b":path"])
    assert not any(name.lower() == b"connection" for name, _ in head.headers)
    with contextlib.suppress(PeerMisbehaved):
        assert request_framing(head).chunked is (not ends and b"content-length" not in said)


def test_an_answers_lines_become_fields() -> None:
    lines = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX: a: b\r\n"
    assert answer_fields(lines, 3) == [(b":status", b"200"), (b"content-type", b"text/plain"), (b"x", b"a: b"), (b"content-length", b"3")]


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 12), st.integers(0, 255)), max_size=20), st.integers(1, 70_000))
def test_heads_of_frames_are_found_however_they_are_cut(said: list[tuple[int, int, int]], cut: int) -> None:
    block, fits = 0, True
    for length, kind, flags in said:
        block = length if kind == 1 else block + length if kind == 9 else block
        fits = fits and length <= 16_384 and not (kind in (1, 9) and block > 128 * 1024)
        block = 0 if kind in (1, 9) and flags & 4 else block
    data = PREFACE + b"".join(frame(kind, flags, 1, b"x" * length) for length, kind, flags in said)
    frames, taken = Frames(), True
    try:
        for at in range(0, len(data), cut):
            frames.check(data[at : at + cut])
    except PeerMisbehaved:
        taken = False
    assert taken is fits


def test_a_frame_that_is_too_long_is_not_waited_for(app: World) -> None:
    with app.connect() as sock:
        sock.sendall(PREFACE + frame(4, 0, 0) + b"\0\x40\x01\0\0\0\0\0\1" + b"x" * 100)
        data = b""
        while piece := sock.recv(1 << 16):
            data += piece
    assert b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\1" in data, "PROTOCOL_ERROR, and not the end of a wait"


# --- what has an end -----------------------------------------------------------------------------------------------------


def test_streams_that_are_opened_and_reset_end_the_connection(app: World) -> None:
    app.service.pause = 0.2
    with Wire(app) as wire:
        for _ in range(150):
            with contextlib.suppress(h2.exceptions.ProtocolError, OSError):
                wire.h2.reset_stream(wire.ask(b"/rapid"))
                wire.flush()
        assert wire.is_cut()
    assert app.ask("GET", "/after").status == 200


def test_no_more_streams_are_open_at_once_than_were_offered(app: World) -> None:
    with Wire(app) as wire:
        wire.hear(lambda: wire.h2.remote_settings.max_concurrent_streams <= 100)
        assert wire.h2.remote_settings.max_concurrent_streams == 100
        wire.h2.remote_settings = h2.settings.Settings(client=False)
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError):
            for _ in range(150):
                wire.ask(b"/many", method=b"POST", ends=False)
        assert wire.is_cut()


@pytest.mark.parametrize(("kind", "flags", "number", "payload"), [(4, 0, 0, b""), (6, 0, 0, b"12345678"), (2, 0, 1, b"\0\0\0\0\x01"), (0xBE, 0, 0, b"")])
def test_frames_that_ask_for_nothing_end_the_connection(app: World, kind: int, flags: int, number: int, payload: bytes) -> None:
    with Wire(app) as wire:
        with contextlib.suppress(OSError):
            for _ in range(30):
                wire.sock.sendall(frame(kind, flags, number, payload) * 100)
        assert wire.is_cut()


def test_windows_opened_by_crumbs_end_the_connection_and_those_of_who_takes_much_do_not(app: World) -> None:
    class Eager(Wire):
        opened = 0

        def heed(self, event: Any, *, takes: bool) -> None:
            super().heed(event, takes=False)
            if isinstance(event, h2.events.DataReceived) and event.stream_ended is None:
                for number in (None, event.stream_id):
                    with contextlib.suppress(h2.exceptions.StreamClosedError):  # its end lies in the same bytes
                        self.h2.increment_flow_control_window(event.flow_controlled_length, number)
                    self.opened += 1

    with Eager(app) as wire:
        app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000_000]
        assert len(wire.answer(wire.ask(b"/large"))[1]) == 10_000_000
        assert wire.opened > 1000
        app.service.says = []
        with contextlib.suppress(OSError):
            for _ in range(600):
                wire.sock.sendall(frame(8, 0, 0, b"\0\0\0\x01") * 100)
        assert wire.is_cut()


def test_a_client_that_allows_a_large_table_makes_us_keep_no_large_one(app: World) -> None:
    with Wire(app) as wire:
        wire.h2.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 1 << 30})
        wire.flush()
        assert wire.answer(wire.ask(b"/first"))[0] == 200
        for number in range(20):
            app.service.says = [b"HTTP/1.1 200 OK\r\nX-New: %b\r\nContent-Length: 0\r\n\r\n" % (b"%d" % number * 600)]
            assert wire.answer(wire.ask(b"/more"))[0] == 200
        assert wire.h2.decoder.header_table_size == 4096


def test_empty_data_ends_the_connection(app: World) -> None:
    with Wire(app) as wire:
        number = wire.ask(b"/x", method=b"POST", ends=False)
        for _ in range(30):
            wire.raw(0, 0, number, b"")
            with contextlib.suppress(OSError):
                wire.sock.sendall(frame(0, 0, number) * 100)
        assert wire.is_cut()


def test_fields_without_end_end_the_connection(app: World) -> None:
    before = app.gateway.resident_bytes()
    with Wire(app) as wire:
        wire.raw(1, 0, 1, b"\x82")
        for _ in range(200):
            wire.raw(9, 0, 1, b"\0\x01x\x7f\x80\x7d" + b"y" * 16_000)
        assert wire.is_cut()
    assert app.gateway.resident_bytes() - before < 32 << 20
    assert app.ask("GET", "/after").status == 200


def test_fields_that_unpack_beyond_measure_end_the_connection(app: World) -> None:
    with Wire(app, checks=False) as wire:
        big = b"y" * 4000
        fields = [*GET, (b"x-big", big)]
        wire.h2.send_headers(1, fields, end_stream=True)
        block = wire.h2.encoder.encode([(b"x-big", big)])  # in the table by now: a byte or two
        wire.flush()
        wire.raw(1, 0x5, 3, b"\x82\x86\x84" + block * 100)
        assert wire.is_cut()


@pytest.mark.parametrize("garbage", [frame(0, 0, 1, b"x"), frame(1, 4, 2, b"\x82"), frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), frame(8, 0, 0, b"\0\0\0\0"), frame(5, 4, 1, b""), b"\xff" * 64])
def test_frames_that_break_the_protocol_are_on_record_and_the_end(app: World, garbage: bytes) -> None:
    before = app.recorded()
    with app.connect() as sock:
        sock.sendall(PREFACE + frame(4, 0, 0) + garbage)
        data = b""
        while piece := sock.recv(1 << 16):
            data += piece
    assert data[3:4] == b"\x04"
    assert b"\0\x08\x07\0" in data, "a goodbye"
    assert until(lambda: app.recorded() - before == 1)
    assert bytes(app.service.heard) == b""


def test_a_window_that_stays_shut_resets_the_stream_and_idle_connections_end(secured: tuple[World, ssl.SSLContext]) -> None:
    app, roots = secured
    roots.set_alpn_protocols(["h2"])
    size, before = 2 << 20, len(app.records("outcome"))
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size]
    with Wire(app, tls=roots) as wire:
        number = wire.ask(b"/app/shut", authority=b"localhost")
        assert wire.hear(lambda: number in wire.resets, takes=False)
        assert wire.hear(lambda: wire.goodbye is not None)
    app.service.says = []
    assert until(lambda: [entry["result"]["status"] != "ok" for entry in app.records("outcome")[before:]] == [True])


def test_a_client_that_goes_takes_its_requests_with_it(app: World) -> None:
    app.service.says, app.service.pause = [b""], 1.0
    before = len(app.records("outcome"))
    with Wire(app) as wire:
        wire.ask(b"/gone")
        assert until(lambda: b"/gone" in app.service.heard)
    assert until(lambda: len(app.records("outcome")) > before)


def test_a_gateway_that_ends_says_goodbye(app: World) -> None:
    del app
    with world() as made, Wire(made) as wire:
        assert wire.answer(wire.ask())[0] == 200
        made.gateway.stop()
        wire.hear(lambda: wire.goodbye is not None)
        assert wire.goodbye == 0


def test_bodies_that_are_held_for_one_connection_have_a_limit_together(app: World) -> None:
    """Each may be as large as is judged, and a hundred of them are more than one client's share."""
    before = app.gateway.resident_bytes()
    with Wire(app) as wire:
        wire.hear(lambda: wire.h2.remote_settings.max_concurrent_streams <= 100)
        numbers = [wire.ask(b"/much", (b"content-type", b"application/json"), method=b"POST", ends=False) for _ in range(60)]
        for number in numbers:
            for _ in range(24):
                assert wire.hear(lambda n=number: n in wire.ended or wire.h2.local_flow_control_window(n) >= 16_384)
                if number in wire.ended:
                    break
                wire.h2.send_data(number, b" " * 16_384)
                wire.flush()
        refused = [number for number in numbers if number in wire.ended]
        assert {wire.answer(number)[0] for number in refused} == {503}
        assert len(refused) < len(numbers), "the others go on"
        assert app.gateway.resident_bytes() - before < 64 << 20
