"""HTTP/2 (RFC 9113) onto HTTP/1.1: a request's fields are written as a head and read by the one strict reader; an answer's head is taken apart.

Theory of operation. Whatever a request says in HTTP/2, the service hears it in HTTP/1.1, so what counts is what it is there. `request_of` writes
it down in that form and hands it to `read_request`, which takes it or does not: a line break, a blank or a NUL in a name, a value or a
path ends there, as a smuggled `Content-Length` or `Transfer-Encoding` does. From then on nothing knows that it was HTTP/2. What the wire
itself must obey (frames, HPACK, windows, order, which fields may be there) is the library's (`h2`), and checked here again where a service
would suffer from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.protocols.http.decode import read_request
from ostiary.protocols.http.messages import Header, RequestHead
from ostiary.protocols.http.paths import Ambiguous, authority_of

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with: RFC 9113, 3.4."""

_OF_A_HOP: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"})
"""What must not be there: RFC 9113, 8.2.2."""
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_BREAKS: Final = re.compile(rb"[\r\n\0]")
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


MAX_FRAME: Final = 16_384
"""Bytes of a frame's payload: RFC 9113, 4.2; no larger ones are asked for."""
MAX_BLOCK: Final = 128 * 1024
"""Bytes of one block of fields, packed, over all its frames."""
_HEADERS: Final = 1
_CONTINUATION: Final = 9
_END_HEADERS: Final = 4


class Frames:
    """Looks at the heads of frames before a library holds what they announce: h2 takes in a frame whole before it finds it too long."""

    __slots__ = ("_block", "_held", "_skip")

    def __init__(self) -> None:
        self._skip = len(PREFACE)
        """Bytes of the preface, or of a payload, that are still to come."""
        self._held = b""
        self._block = 0

    def check(self, data: bytes) -> None:
        """Take bytes in. Raises `PeerMisbehaved`."""
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            head = self._held + data[at : at + 9 - len(self._held)]
            at += len(head) - len(self._held)
            self._held = head if len(head) < 9 else b""
            if not self._held:
                self._skip = int.from_bytes(head[:3], "big")
                self._judge(self._skip, head[3], head[4])

    def _judge(self, length: int, kind: int, flags: int) -> None:
        if length > MAX_FRAME:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, f"a frame of more than {MAX_FRAME} bytes")
        if kind == _HEADERS:
            self._block = length
        elif kind == _CONTINUATION:
            self._block += length
        if kind in (_HEADERS, _CONTINUATION):
            if self._block > MAX_BLOCK:
                raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"header fields of more than {MAX_BLOCK} bytes")
            if flags & _END_HEADERS:
                self._block = 0


class Unfit(Ambiguous):
    """A request that HTTP/1.1 has no one form for. `raw`: it, for the record."""

    def __init__(self, why: str, raw: bytes) -> None:
        super().__init__(why)
        self.raw = raw


def request_of(fields: Iterable[Header], *, ends: bool) -> RequestHead:
    """The head of a request with these fields; `ends`: no body follows. Raises `Unfit`."""
    pseudo: dict[bytes, bytes] = {}
    plain: list[Header] = []
    cookies: list[bytes] = []
    hosts: list[bytes] = []
    faults: list[str] = []
    for name, value in fields:
        if name.startswith(b":"):
            if name in pseudo or name not in _PSEUDO or plain:
                faults.append("a pseudo-header field that is not known, there twice, or behind others")
            pseudo.setdefault(name, value)
        elif name in _OF_A_HOP or name != name.lower():
            faults.append("a header field that HTTP/2 does not have")
        elif name == b"host":
            hosts.append(value)
        elif name == b"cookie":
            cookies.append(value)
        else:
            plain.append((name, value))
    if cookies:
        plain.append((b"cookie", b"; ".join(cookies)))  # RFC 9113, 8.2.3
    faults += _of_target(pseudo, hosts)
    host = pseudo.get(b":authority") or (hosts[0] if hosts else b"")
    length = any(name == b"content-length" for name, _ in plain)
    if ends and any(name == b"content-length" and value != b"0" for name, value in plain):
        faults.append("a Content-Length where no content follows")  # RFC 9113, 8.1.1
    lines = [(b"Host", host), *plain]
    if not ends and not length:
        lines.append((b"Transfer-Encoding", b"chunked"))
    first = b"%b %b HTTP/1.1\r\n" % (pseudo.get(b":method", b"-"), pseudo.get(b":path", b"-"))
    raw = first + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n"
    if any(_BREAKS.search(part) is not None for line in (*lines, *pseudo.items()) for part in line):
        faults.append("a line break or a NUL in a header field")
    if faults:
        raise Unfit(faults[0], raw)
    try:
        head = read_request(raw)
    except PeerMisbehaved as exc:
        raise Unfit(str(exc), raw) from None
    if head is None or head.raw != raw or head.headers != tuple((name, value.strip(b" \t")) for name, value in lines):
        raise Unfit("a request that is more or less than one", raw)
    return head


def _of_target(pseudo: dict[bytes, bytes], hosts: list[bytes]) -> list[str]:
    """What is wrong with where it wants to go: RFC 9113, 8.3.1."""
    faults: list[str] = []
    if not {b":method", b":scheme", b":path"} <= pseudo.keys():
        faults.append("a request without method, scheme or path")
    if pseudo.get(b":scheme") not in (b"http", b"https"):
        faults.append("a scheme that is neither http nor https")
    if not pseudo.get(b":path", b"").startswith(b"/"):
        faults.append("a path that does not begin with a slash")
    named = [*([pseudo[b":authority"]] if b":authority" in pseudo else []), *hosts]
    if not named or any(authority_of(each) is None or authority_of(each) != authority_of(named[0]) for each in named):
        faults.append("an authority that is missing, no host name, or another than Host says")
    return faults


def answer_fields(lines: bytes, length: int | None) -> list[Header]:
    """The fields of an answer from its lines as they were recorded: our own writing, status line first, none of them of a hop."""
    status, *rest = lines.split(b"\r\n")
    found = _STATUS.match(status)
    if found is None:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "the status line")
    fields = [(b":status", found[1])]
    for line in rest:
        name, mark, value = line.partition(b": ")
        if mark and name.lower() not in _OF_A_HOP:
            fields.append((name.lower(), value))
    if length is not None:
        fields.append((b"content-length", b"%d" % length))
    return fields
