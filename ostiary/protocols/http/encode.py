"""Messages to bytes: heads are written from what was judged, never copied from what was read."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from ostiary.protocols.http.messages import Framing, Header

REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
LAST_CHUNK: Final = b"0\r\n\r\n"
MAX_LENGTHS: Final = 256
_LENGTHS: Final[dict[int, bytes]] = {}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def request_head(method: bytes, target: bytes, fields: bytes, framing: Framing) -> bytes:
    """A request line and the lines of its fields, ready to have a credential put before their blank line."""
    lines = [method, b" ", target, b" HTTP/1.1\r\n", fields]
    if framing.chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif framing.length or method in (b"POST", b"PUT", b"PATCH"):
        lines.append(length_line(framing.length or 0))
    lines.append(b"\r\n")
    return b"".join(lines)


def field_lines(headers: Iterable[Header]) -> bytes:
    """Header fields, a line each."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def response_head(status: int, headers: Iterable[Header]) -> bytes:
    """A status line and header fields without framing, without the blank line. The reason phrase is always our own."""
    return b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Status")) + field_lines(headers)


def length_line(length: int) -> bytes:
    """`Content-Length`, as a line. Answers of the same length come again and again."""
    line = _LENGTHS.get(length)
    if line is None:
        if len(_LENGTHS) >= MAX_LENGTHS:
            _LENGTHS.clear()
        _LENGTHS[length] = line = b"Content-Length: %d\r\n" % length
    return line


def chunk(data: bytes) -> bytes:
    """One chunk: RFC 9112, 7.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)
