"""Heads and bodies are read in one way or not at all: whole, byte by byte, cut anywhere, and beside two other parsers."""

from __future__ import annotations

import contextlib
from typing import Any

import h11
import httptools
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ostiary.model.errors import PeerMisbehaved
from ostiary.protocols.http.decode import BodyReader, read_request, read_response, request_framing
from ostiary.protocols.http.login import recorded_head, without_secrets
from ostiary.protocols.http.messages import CHUNKED, Framing, RequestHead
from ostiary.protocols.http.operations import is_identity
from ostiary.protocols.http.paths import Ambiguous, authority_of, read_arguments, read_path, read_target

GOOD = b"POST /a?b=1 HTTP/1.1\r\nHost: app\r\nX-Empty:\r\nX-Spaced: \t a b \t\r\nTransfer-Encoding: Chunked\r\n\r\n"
CHUNKS = b'5\r\nhello\r\n6;x="y"\r\n world\r\n0\r\nTrailer: 1\r\n\r\nNEXT'


def test_a_head_is_read_the_same_however_it_is_cut() -> None:
    for cut in range(len(GOOD)):
        assert read_request(GOOD[:cut]) is None
    head = read_request(GOOD + b"tail")
    assert head is not None
    assert head.raw == GOOD
    assert head.headers[1:3] == ((b"X-Empty", b""), (b"X-Spaced", b"a b"))
    assert request_framing(head) == CHUNKED


@pytest.mark.parametrize("size", range(1, len(CHUNKS) + 1))
def test_a_chunked_body_is_read_the_same_however_it_is_cut(size: int) -> None:
    body, got, rest = BodyReader(CHUNKED), b"", b""
    for at in range(0, len(CHUNKS), size):
        pieces, more = body.feed(CHUNKS[at : at + size])
        got += b"".join(pieces)
        rest += more
    assert (got, rest, body.is_done) == (b"hello world", b"NEXT", True)


def test_a_counted_body_ends_where_it_says() -> None:
    body = BodyReader(Framing(5, chunked=False, until_close=False))
    assert body.feed(b"hel") == ([b"hel"], b"")
    assert body.feed(b"loNEXT") == ([b"lo"], b"NEXT")
    with pytest.raises(PeerMisbehaved):
        BodyReader(Framing(5, chunked=False, until_close=False)).close()


BLOCKS = st.lists(
    st.sampled_from([b"Host: app", b"Host: other", b"HOST:app", b"X-A: 1", b"X-A: 1 ", b"X-A: 2", b"Content-Length: 3", b"Transfer-Encoding: chunked"]),
    max_size=3,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
"""Of header fields; many are the same as another, or nearly."""


@given(BLOCKS, BLOCKS, st.sampled_from([b"GET /b HTTP/1.1", b"POST /b HTTP/1.0"]))
def test_what_the_head_before_said_never_changes_how_a_head_is_read(before: bytes, block: bytes, line: bytes) -> None:
    last = read_request(b"GET /a HTTP/1.1\r\n" + before + b"\r\n")
    raw = line + b"\r\n" + block + b"\r\n"
    alone, behind = read_request(raw), read_request(raw, last)
    assert alone is not None
    assert behind is not None
    for head in (alone, behind):
        assert (head.method, head.target, head.minor, head.raw) == (line.split()[0], b"/b", int(line.endswith(b"1")), raw)
    assert alone.headers == behind.headers
    assert [alone.fields.all(name) for name in (b"host", b"x-a")] == [behind.fields.all(name) for name in (b"host", b"x-a")]


@given(st.binary(max_size=200))
def test_a_reader_has_three_outcomes(data: bytes) -> None:
    for read in (read_request, read_response):
        with contextlib.suppress(PeerMisbehaved):
            read(data)
    for framing in (CHUNKED, Framing(7, chunked=False, until_close=False)):
        with contextlib.suppress(PeerMisbehaved):
            BodyReader(framing).feed(data)


# --- beside other parsers ----------------------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        b"Content-Length: 5", b"Content-Length: 0", b"content-length:5", b"Content-Length: +5", b"Content-Length: 5, 5",
        b"Content-Length : 5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"transfer-encoding:\tchunked",
        b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding : chunked", b"X: y", b"X:\x0by", b" folded", b"X: a\x00b",
        b"X: a\rb", b"Connection: close", b"Host: app", b"X-Y", b"Expect: 100-continue",
    ]
)  # fmt: skip
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n"])
BODIES = st.sampled_from(
    [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5;x\r\nhello\r\n0\r\n\r\n", b"05\r\nhello\r\n0\r\n\r\n",
     b"5\r\nhelloo\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"]
)  # fmt: skip


@st.composite
def requests(draw: Any) -> bytes:
    raw = draw(st.sampled_from([b"POST /x HTTP/1.1", b"GET / HTTP/1.0", b"PUT /a HTTP/1.1"])) + draw(ENDS)
    raw += b"Host: app\r\n"
    for line in draw(st.lists(LINES, max_size=4)):
        raw += line + draw(ENDS)
    return raw + draw(ENDS) + draw(BODIES) + draw(st.sampled_from([b"", b"GET /next HTTP/1.1\r\nHost: app\r\n\r\n"]))


def ours(raw: bytes) -> tuple[bytes, bytes, bytes] | None:
    """(method, body, rest), or None where it is refused or not whole."""
    try:
        head = read_request(raw)
        if head is None:
            return None
        body = BodyReader(request_framing(head))
        pieces, rest = body.feed(raw[len(head.raw) :])
    except PeerMisbehaved:
        return None
    return (head.method, b"".join(pieces), rest) if body.is_done else None


