"""The tables of questions, answers and broken glass, and every transaction on them.

A question is `open`, then `approved`, then `used`; every other state is final. Changes of state are compare-and-set in one transaction,
so two who use the same answer at once are one who does and one who is told no. What has expired stays expired: time here never
goes back, neither with the clock nor with a restart, because the latest time that was seen is kept too.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from ostiary.approvals.words import LIVE, Asked, Party, State
from ostiary.store.database import Area

KEEP_SECONDS: Final = 30 * 86_400
"""How long a question that is over is kept to be looked at; the log keeps it for good."""

AREA: Final = Area(
    "approvals",
    (
        (
            """CREATE TABLE approval_questions (id TEXT PRIMARY KEY, digest TEXT NOT NULL, state TEXT NOT NULL, kind TEXT NOT NULL,
               asker TEXT NOT NULL, session TEXT NOT NULL, worker TEXT NOT NULL, body BLOB NOT NULL, created INTEGER NOT NULL,
               expires INTEGER NOT NULL, why TEXT NOT NULL DEFAULT '') STRICT""",
            "CREATE INDEX questions_by_digest ON approval_questions (digest, state)",
            "CREATE INDEX questions_by_asker ON approval_questions (asker, created)",
            "CREATE INDEX questions_by_state ON approval_questions (state, expires)",
            """CREATE TABLE approval_answers (question TEXT NOT NULL REFERENCES approval_questions (id) ON DELETE CASCADE, iss TEXT NOT NULL,
               sub TEXT NOT NULL, yes INTEGER NOT NULL, who BLOB NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL,
               PRIMARY KEY (question, iss, sub)) STRICT""",
            """CREATE TABLE approval_people (iss TEXT NOT NULL, sub TEXT NOT NULL, groups BLOB NOT NULL, seen INTEGER NOT NULL,
               PRIMARY KEY (iss, sub)) STRICT""",
            """CREATE TABLE approval_glass (id TEXT PRIMARY KEY, iss TEXT NOT NULL, sub TEXT NOT NULL, connection TEXT NOT NULL,
               who BLOB NOT NULL, reason TEXT NOT NULL, began INTEGER NOT NULL, until INTEGER NOT NULL,
               reviewer BLOB, note TEXT NOT NULL DEFAULT '', reviewed INTEGER) STRICT""",
            "CREATE TABLE approval_latest (one INTEGER PRIMARY KEY CHECK (one = 1), time INTEGER NOT NULL) STRICT",
        ),
    ),
)


class Clock:
    """Seconds since 1970 that never go back: the wall clock, but at least what was seen before, and what has passed since."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._at_least = 0.0
        self._since = steady()

    def now(self) -> int:
        """The time."""
        steady = self._steady()
        time_ = max(self._wall(), self._at_least + (steady - self._since))
        self._at_least, self._since = time_, steady
        return int(time_)

    def remember(self, seen: int) -> None:
        """It was this late already, before this process began."""
        self._at_least = max(self._at_least, float(seen))


class Kept(msgspec.Struct, frozen=True):
    """A question as it is kept."""

    state: State
    kind: str
    """`operation`, or `grant`."""
    asked: Asked
    created: int
    expires: int
    why: str
    """Why it is over, where it is not plain."""


class Given(msgspec.Struct, frozen=True):
    """One person's answer."""

    who: Party
    yes: bool
    reason: str
    at: int


class Glass(msgspec.Struct, frozen=True):
    """One breaking of the glass."""

    id: str
    connection: str
    who: Party
    reason: str
    began: int
    until: int
    reviewer: Party | None
    note: str
    reviewed: int | None


_COLUMNS: Final = "state, kind, body, created, expires, why"


def _kept(row: tuple[str, str, bytes, int, int, str]) -> Kept:
    state, kind, body, created, expires, why = row
    return Kept(State(state), kind, msgspec.json.decode(body, type=Asked), created, expires, why)


def latest(connection: sqlite3.Connection) -> int:
    """The latest time that was seen."""
    found = connection.execute("SELECT time FROM approval_latest").fetchone()
    return 0 if found is None else int(found[0])


