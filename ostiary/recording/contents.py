"""The values that a recording holds, and the words: what it is found by.

Of SSH, the words that were on screens (`ostiary.recording.screen`). Of PostgreSQL, what a client sent as parameters, literals and COPY data, and what it was shown.

A value is given as it is printed. Where the recording does not say how bytes are to be read (parameters in binary form have no type beside
them) each reading that is likely is given, so that a value is found however it was sent. Values of secrets, as the caller's `is_secret` says,
are left out, and so are literals of statements that are neither queries nor changes of rows, or are several: there stand passwords.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ostiary.model.errors import PeerMisbehaved
from ostiary.model.events import PayloadKind
from ostiary.model.words import words_in
from ostiary.recording.parameters import decode_parameters
from ostiary.recording.ssh_transcript import ssh_lines
from ostiary.recording.transcript import MAX_FRAME
from ostiary.recording.values import shown
from ostiary.vault.payload_reading import Gap, Record
from ostiary.vault.payloads import MAX_REMEMBERED

_LITERAL: Final = re.compile(r"'((?:[^']|'')*)'|(?<![\w.$])(-?\d+(?:\.\d+)?)(?![\w.])")
# Possessive: comments without end must not be tried in every way in which they could be cut.
_OF_ROWS: Final = re.compile(
    r"\s*+(?>/\*(?:[^*]|\*(?!/))*+\*/\s*+|--[^\n]*+\n\s*+)*+(?:select|insert|update|delete|merge|with|values|execute|call)\b", re.IGNORECASE
)
_HARD: Final = re.compile(r"[\\$]|/\*")
"""Escapes, dollar quotes, comments that may be nested."""
_QUOTED: Final = re.compile(r"'(?:[^']|'')*+'|\"(?:[^\"]|\"\")*+\"|--[^\n]*+")
_INTEGERS: Final = {2: struct.Struct("!h"), 4: struct.Struct("!i"), 8: struct.Struct("!q")}
_MAX_LINE: Final = 1 << 20
_MAX_STATEMENTS: Final = 4 * MAX_REMEMBERED
"""A stream refers to none older than that."""
_MAX_WORDS: Final = 100_000
_ESCAPES: Final = {r"\t": "\t", r"\n": "\n", r"\r": "\r", r"\\": "\\"}


def contents(records: Iterable[Record | Gap], is_secret: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield (id of the operation's entry, value), a value perhaps more than once."""
    reader = _Reader()
    for record in records:
        if isinstance(record, Gap):
            continue
        for value in reader.read(record):
            if value and not is_secret(value):
                yield record.entry, value


