"""What the control process keeps about identities: delegations, service accounts, people, and who was stopped.

Every change is one transaction, and the news that workers must hear of it is in the same one: there is no moment in which a
delegation is revoked here and good there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, overload

import msgspec

from ostiary.identity.exchange import Account, account_token
from ostiary.identity.issuers import Condition
from ostiary.identity.standing import REVOKED, STOPPED, actor_key, stop_body
from ostiary.model.errors import NotAdmitted, OstiaryError, Reason
from ostiary.store import news
from ostiary.store.database import Area, Database
from ostiary.store.news import FOREVER, NewsBoard, Piece

MAX_LISTED: Final = 1000
MAX_DELEGATIONS: Final = 1000
"""Delegations of one person that have not ended."""
MAX_ACCOUNTS: Final = 10_000
SCIM: Final = "scim"
"""Who made a stop, as the news has it: the identity provider. Empty: an administrator, or a rule of theirs."""

AREA: Final = Area(
    "identity",
    (
        (
            """CREATE TABLE delegations (
               id TEXT PRIMARY KEY, iss TEXT NOT NULL, sub TEXT NOT NULL, name TEXT NOT NULL,
               by_iss TEXT NOT NULL, by_sub TEXT NOT NULL, to_iss TEXT NOT NULL, to_sub TEXT NOT NULL,
               details TEXT NOT NULL, purpose TEXT NOT NULL, ticket TEXT NOT NULL,
               created INTEGER NOT NULL, expires INTEGER NOT NULL, ended INTEGER, why TEXT NOT NULL DEFAULT '') STRICT""",
            "CREATE INDEX delegations_by_person ON delegations (iss, sub)",
            "CREATE INDEX delegations_by_actor ON delegations (to_iss, to_sub)",
            """CREATE TABLE accounts (
               name TEXT PRIMARY KEY, owner_iss TEXT NOT NULL, owner_sub TEXT NOT NULL, issuer TEXT NOT NULL,
               conditions TEXT NOT NULL, connections TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
               ended INTEGER, reason TEXT NOT NULL DEFAULT '', why TEXT NOT NULL DEFAULT '') STRICT""",
            "CREATE INDEX accounts_by_owner ON accounts (owner_iss, owner_sub)",
            """CREATE TABLE people (
               id TEXT PRIMARY KEY, iss TEXT NOT NULL, sub TEXT NOT NULL, user_name TEXT NOT NULL UNIQUE,
               active INTEGER NOT NULL, resource BLOB NOT NULL, created INTEGER NOT NULL, changed INTEGER NOT NULL,
               UNIQUE (iss, sub)) STRICT""",
        ),
        (
            """CREATE TABLE refreshes (
               iss TEXT NOT NULL, sub TEXT NOT NULL, key TEXT NOT NULL, sealed BLOB NOT NULL, seen INTEGER NOT NULL,
               checked INTEGER NOT NULL, PRIMARY KEY (iss, sub)) STRICT, WITHOUT ROWID""",
        ),
        (
            """CREATE TABLE departed (iss TEXT NOT NULL, sub TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (iss, sub))
               STRICT, WITHOUT ROWID""",
        ),
    ),
)


class Refused(OstiaryError):
    """What was asked for cannot be done; the sentence is fit for the caller."""


class Delegation(msgspec.Struct, frozen=True, kw_only=True):
    """A delegation as it is kept. Never the token."""

    id: str
    """Hex SHA-256 of its token's id: what stands in the family of everything made from it."""
    iss: str
    sub: str
    name: str
    by_iss: str
    """Who gave it: the person, or the agent that gave on what it held."""
    by_sub: str
    to_iss: str
    to_sub: str
    details: list[dict[str, Any]]
    purpose: str
    ticket: str
    created: int
    expires: int
    ended: int | None = None
    why: str = ""


class ServiceAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A service account as it is kept."""

    name: str
    owner_iss: str
    owner_sub: str
    issuer: str
    """Whose workloads may use it."""
    conditions: dict[str, Condition]
    """What their tokens must say."""
    connections: list[str]
    created: int
    expires: int
    ended: int | None = None
    reason: str = ""
    why: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What stopping somebody ended beside them."""

    delegations: list[str]
    accounts: list[str]


