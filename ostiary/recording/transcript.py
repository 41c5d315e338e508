r"""A recorded PostgreSQL session, as events for programs and as lines for people.

The recording holds what the client got, frame by frame, so a transcript shows masked values masked. Frames are those of
PostgreSQL 18, 54.7. All text comes from strangers: in lines it is spelled out (`\x1b`), so showing a recording cannot
drive the terminal of who looks at it. Whatever the recording holds, reading it yields events and never an exception: bytes
that are no frames are told as such, and reading goes on with the next record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from ostiary.model.errors import PeerMisbehaved
from ostiary.model.events import PayloadKind
from ostiary.model.operations import Parameters
from ostiary.model.printable import printable
from ostiary.recording.parameters import decode_parameters
from ostiary.recording.repeats import Repeats
from ostiary.recording.values import shown
from ostiary.vault.payload_reading import Gap, Record

MAX_FRAME: Final = 1 << 30
"""As PostgreSQL: PQ_LARGE_MESSAGE_LIMIT is MaxAllocSize."""
MAX_WIDTH: Final = 60
"""Characters of a table cell before it is cut, with an ellipsis, in lines; events hold values whole."""
TABLE_ROWS: Final = 100
"""Rows that are aligned together: a table of any length is shown in bounded memory."""
_ERROR_FIELDS: Final = {"S": "severity", "C": "sqlstate", "M": "message", "D": "detail", "H": "hint", "P": "position"}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened, at microseconds since the session began."""

    t_us: int
    kind: str
    """`statement parameters columns row complete empty error notice notification setting copy-out copy-in note gap`; HTTP and SSH have others."""
    entry: str = ""
    text: str = ""
    names: tuple[str, ...] = ()
    values: tuple[str | None, ...] = ()
    fields: dict[str, str] = {}


class Line(msgspec.Struct, frozen=True):
    """One line for people, safe for a terminal, with its time for replaying at speed."""

    t_us: int
    text: str


class _Column(msgspec.Struct, frozen=True):
    name: str
    type_oid: int
    form: int | None


def events(records: Iterable[Record | Gap]) -> Iterator[Event]:
    """Decode a recording, in order."""
    reader = _Reader()
    for record in records:
        yield from reader.read(record)
    if reader.pending:
        yield Event(t_us=reader.t_us, kind="gap", text="the recording ends in the middle of a message")


def lines(happened: Iterable[Event]) -> Iterator[Line]:
    """Write events as a transcript: time offsets, statements, parameters, tables of results."""
    table: list[Event] = []
    names: tuple[str, ...] = ()
    for event in happened:
        if event.kind == "drawn":  # it is told by the lines that it made on the screen
            continue
        if event.kind == "row" and len(table) < TABLE_ROWS:
            table.append(event)
            continue
        if table:
            yield from _table(table, names)
            table, names = ([event] if event.kind == "row" else []), ()
            if event.kind == "row":
                continue
        if event.kind == "columns":
            names = event.names
            continue
        if names:  # a result without rows still has its header
            yield Line(event.t_us, "  " + " | ".join(_cell(name) for name in names))
            names = ()
        yield from _line(event)
    if table:
        yield from _table(table, names)


def render(records: Iterable[Record | Gap]) -> Iterator[Line]:
    """`lines(events(records))`."""
    return lines(events(records))