def ssh_contents(records: Iterable[Record | Gap], is_secret: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield (id of the operation's entry, word) of what was on screens and in output of a session of SSH; most words once."""
    seen: set[tuple[str, str]] = set()
    for entry, line in ssh_lines(records):
        if len(seen) > _MAX_WORDS:
            seen.clear()
        for word in words_in(line):
            key = (entry, word.casefold())
            if key not in seen:
                seen.add(key)
                if not is_secret(word):
                    yield entry, word


class _Reader:
    """Puts frames together from records that cut them anywhere; knows the columns that the rows after them have."""

    def __init__(self) -> None:
        self._pending = {PayloadKind.RESULT: bytearray(), PayloadKind.COPY_IN: bytearray()}
        self._lines = {PayloadKind.RESULT: bytearray(), PayloadKind.COPY_IN: bytearray()}
        self._columns: list[tuple[int, int]] = []
        self._described = ""
        self._literals: dict[int, list[str]] = {}

    def read(self, record: Record) -> Iterator[str]:
        match record.kind:
            case PayloadKind.STATEMENT:
                self._literals[record.number] = found = [*_literals(record.data.decode(errors="replace"))]
                if len(self._literals) > _MAX_STATEMENTS:
                    del self._literals[next(iter(self._literals))]
                yield from found
            case PayloadKind.AGAIN:
                yield from self._literals.get(int.from_bytes(record.data, "little"), ())
            case PayloadKind.PARAMS:
                yield from _parameters(record.data)
            case PayloadKind.RESULT | PayloadKind.COPY_IN:
                yield from self._frames(record)

    def _frames(self, record: Record) -> Iterator[str]:
        held = self._pending[record.kind]
        held += record.data
        at = 0
        while len(held) - at >= 5:
            length = int.from_bytes(held[at + 1 : at + 5], "big")
            if not 4 <= length <= MAX_FRAME:
                at = len(held)
                break
            if len(held) - at < 1 + length:
                break
            tag, body = held[at], bytes(held[at + 5 : at + 1 + length])
            at += 1 + length
            try:
                yield from self._frame(record, chr(tag), body)
            except (struct.error, ValueError, IndexError):
                continue
        del held[:at]

    def _frame(self, record: Record, tag: str, body: bytes) -> Iterator[str]:
        match tag:
            case "T":
                self._columns, self._described = _columns(body), record.entry
            case "D":
                yield from self._row(body, record.entry)
            case "d":
                yield from self._copied(self._lines[record.kind], body)
            case "c" | "f" | "C":
                rest = self._lines[record.kind]
                yield from _fields(bytes(rest))
                rest.clear()

    def _row(self, body: bytes, entry: str) -> Iterator[str]:
        (count,) = struct.unpack_from("!H", body)
        known = self._columns if len(self._columns) == count else []
        mine = self._described == entry
        at = 2
        for i in range(count):
            (size,) = struct.unpack_from("!i", body, at)
            at += 4
            if size < 0:
                continue
            value = body[at : at + size]
            at += size
            if known and mine:
                yield shown(value, *known[i]) or ""
            else:
                yield from _readings(value)

    def _copied(self, held: bytearray, data: bytes) -> Iterator[str]:
        held += data
        *whole, rest = held.split(b"\n")
        for line in whole:
            yield from _fields(bytes(line))
        held[:] = rest if len(rest) <= _MAX_LINE else b""


def _parameters(data: bytes) -> Iterator[str]:
    try:
        parameters = decode_parameters(data)
    except PeerMisbehaved:
        return
    for form, value in zip(parameters.formats, parameters.values, strict=True):
        if value is not None:
            yield from _readings(value) if form else (value.decode(errors="replace"),)


def _readings(value: bytes) -> Iterator[str]:
    """All that bytes of an unknown form may mean: text, an integer, a UUID."""
    text = shown(value, 0, None)
    if text:
        yield text
    if len(value) in _INTEGERS:
        yield str(_INTEGERS[len(value)].unpack(value)[0])
    if len(value) == 16:
        yield str(uuid.UUID(bytes=value))


def _literals(statement: str) -> Iterator[str]:
    """Strings and numbers of a statement about rows, as they stand there; those with escapes or in dollar quotes are not read."""
    if _OF_ROWS.match(statement) and _is_one(statement):
        for quoted, number in _LITERAL.findall(statement):
            yield quoted.replace("''", "'") or number


def _is_one(statement: str) -> bool:
    """Whether no second statement can follow. Where it takes more than quotes and line comments to tell, a `;` is enough."""
    plain = statement if _HARD.search(statement) else _QUOTED.sub("", statement)
    return ";" not in plain.rstrip("; \t\r\n\f\v")


def _fields(line: bytes) -> Iterator[str]:
    """The fields of a line of COPY, whose format nobody said: text (tabs) and CSV (commas) alike."""
    text = line.decode(errors="replace").removesuffix("\r")
    for field in text.split("\t"):
        yield re.sub(r"\\[tnr\\]", lambda found: _ESCAPES[found[0]], field) if "\\" in field else field
    if "," in text:
        yield from (field.strip('"').replace('""', '"') for field in text.split(","))


def _columns(body: bytes) -> list[tuple[int, int]]:
    """(type, form) of each column."""
    (count,) = struct.unpack_from("!H", body)
    at, found = 2, []
    for _ in range(count):
        end = body.index(b"\0", at)
        _, _, type_oid, _, _, form = struct.unpack_from("!IhIhih", body, end + 1)
        found.append((type_oid, form))
        at = end + 19
    return found
