"""The control process's end: keeps the questions, hears the answers, and lets each be used once.

Theory of operation
-------------------
Every change is one transaction (`tables.py`). What somebody did is on record before it counts: the `approval` entry of an answer is durable
before the answer is kept, so no yes is in force that the log does not know, and one that could not be kept is on record as given.

Whether an answer counts is asked twice, when it is given and when it is used: in between its giver may have been stopped, their login
revoked, or their group lost. What is used is decided by policy once more, in the worker, under the policies then in force.

Nobody is told of a question's literals outside: what leaves for a webhook has passed the detectors, and what was asked exactly is
encrypted in the store and shown over the API alone.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec

from ostiary.approvals import tables
from ostiary.approvals.rendering import shown
from ostiary.approvals.rules import complete, is_same_person, why_not_answer, why_not_person
from ostiary.approvals.tables import Clock, Given, Glass, Kept
from ostiary.approvals.words import GLASS, GRANTS, MAX_REASON, REVOKED, TOPIC, Asked, Contents, Party, State, party
from ostiary.config.types import Approvals
from ostiary.model.errors import OstiaryError
from ostiary.model.identity import VerifiedIdentity
from ostiary.store.database import Database
from ostiary.store.news import NewsBoard
from ostiary.vault.ring import KeyRing

MAX_LISTED: Final = 200
HOUR: Final = 3600
NOT_IN_FORCE: Final = "nothing is in force under that id"
LOST: Final = "your newest login is in none of the groups that may answer"

Record = Callable[[str, dict[str, Any], VerifiedIdentity | None], Awaitable[None]]
"""Makes an `approval` entry durable: what happened, what is to be said of it, and by whom. Raises `LogFailed`."""
Notify = Callable[[str, dict[str, Any]], None]
"""Tells the world outside, if it wants to be told. Never waits, never raises."""
Stopped = Callable[[Party], str]
"""Why this person may not go on (their login was revoked, they were stopped); empty: nothing is known against them."""


class NotAnswered(OstiaryError):
    """The answer does not count, or there is nothing to answer. The sentence is fit for whoever tried."""

    def __init__(self, sentence: str, *, absent: bool = False) -> None:
        super().__init__(sentence)
        self.absent = absent


class Office:
    """The questions of one gateway."""

    def __init__(
        self,
        database: Database,
        board: NewsBoard,
        *,
        settings: Approvals,
        keys: KeyRing,
        new_id: Callable[[], str],
        record: Record,
        stopped: Stopped,
        notify: Notify,
        connections: frozenset[str],
        clock: Clock,
    ) -> None:
        self._database = database
        self._board = board
        self._settings = settings
        self._keys = keys
        self._new_id = new_id
        self._record = record
        self._stopped = stopped
        self._notify = notify
        self._connections = connections
        self._clock = clock

    async def load(self) -> None:
        """Take up where the process before left off."""
        self._clock.remember(await self._database.transact(tables.latest))
        await self.sweep()

    async def dismiss(self, workers: Iterable[str]) -> None:
        """Close what sessions have asked of workers that are none of these: there are fewer than before."""
        known = tuple(workers)
        gone = await self._database.transact(lambda db: tables.close_strangers(db, known, State.ORPHANED))
        for number in gone:
            await self._close(number, State.ORPHANED, "the session that asked is over")

    async def sweep(self) -> None:
        """Close what has expired, and tell whoever waits."""
        now = self._clock.now()
        gone = await self._database.transact(lambda db: tables.passed(db, now))
        for number in gone:
            await self._close(number, State.EXPIRED, "nobody answered in time")

    # --- workers ---

    async def hear(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a worker's question on the topic `approvals`."""
        match body:
            case {"do": "ask", "question": question}:
                return await self._ask(msgspec.convert(question, Asked))
            case {"do": "look", "id": str(number)}:
                return {"state": (await self._find(number)).state.value}
            case {"do": "use", "id": str(number), "worker": str(worker)}:
                return await self._use(number, worker)
            case {"do": "withdraw", "id": str(number), "state": str(state)}:
                await self._withdraw(number, State(state))
            case {"do": "leave", "session": str(session)}:
                await self._orphan("session", session)
            case {"do": "begin", "worker": str(worker)}:
                await self._orphan("boot", worker)
            case _:
                raise NotAnswered("that is not a question about approvals")
        return {}

    async def _ask(self, asked: Asked) -> dict[str, Any]:
        """Use the answer that was given to exactly this, or keep the question."""
        now = self._clock.now()
        known = await self._database.transact(lambda db: tables.with_digest(db, asked.digest))
        if known is not None and known.expires > now:
            if known.state is State.APPROVED and known.asked.session == asked.session:
                return await self._use(known.asked.id, asked.worker)
            return {"id": known.asked.id, "expires": known.expires, "known": True}
        if not asked.session and (no := await self._database.transact(lambda db: tables.denied(db, asked.digest, now))):
            return {"id": no[0], "denied": f"{no[1]} denied {no[0]}" + (f": {no[2]}" if no[2] else "")}
        expires = await self._keep(asked, "operation", now)
        return {"id": asked.id, "expires": expires}

    async def _keep(self, asked: Asked, kind: str, now: int) -> int:
        """Put a new question on record and keep it; when it expires. Raises `NotAnswered` where too many were asked."""
        settings, expires = self._settings, now + int(self._settings.wait_seconds)
        asker = _asker(asked.asker)
        await self._room(asker, now)
        await self._record("asked", _said(asked) | {"id": asked.id, "expires": expires, "kind": kind}, None)

        def work(db: sqlite3.Connection) -> None:
            tables.passed(db, now)
            _check_room(tables.counts(db, asker, now - HOUR), settings)
            tables.insert(db, asked, kind, asker, now, expires)

        await self._database.transact(work)
        self._notify("asked", _outside(asked) | {"kind": kind, "expires": expires})
        return expires

    async def _room(self, asker: str, now: int) -> None:
        found = await self._database.transact(lambda db: tables.counts(db, asker, now - HOUR))
        _check_room(found, self._settings)

    async def _use(self, number: str, worker: str) -> dict[str, Any]:
        """Mark an answer as used, if everybody who gave it still counts. What it is used for is decided by policy again."""
        now = self._clock.now()

        def work(db: sqlite3.Connection) -> tuple[Kept, str]:
            tables.passed(db, now)
            kept = tables.find(db, number)
            if kept is None or kept.kind != "operation":
                raise NotAnswered("there is no such question", absent=True)
            if kept.state is not State.APPROVED:
                raise NotAnswered(_over(kept))
            if kept.asked.session and kept.asked.worker != worker:
                raise NotAnswered("the session that asked is over")
            people, lost = self._still(db, kept)
            if not complete(kept.asked.needed, people):
                tables.move(db, number, State.APPROVED, State.DENIED, lost)
                return kept, lost or "the approvals that were given are not enough any more"
            tables.move(db, number, State.APPROVED, State.USED)
            return kept, ""

        kept, lost = await self._database.transact(work)
        if lost:
            await self._record("lost", {"id": number, "why": lost}, None)
            raise NotAnswered(lost)
        await self._record("used", {"id": number, "digest": kept.asked.digest}, None)
        groups = sorted({group for group, _ in kept.asked.needed})
        return {"used": True, "id": number, "groups": groups, "expires": kept.expires}

    def _still(self, db: sqlite3.Connection, kept: Kept) -> tuple[list[frozenset[str]], str]:
        """The groups of those who said yes and still may, and who may no longer and why."""
        people, lost = [], ""
        for given in tables.answers(db, kept.asked.id):
            if not given.yes:
                continue
            why = self._stopped(given.who)
            now = tables.groups_of(db, *given.who.key)
            groups = frozenset(given.who.groups) & (frozenset(given.who.groups) if now is None else now)
            if why:
                lost = f"the approval of {given.who.name or given.who.sub} does not count any more: {why}"
            elif not groups & {group for group, _ in kept.asked.needed}:
                lost = f"{given.who.name or given.who.sub} approved it, and is no longer in the group for which that counted"
            else:
                people.append(groups)
        return people, lost

    async def _withdraw(self, number: str, state: State) -> None:
        if state not in (State.CANCELLED, State.EXPIRED, State.ORPHANED):
            raise NotAnswered("a question is withdrawn as cancelled, expired or orphaned")

        def work(db: sqlite3.Connection) -> bool:
            return any(tables.move(db, number, was, state) for was in (State.OPEN, State.APPROVED))

        if await self._database.transact(work):
            await self._record(state.value, {"id": number}, None)
            self._notify(state.value, {"id": number})

    async def _orphan(self, where: str, value: str) -> None:
        gone = await self._database.transact(lambda db: tables.close_all(db, where, value, State.ORPHANED))
        for number in gone:
            await self._close(number, State.ORPHANED, "the session that asked is over")

    async def _close(self, number: str, state: State, why: str) -> None:
        await self._record(state.value, {"id": number}, None)
        self._notify(state.value, {"id": number})
        await self._board.tell(TOPIC, number, {"state": state.value, "why": why}, self._clock.now() + HOUR)

    # --- people ---

    async def listed(self, who: VerifiedIdentity, *, past: bool = False) -> list[dict[str, Any]]:
        """The questions that `who` may answer or has asked, the newest first."""
        await self._seen(who)
        states = tuple(State) if past else (State.OPEN, State.APPROVED)
        kept = await self._database.transact(lambda db: tables.listed(db, states, 10 * MAX_LISTED))
        return [_brief(each) for each in kept if _may_see(each, who)][:MAX_LISTED]

    async def show(self, who: VerifiedIdentity, number: str) -> dict[str, Any]:
        """Everything of one question: every byte that would run, and what to look out for."""
        await self._seen(who)
        kept = await self._visible(who, number)
        given = await self._database.transact(lambda db: tables.answers(db, number))
        found = _brief(kept) | {
            "answers": [
                {"who": each.who.name or each.who.sub, "subject": each.who.sub, "issuer": each.who.iss, "yes": each.yes,
                 "reason": each.reason, "at": each.at}
                for each in given
            ]
        }  # fmt: skip
        if kept.asked.sealed:
            held = msgspec.json.decode(self._keys.unwrap(kept.asked.sealed, kept.asked.digest.encode()), type=Contents)
            statement, parameters, flags = shown(held)
            found |= {"statement": statement, "parameters": parameters, "flags": flags}
        return found

    async def answer(
        self, who: VerifiedIdentity, number: str, *, yes: bool, digest: str, reason: str, way: str
    ) -> dict[str, Any]:
        """Hear a person's answer. `digest` is that of the question they were shown; `way`: how it reached us."""
        held = await self._seen(who)
        now = self._clock.now()
        why = why_not_person(who, now, self._settings.login_seconds) or self._stopped(party(who))
        kept = await self._visible(who, number)
        why = why or why_not_answer(kept.asked.asker, who, kept.asked.needed)
        if not why and not held & {group for group, _ in kept.asked.needed}:
            why = LOST
        if not why and digest != kept.asked.digest:
            why = "what you were shown is not what was asked: look at it again"
        if not why and (kept.state is not State.OPEN or kept.expires <= now):
            why = _over(kept)
        said = {"id": number, "answer": "approve" if yes else "deny", "reason": reason[:MAX_REASON], "way": way}
        if why:
            await self._record("not counted", said | {"why": why}, who)
            raise NotAnswered(why)
        await self._record("answered", said | {"digest": digest}, who)
        given = Given(msgspec.structs.replace(party(who), groups=tuple(sorted(held))), yes, reason[:MAX_REASON], now)
        state = await self._database.transact(lambda db: _count(db, number, given, now))
        if state is not State.OPEN:
            await self._settled(kept, state, given)
        return {"id": number, "state": state.value}

    async def _settled(self, kept: Kept, state: State, given: Given) -> None:
        number, name = kept.asked.id, given.who.name or given.who.sub
        if state is State.APPROVED and kept.kind == "grant":
            await self._grant(kept)
        why = "" if state is State.APPROVED else f"{name} denied {number}" + (f": {given.reason}" if given.reason else "")
        await self._board.tell(TOPIC, number, {"state": state.value, "why": why}, kept.expires + HOUR)
        self._notify(state.value, {"id": number, "by": name})

    async def _visible(self, who: VerifiedIdentity, number: str) -> Kept:
        kept = await self._find(number)
        if not _may_see(kept, who):
            raise NotAnswered("there is no such question", absent=True)
        return kept

    async def _find(self, number: str) -> Kept:
        now = self._clock.now()

        def work(db: sqlite3.Connection) -> Kept | None:
            tables.passed(db, now)
            return tables.find(db, number)

        kept = await self._database.transact(work)
        if kept is None:
            raise NotAnswered("there is no such question", absent=True)
        return kept

    async def _seen(self, who: VerifiedIdentity) -> frozenset[str]:
        """Remember the groups of whoever shows a login of their own; of those it names, the ones not lost since."""
        if who.acting:
            return who.groups
        held = await self._database.transact(lambda db: tables.saw(db, party(who), who.auth.at))
        return who.groups & held

    async def saw(self, who: VerifiedIdentity) -> None:
        """Hear of a login elsewhere: who lost a group is no longer counted for it."""
        await self._seen(who)

    # --- a connection for a time ---

    async def request(self, who: VerifiedIdentity, connection: str, minutes: int, reason: str) -> dict[str, Any]:
        """Ask for a connection for so many minutes. Answered like any question, and over at a hard end."""
        settings = self._settings
        if connection not in self._connections or not settings.grant_groups:
            raise NotAnswered("there is no such connection, or nobody grants connections here", absent=True)
        if not 1 <= minutes <= settings.grant_minutes:
            raise NotAnswered(f"ask for 1 to {settings.grant_minutes} minutes")
        if not reason.strip():
            raise NotAnswered("say why you need it")
        asker = party(who)
        if why := self._has_already(GRANTS, asker, connection):
            raise NotAnswered(why)
        number = self._new_id()
        digest = hashlib.sha256(msgspec.json.encode(("ostiary grant v1", asker, connection, minutes, number))).hexdigest()
        needed = tuple(sorted(_places(settings.grant_groups).items()))
        asked = Asked(
            id=number, digest=digest, asker=asker, connection=connection, session="", worker="", needed=needed, policies=(),
            message=f"{who.name or who.subject} asks for {connection} for {minutes} minutes", action="connect",
            name=f"connect for {minutes} minutes", objects=(connection,), head="", sealed=b"", said=reason[:MAX_REASON],
        )  # fmt: skip
        expires = await self._keep(asked, "grant", self._clock.now())
        return {"id": number, "expires": expires}

    def _has_already(self, topic: str, asker: Party, connection: str) -> str:
        """Why nothing more is given: one thing at a time is in force, so that taking it back leaves nothing behind."""
        news = self._board.lookup(topic, _grant_key(asker, connection))
        return "" if news is None or news.body is None else f"you have that already, as {news.body['id']}: revoke it first, or wait for its end"

    async def _grant(self, kept: Kept) -> None:
        asked = kept.asked
        minutes = int(asked.name.removeprefix("connect for ").removesuffix(" minutes"))
        until = self._clock.now() + 60 * minutes
        body = {"id": asked.id, "groups": sorted({group for group, _ in asked.needed})}
        await self._record("granted", {"id": asked.id, "connection": asked.connection, "until": until}, None)
        await self._board.tell(GRANTS, _grant_key(asked.asker, asked.connection), body, until)
        await self._database.transact(lambda db: tables.move(db, asked.id, State.APPROVED, State.USED))

    async def revoke(self, who: VerifiedIdentity, number: str, reason: str) -> dict[str, Any]:
        """Take back a connection that was granted, or a broken glass, before its time: their own, or as who grants or reviews.

        The sessions that were opened under it end at once.
        """
        held = await self._seen(who)
        topic, asker, connection, groups = await self._in_force(number)
        own = asker.key == (who.issuer, who.subject)
        if not own and not held & groups:
            raise NotAnswered(NOT_IN_FORCE, absent=True)
        why = "" if own else why_not_person(who, self._clock.now(), self._settings.login_seconds)
        why = why or self._stopped(party(who))
        if why:
            raise NotAnswered(why)
        await self._record(REVOKED, {"id": number, "connection": connection, "reason": reason[:MAX_REASON]}, who)
        key = _grant_key(asker, connection)
        news = self._board.lookup(topic, key)
        if news is not None and news.body is not None and news.body["id"] == number:
            await self._board.tell(topic, key, None, news.until)
        now = self._clock.now()
        await self._database.transact(lambda db: tables.glass_over(db, number, now))
        self._notify(REVOKED, {"id": number, "connection": connection, "by": who.name or who.subject})
        return {"id": number, "revoked": now}

    async def _in_force(self, number: str) -> tuple[str, Party, str, frozenset[str]]:
        """What was granted under that id: its topic, to whom, where, and the groups that may take it back. Raises `NotAnswered`."""
        kept = await self._database.transact(lambda db: tables.find(db, number))
        glass = await self._database.transact(lambda db: tables.broken(db, number))
        if kept is not None and kept.kind == "grant":
            topic, asker, connection = GRANTS, kept.asked.asker, kept.asked.connection
            groups = frozenset(group for group, _ in kept.asked.needed)
        elif glass:
            topic, asker, connection = GLASS, glass[0].who, glass[0].connection
            groups = frozenset(self._settings.review_groups)
        else:
            raise NotAnswered(NOT_IN_FORCE, absent=True)
        news = self._board.lookup(topic, _grant_key(asker, connection))
        if news is None or news.body is None or news.body["id"] != number:
            raise NotAnswered(NOT_IN_FORCE, absent=True)
        return topic, asker, connection, groups

    # --- breaking the glass ---

    async def break_glass(self, who: VerifiedIdentity, connection: str, reason: str) -> dict[str, Any]:
        """Let a person of a named role pass every approval on one connection for a while; somebody else reviews it afterwards."""
        held = await self._seen(who)
        now, settings = self._clock.now(), self._settings
        why = why_not_person(who, now, settings.login_seconds) or self._stopped(party(who))
        if not why and not held & set(settings.break_glass_groups):
            why = "breaking the glass is for the groups that the configuration names, and you are in none"
        if not why and (connection not in self._connections or not reason.strip()):
            why = "name a connection, and say why"
        open_ = await self._database.transact(lambda db: tables.broken(db, unreviewed=True))
        if not why and any(each.who.key == (who.issuer, who.subject) and each.until <= now for each in open_):
            why = "nobody has reviewed the last time that you did: that comes first"
        why = why or self._has_already(GLASS, party(who), connection)
        said: dict[str, Any] = {"connection": connection, "reason": reason[:MAX_REASON]}
        if why:
            await self._record("break-glass refused", said | {"why": why}, who)
            raise NotAnswered(why)
        until = now + 60 * settings.break_glass_minutes
        glass = Glass(self._new_id(), connection, party(who), reason[:MAX_REASON], now, until, None, "", None)
        await self._record("break-glass", said | {"id": glass.id, "until": until}, who)
        self._notify("break-glass", said | {"id": glass.id, "until": until, "by": who.name or who.subject})
        await self._database.transact(lambda db: tables.break_glass(db, glass))
        await self._board.tell(GLASS, _grant_key(glass.who, connection), {"id": glass.id, "groups": sorted(who.groups)}, until)
        return {"id": glass.id, "until": until}

    async def glasses(self, who: VerifiedIdentity) -> list[dict[str, Any]]:
        """Every breaking of the glass that `who` may know of."""
        found = await self._database.transact(tables.broken)
        reviews = bool(who.groups & set(self._settings.review_groups))
        return [_glass(each) for each in found if reviews or each.who.key == (who.issuer, who.subject)]

    async def review(self, who: VerifiedIdentity, number: str, note: str) -> dict[str, Any]:
        """Note that somebody else has looked at what was done behind the broken glass."""
        held = await self._seen(who)
        now = self._clock.now()
        found = await self._database.transact(lambda db: tables.broken(db, number))
        why = why_not_person(who, now, self._settings.login_seconds) or self._stopped(party(who))
        if not found:
            raise NotAnswered("the glass was not broken under that id", absent=True)
        asker = found[0].who
        if not why and not held & set(self._settings.review_groups):
            why = "reviews are for the groups that the configuration names, and you are in none"
        if not why:
            why = why_not_answer(asker, who, tuple((group, 1) for group in self._settings.review_groups))
        if not why and not note.strip():
            why = "say what you found"
        if why:
            raise NotAnswered(why)
        await self._record("break-glass reviewed", {"id": number, "note": note[:MAX_REASON]}, who)
        if not await self._database.transact(lambda db: tables.review(db, number, party(who), note[:MAX_REASON], now)):
            raise NotAnswered("somebody has reviewed it already")
        return {"id": number, "reviewed": now}


