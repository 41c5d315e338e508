"""What a recorded session of PostgreSQL asked, and what came back: what it takes to ask it again, and to see where the answers differ.

An answer is read off backend frames (PostgreSQL 18, 54.7), those of a recording and those of a new run alike, and compared by what a
client acts on: columns by name, rows byte by byte, COPY data, command tags, errors. Notices and settings are no part of it. Rows are kept
as hashes, and themselves while they are few: any number of them is compared in bounded memory.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ostiary.model.errors import OstiaryError, PeerMisbehaved
from ostiary.model.events import PayloadKind
from ostiary.model.operations import Parameters
from ostiary.recording.parameters import decode_parameters
from ostiary.recording.transcript import MAX_FRAME
from ostiary.recording.values import shown
from ostiary.vault.payload_reading import Gap, Record

MAX_OPERATIONS: Final = 100_000
MAX_BYTES: Final = 256 << 20
"""Statements, parameters and COPY data of a session that is run again."""
_KEPT: Final = 64 << 10
"""Bytes of an answer's rows that are kept to be shown."""
_WIDTH: Final = 60


class NotRunnable(OstiaryError):
    """The session cannot be run again: something is missing in its recording, or it is larger than is held."""


class Heard:
    """One operation's answer. `feed` takes whole frames or parts of them."""

    def __init__(self) -> None:
        self.columns: tuple[str, ...] = ()
        self.tags: list[str] = []
        self.errors: list[tuple[str, str]] = []
        """(SQLSTATE, message)."""
        self.rows: list[bytes] = []
        """Hashes of rows and of pieces of COPY data, in order."""
        self.is_ready = False
        """ReadyForQuery came."""
        self.wants_data = False
        """CopyInResponse came."""
        self._types: tuple[tuple[int, int], ...] = ()
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._held = bytearray()

    @property
    def is_binary(self) -> bool:
        """Whether rows came in binary form, as far as that can be told: by their description, or by bytes that no text has."""
        if self._types:
            return any(form for _, form in self._types)
        return any(byte < 9 for row in self._kept for cell in _cells(row) if cell for byte in cell)

    def feed(self, data: bytes) -> None:
        """Take backend frames. Raises `ValueError` on what are none."""
        held = self._held
        held += data
        at = 0
        while len(held) - at >= 5:
            length = int.from_bytes(held[at + 1 : at + 5], "big")
            if not 4 <= length <= MAX_FRAME:
                raise ValueError("bytes that are no message")
            if len(held) - at < 1 + length:
                break
            self._take(chr(held[at]), bytes(held[at + 5 : at + 1 + length]))
            at += 1 + length
        del held[:at]

    def differences(self, now: Heard) -> Iterator[str]:
        """Say, in lines for people, in what another answer to the same differs. Text in them is that of strangers."""
        if self.errors != now.errors:
            yield f"error: then {_errors(self)}, now {_errors(now)}"
        if self.columns and now.columns and self.columns != now.columns:
            yield f"columns: then {', '.join(self.columns)}; now {', '.join(now.columns)}"
        if self.tags != now.tags:
            yield f"completed: then {', '.join(self.tags) or 'nothing'}; now {', '.join(now.tags) or 'nothing'}"
        if self.rows == now.rows:
            return
        if len(self.rows) != len(now.rows):
            yield f"rows: then {len(self.rows)}, now {len(now.rows)}"
        elif Counter(self.rows) == Counter(now.rows):
            yield "rows: the same in another order"
            return
        pairs = zip(self.rows, now.rows, strict=False)
        first = next((at for at, (then, now_) in enumerate(pairs) if then != now_), min(len(self.rows), len(now.rows)))
        types = now._types or self._types
        yield f"row {first + 1}: then {self._row(first, types)}, now {now._row(first, types)}"

    def _take(self, tag: str, body: bytes) -> None:
        match tag:
            case "T":
                self.columns, self._types = _described(body)
            case "D" | "d":
                self.rows.append(hashlib.sha256(tag.encode() + body).digest()[:16])
                if self._kept_bytes + len(body) <= _KEPT and len(self._kept) == len(self.rows) - 1:
                    self._kept.append(body if tag == "D" else b"\0\1" + len(body).to_bytes(4, "big") + body)
                    self._kept_bytes += len(body)
            case "C":
                self.tags.append(body.rstrip(b"\0").decode(errors="backslashreplace"))
            case "E":
                fields = {part[:1]: part[1:].decode(errors="backslashreplace") for part in body.split(b"\0") if part}
                self.errors.append((fields.get(b"C", ""), fields.get(b"M", "")))
            case "G":
                self.wants_data = True
            case "Z":
                self.is_ready = True

    def _row(self, at: int, types: tuple[tuple[int, int], ...]) -> str:
        if at >= len(self.rows):
            return "none"
        if at >= len(self._kept):
            return "(not kept)"
        cells = _cells(self._kept[at])
        known = types if len(types) == len(cells) else ((0, 0),) * len(cells)
        texts = [shown(cell, *kind) for cell, kind in zip(cells, known, strict=True)]
        return "(" + ", ".join("NULL" if text is None else text[:_WIDTH] for text in texts) + ")"


