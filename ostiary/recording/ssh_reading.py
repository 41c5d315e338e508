"""A recorded SSH session, piece by piece: messages put together, each with its time and its operation.

The recording holds messages of RFC 4254, 5.2 and 6 (`ostiary.protocols.ssh.messages` writes them) under the operation that they belong to:
what came back as RESULT, what a terminal said as TERMINAL. Whatever it holds: pieces, and never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ostiary.model.events import PayloadKind
from ostiary.recording.repeats import Repeats
from ostiary.vault.payload_reading import Gap, Record

MAX_MESSAGE: Final = (1 << 20) + 64
"""Bytes of a message that is put together from several records; above what the gateway writes."""
MAX_CHANNELS: Final = 4096


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    t_us: int
    kind: str
    """`statement output errors exit close note gap`; `input` (bytes that were sent, not from a terminal); of a terminal: `terminal resize typed
    unshown cut withheld`."""
    entry: str = ""
    data: bytes = b""
    """`terminal`: what it is called."""
    columns: int = 0
    rows: int = 0


def read(records: Iterable[Record | Gap]) -> Iterator[Piece]:
    """Decode a recording, in order."""
    reader = _Reader()
    for record in records:
        yield from reader.read(record)
    yield from reader.end()


class _Reader:
    def __init__(self) -> None:
        self._t_us = 0
        self._held: dict[tuple[str, PayloadKind], bytes] = {}
        """The beginning of the next message, by operation."""
        self._statements = Repeats()

    def end(self) -> Iterator[Piece]:
        for (entry, _), held in self._held.items():
            if held:
                yield Piece(t_us=self._t_us, kind="gap", entry=entry, data=b"the recording ends in the middle of a message")

    def read(self, record: Record | Gap) -> Iterator[Piece]:
        if isinstance(record, Gap):
            yield Piece(t_us=self._t_us, kind="gap", data=record.why.encode())
            return
        self._t_us = max(self._t_us, record.t_us)
        match record.kind:
            case PayloadKind.STATEMENT:
                self._statements.keep(record.number, record.data)
                yield self._piece(record, "statement", record.data)
            case PayloadKind.AGAIN:
                yield self._piece(record, "statement", self._statements.find(record.data) or b"(shown before)")
            case PayloadKind.COPY_IN:
                yield self._piece(record, "input", record.data)
            case PayloadKind.RESULT | PayloadKind.TERMINAL:
                yield from self._messages(record)
            case _:
                yield self._piece(record, "note", record.data)

    def _piece(self, record: Record, kind: str, data: bytes, size: tuple[int, int] = (0, 0)) -> Piece:
        return Piece(t_us=self._t_us, kind=kind, entry=record.entry, data=data, columns=size[0], rows=size[1])

    def _messages(self, record: Record) -> Iterator[Piece]:
        key = (record.entry, record.kind)
        if len(self._held) >= MAX_CHANNELS and key not in self._held:
            self._held.clear()
        data, at = self._held.pop(key, b"") + record.data, 0
        try:
            while (found := _message(data, at)) is not None:
                kind, content, at = found
                if record.kind is PayloadKind.TERMINAL:
                    yield from self._terminal(record, kind, content)
                elif kind.startswith("="):
                    yield from self._request(record, kind[1:], content)
                elif kind:
                    yield self._piece(record, kind, content)
            if at < len(data):
                self._held[key] = data[at:]
        except ValueError as exc:
            yield self._piece(record, "gap", str(exc).encode())

    def _request(self, record: Record, name: str, body: bytes) -> Iterator[Piece]:
        """RFC 4254, 6.10: how a command ended."""
        if name == "exit-status":
            yield self._piece(record, "exit", str(int.from_bytes(body[:4], "big")).encode())
        elif name == "exit-signal":
            yield self._piece(record, "exit", b"signal " + body[4 : 4 + int.from_bytes(body[:4], "big")])
        else:
            yield self._piece(record, "note", name.encode(errors="surrogateescape"))

    def _terminal(self, record: Record, kind: str, body: bytes) -> Iterator[Piece]:
        """RFC 4254, 6.2 and 6.7, and what was typed."""
        match kind:
            case "output":
                yield self._piece(record, "typed", body)
            case "=unshown@ostiary":
                yield self._piece(record, "unshown", body)
            case "=cut@ostiary":
                yield self._piece(record, "cut", body)
            case "=withheld@ostiary":
                yield self._piece(record, "withheld", b"")
            case "=pty-req":
                name, end = _string(body, 0)
                yield self._piece(record, "terminal", name, _size(body, end))
            case "=window-change":
                yield self._piece(record, "resize", b"", _size(body, 0))
            case "=signal":
                yield self._piece(record, "note", b"signal " + body[4:])
            case _:
                yield self._piece(record, "note", kind.removeprefix("=").encode(errors="surrogateescape"))


class _Cut(ValueError):
    """The message goes on."""


def _message(data: bytes, at: int) -> tuple[str, bytes, int] | None:
    """(kind, content, where the next begins), a request's kind being `=NAME`, nothing's empty; None: the rest is still to come.

    Raises `ValueError` for what is no message.
    """
    if at >= len(data):
        return None
    try:
        match data[at]:
            case 94:  # data
                return "output", *_string(data, at + 1)
            case 95:  # extended data
                return "errors", *_string(data, at + 5)
            case 96:  # end of data
                return "", b"", at + 1
            case 97:
                return "close", b"", at + 1
            case 98:
                name, end = _string(data, at + 1)
                return f"={name.decode(errors='surrogateescape')}", *_string(data, end + 1)
    except _Cut:
        return None
    raise ValueError("bytes that are no message")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    if len(data) < at + 4:
        raise _Cut("a string is cut")
    end = at + 4 + int.from_bytes(data[at : at + 4], "big")
    if end - at > MAX_MESSAGE:
        raise ValueError("a message that is too long")
    if end > len(data):
        raise _Cut("a string is cut")
    return data[at + 4 : end], end


def _size(body: bytes, at: int) -> tuple[int, int]:
    """Columns and rows."""
    return int.from_bytes(body[at : at + 4], "big"), int.from_bytes(body[at + 4 : at + 8], "big")