def _count(db: sqlite3.Connection, number: str, given: Given, now: int) -> State:
    """Keep an answer, and see whether it settles the question."""
    tables.passed(db, now)
    kept = tables.find(db, number)
    if kept is None or kept.state is not State.OPEN:
        raise NotAnswered("there is no such question" if kept is None else _over(kept))
    if any(is_same_person(each.who, given.who) for each in tables.answers(db, number)):
        raise NotAnswered("you have answered it already")
    tables.answer(db, number, given)
    if not given.yes:
        tables.move(db, number, State.OPEN, State.DENIED, f"denied by {given.who.name or given.who.sub}")
        return State.DENIED
    people = [frozenset(each.who.groups) for each in tables.answers(db, number) if each.yes]
    if complete(kept.asked.needed, people):
        tables.move(db, number, State.OPEN, State.APPROVED)
        return State.APPROVED
    return State.OPEN


def _check_room(found: tuple[int, int], settings: Approvals) -> None:
    live, recent = found
    if live >= settings.max_open:
        raise NotAnswered(f"{live} questions of yours wait already, and more are not asked at once")
    if recent >= settings.max_per_hour:
        raise NotAnswered(f"{recent} questions of yours were asked within an hour, and more are not asked")


def _places(groups: tuple[str, ...]) -> dict[str, int]:
    """Read `dba`, `dba:2` as places of a quorum."""
    return {name: int(count or 1) for name, _, count in (each.partition(":") for each in groups)}


