"""The search index: a projection of the log that can be dropped and rebuilt at any time.

It is read from the WAL, so what was made durable a moment ago is found, signed or not yet. Whoever wants to search brings
it up to date first; SQLite's own lock sees to it that one process does at a time. It holds no entry, only where each
stands, the terms by which it is found, and a full-text index without its text. Nothing gets in that does not stand in
an entry, and entries hold no protected value.

    origin   one row a log, and how far it was read
    entry    rowid in the order of reading; where it stands; its id and time
    value    (field, text): a term, once
    posting  (value, entry): the inverted index
    words    FTS5, contentless: normalised statements, names, messages

Fields `value` and `row` are kept free for keyed tokens of values and primary keys ("who ever saw this?").
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from ostiary.audit import walreader
from ostiary.audit.walreader import Place
from ostiary.model.errors import OstiaryError

SCHEMA_VERSION: Final = 1
FILE: Final = "index.sqlite"
_BATCH: Final = 2000
_BUSY_MS: Final = 30_000
_MAX_TERM: Final = 512
_MAX_OBJECTS: Final = 256

_SCHEMA: Final = """
CREATE TABLE origin (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, next INTEGER NOT NULL,
    last_segment INTEGER, last_offset INTEGER, last_id TEXT);
CREATE TABLE entry (n INTEGER PRIMARY KEY, origin INTEGER NOT NULL, idx INTEGER NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, id TEXT NOT NULL, t TEXT NOT NULL);
CREATE INDEX entry_id ON entry (id);
CREATE INDEX entry_t ON entry (t);
CREATE INDEX entry_place ON entry (origin, idx);
CREATE TABLE value (n INTEGER PRIMARY KEY, field TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (field, text));
CREATE TABLE posting (value INTEGER NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (value, entry)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize="unicode61 tokenchars '_'");
"""

Progress = Callable[[int, int], None]
"""Hears (bytes of WAL read, bytes in all)."""


class IndexFailed(OstiaryError):
    """The index cannot be opened or written."""


def open_index(state_dir: Path) -> sqlite3.Connection:
    """Open the index, making it (mode 0600) where it is not there, or is damaged or of another version."""
    path = state_dir / FILE
    try:
        return _open(path)
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError) and path.exists() and "locked" in str(exc):
            raise IndexFailed("the search index is locked by another process") from None
        drop(state_dir)
    try:
        return _open(path)
    except sqlite3.Error as exc:
        raise IndexFailed(f"the search index cannot be opened: {exc}") from None


def drop(state_dir: Path) -> None:
    """Remove the index; the next search makes it anew."""
    for suffix in ("", "-wal", "-shm"):
        (state_dir / f"{FILE}{suffix}").unlink(missing_ok=True)


def rebuild(state_dir: Path, progress: Progress | None = None) -> int:
    """Drop the index and make it from the log; returns how many entries it holds."""
    drop(state_dir)
    with contextlib.closing(open_index(state_dir)) as db:
        return catch_up(db, state_dir, progress)


def catch_up(db: sqlite3.Connection, state_dir: Path, progress: Progress | None = None) -> int:
    """Read what the log has beyond what is indexed; returns how many entries were new.

    What was indexed and is gone from the log (a power cut took what was never synced) is forgotten first.
    """
    folders = walreader.origins(state_dir)
    total = sum(f.stat().st_size for folder in folders for f in (folder / "wal").glob("*.wal")) if progress else 0
    new = done = 0
    before = -1
    while new > before:  # a second look where something was new: forgetting one log forgets those read before it
        before = new
        for folder in folders:
            name = folder.relative_to(state_dir / "audit").as_posix()
            while count := _take_batch(db, folder, name):
                new += count[0]
                done += count[1]
                if progress is not None:
                    progress(min(done, total), total)
    return new


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")  # it can be rebuilt: no sync is worth waiting for
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";\n")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError("another version")  # noqa: TRY301 - handled as damage is: by making it anew
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _take_batch(db: sqlite3.Connection, folder: Path, name: str) -> tuple[int, int] | None:
    """One transaction's worth of one origin: (entries, bytes); None when there is nothing new."""
    db.execute("BEGIN IMMEDIATE")
    try:
        origin, start = _position(db, folder, name)
        writer = _Writer(db, origin)
        size = 0
        place = entry_id = None
        following = start
        for place, data in walreader.read_from(folder, start):
            entry_id = writer.add(place, data)
            following = walreader.after(place, data)
            size += 8 + len(data)
            if writer.count >= _BATCH:
                break
        if place is not None and following is not None:
            writer.flush()
            db.execute(
                "UPDATE origin SET segment = ?, offset = ?, next = ?, last_segment = ?, last_offset = ?, last_id = ? WHERE id = ?",
                (following.segment, following.offset, following.index, place.segment, place.offset, entry_id, origin),
            )
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return (writer.count, size) if place is not None else None


