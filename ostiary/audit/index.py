"""The search index: a projection of the log that can be dropped and rebuilt at any time.

It is read from the WAL, so what was made durable a moment ago is found, signed or not yet. Whoever wants to search brings
it up to date first; SQLite's own lock sees to it that one process does at a time. It holds no entry, only where each
stands, the terms by which it is found, and a full-text index without its text. Nothing gets in that does not stand in
an entry, and entries hold no protected value.

    origin     one row a log, and how far it was read
    entry      n, where it stands, its id
    closing    (ref, n): what closed an intent or a session
    value      (field, text): a term, once
    posting    (value, n): the inverted index
    words      FTS5, contentless, rowid n: normalised statements, names, messages
    recording  one row a session that is recorded: what it speaks, and whether its values were read yet (`ostiary.audit.touched`)
    token      (keyed token of a value, n)
    wide       n of operations with too many values for tokens

`n` is the entry's time: microseconds since 1970 in its upper 53 bits, and below them what tells apart entries of one microsecond. So every
table stands in the order in which answers are wanted, a term's entries are read from their newest on and no further than the
limit, and bounds of time are bounds of `n` (`ostiary.audit.streams`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from ostiary.audit import walreader
from ostiary.audit.walreader import Place
from ostiary.model.errors import OstiaryError

SCHEMA_VERSION: Final = 3
FILE: Final = "index.sqlite"
_BATCH: Final = 5000
_BUSY_MS: Final = 30_000
_CACHE_KIB: Final = 128 << 10
_MAX_TERM: Final = 512
_MAX_OBJECTS: Final = 256
_LOW_BITS: Final = 10
LAST_MICROS: Final = (1 << 53) - 1
"""In the year 2255."""
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
READABLE: Final = frozenset({"postgresql", "ssh"})
"""Protocols whose recordings are read for what they hold."""
OPEN, ENDED, READ, ERASED = range(4)
"""States of a recording: still written; whole, but not read yet; read; its key destroyed."""

_SCHEMA: Final = """
CREATE TABLE origin (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, next INTEGER NOT NULL,
    last_segment INTEGER, last_offset INTEGER, last_id TEXT);