def theirs_h11(raw: bytes) -> tuple[bytes, bytes, bytes] | None:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(raw)
    method, body = b"", b""
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Request):
                method = event.method
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return method, body, reader.trailing_data[0]
            else:
                return None
    except h11.RemoteProtocolError:
        return None


class _Heard:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.done = 0

    def on_message_begin(self) -> None:
        self.bodies.append(b"")

    def on_body(self, data: bytes) -> None:
        self.bodies[-1] += data

    def on_message_complete(self) -> None:
        self.done += 1


def theirs_llhttp(raw: bytes) -> tuple[int, list[bytes]] | None:
    heard = _Heard()
    try:
        httptools.HttpRequestParser(heard).feed_data(raw)
    except httptools.HttpParserError:
        return None if not heard.done else (heard.done, heard.bodies)
    return heard.done, heard.bodies


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
@example(GOOD + CHUNKS)
def test_what_we_take_two_other_parsers_read_as_we_do(raw: bytes) -> None:
    """We may refuse more than they do; what we take, they must not read otherwise: else a service could."""
    found = ours(raw)
    if found is None:
        return
    method, body, rest = found
    by_h11 = theirs_h11(raw)
    if by_h11 is not None:
        assert by_h11 == (method, body, rest)
    by_llhttp = theirs_llhttp(raw[: len(raw) - len(rest)])
    assert by_llhttp is not None
    assert by_llhttp[0] == 1
    assert by_llhttp[1] == [body]


# --- targets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "path", "wire"),
    [
        (b"/", "/", b"/"), (b"/a/b", "/a/b", b"/a/b"), (b"/a%20b", "/a b", b"/a%20b"), (b"/%61", "/a", b"/a"), (b"/a/", "/a/", b"/a/"),
        (b"/%C3%A9", "/é", b"/%C3%A9"), (b"/a.b/c.tar.gz", "/a.b/c.tar.gz", b"/a.b/c.tar.gz"), (b"/100%25", "/100%", b"/100%25"),
        (b"/.well-known/x", "/.well-known/x", b"/.well-known/x"), (b"/a:b@c,d=e", "/a:b@c,d=e", b"/a:b@c,d=e"),
    ],
)  # fmt: skip
def test_a_path_has_one_spelling(raw: bytes, path: str, wire: bytes) -> None:
    target = read_target(raw + b"?q=%61&b")
    assert (target.path, target.wire, target.query) == (path, wire, b"q=%61&b")
    assert read_target(wire).wire == wire


@given(st.text(alphabet=st.sampled_from("/ab.%2eEfF5cC0;\\:~ -é"), max_size=24))
def test_a_path_that_is_taken_is_stable(text: str) -> None:
    try:
        target = read_target(b"/" + text.encode())
    except Ambiguous:
        return
    again = read_target(target.wire)
    assert (again.path, again.wire) == (target.path, target.wire)
    assert not {".", ".."} & set(target.path.split("/"))


@pytest.mark.parametrize("raw", [b"/a//b", b"/%2e", b"/..", b"/a%2fb", b"/%5c", b"/%zz", b"/%", b"/a;b", b"/%3b", b"/a%00", b"/%c0%af"])
def test_an_ambiguous_path_is_refused(raw: bytes) -> None:
    with pytest.raises(Ambiguous):
        read_path(raw)


def test_hosts_and_arguments() -> None:
    assert authority_of(b"App.Example.:8080") == (b"app.example", 8080) or authority_of(b"App.Example:8080") == (b"app.example", 8080)
    for bad in (b"", b"a b", b"user@app", b"app:0", b"app:99999", b"app/x", b"-app", b"app:80:80"):
        assert authority_of(bad) is None
    assert read_arguments(b"b=2&a=1&a=%30&c") == (("a", ("0", "1")), ("b", ("2",)), ("c", ("",)))


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nX: a" + b" " * 60_000 + b"b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"user-" * 12_000 + b"~: x\r\n\r\n",
        b"GET /" + b"a." * 8_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 65_000,
    ],
)
def test_no_head_costs_more_than_its_length(raw: bytes) -> None:
    for _ in range(50):
        try:
            head = read_request(raw)
        except PeerMisbehaved:
            continue
        for name, _value in () if head is None else head.headers:
            is_identity(name)


@pytest.mark.parametrize(
    "raw",
    [
        b"Authorization: Bearer T0KEN", b"Authorization:\r\n Bearer T0KEN", b"Authorization: Bearer\r\n\tT0KEN\r\n T0KEN", b"authorization : Bearer T0KEN",
        b"X: a\rX-Ostiary-Token: T0KEN", b"X: a\nCookie: T0KEN\n T0KEN", b"X: a\0Proxy-Authorization: T0KEN", b" X-Api-Key: T0KEN", b"X-Ostiary-Token\0: T0KEN",
        b"Cookie: a\r\nCookie:\r T0KEN",
    ],
)  # fmt: skip
def test_no_credential_is_on_record_however_it_is_written_down(raw: bytes) -> None:
    whole = b"GET / HTTP/1.1\r\nHost: app\r\n" + raw + b"\r\nX-Last: kept\r\n\r\nbody"
    for said in (whole, raw + b"\r\nX-Last: kept\r\n"):
        shown = without_secrets(said)
        assert b"T0KEN" not in shown
        assert b"kept" in shown
    head = recorded_head(RequestHead(b"-", b"", 1, (), whole))
    assert head.startswith(b"GET / HTTP/1.1\r\nHost: app\r\n")
    assert head.endswith(b"\r\n\r\nbody")