class _Reader:
    """Puts frames together from records that cut them anywhere, and remembers what the next ones need."""

    def __init__(self) -> None:
        self.t_us = 0
        self.pending = bytearray()
        self._copy_in = bytearray()
        self._columns: tuple[_Column, ...] = ()
        self._columns_of = ""
        self._statements = Repeats()

    def read(self, record: Record | Gap) -> Iterator[Event]:
        if isinstance(record, Gap):
            yield Event(t_us=self.t_us, kind="gap", text=record.why)
            return
        self.t_us = record.t_us
        match record.kind:
            case PayloadKind.STATEMENT:
                text = record.data.decode(errors="backslashreplace")
                self._statements.keep(record.number, record.data)
                yield Event(t_us=record.t_us, kind="statement", entry=record.entry, text=text)
            case PayloadKind.AGAIN:
                again = self._statements.find(record.data)
                text = "(a statement shown before)" if again is None else again.decode(errors="backslashreplace")
                yield Event(t_us=record.t_us, kind="statement", entry=record.entry, text=text)
            case PayloadKind.ASKED:
                text = record.data.decode(errors="backslashreplace")
                yield Event(t_us=record.t_us, kind="note", entry=record.entry, text=f"rewritten by the gateway; asked was: {text}")
            case PayloadKind.PARAMS:
                yield self._parameters(record)
            case PayloadKind.RESULT:
                yield from self._frames(record, self.pending)
            case PayloadKind.COPY_IN:
                yield from self._frames(record, self._copy_in)
            case PayloadKind.NOTE:
                text = record.data.decode(errors="backslashreplace")
                yield Event(t_us=record.t_us, kind="note", entry=record.entry, text=text)

    def _parameters(self, record: Record) -> Event:
        try:
            parameters = decode_parameters(record.data)
        except PeerMisbehaved as exc:
            return Event(t_us=record.t_us, kind="gap", entry=record.entry, text=str(exc))
        values = tuple(shown(value, 0, _format(parameters, i)) for i, value in enumerate(parameters.values))
        return Event(t_us=record.t_us, kind="parameters", entry=record.entry, values=values)

    def _frames(self, record: Record, held: bytearray) -> Iterator[Event]:
        held += record.data
        at = 0
        while len(held) - at >= 5:
            tag, length = chr(held[at]), int.from_bytes(held[at + 1 : at + 5], "big")
            if not 4 <= length <= MAX_FRAME:
                yield Event(t_us=record.t_us, kind="gap", entry=record.entry, text="bytes that are no message")
                at = len(held)
                break
            if len(held) - at < 1 + length:
                break
            body = bytes(held[at + 5 : at + 1 + length])
            at += 1 + length
            try:
                event = self._copied(record, tag, body) if held is self._copy_in else self._frame(record, tag, body)
            except (struct.error, ValueError, IndexError):
                event = Event(t_us=record.t_us, kind="gap", entry=record.entry, text=f"a malformed message {tag!r}")
            if event is not None:
                yield event
        del held[:at]

    def _copied(self, record: Record, tag: str, body: bytes) -> Event | None:
        text = {"d": "", "c": "(end of data)", "f": "(the client gave up)"}.get(tag)
        if text is None:
            return None
        text = text or _copy_text(body)
        return Event(t_us=record.t_us, kind="copy-in", entry=record.entry, text=text)

    def _frame(self, record: Record, tag: str, body: bytes) -> Event | None:
        make: dict[str, Any] = {"t_us": record.t_us, "entry": record.entry}
        match tag:
            case "T":
                self._columns, self._columns_of = _columns(body), record.entry
                return Event(kind="columns", names=tuple(column.name for column in self._columns), **make)
            case "D":
                return Event(kind="row", values=self._row(body, record.entry), **make)
            case "C":
                return Event(kind="complete", text=_text(body.rstrip(b"\0")), **make)
            case "I":
                return Event(kind="empty", **make)
            case "E" | "N":
                return Event(kind="error" if tag == "E" else "notice", fields=_fields(body), **make)
            case "S":
                name, value, _ = body.split(b"\0", 2)
                return Event(kind="setting", text=f"{_text(name)} = {_text(value)}", **make)
            case "A":
                channel, payload, _ = body[4:].split(b"\0", 2)
                return Event(kind="notification", text=f"{_text(channel)}: {_text(payload)}", **make)
            case "d":
                return Event(kind="copy-out", text=_copy_text(body), **make)
        return None

    def _row(self, body: bytes, entry: str) -> tuple[str | None, ...]:
        (count,) = struct.unpack_from("!H", body)
        # A description of another operation says what the columns are, but not in which format these come.
        mine = self._columns_of == entry
        known = self._columns if len(self._columns) == count else ()
        values: list[str | None] = []
        at = 2
        for i in range(count):
            (size,) = struct.unpack_from("!i", body, at)
            at += 4
            value = None if size == -1 else body[at : at + size]
            if size < -1 or (value is not None and len(value) != size):
                raise ValueError("a column is cut")
            at += max(size, 0)
            form = known[i].form if known and mine else None
            values.append(shown(value, known[i].type_oid if known else 0, form))
        return tuple(values)


