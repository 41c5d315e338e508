"""People as the identity provider tells of them by SCIM: what is kept, and whom it stops and lets in again.

What is kept of somebody and whether they are stopped change in one transaction: nobody is disabled here and let in there. Whom the provider
deleted, or made somebody else of, is remembered as departed: no release of another stop brings them back.

The provider lifts its own stops alone, and by nothing but saying that somebody is active who was not.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from ostiary.identity.records import SCIM, Ended, Records, Refused, Stop, held, stopper, stopping
from ostiary.identity.standing import STOPPED, actor_key
from ostiary.model.errors import Reason
from ostiary.store.news import FOREVER, Piece

MAX_USERS: Final = 200_000


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One user of the identity provider's."""

    id: str
    """Ours."""
    iss: str
    sub: str
    """Who they are in tokens."""
    user_name: str
    active: bool
    resource: bytes
    """As it was sent."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a change."""

    stopped: tuple[str, ...] = ()
    """Who may not go on any more: subjects."""
    ended: tuple[Ended, ...] = ()
    """What ended with each of them."""


class People:
    """The provider's people."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def keep(self, person: Person, was: Person | None, now: int) -> Told:
        """Keep a user, new or instead of what they were; stop and release whom that concerns.

        Raises `Refused` where there are too many, `StoreFailed` (UNIQUE) where another user has one of its names.
        """
        told = Told()

        def work(connection: sqlite3.Connection) -> list[Piece]:
            nonlocal told
            if was is None and connection.execute("SELECT count(*) FROM people").fetchone()[0] >= MAX_USERS:
                raise Refused("there are too many users")
            _write(connection, person, now)
            pieces: list[Piece] = []
            out: list[tuple[Person, str]] = []
            if was is not None and was.sub != person.sub:
                # Nobody would tell of that one any more.
                _depart(connection, was, now)
                out.append((was, "is somebody else at the identity provider now"))
            connection.execute("DELETE FROM departed WHERE iss = ? AND sub = ?", (person.iss, person.sub))
            if not person.active:
                out.append((person, "disabled by the identity provider"))
            elif was is None or not was.active or was.sub != person.sub:
                pieces += _release(connection, person)
            ended = [_stop(connection, each, why, now, pieces) for each, why in out]
            told = Told(stopped=tuple(each.sub for each, _ in out), ended=tuple(ended))
            return pieces

        await self._records.board.change(work)
        return told

    async def drop(self, person: Person, now: int) -> Ended:
        """Forget a user whom the provider deleted, and stop whom they were."""
        ended: list[Ended] = []

        def work(connection: sqlite3.Connection) -> list[Piece]:
            pieces: list[Piece] = []
            connection.execute("DELETE FROM people WHERE id = ?", (person.id,))
            _depart(connection, person, now)
            ended.append(_stop(connection, person, "deleted by the identity provider", now, pieces))
            return pieces

        await self._records.board.change(work)
        return ended[-1]

    async def has_departed(self, iss: str, sub: str) -> bool:
        """Whether the provider deleted them, and has not told of them since."""

        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute("SELECT 1 FROM departed WHERE iss = ? AND sub = ?", (iss, sub)).fetchone() is not None

        return bool(await self._records.change_people(work))


def _write(connection: sqlite3.Connection, person: Person, now: int) -> None:
    connection.execute(
        "INSERT INTO people (id, iss, sub, user_name, active, resource, created, changed) VALUES (?,?,?,?,?,?,?,?)"
        " ON CONFLICT (id) DO UPDATE SET sub = excluded.sub, user_name = excluded.user_name,"
        " active = excluded.active, resource = excluded.resource, changed = excluded.changed",
        (person.id, person.iss, person.sub, person.user_name, int(person.active), person.resource, now, now),
    )


def _depart(connection: sqlite3.Connection, person: Person, now: int) -> None:
    connection.execute("INSERT OR REPLACE INTO departed (iss, sub, at) VALUES (?, ?, ?)", (person.iss, person.sub, now))


def _stop(connection: sqlite3.Connection, person: Person, why: str, now: int, pieces: list[Piece]) -> Ended:
    stop = Stop(iss=person.iss, sub=person.sub, reason=Reason.LOST_OWNER, why=why, at=now, by=SCIM)
    ended, more = stopping(connection, stop)
    pieces += more
    return ended


def _release(connection: sqlite3.Connection, person: Person) -> list[Piece]:
    body = held(connection, person.iss, person.sub)
    if body is None or stopper(body) != SCIM:
        return []
    return [(STOPPED, actor_key(person.iss, person.sub), None, FOREVER)]