def _position(db: sqlite3.Connection, folder: Path, name: str) -> tuple[int, Place | None]:
    """(origin's number, where to read on). Forgets everything if the log is another one now."""
    row = db.execute(
        "SELECT id, segment, offset, next, last_segment, last_offset, last_id FROM origin WHERE path = ?", (name,)
    ).fetchone()
    if row is None:
        number = db.execute("INSERT INTO origin (path, segment, offset, next) VALUES (?, 0, 0, 0)", (name,)).lastrowid
        return int(number or 0), None
    origin, segment, offset, following, last_segment, last_offset, last_id = row
    if last_id is None:
        return origin, None
    data = walreader.read_at(folder, Place(last_segment, last_offset, following - 1))
    if data is not None and decode(data).get("id") == last_id:
        return origin, Place(segment, offset, following)
    oldest = walreader.segments(folder)
    if data is None and oldest and oldest[0] > last_segment:
        # Pruned from the front while nobody searched: what was indexed stays, reading goes on at the oldest segment.
        return origin, Place(oldest[0], 0, oldest[0])
    # FTS5 cannot forget single rows of a contentless table (before SQLite 3.43), so all is forgotten and read again.
    for table in ("posting", "value", "entry", "origin"):
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
    db.execute("INSERT INTO words (words) VALUES ('delete-all')")
    return _position(db, folder, name)


class _Writer:
    """Collects one batch of rows."""

    def __init__(self, db: sqlite3.Connection, origin: int) -> None:
        self._db = db
        self._origin = origin
        (self._n,) = db.execute("SELECT coalesce(max(n), 0) FROM entry").fetchone()
        self._values: dict[tuple[str, str], int] = {}
        self._entries: list[tuple[int, int, int, int, int, str, str]] = []
        self._postings: list[tuple[int, int]] = []
        self._words: list[tuple[int, str]] = []

    @property
    def count(self) -> int:
        return len(self._entries)

    def add(self, place: Place, data: bytes) -> str:
        entry = decode(data)
        self._n += 1
        entry_id = str(entry.get("id", ""))
        row = (self._n, self._origin, place.index, place.segment, place.offset, entry_id, str(entry.get("t", "")))
        self._entries.append(row)
        self._postings += ((self._value(*term), self._n) for term in terms(entry))
        if text := words(entry):
            self._words.append((self._n, text))
        return entry_id

    def flush(self) -> None:
        self._db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", self._entries)
        self._db.executemany("INSERT OR IGNORE INTO posting VALUES (?, ?)", self._postings)
        self._db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", self._words)

    def _value(self, field: str, text: str) -> int:
        key = (field, text)
        number = self._values.get(key)
        if number is None:
            row = self._db.execute("SELECT n FROM value WHERE field = ? AND text = ?", key).fetchone()
            if row is None:
                number = int(self._db.execute("INSERT INTO value (field, text) VALUES (?, ?)", key).lastrowid or 0)
            else:
                number = int(row[0])
            self._values[key] = number
        return number


def decode(data: bytes) -> dict[str, Any]:
    """An entry as it stands; one that is no JSON object (damage; the verifier says so) is found by its place only."""
    try:
        entry = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


def text_of(value: Any) -> str:
    """A *text* of an entry: a string, or `{"b64": …}`, which stays as it is written."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("b64"), str):
        return f"b64:{value['b64']}"
    return ""


def term_text(value: str) -> str:
    """How a term is compared: without case, at most 512 characters."""
    return value.casefold()[:_MAX_TERM]


def terms(entry: dict[str, Any]) -> set[tuple[str, str]]:
    """All (field, text) by which an entry is found exactly."""
    found = {(field, term_text(text)) for field, value in _raw_terms(entry) if (text := text_of(value))}
    decision = _object(entry, "decision")
    if "objection" in decision:
        found.add(("reason", term_text(text_of(_object(decision, "objection").get("reason")))))
    return found


def _raw_terms(entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for field in ("kind", "session", "task", "ref"):
        yield field, entry.get(field)
    who = _object(entry, "who")
    yield from (("person", who.get("sub")), ("person", who.get("name")))
    initiator = _object(who, "initiator")
    yield from (("person", initiator.get("sub")), ("person", initiator.get("name")))
    for actor in _list(who, "act"):
        if isinstance(actor, dict):
            yield from (("actor", actor.get("sub")), ("actor", actor.get("name")))
    yield from (("group", group) for group in _list(who, "groups"))
    yield "connection", _object(entry, "target").get("connection")
    login = _object(entry, "login")
    yield from (("connection", login.get("connection")), ("reason", login.get("reason")))
    yield "verdict", {"admitted": "permit", "denied": "deny"}.get(str(login.get("status")))
    decision = _object(entry, "decision")
    yield "verdict", decision.get("verdict")
    yield from (("policy", policy) for policy in _list(decision, "policies"))
    op = _object(entry, "op")
    yield "action", op.get("action")
    yield from (("action", effect) for effect in _list(op, "effects"))
    for thing in _list(op, "objects")[:_MAX_OBJECTS]:
        if isinstance(thing, dict):
            yield "object", thing.get("name")
            yield from (("class", name) for name in _list(thing, "classes"))
    result = _object(entry, "result")
    yield from (("status", result.get("status")), ("error", result.get("error")))
    said = _object(_object(entry, "client"), "said")
    yield from (("ticket", said.get("ticket")), ("said-user", said.get("user")))


def words(entry: dict[str, Any]) -> str:
    """What full-text search sees of an entry."""
    op, said = _object(entry, "op"), _object(_object(entry, "client"), "said")
    parts = [
        text_of(_object(entry, "stmt").get("head")),
        text_of(op.get("name")),
        *(text_of(thing.get("name")) for thing in _list(op, "objects")[:_MAX_OBJECTS] if isinstance(thing, dict)),
        text_of(_object(entry, "decision").get("message")),
        text_of(_object(entry, "result").get("text")),
        text_of(said.get("purpose")),
        text_of(said.get("application")),
        text_of(_object(entry, "login").get("detail")),
    ]
    return " ".join(filter(None, parts))


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    return found if isinstance(found, list) else []
