"""The nouns of HTTP/1.1: RFC 9110 (semantics) and RFC 9112 (messages). Names and values are bytes, as on the wire."""

from __future__ import annotations

from typing import Final

import msgspec

Header = tuple[bytes, bytes]
"""(name as it was sent, value without the white space around it)."""

HOP_BY_HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
        b"transfer-encoding", b"upgrade", b"http2-settings",
    }
)  # fmt: skip
"""What is for one hop alone, and is never passed on: RFC 9110, 7.6.1."""
CONNECTION_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings", b"proxy-connection"})
"""What a `Connection` header usually names."""


PASSING: Final = frozenset({
    b"date", b"traceparent", b"tracestate", b"x-request-id", b"x-correlation-id", b"x-amzn-trace-id", b"b3", b"x-b3-traceid", b"x-b3-spanid",
    b"x-b3-parentspanid", b"x-b3-sampled",
})  # fmt: skip
"""What clients write anew each time they make the same request: no approval is bound to it, so none of it is sent with one."""


class RequestHead(msgspec.Struct, frozen=True):
    """A request line and its header fields: RFC 9112, 3 and 5."""

    method: bytes
    target: bytes
    minor: int
    """Of HTTP/1.x: 0 or 1."""
    headers: tuple[Header, ...]
    raw: bytes
    """The very bytes, blank line included."""


class ResponseHead(msgspec.Struct, frozen=True):
    """A status line and its header fields: RFC 9112, 4 and 5."""

    status: int
    minor: int
    headers: tuple[Header, ...]


class Framing(msgspec.Struct, frozen=True):
    """How long a body is: RFC 9112, 6.3."""

    length: int | None
    """Bytes; None: not known beforehand."""
    chunked: bool
    until_close: bool

    @property
    def is_empty(self) -> bool:
        """Whether there is no body at all."""
        return self.length == 0


EMPTY: Final = Framing(0, chunked=False, until_close=False)
CHUNKED: Final = Framing(None, chunked=True, until_close=False)
UNTIL_CLOSE: Final = Framing(None, chunked=False, until_close=True)


def values(headers: tuple[Header, ...], name: bytes) -> list[bytes]:
    """Every value of the field of that (lower-case) name, in order."""
    return [value for each, value in headers if each.lower() == name]


def sole(headers: tuple[Header, ...], name: bytes) -> bytes | None:
    """The value of a field that may be there once at most; None where it is not there, or more than once."""
    found = values(headers, name)
    return found[0] if len(found) == 1 else None
