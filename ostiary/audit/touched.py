"""Which operations touched a value, or showed a word on a screen, without the index holding any: keyed tokens of what stands in recordings.

A token is 63 bits of an HMAC of a value, under a key that lies beside the keys of the recordings (`keys/token.key` signs; this one
is `keys/values.key`). It says nothing without that key, and whoever has the key next to it can open the recordings anyway. What was
masked is not in a recording, so nothing hangs on it here either; what a detector takes for a secret gets no token (`read` leaves it out).

Recordings are read once, after their sessions have ended, when somebody first looks for a value. Two kinds are looked into each time instead:
those of open sessions, and those of operations with so many values that their tokens would fill the disk. So an answer leaves nothing out
for being young or large. A recording that was erased takes its tokens with it (`index.forget_values`), because its `redact` entry is read
before any recording is.
"""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from ostiary.audit.index import ENDED, OPEN, READ, IndexFailed, id_key
from ostiary.audit.streams import Stream, Streams
from ostiary.model.errors import OstiaryError

KEY_FILE: Final = "values.key"
MAX_VALUES: Final = 4096
"""Different values of one operation that get tokens."""
_FEW: Final = 200
"""Recordings of one transaction."""

Reader = Callable[[Path, str], Iterable[tuple[str, str]]]
"""Reads a recording of a protocol: (id of the operation's entry, a value that it touched, or a word that was on a screen). Raises `OstiaryError`
where it cannot be opened."""
Progress = Callable[[int, int], None]
"""Hears (recordings read, recordings in all)."""


class _Held(msgspec.Struct, frozen=True):
    """What one recording holds."""

    tokens: dict[int, set[int]]
    """By operation."""
    wide: set[int]
    """Operations that have too many."""


class Touched:
    """Looks for values in recordings, by the tokens of those that were read before."""

    def __init__(self, key: bytes, read: Reader, *, progress: Progress | None = None) -> None:
        self._key = key
        self._read = read
        self._progress = progress
        self.closed: list[tuple[str, str]] = []
        """Recordings that could not be read, and why: what they hold cannot be found."""

    def stream(self, db: sqlite3.Connection, state: Path, make: Streams, value: str) -> Stream:
        """Stream the operations that touched a value."""
        self.catch_up(db, state)
        wanted = value.casefold()
        seen = [
            number
            for session in self._unread(db)
            for entry, held in self._values(db, state, session)
            if held.casefold() == wanted
            for number in _numbers(db, entry)
        ]
        return make.any_of([make.tokens(self._token(value)), make.these([*set(seen)])])

    def catch_up(self, db: sqlite3.Connection, state: Path) -> int:
        """Read the recordings that ended since the last time; returns how many."""
        self._same_key(db)
        ended = [name for (name,) in db.execute("SELECT session FROM recording WHERE state = ? AND state < 2", (ENDED,))]
        done = 0
        for at in range(0, len(ended), _FEW):
            done += self._take(db, state, ended[at : at + _FEW])
            if self._progress is not None:
                self._progress(min(at + _FEW, len(ended)), len(ended))
        return done

    def _take(self, db: sqlite3.Connection, state: Path, sessions: list[str]) -> int:
        """Read some recordings, then put down in one transaction what they hold; returns how many."""
        read = {session: self._tokens(db, state, session) for session in sessions}
        rows: list[tuple[int, int]] = []
        done = 0
        db.execute("BEGIN IMMEDIATE")
        try:
            for session, found in read.items():
                # Erased, or read by somebody else, while this was reading it.
                sql = "SELECT 1 FROM recording WHERE session = ? AND state = ?"
                if found is None or not db.execute(sql, (session, ENDED)).fetchone():
                    continue
                rows += ((token, number) for number, held in found.tokens.items() for token in held)
                db.executemany("INSERT OR IGNORE INTO wide VALUES (?, ?)", [(number, session) for number in found.wide])
                db.execute("UPDATE recording SET state = ? WHERE session = ?", (READ, session))
                done += 1
            db.executemany("INSERT OR IGNORE INTO token VALUES (?, ?)", sorted(rows))
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        return done

    def _tokens(self, db: sqlite3.Connection, state: Path, session: str) -> _Held | None:
        """Read one recording; None where it cannot be read."""
        found = _Held({}, set())
        numbers: dict[str, list[int]] = {}
        known = len(self.closed)
        for entry, value in self._values(db, state, session):
            if entry not in numbers:
                numbers[entry] = _numbers(db, entry)
            for number in numbers[entry]:
                if number in found.wide:
                    continue
                held = found.tokens.setdefault(number, set())
                held.add(self._token(value))
                if len(held) > MAX_VALUES:
                    found.wide.add(number)
                    del found.tokens[number]
        return None if len(self.closed) > known else found

    def _values(self, db: sqlite3.Connection, state: Path, session: str) -> Iterator[tuple[str, str]]:
        sql = "SELECT o.path, r.type FROM recording r JOIN origin o ON o.id = r.origin WHERE r.session = ?"
        for path, spoken in db.execute(sql, (session,)).fetchall():
            file = state / "audit" / path / "payloads" / f"{session}.osp"
            if not file.exists():  # events alone are recorded, and nothing was refused
                continue
            try:
                yield from self._read(file, spoken)
            except (OstiaryError, OSError) as problem:
                self.closed.append((session, str(problem)))

    @staticmethod
    def _unread(db: sqlite3.Connection) -> list[str]:
        """Sessions whose recordings are looked into, because tokens do not say all of them."""
        sql = "SELECT session FROM recording WHERE state = ? AND state < 2 UNION SELECT session FROM wide"
        return [session for (session,) in db.execute(sql, (OPEN,))]

    def _token(self, value: str) -> int:
        mac = hmac.digest(self._key, value.casefold().encode("utf-8", "surrogatepass"), "sha256")
        return int.from_bytes(mac[:8], "big") >> 1

    def _same_key(self, db: sqlite3.Connection) -> None:
        """Forget the tokens of another key: nothing would be found by them."""
        name = hashlib.sha256(self._key).hexdigest()[:16]
        row = db.execute("SELECT id FROM token_key").fetchone()
        if row == (name,):
            return
        try:
            db.execute("BEGIN IMMEDIATE")
            for table in ("token", "wide", "token_key"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
            db.execute("UPDATE recording SET state = ? WHERE state = ?", (ENDED, READ))
            db.execute("INSERT INTO token_key VALUES (?)", (name,))
            db.execute("COMMIT")
        except sqlite3.Error as exc:
            raise IndexFailed(f"the search index failed: {exc}") from None


def _numbers(db: sqlite3.Connection, entry: str) -> list[int]:
    return [number for (number,) in db.execute("SELECT n FROM entry WHERE id = ?", (id_key(entry),))]
