"""The worker's end: puts questions to the control process, waits for answers, and takes each of them once.

Whatever goes wrong on the way is a no: a control process that cannot be reached, a store that cannot write, a question too large to
be shown. An `Answer` is made here and nowhere else, and only from the reply in which the control process says that it has just
marked the question as used.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from ostiary.approvals.rendering import contents
from ostiary.approvals.words import GLASS, GRANTS, TOPIC, Asked, State, party
from ostiary.model.approvals import Answer, Reply, Ticket, binding
from ostiary.model.connections import Connection
from ostiary.model.decisions import NeedsApproval
from ostiary.model.errors import OstiaryError
from ostiary.model.identity import Said, VerifiedIdentity
from ostiary.store.link import Link
from ostiary.store.news import News
from ostiary.vault.ring import KeyRing

MAX_WAITING: Final = 1000
"""Sessions of one worker that wait for an answer at once."""
NEW_ID: Final = "ask again, and a new question is put"

Spawn = Callable[[Coroutine[Any, Any, Any], str], object]


class Granted(msgspec.Struct, frozen=True):
    """A connection that was granted to an identity for a time."""

    id: str
    groups: frozenset[str]
    until: int
    """Seconds since 1970; the sessions end then."""


class Desk:
    """Every session of a worker asks here."""

    def __init__(
        self,
        link: Link,
        *,
        keys: KeyRing,
        worker: str,
        new_id: Callable[[], str],
        scrub: Callable[[str], str],
        spawn: Spawn,
        page: str,
    ) -> None:
        """`worker`: which worker's, of which boot. `page`: how people reach the API."""
        self._link = link
        self._keys = keys
        self._worker = worker
        self._new_id = new_id
        self._scrub = scrub
        self._spawn = spawn
        self._page = page
        self._waiting: dict[str, dict[object, asyncio.Future[str]]] = {}
        """Who waits for which question. Of a session's there is one; a request that stands for itself may be made twice at once."""
        self._granted: dict[str, News] = {}
        self._glass: dict[str, News] = {}
        self._taken_back: list[Callable[[str], None]] = []

    def listen(self, taken_back: Callable[[str], None]) -> None:
        """Call `taken_back` with the id of each grant, or breaking of the glass, that is over before its time."""
        self._taken_back.append(taken_back)

    def heard(self, news: News) -> None:
        """Take a piece of news."""
        held = {GRANTS: self._granted, GLASS: self._glass}.get(news.topic)
        if held is not None:
            if news.body is None:
                was = held.pop(news.key, None)
                if was is not None and was.body is not None:
                    self._tell_taken_back(was.body)
            else:
                was = held.get(news.key)
                held[news.key] = news
                # What another takes the place of can be taken back by nobody any more: its sessions end with it.
                if was is not None and was.body is not None and was.body["id"] != news.body["id"]:
                    self._tell_taken_back(was.body)
        elif news.topic == TOPIC and news.body is not None:
            for waiting in self._waiting.get(news.key, {}).values():
                if not waiting.done():
                    waiting.set_result(str(news.body.get("why", "")))

    def _tell_taken_back(self, body: dict[str, Any]) -> None:
        for taken_back in self._taken_back:
            taken_back(str(body["id"]))

    async def begin(self) -> None:
        """Say that this worker has started: what its predecessor had asked is over."""
        await self._link.ask(TOPIC, {"do": "begin", "worker": self._worker})

    # --- what was granted for a time ---

    def granted(self, who: VerifiedIdentity, connection: str) -> Granted | None:
        """What `who` was granted on this connection, by people or by breaking the glass; None: nothing that still holds."""
        if not (self._glass or self._granted):
            return None
        for held in (self._glass, self._granted):
            news = held.get(grant_key(who, connection))
            if news is not None and news.body is not None and news.until > time.time():
                return Granted(str(news.body["id"]), frozenset(news.body["groups"]), news.until)
        return None

    def holds(self, granted: Granted, who: VerifiedIdentity, connection: str) -> bool:
        """Whether nobody took it back."""
        found = (held.get(grant_key(who, connection)) for held in (self._glass, self._granted))
        return any(news is not None and news.body is not None and news.body["id"] == granted.id for news in found)

    def _broken(self, who: VerifiedIdentity, connection: str, needed: tuple[tuple[str, int], ...]) -> Answer | None:
        news = self._glass.get(grant_key(who, connection))
        if news is None or news.body is None or news.until <= time.time():
            return None
        return Answer(str(news.body["id"]), frozenset(group for group, _ in needed))

    # --- asking ---

    async def ask(
        self, question: NeedsApproval, connection: Connection, *, session: str, state: bytes, said: Said
    ) -> Ticket:
        """Put a question, or take the answer that was given already to exactly this one. Never raises for want of an answer.

        `session` is empty for a request that stands for itself: the same identity repeats it, once, when it is approved.
        """
        who, operation = question.who, question.operation
        broken = self._broken(who, connection.name, question.approvers)
        if broken is not None:
            return Ticket(broken.id, 0, broken, "", "", "")
        held = contents(operation)
        if held is None:
            return _cannot("it is too large to be shown to an approver whole", "Split it, or do it in a way that is small.")
        digest = binding(operation, who, connection, session, state)
        facts = operation.facts
        asked = Asked(
            id=self._new_id(), digest=digest, asker=party(who), connection=connection.name, session=session,
            worker=self._worker, needed=question.approvers, policies=question.grounds.because,
            message=question.grounds.message, action=facts.action.value, name=facts.name,
            objects=tuple(sorted({f"{each.action.value} {each.kind} {each.name}" for each in facts.resources}))[:100],
            head=self._scrub(facts.head), sealed=self._keys.wrap(msgspec.json.encode(held), digest.encode()),
            said=self._scrub(" ".join(filter(None, (said.purpose, said.ticket))))[:500],
        )  # fmt: skip
        try:
            told = await self._link.ask(TOPIC, {"do": "ask", "question": msgspec.to_builtins(asked)})
        except OstiaryError as exc:
            return _cannot(f"nobody can be asked now: {exc}", "Try again later.")
        if told.get("used"):
            answer = Answer(str(told["id"]), frozenset(told["groups"]))
            return Ticket(answer.id, int(told["expires"]), answer, "", "", "")
        if told.get("denied"):
            return _cannot(str(told["denied"]), "The same request can be asked for anew when the question would have expired.")
        return self._ticket(question, told, "Cancel to call it off." if session else "Repeat the same request then.")

    def _ticket(self, question: NeedsApproval, told: dict[str, Any], way: str) -> Ticket:
        number, expires = str(told["id"]), int(told["expires"])
        people = ", ".join(f"{count} of {group}" for group, count in question.approvers)
        minutes = max(1, round((expires - time.time()) / 60))
        link = f"{self._page}/v1/approvals/{number}"
        return Ticket(
            number, expires, None,
            f"waiting up to {minutes} minutes for approval {number} by {people}",
            f"They run: ostiary approvals approve {number} (or see {link}). {way}",
            "", link, not told.get("known"),
        )  # fmt: skip

    def wait(
        self, ticket: Ticket, seconds: float | None = None, *, by: object = None, keeps: bool = False
    ) -> Coroutine[Any, Any, Reply]:
        """Wait until the question is settled, and take the answer if it is a yes.

        It can be called off from now on, not only once somebody awaits what this returns. `by`: who waits, where several can.
        `keeps`: the question outlives the waiting, because the same request may be made again.
        """
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if len(self._waiting) < MAX_WAITING:
            self._waiting.setdefault(ticket.id, {})[by] = waiting
            return self._wait(ticket, seconds, waiting, by, keeps=keeps)
        if not keeps:
            self.withdraw(ticket.id, State.CANCELLED)
        return self._crowded()

    async def _crowded(self) -> Reply:
        return Reply(None, "too many sessions wait for approvals; try again")

    async def _wait(
        self, ticket: Ticket, seconds: float | None, waiting: asyncio.Future[str], by: object, *, keeps: bool
    ) -> Reply:
        left = max(0.0, ticket.expires - time.time())
        try:
            # It may have been settled between asking and now: the news came, and nobody waited for it.
            told = await self._look(ticket.id)
            if told == State.OPEN or waiting.done():  # called off while we looked is called off, whatever was answered
                why = await asyncio.wait_for(waiting, left if seconds is None else min(left, seconds))
                if why:
                    return Reply(None, why)
        except TimeoutError:
            if keeps:
                return Reply(None, "")
            self.withdraw(ticket.id, State.EXPIRED if seconds is None else State.CANCELLED)
            return Reply(None, f"nobody answered {ticket.id} in time; {NEW_ID}")
        except asyncio.CancelledError:
            self.withdraw(ticket.id, State.CANCELLED)
            raise
        except OstiaryError as exc:
            return Reply(None, f"the answer cannot be heard: {exc}")
        finally:
            self._leave(ticket.id, by)
        return await self.redeem(ticket.id)

    def _leave(self, number: str, by: object) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and waiting.pop(by, None) is not None and not waiting:
            del self._waiting[number]

    async def _look(self, number: str) -> str:
        told = await self._link.ask(TOPIC, {"do": "look", "id": number})
        return str(told["state"])

    async def redeem(self, number: str) -> Reply:
        """Take the answer, which is then used up, whoever else asks for it."""
        try:
            told = await self._link.ask(TOPIC, {"do": "use", "id": number, "worker": self._worker})
        except OstiaryError as exc:
            return Reply(None, str(exc))
        return Reply(Answer(number, frozenset(told["groups"])), "")

    def call_off(self, number: str, why: str, *, by: object = None, keeps: bool = False) -> None:
        """Whoever waits for this question waits no longer; with the last of them it is withdrawn, unless it `keeps`."""
        waiting = self._waiting.get(number, {}).get(by)
        if waiting is None or waiting.done():
            return
        self._leave(number, by)
        if not keeps and not self.is_waited_for(number):
            self.withdraw(number, State.CANCELLED)
        waiting.set_result(why)

    def is_waited_for(self, number: str) -> bool:
        """Whether anybody waits for this question."""
        return number in self._waiting

    def withdraw(self, number: str, state: State) -> None:
        """Nobody waits for this question any more."""
        self._spawn(self._tell({"do": "withdraw", "id": number, "state": state.value}), f"withdraw {number}")

    def leave(self, session: str) -> None:
        """A session is over: whatever it asked, nobody can use an answer to."""
        self._spawn(self._tell({"do": "leave", "session": session}), f"leave {session}")

    async def _tell(self, body: dict[str, Any]) -> None:
        try:
            await self._link.ask(TOPIC, body)
        except OstiaryError:
            return  # a question that nobody withdrew expires, and its answer is bound to a session that is over


def _cannot(why: str, hint: str) -> Ticket:
    return Ticket("", 0, None, "", hint, why)


def grant_key(who: VerifiedIdentity, connection: str) -> str:
    """What stands for this identity, with exactly this acting chain, on this connection."""
    chain = ((who.issuer, who.subject), *((each.iss, each.sub) for each in who.acting))
    return hashlib.sha256(msgspec.json.encode((connection, chain))).hexdigest()