_DELEGATION: Final = (
    "id, iss, sub, name, by_iss, by_sub, to_iss, to_sub, details, purpose, ticket, created, expires, ended, why"
)
_ACCOUNT: Final = "name, owner_iss, owner_sub, issuer, conditions, connections, created, expires, ended, reason, why"


class Records:
    """The identity area of the database."""

    def __init__(self, database: Database, board: NewsBoard) -> None:
        self._database = database
        self.board = board

    # --- delegations ---

    async def add_delegation(self, delegation: Delegation, now: int) -> None:
        """Keep a delegation that was given just now. Raises `Refused` where one person has too many."""

        def work(connection: sqlite3.Connection) -> None:
            (open_ones,) = connection.execute(
                "SELECT count(*) FROM delegations WHERE iss = ? AND sub = ? AND ended IS NULL AND expires > ?",
                (delegation.iss, delegation.sub, now),
            ).fetchone()
            if open_ones >= MAX_DELEGATIONS:
                raise Refused(f"more than {MAX_DELEGATIONS} delegations of one person are open; revoke some")
            parties = {(delegation.iss, delegation.sub), (delegation.by_iss, delegation.by_sub), (delegation.to_iss, delegation.to_sub)}
            if any(held(connection, *each) is not None for each in parties):  # it would come to life with a release
                raise Refused("one of those whom it is between was stopped")
            connection.execute(
                f"INSERT INTO delegations ({_DELEGATION}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 - our own words
                _row(delegation),
            )

        await self._database.transact(work)

    async def delegations(self, iss: str, sub: str) -> list[Delegation]:
        """Those that this person, agent or workload gave, or that were given to it, newest first."""

        def work(connection: sqlite3.Connection) -> list[Delegation]:
            rows = connection.execute(
                f"SELECT {_DELEGATION} FROM delegations WHERE (iss = ?1 AND sub = ?2) OR (by_iss = ?1 AND by_sub = ?2)"  # noqa: S608 - our own words
                " OR (to_iss = ?1 AND to_sub = ?2) ORDER BY created DESC, id LIMIT ?3",
                (iss, sub, MAX_LISTED),
            ).fetchall()
            return [_delegation(row) for row in rows]

        return await self._database.transact(work)

    async def end_delegation(self, name: str, by: tuple[str, str] | None, why: str, now: int) -> Delegation:
        """Revoke the one whose id begins so: by who gave it, whom it is of, or whom it was given to; None: an admin.

        Raises `Refused`. Ending one that has ended is no error.
        """

        def find(connection: sqlite3.Connection) -> Delegation:
            rows = connection.execute(
                f"SELECT {_DELEGATION} FROM delegations WHERE substr(id, 1, ?) = ? LIMIT 2",  # noqa: S608 - our own words
                (len(name), name),
            ).fetchall()
            found = [_delegation(row) for row in rows]
            if len(name) < 8 or len(found) != 1:
                raise Refused("there is no one delegation whose id begins so; `ostiary delegate list` shows them")
            one = found[0]
            if by is not None and by not in {(one.iss, one.sub), (one.by_iss, one.by_sub), (one.to_iss, one.to_sub)}:
                raise Refused("there is no one delegation whose id begins so; `ostiary delegate list` shows them")
            return one

        one = await self._database.transact(find)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE delegations SET ended = ?, why = ? WHERE id = ? AND ended IS NULL", (now, why, one.id)
            )

        await self.board.tell_all([(REVOKED, one.id, stop_body(Reason.REVOKED_TOKEN, why), one.expires)], work)
        return one

    # --- service accounts ---

    async def add_account(self, account: ServiceAccount) -> None:
        """Keep a new service account. Raises `Refused` for a name that was ever used: records name it."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT 1 FROM accounts WHERE name = ?", (account.name,)).fetchone() is not None:
                raise Refused(f"there is, or was, an account named {account.name}; names are not used twice")
            if connection.execute("SELECT count(*) FROM accounts").fetchone()[0] >= MAX_ACCOUNTS:
                raise Refused(f"there are {MAX_ACCOUNTS} accounts already")
            # Disabled people are stopped, too: see `ostiary.api.scim`.
            if held(connection, account.owner_iss, account.owner_sub) is not None:
                raise Refused("whoever is to own it was stopped")
            connection.execute(
                f"INSERT INTO accounts ({_ACCOUNT}) VALUES (?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 - our own words
                _row(account),
            )

        await self._database.transact(work)

    async def accounts(self) -> list[ServiceAccount]:
        """All of them, by name, those that have ended too."""

        def work(connection: sqlite3.Connection) -> list[ServiceAccount]:
            query = f"SELECT {_ACCOUNT} FROM accounts ORDER BY name LIMIT ?"  # noqa: S608 - our own words
            rows = connection.execute(query, (MAX_LISTED,)).fetchall()
            return [_account(row) for row in rows]

        return await self._database.transact(work)

    async def usable_account(self, name: str, now: float) -> tuple[Account, int]:
        """The account, for an exchange, and when it expires. Raises `NotAdmitted` when it is not to be used."""

        def work(connection: sqlite3.Connection) -> ServiceAccount | None:
            row = connection.execute(f"SELECT {_ACCOUNT} FROM accounts WHERE name = ?", (name,)).fetchone()  # noqa: S608 - our own words
            return None if row is None else _account(row)

        found = await self._database.transact(work)
        if found is None:
            raise NotAdmitted(Reason.BAD_TOKEN, "there is no such service account")
        if found.ended is not None:
            reason = Reason.LOST_OWNER if found.reason == Reason.LOST_OWNER.name else Reason.STOPPED_ACTOR
            raise NotAdmitted(reason, f"the account {name} was stopped")
        if found.expires <= now:
            raise NotAdmitted(Reason.EXPIRED_TOKEN, f"the account {name} has expired")
        account = Account(
            name=found.name,
            issuer=found.issuer,
            conditions=found.conditions,
            connections=frozenset(found.connections),
        )
        return account, found.expires

    async def end_account(self, name: str, why: str, now: int) -> None:
        """End a service account, and every token and session under it. Raises `Refused`."""

        def work(connection: sqlite3.Connection) -> None:
            done = connection.execute(
                "UPDATE accounts SET ended = ?, reason = ?, why = ? WHERE name = ? AND ended IS NULL",
                (now, Reason.STOPPED_ACTOR.name, why, name),
            )
            if done.rowcount != 1:
                raise Refused("there is no such account, or it has ended already")

        body = stop_body(Reason.STOPPED_ACTOR, why)
        await self.board.tell_all([(REVOKED, account_token(name), body, FOREVER)], work)

    # --- stopping people, agents and workloads ---

    @overload
    async def stop(self, iss: str, sub: str, reason: Reason, why: str, now: int) -> Ended: ...
    @overload
    async def stop(self, iss: str, sub: str, reason: Reason, why: str, now: int, *, by: str) -> Ended | None: ...
    async def stop(self, iss: str, sub: str, reason: Reason, why: str, now: int, *, by: str = "") -> Ended | None:
        """Stop whoever this is, everywhere, at once; with them end the delegations they gave or hold, and their accounts.

        `reason`: `STOPPED_ACTOR` for isolation, `LOST_OWNER` for somebody who was disabled. `by`: who does it by itself, whose stop never
        takes the place of another one; None: there was one.
        """
        ended: Ended | None = None

        def work(connection: sqlite3.Connection) -> list[Piece]:
            nonlocal ended
            if by and held(connection, iss, sub) is not None:
                return []
            ended, pieces = stopping(connection, Stop(iss=iss, sub=sub, reason=reason, why=why, at=now, by=by))
            return pieces

        await self.board.change(work)
        return ended

    def stopped_by(self, iss: str, sub: str) -> str | None:
        """Who stopped them by itself; empty: an administrator did; None: they are not stopped."""
        told = self.board.lookup(STOPPED, actor_key(iss, sub))
        return None if told is None or told.body is None else stopper(told.body)

    async def release(self, iss: str, sub: str, *, by: str = "") -> bool:
        """Take a stop back; False: there was none. What was ended with it stays ended: it is given anew, knowingly.

        `by`: who takes back by itself, which is a stop of its own and no other. Raises `Refused` where the identity provider has disabled
        or deleted them, however else they were stopped meanwhile.
        """

        def work(connection: sqlite3.Connection) -> list[Piece]:
            body = held(connection, iss, sub)
            if body is None or (by and stopper(body) != by):
                return []
            gone = "SELECT 1 FROM people WHERE iss = ?1 AND sub = ?2 AND active = 0 UNION SELECT 1 FROM departed WHERE iss = ?1 AND sub = ?2"
            if connection.execute(gone, (iss, sub)).fetchone() is not None:
                raise Refused("the identity provider has disabled them, or deleted: it alone lets them in again")
            return [(STOPPED, actor_key(iss, sub), None, FOREVER)]

        return bool(await self.board.change(work))

    def stopped(self) -> list[dict[str, Any]]:
        """Everybody who is stopped now."""
        return [told.body or {} for told in self.board.all(STOPPED)]

    # --- what others keep here: `ostiary.identity.people`, `ostiary.identity.vouching` ---

    async def change_people(self, work: Any) -> Any:
        """Run a transaction over what is kept of people."""
        return await self._database.transact(work)


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to stop, why, and who does it."""

    iss: str
    sub: str
    reason: Reason
    why: str
    at: int
    by: str = ""