CREATE TABLE entry (n INTEGER PRIMARY KEY, origin INTEGER NOT NULL, idx INTEGER NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, id BLOB NOT NULL);
CREATE INDEX entry_id ON entry (id);
CREATE INDEX entry_place ON entry (origin, idx);
CREATE TABLE closing (ref BLOB NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (ref, entry)) WITHOUT ROWID;
CREATE TABLE value (n INTEGER PRIMARY KEY, field TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (field, text));
CREATE TABLE posting (value INTEGER NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (value, entry)) WITHOUT ROWID;
CREATE TABLE recording (session TEXT PRIMARY KEY, origin INTEGER NOT NULL, state INTEGER NOT NULL,
    type TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX recording_state ON recording (state) WHERE state < 2;
CREATE TABLE token (token INTEGER NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (token, entry)) WITHOUT ROWID;
CREATE TABLE wide (entry INTEGER PRIMARY KEY, session TEXT NOT NULL);
CREATE TABLE token_key (id TEXT NOT NULL);
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
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
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
    for table in ("posting", "value", "closing", "token", "wide", "recording", "entry", "origin"):
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
    db.execute("INSERT INTO words (words) VALUES ('delete-all')")
    return _position(db, folder, name)


class _Writer:
    """Collects one batch of rows."""

    def __init__(self, db: sqlite3.Connection, origin: int) -> None:
        self._db = db
        self._origin = origin
        self._last = 0
        self._taken: set[int] = set()
        self._values: dict[tuple[str, str], int] = {}
        self._entries: list[tuple[int, int, int, int, int, bytes]] = []
        self._closing: list[tuple[bytes, int]] = []
        self._postings: list[tuple[int, int]] = []
        self._words: list[tuple[int, str]] = []
        self._begun: list[tuple[str, int, int, str]] = []
        self._ended: list[tuple[int, str, int]] = []
        self._erased: list[tuple[str, int]] = []

    @property
    def count(self) -> int:
        return len(self._entries)

    def add(self, place: Place, data: bytes) -> str:
        entry = decode(data)
        n = self._number(entry)
        entry_id = str(entry.get("id", ""))
        self._entries.append((n, self._origin, place.index, place.segment, place.offset, id_key(entry_id)))
        self._postings += ((self._value(*term), n) for term in terms(entry))
        if ref := text_of(entry.get("ref")):
            self._closing.append((id_key(ref), n))
        if text := words(entry):
            self._words.append((n, text))
        self._recording(entry)
        return entry_id

    def flush(self) -> None:
        self._db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", self._entries)
        self._db.executemany("INSERT OR IGNORE INTO closing VALUES (?, ?)", self._closing)
        self._db.executemany("INSERT OR IGNORE INTO posting VALUES (?, ?)", sorted(self._postings))
        self._db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", sorted(self._words))
        self._db.executemany("INSERT OR IGNORE INTO recording VALUES (?, ?, ?, ?)", self._begun)
        self._db.executemany("UPDATE recording SET state = ? WHERE session = ? AND state = ?", self._ended)
        for session, origin in self._erased:
            forget_values(self._db, session)
            self._db.execute("INSERT OR REPLACE INTO recording VALUES (?, ?, ?, '')", (session, origin, ERASED))

    def _number(self, entry: dict[str, Any]) -> int:
        """Number an entry by its time. One without a time (damage; the verifier says so) follows the one read before it."""
        micros = micros_of(entry.get("t"))
        n = self._last + 1 if micros is None else micros << _LOW_BITS
        while n in self._taken or self._db.execute("SELECT 1 FROM entry WHERE n = ?", (n,)).fetchone():
            # The entries of one append have one time: the next is looked for behind the last of them.
            n = self._last + 1 if n <= self._last < n + (1 << _LOW_BITS) else n + 1
        self._taken.add(n)
        self._last = n
        return n

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

    def _recording(self, entry: dict[str, Any]) -> None:
        """Keep which sessions are there to be read for what they hold, and which recordings were erased."""
        session = text_of(entry.get("session"))
        match entry.get("kind"):
            case "session.start" if (spoken := _object(entry, "target").get("type")) in READABLE:
                self._begun.append((session, self._origin, OPEN, spoken))
            case "session.end":
                self._ended.append((ENDED, session, OPEN))
            case "redact" if erased := text_of(_object(entry, "redact").get("session")):
                self._erased.append((erased, self._origin))


def forget_values(db: sqlite3.Connection, session: str) -> None:
    """Take out of the index what a session's recording was found by."""
    db.execute("PRAGMA secure_delete = ON")
    entries = "SELECT p.entry FROM value v JOIN posting p ON p.value = v.n WHERE v.field = 'session' AND v.text = ?"
    for table in ("token", "wide"):
        db.execute(f"DELETE FROM {table} WHERE entry IN ({entries})", (session,))  # noqa: S608 - constants
    db.execute("PRAGMA secure_delete = OFF")


def leave_nothing(db: sqlite3.Connection) -> None:
    """Take what was forgotten out of SQLite's own journal too. Others that read the index right now hold it up."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def id_key(entry_id: str) -> bytes:
    """How an id is kept: a UUID in its 16 bytes, anything else as it is written."""
    text = entry_id.strip().lower()
    if _UUID.fullmatch(text):
        return bytes.fromhex(text.replace("-", ""))
    return text.encode("utf-8", "surrogatepass")[:_MAX_TERM]


def micros_of(t: Any) -> int | None:
    """Microseconds since 1970 of an entry's `t`; None where that is no time."""
    if not isinstance(t, str) or len(t) != 27:
        return None
    try:
        since = dt.datetime.fromisoformat(t) - _EPOCH
    except (ValueError, TypeError):
        return None
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return micros if 0 <= micros < LAST_MICROS else None


def first_number(micros: int) -> int:
    """The least `n` that an entry of this time, or a later one, has."""
    return micros << _LOW_BITS


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
    for field in ("kind", "session", "task"):
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