def _over(kept: Kept) -> str:
    words = {
        State.OPEN: "nobody has approved it yet",
        State.APPROVED: "it is approved already",
        State.DENIED: kept.why or "it was denied",
        State.USED: "its approval was used already; an approval is for once",
        State.EXPIRED: "it has expired",
        State.CANCELLED: "it was called off",
        State.ORPHANED: "the session that asked is over",
    }
    return words[kept.state]


def _may_see(kept: Kept, who: VerifiedIdentity) -> bool:
    own = kept.asked.asker.key == (who.issuer, who.subject)
    return own or bool(who.groups & {group for group, _ in kept.asked.needed})


def _asker(asker: Party) -> str:
    """What questions are counted by: the subject, whoever acts for it, so that a chain of agents floods nobody."""
    return hashlib.sha256(msgspec.json.encode(asker.key)).hexdigest()


def _grant_key(asker: Party, connection: str) -> str:
    chain = (asker.key, *((each.iss, each.sub) for each in asker.acting))
    return hashlib.sha256(msgspec.json.encode((connection, chain))).hexdigest()


def _people(asker: Party) -> str:
    names = [each.name or each.sub for each in asker.acting]
    return " for ".join([*names, asker.name or asker.sub])


def _said(asked: Asked) -> dict[str, Any]:
    """What the log says of a question: whose, bound to what, and whose answer it takes."""
    return {
        "digest": asked.digest,
        "connection": asked.connection,
        "session": asked.session,
        "asker": {"iss": asked.asker.iss, "sub": asked.asker.sub, "name": asked.asker.name,
                  "act": [{"iss": each.iss, "sub": each.sub, "name": each.name} for each in asked.asker.acting]},
        "needed": [[group, count] for group, count in asked.needed],
        "policies": list(asked.policies),
        "head": asked.head,
    }  # fmt: skip


def _outside(asked: Asked) -> dict[str, Any]:
    """What may be told outside the gateway: no literal, no parameter."""
    return {
        "id": asked.id,
        "digest": asked.digest,
        "who": _people(asked.asker),
        "connection": asked.connection,
        "action": asked.action,
        "name": asked.name,
        "head": asked.head,
        "needed": dict(asked.needed),
        "said": asked.said,
    }


def _brief(kept: Kept) -> dict[str, Any]:
    asked = kept.asked
    return _outside(asked) | {
        "kind": kept.kind, "state": kept.state.value, "why": kept.why, "created": kept.created, "expires": kept.expires,
        "message": asked.message, "objects": list(asked.objects), "session": asked.session,
    }  # fmt: skip


def _glass(glass: Glass) -> dict[str, Any]:
    return {
        "id": glass.id, "connection": glass.connection, "who": glass.who.name or glass.who.sub, "reason": glass.reason,
        "began": glass.began, "until": glass.until, "note": glass.note, "reviewed": glass.reviewed,
        "reviewer": None if glass.reviewer is None else glass.reviewer.name or glass.reviewer.sub,
    }  # fmt: skip
