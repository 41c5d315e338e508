# cython: language_level=3, annotation_typing=False, boundscheck=True, wraparound=False
"""Find the frames of the PostgreSQL protocol in a received chunk, without looking inside them.

Theory of operation
-------------------
After the startup packet every message of either side is a tag byte, a big-endian Int32 length that counts itself but
not the tag, and a body (PostgreSQL documentation, "Message Formats"). A chunk read from a socket holds any number of
whole frames and perhaps the beginning of one more. `scan` walks the headers and returns *runs*: tag, start, end and
count, offsets into the chunk. Consecutive DataRow frames are one run, and so are consecutive CopyData
frames, because masking and recording treat them as one batch: no Python object is made for a row. Every other frame
is a run of its own, with `count` 1.

Rules that hold:

* A header is judged as soon as it is there, before its body arrives: an unknown tag, a length under 4 or over the
  limit of that tag raises `PeerMisbehaved`. Nothing behind it is looked at.
* Every run is whole frames. What is left over is not consumed; `frame_size` says how large its frame will be.
* Limits are the ones PostgreSQL itself has, so that nothing that works directly fails here: 1 GiB for messages that
  carry data (MaxAllocSize), 10,000 bytes for small ones of a client (PQ_SMALL_MESSAGE_LIMIT), and 1 MiB for small
  ones of a server (libpq stops at 30,000).

`Inbox` joins what is left over of one chunk with the next ones. It holds at most `hold` bytes of one frame (plus one
chunk); a larger frame comes out in *pieces*, runs with `count` 0, so the caller chooses between passing it on and
saying no, in bounded memory either way.

What is *not* checked here: the bodies. `check_rows` checks those of DataRow frames, `protocols/postgres/decode.py`
those of the rest. `frames.pxd` gives the types when this file is compiled; uncompiled it is plain Python, and the same
tests run on both. Bounds checks stay on when compiled: the input is hostile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ostiary.model.errors import Misdeed, PeerMisbehaved

Buffer = bytes | bytearray | memoryview


class Run:
    """Offsets of whole frames of one tag; `count` 0: a piece of one frame that is too large to hold."""

    __slots__ = ("count", "end", "start", "tag")

    def __init__(self, tag: int, start: int, end: int, count: int) -> None:
        self.tag = tag
        self.start = start
        self.end = end
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return iter((self.tag, self.start, self.end, self.count))


HEADER_SIZE: Final = 5
SMALLEST: Final = 4
LARGE_LIMIT: Final = 0x4000_0000
"""Bytes a message with data may have: MaxAllocSize (src/include/utils/memutils.h), rounded up to 1 GiB."""
SMALL_FRONTEND: Final = 10_000
"""PQ_SMALL_MESSAGE_LIMIT (src/include/libpq/libpq.h)."""
SMALL_BACKEND: Final = 1 << 20
AUTH_LIMIT: Final = 65_535
"""PG_MAX_AUTH_TOKEN_LENGTH (src/include/libpq/auth.h)."""

DATA_ROW: Final = 0x44
COPY_DATA: Final = 0x64

UNKNOWN: Final = 0
SMALL: Final = 1
LARGE: Final = 2
AUTH: Final = 3


def _classes(small: bytes, large: bytes, auth: bytes) -> bytes:
    """One byte for each of the 256 tags: which limit it has."""
    table = bytearray(256)
    for names, kind in ((small, SMALL), (large, LARGE), (auth, AUTH)):
        for tag in names:
            table[tag] = kind
    return bytes(table)


BACKEND_TAGS: Final = _classes(b"123CGHIKRSWZcnsv", b"ADENTVdt", b"")
FRONTEND_TAGS: Final = _classes(b"CDEHSXcf", b"BFPQd", b"p")


def _bad_tag(tag: int) -> PeerMisbehaved:
    return PeerMisbehaved(Misdeed.UNKNOWN_TAG, repr(chr(tag)) if 32 < tag < 127 else f"0x{tag:02x}")


def _bad_length(tag: int, length: int) -> PeerMisbehaved:
    return PeerMisbehaved(Misdeed.BAD_LENGTH, f"{length} in {chr(tag)!r}")


def _run(tag: int, start: int, end: int, count: int) -> Run:
    """Return `Run(tag, start, end, count)`. Where this is compiled, its class is not called."""
    run = Run.__new__(Run)
    run.tag = tag
    run.start = start
    run.end = end
    run.count = count
    return run


def _walk(buf: bytes, start: int, from_client: bool, runs: list[Run]) -> int:
    """Walk the frames from `start`, add runs of them, and return the offset behind the last. Neighbours that are data are one run."""
    table = FRONTEND_TAGS if from_client else BACKEND_TAGS
    small = SMALL_FRONTEND if from_client else SMALL_BACKEND
    rows = COPY_DATA if from_client else DATA_ROW
    end = len(buf)
    position = start
    run_tag = -1
    run_start = start
    run_count = 0
    while position < end:
        tag = buf[position]
        kind = table[tag]
        if kind == 0:
            raise _bad_tag(tag)
        if end - position < 5:
            break
        b0 = buf[position + 1]
        b1 = buf[position + 2]
        b2 = buf[position + 3]
        b3 = buf[position + 4]
        length = (b0 << 24) | (b1 << 16) | (b2 << 8) | b3
        limit = 0x4000_0000
        if kind != 2:
            limit = small if kind == 1 else 65_535
        if length < 4 or length > limit:
            raise _bad_length(tag, length)
        if end - position <= length:
            break
        if tag == run_tag and tag in (rows, COPY_DATA):
            run_count += 1
        else:
            if run_count:
                runs.append(_run(run_tag, run_start, position, run_count))
            run_tag = tag
            run_start = position
            run_count = 1
        position += length + 1
    if run_count:
        runs.append(_run(run_tag, run_start, position, run_count))
    return position


def scan(buf: Buffer, start: int = 0) -> tuple[list[tuple[int, ...]], int]:
    """Runs of whole frames that a server sent, and the offset behind the last of them.

    Consecutive DataRow frames, and consecutive CopyData frames, are one run. Raises `PeerMisbehaved` (UNKNOWN_TAG,
    BAD_LENGTH) as soon as a header shows it.
    """
    runs: list[Run] = []
    stop = _walk(buf if isinstance(buf, bytes) else bytes(buf), start, False, runs)
    return [tuple(run) for run in runs], stop


def scan_frontend(buf: Buffer, start: int = 0) -> tuple[list[tuple[int, ...]], int]:
    """Runs of whole frames that a client sent, and the offset behind the last of them.

    Consecutive CopyData frames are one run. The startup packet has no tag: `decode.next_startup` reads that one.
    """
    runs: list[Run] = []
    stop = _walk(buf if isinstance(buf, bytes) else bytes(buf), start, True, runs)
    return [tuple(run) for run in runs], stop


def frame_size(buf: Buffer, start: int = 0) -> int:
    """Bytes of the frame that begins at `start`, tag included; 0: its header is not all there yet.

    Only for an offset that `scan` or `scan_frontend` returned: the header was judged there.
    """
    if len(buf) - start < 5:
        return 0
    b0 = buf[start + 1]
    b1 = buf[start + 2]
    b2 = buf[start + 3]
    b3 = buf[start + 4]
    return ((b0 << 24) | (b1 << 16) | (b2 << 8) | b3) + 1


def check_rows(buf: Buffer, start: int, end: int, columns: int) -> int:
    """Check every DataRow frame from `start` to `end`, a run that `scan` returned; the number of rows.

    Each holds Int16 `columns`, then for each column an Int32 length, -1 for NULL, and as many bytes; nothing may be
    left. `columns` -1: whatever the first row has. Raises `PeerMisbehaved` (BAD_LENGTH, BAD_FIELD, TRAILING_BYTES).
    """
    position = start
    count = 0
    while position < end:
        b0 = buf[position + 1]
        b1 = buf[position + 2]
        b2 = buf[position + 3]
        b3 = buf[position + 4]
        stop = position + 1 + ((b0 << 24) | (b1 << 16) | (b2 << 8) | b3)
        if stop > end or stop - position < 7:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "DataRow")
        b0 = buf[position + 5]
        b1 = buf[position + 6]
        cells = (b0 << 8) | b1
        if columns < 0:
            columns = cells
        if cells != columns:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, f"DataRow with {cells} values for {columns} columns")
        position += 7
        while cells:
            cells -= 1
            if stop - position < 4:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "DataRow")
            b0 = buf[position]
            b1 = buf[position + 1]
            b2 = buf[position + 2]
            b3 = buf[position + 3]
            length = (b0 << 24) | (b1 << 16) | (b2 << 8) | b3
            position += 4
            if length == 0xFFFF_FFFF:
                continue
            if length > stop - position:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "DataRow")
            position += length
        if position != stop:
            raise PeerMisbehaved(Misdeed.TRAILING_BYTES, "DataRow")
        count += 1
    return count


class Inbox:
    """Joins received chunks into whole frames. Holds at most `hold` bytes of an unfinished frame, and one chunk.

    A chunk that ends where a frame ends is handed back as it is, not copied.
    """

    __slots__ = ("_from_client", "_hold", "_need", "_rest", "_tag", "left")

    def __init__(self, hold: int, *, from_client: bool) -> None:
        self._from_client = from_client
        self._hold = hold
        self._rest = bytearray()
        self._need = 0
        self._tag = 0
        self.left = 0
        """Bytes still to come of a frame that comes out in pieces; 0: none does."""

    @property
    def held(self) -> int:
        """Bytes held back, waiting for the rest of their frame."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> tuple[bytes, list[Run]]:
        """Take a chunk; the buffer that holds whole frames, and the runs in it, in order.

        A run with `count` 0 is a piece of a frame of
        more than `hold` bytes: the first one begins with the header (`frame_size` works on it), the last one is the
        one after which `left` is 0. Raises `PeerMisbehaved` as `scan` does.
        """
        if self._rest:
            self._rest += chunk
            if len(self._rest) < self._need:
                return b"", []
            joined = bytes(self._rest)
            self._rest = bytearray()
            return self._split(joined, 0, [])
        if self.left:
            taken = min(self.left, len(chunk))
            self.left -= taken
            return self._split(chunk, taken, [Run(self._tag, 0, taken, 0)])
        return self._split(chunk, 0, [])

    def _split(self, buf: bytes, start: int, runs: list[Run]) -> tuple[bytes, list[Run]]:
        consumed = _walk(buf, start, self._from_client, runs)
        if consumed < len(buf):
            size = frame_size(buf, consumed)
            if size > self._hold:
                self._tag = buf[consumed]
                runs.append(Run(self._tag, consumed, len(buf), 0))
                self.left = size - (len(buf) - consumed)
            else:
                self._need = size or HEADER_SIZE
                self._rest = bytearray(memoryview(buf)[consumed:])
        return buf, runs
