"""The nouns of HTTP/1.1: RFC 9110 (semantics) and RFC 9112 (messages). Names and values are bytes, as on the wire."""

from __future__ import annotations

from typing import Any, Final, Self

from ostiary.model.connections import HttpConnection, HttpUpstream
from ostiary.model.nouns import Noun
from ostiary.model.operations import Operation
from ostiary.model.results import ReplyHead
from ostiary.model.secrets import Secret

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


NOTHING: Final[frozenset[bytes]] = frozenset()
MAX_KEPT: Final = 8 * 1024
"""Bytes of a head that is kept from one message to the next."""
MAX_HEADS: Final = 64
"""Heads of a service that are kept."""


class Fields:
    """The fields of one head, by name, and what was worked out of them.

    Clients say the same fields with each request of a connection, services with each answer. So where a block of them is, byte for byte, the last
    one (`decode.read_request`), it is this object again, and what is kept here is not worked out anew. What hangs on more than the fields is kept
    with the bytes of the head that it was worked out of.
    """

    __slots__ = (
        "_names", "asks_no_socket", "block", "end_to_end", "framing", "headers", "host", "judged", "operation", "options", "passed", "placed", "reply",
        "service", "shown", "token",
    )  # fmt: skip

    def __init__(self, headers: tuple[Header, ...], block: bytes = b"", names: tuple[bytes, ...] | None = None) -> None:
        """`block`: the lines that they stood in; empty: they were not read. `names`: in lower case."""
        self.headers = headers
        self.block = block
        self._names = tuple([name.lower() for name, _ in headers]) if names is None else names
        said = self.all(b"connection")
        self.options = frozenset([option.strip(b" \t").lower() for value in said for option in value.split(b",")]) if said else NOTHING
        """What `Connection` names: RFC 9110, 7.6.1."""
        self.host: tuple[bytes, int | None] | None = None
        """Kept here by whoever looks for the service that a request is for."""
        self.passed: tuple[HttpConnection, bool, bytes] | None = None
        """Kept here by whoever passes them on: to which connection, of a read or not, as which lines."""
        self.shown: bytes | None = None
        """Kept here by whoever records them: the block without secrets."""
        self.token: Secret | None = None
        """Kept here by whoever looks for it."""
        self.service: tuple[bytes, Any] | None = None
        """Kept here by whoever looks for the service that a request is for: its target, and the service."""
        self.asks_no_socket = False
        """Kept here by whoever looks for it: it asks for no WebSocket."""
        self.framing: Framing | None = None
        """Kept here by whoever reads them in HTTP/1.1: what they say of the body's length, if they say it."""
        self.end_to_end: tuple[Header, ...] | None = None
        """Of an answer: kept here by whoever passes them on."""
        self.placed: tuple[str, HttpUpstream, ReplyHead, ReplyHead] | None = None
        """Of an answer: kept here by whoever says where things are: under which path of ours, at which service, of which head, and that head."""
        self.reply: tuple[bytes, Framing, ReplyHead] | None = None
        """Of an answer: kept here by whoever reads it: to which method, how long, and its head as masking sees it."""
        self.judged: tuple[bytes, Any, Framing, frozenset[bytes], Any] | None = None
        """Of a request that asks for no WebSocket: kept here by whoever judges it: which bytes, by what, how long, what is not passed on, and what it does."""
        self.operation: tuple[bytes, Any, Operation] | None = None
        """Of a request without a body: kept here by whoever shows it to policy: which bytes, judged how, and what policy sees."""

    def all(self, name: bytes) -> tuple[bytes, ...]:
        """Every value of the field of that (lower-case) name, in order."""
        found: tuple[bytes, ...] = ()
        for at, each in enumerate(self._names):
            if each == name:
                found = (*found, self.headers[at][1])
        return found

    def names(self, start: bytes) -> bool:
        """Whether there is a field whose (lower-case) name begins so."""
        return any(name.startswith(start) for name in self._names)


class Heads:
    """The last heads of answers that were read, by their bytes. A service says mostly the same, too."""

    __slots__ = ("_known", "last", "raw")

    def __init__(self) -> None:
        self._known: dict[bytes, ResponseHead] = {}
        self.raw = b""
        """The bytes of the one that was found or kept last, blank line included; empty: there is none."""
        self.last: ResponseHead | None = None

    def find(self, raw: bytes) -> ResponseHead | None:
        """The one of just these bytes, if it is known."""
        found = self._known.get(raw)
        if found is not None:
            self.raw, self.last = raw, found
        return found

    def keep(self, raw: bytes, head: ResponseHead) -> None:
        """Know it from now on, and forget the one that was read first."""
        if len(raw) > MAX_KEPT:
            return
        if len(self._known) >= MAX_HEADS:
            del self._known[next(iter(self._known))]
        self._known[raw] = head
        self.raw, self.last = raw, head


def persists(minor: int, options: frozenset[bytes]) -> bool:
    """Whether whoever says that would keep the connection: RFC 9112, 9.3."""
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


class RequestHead(Noun):
    """A request line and its header fields: RFC 9112, 3 and 5."""

    __slots__ = ("fields", "headers", "method", "minor", "persists", "raw", "target")

    def __init__(
        self, method: bytes, target: bytes, minor: int, headers: tuple[Header, ...], raw: bytes, fields: Fields | None = None
    ) -> None:
        self.method: Final = method
        self.target: Final = target
        self.minor: Final = minor
        """Of HTTP/1.x: 0 or 1."""
        self.headers: Final = headers
        self.raw: Final = raw
        """The very bytes, blank line included."""
        self.fields: Final = Fields(headers) if fields is None else fields
        self.persists: Final = persists(minor, self.fields.options)
        """The client wants to go on behind this request."""

    def with_headers(self, headers: tuple[Header, ...]) -> Self:
        """The same request with other fields."""
        return type(self)(self.method, self.target, self.minor, headers, self.raw)


class ResponseHead(Noun):
    """A status line and its header fields: RFC 9112, 4 and 5."""

    __slots__ = ("fields", "headers", "minor", "persists", "size", "status")

    def __init__(self, status: int, minor: int, fields: Fields, size: int) -> None:
        self.status: Final = status
        self.minor: Final = minor
        self.size: Final = size
        """Its bytes, blank line included."""
        self.headers: Final = fields.headers
        self.fields: Final = fields
        self.persists: Final = persists(minor, fields.options)
        """The connection lives on behind this answer."""


class Framing(Noun):
    """How long a body is: RFC 9112, 6.3."""

    __slots__ = ("chunked", "is_empty", "length", "until_close")

    def __init__(self, length: int | None, *, chunked: bool, until_close: bool) -> None:
        self.length: Final = length
        """Bytes; None: not known beforehand."""
        self.chunked: Final = chunked
        self.until_close: Final = until_close
        self.is_empty: Final = length == 0
        """There is no body at all."""


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