def passed(connection: sqlite3.Connection, now: int) -> list[str]:
    """Note how late it is; close what has expired, and return its ids. First thing in every transaction."""
    connection.execute(
        "INSERT INTO approval_latest VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET time = max(time, excluded.time)", (now,)
    )
    rows = connection.execute(
        "UPDATE approval_questions SET state = ? WHERE state IN (?, ?) AND expires <= ? RETURNING id", (State.EXPIRED, *LIVE, now)
    ).fetchall()
    connection.execute("DELETE FROM approval_questions WHERE state NOT IN (?, ?) AND expires < ?", (*LIVE, now - KEEP_SECONDS))
    return [row[0] for row in rows]


def find(connection: sqlite3.Connection, number: str) -> Kept | None:
    """The question of that id."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM approval_questions WHERE id = ?", (number,)).fetchone()  # noqa: S608 - ours
    return None if row is None else _kept(row)


def with_digest(connection: sqlite3.Connection, digest: str) -> Kept | None:
    """The live question that is bound to this digest; an approved one rather than an open one."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM approval_questions WHERE digest = ? AND state IN (?, ?) ORDER BY state LIMIT 1",  # noqa: S608 - ours
        (digest, *LIVE),
    ).fetchone()
    return None if row is None else _kept(row)


def denied(connection: sqlite3.Connection, digest: str, now: int) -> tuple[str, str, str] | None:
    """The question bound to this digest that somebody said no to: (id, who, why), for as long as it could have been answered."""
    row = connection.execute(
        "SELECT id, who, reason FROM approval_questions JOIN approval_answers ON question = id"
        " WHERE digest = ? AND state = ? AND expires > ? AND NOT yes ORDER BY id DESC LIMIT 1",
        (digest, State.DENIED, now),
    ).fetchone()
    if row is None:
        return None
    who = msgspec.json.decode(row[1], type=Party)
    return row[0], who.name or who.sub, row[2]


def listed(connection: sqlite3.Connection, states: tuple[State, ...], limit: int) -> list[Kept]:
    """Questions in these states, the newest first."""
    marks = ", ".join("?" * len(states))
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM approval_questions WHERE state IN ({marks}) ORDER BY id DESC LIMIT ?",  # noqa: S608 - ours
        (*states, limit),
    ).fetchall()
    return [_kept(row) for row in rows]


