# ruff: noqa: INP001 - a script beside the package, not in it
"""Coverage-guided fuzzing of the HTTP reader, beside two others: `python fuzz/fuzz_http_reading.py TARGET [libFuzzer options]`.

Targets: `request` (what we take as one request, h11 and llhttp must not read otherwise: else a service could), `cut` (a body is read
the same however it is cut), `response` (bytes of a service are an answer or misbehaviour), `target` (a path that is taken has one
spelling), `fields` (a request of HTTP/2 is one of HTTP/1.1 that says the same, or none), `frames` (heads of frames are found however they are cut). Each states what must hold of any bytes. Needs the package `atheris`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import atheris
import h11
import httptools
from running import hold, main

with atheris.instrument_imports(include=["ostiary"]):
    from ostiary.model.errors import PeerMisbehaved
    from ostiary.protocols.http.decode import BodyReader, read_request, read_response, request_framing, response_framing
    from ostiary.protocols.http.http2 import Frames, Unfit, request_of
    from ostiary.protocols.http.messages import CHUNKED
    from ostiary.protocols.http.paths import Ambiguous, read_target

HEAD: Final = b"POST /x HTTP/1.1\r\nHost: app\r\n"


class Heard:
    """What llhttp makes of some bytes."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.done = 0

    def on_message_begin(self) -> None:
        """Another message."""
        self.bodies.append(b"")

    def on_body(self, data: bytes) -> None:
        """Of its body."""
        self.bodies[-1] += data

    def on_message_complete(self) -> None:
        """It is whole."""
        self.done += 1


def beside_llhttp(raw: bytes, body: bytes) -> None:
    """One message with that body, or none that it takes."""
    heard = Heard()
    try:
        httptools.HttpRequestParser(heard).feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return
    hold(heard.done == 1 and heard.bodies == [body], "llhttp reads it otherwise")


def beside_h11(raw: bytes, body: bytes, rest: bytes) -> None:
    """The same body and the same rest, or nothing that it takes."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(raw)
    found = b""
    try:
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            hold(event is not h11.NEED_DATA, "h11 waits for more")
            if isinstance(event, h11.Data):
                found += bytes(event.data)
    except h11.RemoteProtocolError:
        return
    hold((found, reader.trailing_data[0]) == (body, rest), "h11 reads it otherwise")


def request(data: bytes) -> None:
    """The bytes as they are, and behind the start of a request, which they would seldom find."""
    for raw in (data, HEAD + data):
        try:
            head = read_request(raw)
            if head is None:
                continue
            reader = BodyReader(request_framing(head))
            pieces, rest = reader.feed(raw[len(head.raw) :])
        except PeerMisbehaved:
            continue
        if not reader.is_done:
            continue
        hold(raw.startswith(head.raw) and raw.endswith(rest), "a byte was lost")
        body = b"".join(pieces)
        beside_llhttp(raw[: len(raw) - len(rest)], body)
        beside_h11(raw, body, rest)


def cut(data: bytes) -> None:
    """A chunked body, whole and in pieces: the same bytes, the same end, or no body in either way."""
    hold(in_pieces(data[1:], len(data)) == in_pieces(data[1:], 1 + data[0] % 16 if data else 1), "cut, it reads otherwise")


def in_pieces(data: bytes, size: int) -> tuple[bytes, bytes] | None:
    """(body, rest); None: it is not whole, or misbehaviour."""
    reader, body, rest = BodyReader(CHUNKED), b"", b""
    try:
        for at in range(0, len(data), max(size, 1)):
            pieces, more = reader.feed(data[at : at + size])
            body += b"".join(pieces)
            rest += more
    except PeerMisbehaved:
        return None
    return (body, rest) if reader.is_done else None


def response(data: bytes) -> None:
    """A head is read, or is misbehaviour; and so is its body."""
    for raw in (data, b"HTTP/1.1 200 OK\r\n" + data):
        try:
            head = read_response(raw)
            if head is None:
                continue
            reader = BodyReader(response_framing(head, b"GET"))
            pieces, rest = reader.feed(raw[head.size :])
        except PeerMisbehaved:
            continue
        hold(sum(map(len, pieces)) == reader.size, "a byte of the body is not counted")
        hold(reader.is_done or not rest, "something follows a body that has not ended")


def target(data: bytes) -> None:
    """What goes to the service is read there as it was here."""
    try:
        found = read_target(b"/" + data)
    except Ambiguous:
        return
    again = read_target(found.wire)
    hold((again.path, again.wire) == (found.path, found.wire), "a path with two spellings")
    hold(not {".", ".."} & set(found.path.split("/")), "a path that climbs")


def fields(data: bytes) -> None:
    """Pairs of bytes as fields, with and without those that a request must have."""
    pieces = data[1:].split(b"\xff")
    pairs = list(zip(pieces[::2], pieces[1::2], strict=False))
    ends = bool(data[:1] and data[0] & 1)
    for said in (pairs, [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"app"), *pairs]):
        try:
            head = request_of(said, ends=ends)
        except Unfit:
            continue
        kept = dict(said)
        hold((head.method, head.target) == (kept[b":method"], kept[b":path"]), "another request than was asked for")
        hold(head.raw.count(b"\r\n\r\n") == 1 and head.raw.endswith(b"\r\n\r\n"), "more than one head")
        names = [name.lower() for name, _ in head.headers]
        hold(names.count(b"host") == 1 and b"connection" not in names, "a head with two places to go, or of a hop")
        try:
            framing = request_framing(head)
        except PeerMisbehaved:
            continue
        hold(framing.chunked is (not ends and b"content-length" not in names), "its framing is not ours")


def frames(data: bytes) -> None:
    """The same bytes whole and in pieces: taken in both ways, or in none."""
    hold(is_taken(data, len(data) or 1) == is_taken(data, 1 + len(data) % 11), "cut, frames are other frames")


def is_taken(data: bytes, size: int) -> bool:
    """Whether no frame in it is too long."""
    reader = Frames()
    try:
        for at in range(0, len(data), size):
            reader.check(data[at : at + size])
    except PeerMisbehaved:
        return False
    return True


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"request": request, "cut": cut, "response": response, "target": target, "fields": fields, "frames": frames}


if __name__ == "__main__":
    main(TARGETS)