def _format(parameters: Parameters, i: int) -> int:
    formats = parameters.formats
    return formats[0] if len(formats) == 1 else formats[i] if i < len(formats) else 0


def _columns(body: bytes) -> tuple[_Column, ...]:
    (count,) = struct.unpack_from("!H", body)
    at, found = 2, []
    for _ in range(count):
        end = body.index(b"\0", at)
        name = _text(body[at:end])
        _, _, type_oid, _, _, form = struct.unpack_from("!IhIhih", body, end + 1)
        found.append(_Column(name, type_oid, form))
        at = end + 19
    return tuple(found)


def _fields(body: bytes) -> dict[str, str]:
    fields = {}
    for part in body.split(b"\0"):
        name = _ERROR_FIELDS.get(chr(part[0])) if part else None
        if name is not None:
            fields[name] = _text(part[1:])
    return fields


def _copy_text(body: bytes) -> str:
    try:
        return body.decode().removesuffix("\n")
    except UnicodeDecodeError:
        return "\\x" + body.hex()


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


# --- lines ---------------------------------------------------------------------


def _line(event: Event) -> Iterator[Line]:
    stamp = f"+{event.t_us // 1_000_000}.{event.t_us % 1_000_000:06d}"
    match event.kind:
        case "statement":
            yield Line(event.t_us, f"{stamp}  {event.entry}")
            for line in printable(event.text, keep_newlines=True).split("\n"):
                yield Line(event.t_us, f"> {line}")
        case "parameters":
            for i, value in enumerate(event.values, 1):
                yield Line(event.t_us, f"  ${i} = {'NULL' if value is None else printable(value)}")
        case "error" | "notice":
            fields = {name: printable(text) for name, text in event.fields.items()}
            head = f"{fields.get('severity', event.kind.upper())} {fields.get('sqlstate', '')}: {fields.get('message', '')}"
            yield Line(event.t_us, f"{stamp}  {head}")
            for name in ("detail", "hint"):
                if name in fields:
                    yield Line(event.t_us, f"  {name}: {fields[name]}")
        case "answer" | "body" | "output" | "errors" | "screen":
            yield Line(event.t_us, f"{stamp}  {event.kind} of {event.entry}")
            for line in printable(event.text, keep_newlines=True).replace("\\r\n", "\n").split("\n"):
                yield Line(event.t_us, f"  {line}")
        case "copy-out" | "copy-in":
            arrow = "<" if event.kind == "copy-out" else ">"
            for line in event.text.split("\n"):
                yield Line(event.t_us, f"  {arrow} {printable(line)}")
        case "complete":
            yield Line(event.t_us, f"{stamp}  {printable(event.text)}")
        case "empty":
            yield Line(event.t_us, f"{stamp}  (an empty statement)")
        case "gap":
            yield Line(event.t_us, f"{stamp}  *** something is missing: {printable(event.text)} ***")
        case _:
            yield Line(event.t_us, f"{stamp}  {event.kind}: {printable(event.text)}")


def _table(rows: list[Event], names: tuple[str, ...]) -> Iterator[Line]:
    cells = [[_cell(value) for value in row.values] for row in rows]
    header = [_cell(name) for name in names]
    count = max((len(row) for row in [header, *cells]), default=0)
    widths = [max((len(row[i]) for row in [header, *cells] if i < len(row)), default=0) for i in range(count)]
    if header:
        yield Line(rows[0].t_us, "  " + _joined(header, widths))
        yield Line(rows[0].t_us, "  " + "-+-".join("-" * width for width in widths))
    for row, event in zip(cells, rows, strict=True):
        yield Line(event.t_us, "  " + _joined(row, widths))


def _joined(cells: list[str], widths: list[int]) -> str:
    return " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)).rstrip()


def _cell(value: str | None) -> str:
    text = "NULL" if value is None else printable(value[: MAX_WIDTH + 1])
    return text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 1] + "…"