def held(connection: sqlite3.Connection, iss: str, sub: str) -> dict[str, Any] | None:
    """The stop that is in force, as news has it; None: there is none."""
    return news.held(connection, STOPPED, actor_key(iss, sub))


def stopper(body: dict[str, Any]) -> str:
    """Who made a stop. The provider's did not say so once, but no other had its reason."""
    return str(body.get("by", "")) or (SCIM if body.get("reason") == Reason.LOST_OWNER.name else "")


def stopping(connection: sqlite3.Connection, stop: Stop) -> tuple[Ended, list[Piece]]:
    """End what hangs on somebody, and return the news that stops them. An administrator's stop stays theirs: nobody else's takes its place."""
    given = connection.execute(
        "UPDATE delegations SET ended = ?1, why = ?4 WHERE ended IS NULL AND expires > ?1 AND ((iss = ?2 AND sub = ?3)"
        " OR (by_iss = ?2 AND by_sub = ?3) OR (to_iss = ?2 AND to_sub = ?3)) RETURNING id",
        (stop.at, stop.iss, stop.sub, stop.why),
    ).fetchall()
    owned = connection.execute(
        "UPDATE accounts SET ended = ?1, reason = ?4, why = 'its owner was stopped' WHERE ended IS NULL"
        " AND owner_iss = ?2 AND owner_sub = ?3 RETURNING name",
        (stop.at, stop.iss, stop.sub, Reason.LOST_OWNER.name),
    ).fetchall()
    ended = Ended(delegations=sorted(each for (each,) in given), accounts=sorted(each for (each,) in owned))
    lost = stop_body(Reason.LOST_OWNER, "its owner was stopped")
    pieces: list[Piece] = [(REVOKED, each, lost, FOREVER) for each in ended.delegations]
    pieces += [(REVOKED, account_token(each), lost, FOREVER) for each in ended.accounts]
    before = held(connection, stop.iss, stop.sub)
    if not stop.by or before is None or stopper(before) not in ("", stop.by):
        body = stop_body(stop.reason, stop.why) | {"iss": stop.iss, "sub": stop.sub, "at": stop.at, "by": stop.by}
        pieces.insert(0, (STOPPED, actor_key(stop.iss, stop.sub), body, FOREVER))
    return ended, pieces


def _row(kept: msgspec.Struct) -> Sequence[Any]:
    values = msgspec.structs.asdict(kept).values()
    return [msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value for value in values]


def _delegation(row: Sequence[Any]) -> Delegation:
    values = dict(zip((name.strip() for name in _DELEGATION.split(",")), row, strict=True))
    return Delegation(**values | {"details": msgspec.json.decode(values["details"])})


def _account(row: Sequence[Any]) -> ServiceAccount:
    values = dict(zip((name.strip() for name in _ACCOUNT.split(",")), row, strict=True))
    read = {name: msgspec.json.decode(values[name]) for name in ("conditions", "connections")}
    conditions = {name: tuple(each) if isinstance(each, list) else each for name, each in read["conditions"].items()}
    return ServiceAccount(**values | read | {"conditions": conditions})
