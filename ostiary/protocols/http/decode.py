"""Bytes in, messages out: RFC 9112, read strictly. What two parsers could read in two ways is no message here.

Theory of operation. A head is everything up to the first blank line. One pass over its field lines takes them apart and checks
every byte (`ostiary/kernel/fields.py`: bare LF, bare CR, NUL, white space before a colon, folded lines and empty names are no field lines). Only then is it looked at what the fields mean: how long the body is (`request_framing`,
`response_framing`) can be answered in one way, or not at all. Nothing of what was read here is forwarded: heads are written anew
(`encode.py`), bodies are cut and framed anew.

A reader has three outcomes: a message, "more, please" (None), or `PeerMisbehaved`. It is bounded. (Why not llhttp: ADR on the HTTP
reader; `fuzz/fuzz_http_reading.py` holds this reader against it and against h11.)
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.kernel.fields import read as read_fields
from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.protocols.http.messages import (
    CHUNKED,
    EMPTY,
    UNTIL_CLOSE,
    Fields,
    Framing,
    Heads,
    RequestHead,
    ResponseHead,
)

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head. nginx: 32 KiB by default, Apache 8 KiB a field and 100 fields; AWS SDKs send long ones."""
MAX_FIELDS: Final = 128
MAX_LINE: Final = 16 * 1024
"""Bytes of a request line. RFC 9112, 3: at least 8,000 octets."""
MAX_TRAILER: Final = 8 * 1024
MAX_CHUNK_LINE: Final = 1024
MAX_LENGTH: Final = 1 << 50
"""A petabyte: larger than any body, and far from where any parser's numbers wrap."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_LONE_LF: Final = re.compile(rb"(?<!\r)\n")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[\t ]*;[\t\x20-\x7e]*)?\r\n")
_LENGTH: Final = re.compile(rb"[0-9]{1,16}")


def _fields(block: bytes) -> Fields:
    found = read_fields(block, MAX_FIELDS)
    if found is None:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "a header line")
    headers, names = found
    if len(headers) > MAX_FIELDS:
        raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"more than {MAX_FIELDS} header fields")
    return Fields(headers, block, names)


def _head(data: bytes | bytearray, limit: int) -> int:
    """Where the head in `data` ends; -1: more is to come."""
    end = data.find(b"\r\n\r\n", 0, limit)
    if end >= 0:
        return end + 4
    if _LONE_LF.search(data, 0, limit) is not None:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "a line that ends in a bare LF")
    if len(data) >= limit:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, f"a head of more than {limit} bytes")
    return -1


def read_request(data: bytes | bytearray, last: RequestHead | None = None) -> RequestHead | None:
    """The head that `data` begins with; None: more is to come. `RequestHead.raw` says how much of it was read.

    `last`: another head that was read here. What is the same to the byte is the same head, or has the same fields, and is not read again.
    """
    if last is not None and data.startswith(last.raw):
        return last
    end = _head(data, MAX_HEAD)
    if end < 0:
        newline = data.find(b"\r\n", 0, MAX_LINE)
        fits = newline < 0 or _REQUEST_LINE.match(data, 0, newline + 2) is not None
        if data and not (fits and 0x21 <= data[0] <= 0x7E):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "the request line")
        return None
    raw = bytes(data[:end])
    line = _REQUEST_LINE.match(raw)
    if line is None or line.end() > MAX_LINE:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "the request line")
    block = raw[line.end() : -2]
    fields = last.fields if last is not None and last.fields.block == block else _fields(block)
    return RequestHead(line[1], line[2], line[3] == b"1", fields.headers, raw, fields)


def read_response(data: bytes, known: Heads | None = None) -> ResponseHead | None:
    """The head that `data` begins with; None: more is to come. `ResponseHead.size` says how much of it was read.

    `known`: heads that were read here before. What is the same to the byte as one of theirs is that one, and is not read again.
    """
    if known is not None and known.last is not None and data.startswith(known.raw):
        return known.last
    end = _head(data, MAX_HEAD)
    if end < 0:
        if data and data[0] != 0x48:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "the status line")
        return None
    raw = bytes(data[:end])
    head = None if known is None else known.find(raw)
    if head is None:
        line = _STATUS_LINE.match(raw)
        if line is None:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "the status line")
        head = ResponseHead(int(line[2]), line[1] == b"1", _fields(raw[line.end() : -2]), end)
        if known is not None:
            known.keep(raw, head)
    return head


def _declared(fields: Fields, minor: int) -> Framing | None:
    """As `_says`, looked up where it was asked before."""
    if not minor:
        return _says(fields, minor)
    if fields.framing is None:
        fields.framing = _says(fields, minor)
    return fields.framing


def _says(fields: Fields, minor: int) -> Framing | None:
    """What Content-Length and Transfer-Encoding say together: RFC 9112, 6.1 to 6.3. None: neither is there."""
    codings, lengths = fields.all(b"transfer-encoding"), fields.all(b"content-length")
    if codings:
        if lengths:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "Content-Length beside Transfer-Encoding")
        if not minor:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "Transfer-Encoding in HTTP/1.0")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a Transfer-Encoding other than chunked")
        return CHUNKED
    if not lengths:
        return None
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None or int(lengths[0]) > MAX_LENGTH:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "Content-Length")
    return Framing(int(lengths[0]), chunked=False, until_close=False)


def request_framing(head: RequestHead) -> Framing:
    """How long the body of a request is. Raises `PeerMisbehaved` where that could be read in two ways."""
    return _declared(head.fields, head.minor) or EMPTY


def response_framing(head: ResponseHead, method: bytes) -> Framing:
    """How long the body of the answer to a request of that method is: RFC 9112, 6.3."""
    declared = _declared(head.fields, head.minor)  # also where there is no body: what contradicts itself is not believed
    if method == b"HEAD" or head.status in (204, 304):
        return EMPTY
    return declared or UNTIL_CLOSE


class BodyReader:
    """Takes the body out of what follows a head. Feed it until `is_done`; it hands back what belongs to the next message."""

    __slots__ = ("_framing", "_held", "_left", "_state", "is_done", "rest", "size")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._left = self._framing.length or 0
        self._state = "size" if self._framing.chunked else "rest" if self._framing.until_close else "data"
        self._held = b""
        self.is_done = self._framing.is_empty
        self.rest = b""
        """What follows its end; empty until then."""
        self.size = 0
        """Bytes of the body so far."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Pieces of the body in `data`, and what follows its end (empty until then). Raises `PeerMisbehaved`."""
        pieces = self.take(data)
        return pieces, self.rest

    def take(self, data: bytes) -> list[bytes]:
        """As `feed`; what follows its end is `rest`."""
        if self.is_done:
            self.rest = data
            return []
        if self._framing.chunked:
            pieces, self.rest = self._chunks(data)
            return pieces
        piece = data
        if not self._framing.until_close:
            if len(data) > self._left:
                piece, self.rest = data[: self._left], data[self._left :]
            self._left -= len(piece)
            self.is_done = not self._left
        self.size += len(piece)
        return [piece] if piece else []

    def close(self) -> None:
        """The peer will send no more. Raises `PeerMisbehaved` if the body is not whole."""
        if self._framing.until_close:
            self.is_done = True
        elif not self.is_done:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "the body ends too early")

    def _chunks(self, data: bytes) -> tuple[list[bytes], bytes]:
        """RFC 9112, 7.1: `size [;ext] CRLF data CRLF … 0 CRLF trailers CRLF`. Extensions and trailers are read and dropped.

        What was read at once is one piece, however small its chunks are: nobody makes us hold, or send, a million of them.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._state == "data":
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self.size += len(piece)
                pieces.append(piece)
                if not self._left:
                    self._state = "crlf"
            elif self._state == "crlf":
                mark = data[at : at + 2]
                if not b"\r\n".startswith(mark):
                    raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a chunk is longer than it says")
                if len(mark) < 2:
                    break
                at += 2
                self._state = "size"
            elif self._state == "size":
                following = self._size(data, at)
                if following < 0:
                    break
                at = following
            else:
                following = self._trailer(data, at)
                if following < 0:
                    break
                self.is_done = True
                return _joined(pieces), data[following:]
        self._held = data[at:]
        return _joined(pieces), b""

    def _size(self, data: bytes, at: int) -> int:
        newline = data.find(b"\n", at, at + MAX_CHUNK_LINE)
        if newline < 0:
            if len(data) - at >= MAX_CHUNK_LINE or not _could_be_size(data[at : at + 14]):
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a chunk's size")
            return -1
        found = _CHUNK.fullmatch(data, at, newline + 1)
        if found is None:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a chunk's size")
        self._left = int(found[1], 16)
        self._state = "data" if self._left else "trailer"
        return newline + 1

    def _trailer(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + MAX_TRAILER)
        if end < 0:
            if len(data) - at >= MAX_TRAILER or _LONE_LF.search(data, at) is not None:
                raise PeerMisbehaved(Misdeed.BAD_FIELD, "trailers")
            return -1
        _fields(data[at : end + 2])
        return end + 4


def _joined(pieces: list[bytes]) -> list[bytes]:
    return pieces if len(pieces) < 2 else [b"".join(pieces)]


def _could_be_size(start: bytes) -> bool:
    digits = start.lstrip(b"0123456789abcdefABCDEF")
    return len(digits) < len(start) and (not digits or digits[:1] in b"\t ;\r") if start else True