def sealed(connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
    """What is sealed in questions that may still be answered, each with the digest that it is sealed for."""
    rows = connection.execute("SELECT body FROM approval_questions WHERE state IN (?, ?)", LIVE)
    found = (msgspec.json.decode(body, type=Asked) for (body,) in rows)
    return [(asked.digest, asked.sealed) for asked in found if asked.sealed]


def counts(connection: sqlite3.Connection, asker: str, since: int) -> tuple[int, int]:
    """How many questions of this asker are open, and how many there were since then."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE state IN (?, ?)), count(*) FILTER (WHERE created > ?) FROM approval_questions WHERE asker = ?",
        (*LIVE, since, asker),
    ).fetchone()
    return int(row[0]), int(row[1])


def insert(connection: sqlite3.Connection, asked: Asked, kind: str, asker: str, now: int, expires: int) -> None:
    """Keep a new question."""
    connection.execute(
        "INSERT INTO approval_questions (id, digest, state, kind, asker, session, worker, body, created, expires)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (asked.id, asked.digest, State.OPEN, kind, asker, asked.session, asked.worker, msgspec.json.encode(asked), now, expires),
    )


def move(connection: sqlite3.Connection, number: str, was: State, becomes: State, why: str = "") -> bool:
    """Change its state, if it is what it was; whether it did."""
    done = connection.execute(
        "UPDATE approval_questions SET state = ?, why = ? WHERE id = ? AND state = ?", (becomes, why, number, was)
    )
    return done.rowcount == 1


def close_all(connection: sqlite3.Connection, where: str, value: str, becomes: State) -> list[str]:
    """Close the live questions of one session, or of what was another boot of this worker; their ids."""
    condition = {
        "session": "session = ?4 AND session != ''",
        "boot": "worker != ?4 AND substr(worker, 1, instr(worker, ' ')) = substr(?4, 1, instr(?4, ' ')) AND session != ''",
    }[where]
    rows = connection.execute(
        f"UPDATE approval_questions SET state = ?1 WHERE state IN (?2, ?3) AND {condition} RETURNING id",  # noqa: S608 - one of two above
        (becomes, *LIVE, value),
    ).fetchall()
    return [row[0] for row in rows]


def close_strangers(connection: sqlite3.Connection, workers: Iterable[str], becomes: State) -> list[str]:
    """Close the live questions of sessions of workers that are none of these; their ids."""
    known = tuple(workers)
    rows = connection.execute(
        f"UPDATE approval_questions SET state = ? WHERE state IN (?, ?) AND session != ''"  # noqa: S608 - places for words
        f" AND substr(worker, 1, instr(worker, ' ') - 1) NOT IN ({', '.join('?' * len(known))}) RETURNING id",
        (becomes, *LIVE, *known),
    ).fetchall()
    return [row[0] for row in rows]


def answers(connection: sqlite3.Connection, number: str) -> list[Given]:
    """Everybody's answers to a question, in order."""
    rows = connection.execute(
        "SELECT who, yes, reason, at FROM approval_answers WHERE question = ? ORDER BY at, rowid", (number,)
    ).fetchall()
    return [Given(msgspec.json.decode(who, type=Party), bool(yes), reason, at) for who, yes, reason, at in rows]


def answer(connection: sqlite3.Connection, number: str, given: Given) -> bool:
    """Keep an answer; False: this person has answered already."""
    done = connection.execute(
        "INSERT INTO approval_answers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (number, given.who.iss, given.who.sub, int(given.yes), msgspec.json.encode(given.who), given.reason, given.at),
    )
    return done.rowcount == 1


def saw(connection: sqlite3.Connection, who: Party, at: int) -> frozenset[str]:
    """Remember which groups somebody is in, by their newest login that was seen, and return them. `at`: when they logged in.

    A token of an older login changes nothing, however late it is shown, and of two of the same time only what both say holds: a
    token that was kept does not bring back a group that was lost.
    """
    row = connection.execute("SELECT groups, seen FROM approval_people WHERE iss = ? AND sub = ?", who.key).fetchone()
    groups = frozenset(who.groups)
    if row is not None and row[1] >= at:
        known = frozenset(msgspec.json.decode(row[0], type=list[str]))
        groups, at = (known if row[1] > at else known & groups), row[1]
    connection.execute(
        "INSERT INTO approval_people VALUES (?, ?, ?, ?) ON CONFLICT (iss, sub) DO UPDATE SET groups = excluded.groups, seen = excluded.seen",
        (*who.key, msgspec.json.encode(sorted(groups)), at),
    )
    return groups


def groups_of(connection: sqlite3.Connection, iss: str, sub: str) -> frozenset[str] | None:
    """The groups that somebody was last seen in."""
    row = connection.execute("SELECT groups FROM approval_people WHERE iss = ? AND sub = ?", (iss, sub)).fetchone()
    return None if row is None else frozenset(msgspec.json.decode(row[0], type=list[str]))


def broken(connection: sqlite3.Connection, number: str | None = None, *, unreviewed: bool = False) -> list[Glass]:
    """Breakings of the glass: the one of that id, or all, or those that nobody has reviewed."""
    rows = connection.execute(
        "SELECT id, connection, who, reason, began, until, reviewer, note, reviewed FROM approval_glass"
        " WHERE (?1 IS NULL OR id = ?1) AND (NOT ?2 OR reviewed IS NULL) ORDER BY id DESC LIMIT 1000",
        (number, unreviewed),
    ).fetchall()
    return [
        Glass(
            row[0], row[1], msgspec.json.decode(row[2], type=Party), row[3], row[4], row[5],
            None if row[6] is None else msgspec.json.decode(row[6], type=Party), row[7], row[8],
        )
        for row in rows
    ]  # fmt: skip


def break_glass(connection: sqlite3.Connection, glass: Glass) -> None:
    """Keep one."""
    connection.execute(
        "INSERT INTO approval_glass (id, iss, sub, connection, who, reason, began, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            glass.id, glass.who.iss, glass.who.sub, glass.connection, msgspec.json.encode(glass.who), glass.reason,
            glass.began, glass.until,
        ),
    )  # fmt: skip


def review(connection: sqlite3.Connection, number: str, reviewer: Party, note: str, now: int) -> bool:
    """Note that somebody has looked at it; False: somebody has already, or there is none."""
    done = connection.execute(
        "UPDATE approval_glass SET reviewer = ?, note = ?, reviewed = ? WHERE id = ? AND reviewed IS NULL",
        (msgspec.json.encode(reviewer), note, now, number),
    )
    return done.rowcount == 1


def glass_over(connection: sqlite3.Connection, number: str, now: int) -> None:
    """The glass that was broken under that id, if one was, holds no longer."""
    connection.execute("UPDATE approval_glass SET until = min(until, ?) WHERE id = ?", (now, number))