class Asked(msgspec.Struct):
    """One operation of a session, as it was asked."""

    entry: str
    """Id of its intent."""
    statement: bytes = b""
    parameters: Parameters | None = None
    """None: by the simple protocol."""
    copied: bytearray = msgspec.field(default_factory=bytearray)
    """CopyData, CopyDone and CopyFail frames."""
    answer: Heard = msgspec.field(default_factory=Heard)


def asked(records: Iterable[Record | Gap]) -> dict[str, Asked]:
    """Read a recording: its operations by the ids of their entries. Raises `NotRunnable`."""
    found: dict[str, Asked] = {}
    statements: dict[int, bytes] = {}
    size = 0
    for record in records:
        if isinstance(record, Gap):
            raise NotRunnable(f"something is missing in the recording: {record.why}")
        if not record.entry:
            continue
        one = found.setdefault(record.entry, Asked(record.entry))
        try:
            _take(one, record, statements)
        except (PeerMisbehaved, ValueError, KeyError, struct.error) as problem:
            raise NotRunnable(f"a record cannot be read: {problem}") from None
        size += 0 if record.kind is PayloadKind.RESULT else len(record.data)
        if size > MAX_BYTES or len(found) > MAX_OPERATIONS:
            raise NotRunnable(f"the session has more than {MAX_OPERATIONS} operations, or {MAX_BYTES} bytes of them")
    return found


def _take(one: Asked, record: Record, statements: dict[int, bytes]) -> None:
    match record.kind:
        case PayloadKind.STATEMENT:
            one.statement = statements[record.number] = record.data
        case PayloadKind.AGAIN:
            one.statement = statements[int.from_bytes(record.data, "little")]
        case PayloadKind.ASKED:
            one.statement = record.data  # what the gateway made of it then, it makes of it anew
        case PayloadKind.PARAMS:
            one.parameters = decode_parameters(record.data)
        case PayloadKind.COPY_IN:
            one.copied += record.data
        case PayloadKind.RESULT:
            one.answer.feed(record.data)


def _errors(answer: Heard) -> str:
    return "; ".join(f"{code} {message}" for code, message in answer.errors) or "none"


def _cells(row: bytes) -> list[bytes | None]:
    (count,) = struct.unpack_from("!H", row)
    cells: list[bytes | None] = []
    at = 2
    for _ in range(count):
        (size,) = struct.unpack_from("!i", row, at)
        at += 4
        cells.append(None if size < 0 else row[at : at + size])
        at += max(size, 0)
    return cells


def _described(body: bytes) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """(names, (type, form)) of the columns."""
    (count,) = struct.unpack_from("!H", body)
    at = 2
    names: list[str] = []
    types: list[tuple[int, int]] = []
    for _ in range(count):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode(errors="backslashreplace"))
        _, _, type_oid, _, _, form = struct.unpack_from("!IhIhih", body, end + 1)
        types.append((type_oid, form))
        at = end + 19
    return tuple(names), tuple(types)
