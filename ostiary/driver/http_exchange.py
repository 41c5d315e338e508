"""The world of one HTTP exchange, between a client and a service: a lane for its request, and a call for each piece of its answer.

As `session.py` does for sessions of one socket each; here many exchanges share one session's record, and connections to the service
come from a pool. However an exchange ends, `_over` runs once: what is open in the log gets its outcome first.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from ostiary.approvals.desk import Desk
from ostiary.approvals.words import State
from ostiary.audit.journal import Journal
from ostiary.driver.admission import unrecorded
from ostiary.driver.http_pool import Listens, Pool, TargetLink
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.lane import MAX_UNHEARD, Counting, Lane
from ostiary.driver.spawn import spawn
from ostiary.masking.documents import Unmaskable
from ostiary.masking.http import ReplyMasker
from ostiary.model import commands as c
from ostiary.model.approvals import Reply, Ticket
from ostiary.model.commands import Order
from ostiary.model.connections import HttpConnection
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import LogFailed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason
from ostiary.model.identity import Said
from ostiary.model.operations import Action
from ostiary.model.proofs import Denied, Intended, Outcome, Recorded
from ostiary.model.restraints import Restraint
from ostiary.policy.decide import NOBODY
from ostiary.policy.policies import Policies
from ostiary.protocols.http import refusals
from ostiary.protocols.http.messages import MAX_KEPT, Heads
from ostiary.protocols.http.operations import Understanding
from ostiary.protocols.http.relay import HttpRelay
from ostiary.protocols.http.states import Phase
from ostiary.recording.recorder import Recorder
from ostiary.session.exchange import reply, request, undecided
from ostiary.session.path import Line
from ostiary.vault.payload_format import PayloadError

RETRIED: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Safe methods (RFC 9110, 9.2.1): reads by them are sent again, once, where a kept connection turned out to be closed. Others could run twice."""

_log = structlog.get_logger("ostiary")


class Client:
    """The client's end of an exchange: whoever makes requests derives from it."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Tell the client to send the body that it holds back."""
        raise NotImplementedError

    def framed(self, relay: HttpRelay, recorded: Recorded, length: int | None, is_head: bool, has_body: bool) -> bytes:
        """What goes out of a recorded piece of the answer, in this hop's framing; `length`: of the body, if it is known."""
        return relay.framed(recorded, length, is_head, has_body)

    def ending(self, relay: HttpRelay) -> bytes:
        """What ends the answer."""
        return relay.ending()

    def answer(self, said: refusals.Said, *, bodiless: bool) -> None:
        """Send a whole answer of the gateway's own."""
        raise NotImplementedError

    def read(self, *, on: bool, why: str) -> None:
        """Stop or go on reading."""
        raise NotImplementedError

    def opened(self) -> None:
        """It is a WebSocket from now on."""
        raise NotImplementedError

    def over(self, exchange: Exchange, goes_on: bool) -> None:
        """The exchange has ended; `goes_on`: another may follow on this connection."""
        raise NotImplementedError


class Session:
    """What the exchanges of one token on one connection share."""

    def __init__(self, journal: Journal, admitted: Permit, destination: HttpDestination, desk: Desk, counting: Counting, label: str) -> None:
        self.journal = journal
        self.admitted = admitted
        self.destination = destination
        self.connection: HttpConnection = destination.connection
        self.desk = desk
        self.counting = counting
        self.label = label
        """Of its exchanges, in diagnostics."""
        self.restraint: Restraint | None = None
        self.granted: frozenset[str] = NOBODY
        self.recorder = Recorder(journal.stream if journal.is_full else None)
        self.understanding: Understanding = destination.understanding
        self.heads: Heads = destination.heads
        self.under_way: set[Exchange] = set()
        self.used = 0.0
        """When an exchange of it ended last."""
        self.token = b""
        """What stands for the login that it was opened by."""
        self.is_open = False
        """It is the one of its token on its connection."""
        self._wire = self._lines = self._dressed = b""
        """What was asked last, what was put into it, and what went out."""

    def masker(self, relay: HttpRelay) -> ReplyMasker:
        """What masks the answer to that request."""
        raise NotImplementedError

    def pool(self, relay: HttpRelay) -> Pool:
        """The connections to where that request goes."""
        raise NotImplementedError

    def service(self, relay: HttpRelay) -> HttpDestination:
        """Where that request goes."""
        raise NotImplementedError

    def ready(self) -> bytes | None:
        """What the service is shown, if it can be had at once; None: `fetch` it."""
        raise NotImplementedError

    async def fetch(self) -> bytes:
        """What the service is shown."""
        raise NotImplementedError

    def lines(self, relay: HttpRelay, shown: bytes) -> bytes:
        """Header lines that go out with that request besides its own: a credential, and who acts."""
        raise NotImplementedError

    def dressed(self, relay: HttpRelay, wire: bytes, shown: bytes) -> bytes:
        """The judged request as it goes out: with those lines before its blank line."""
        lines = self.lines(relay, shown)
        if not lines:
            return wire
        if wire is self._wire and lines is self._lines:
            return self._dressed
        end = wire.index(b"\r\n\r\n") + 2
        dressed = b"".join((wire[:end], lines, wire[end:]))
        if len(dressed) <= MAX_KEPT:
            self._wire, self._lines, self._dressed = wire, lines, dressed
        return dressed


class Exchange(Listens):
    """One request and its answer, under way."""

    def __init__(
        self, client: Client, session: Session, relay: HttpRelay, policies: Policies, said: Said, loop: asyncio.AbstractEventLoop
    ) -> None:
        # Through `self`, whose attributes have types where it is compiled.
        self.relay = relay
        self.session = session
        self.use(self.session.journal, self.session.recorder)
        socket = self.relay.reader.socket
        if socket is not None:
            socket.salt = secrets.token_bytes(16)
        self._loop = loop
        self._client = client
        self.masker = self.session.masker(relay)
        self.line = Line(self.session.admitted, self.session.connection, policies, relay, said, self.session.granted)
        self.line.restraint = self.session.restraint
        self.requests: Lane | None = None
        """What is left to do for the request, once something has to be waited for."""
        self._link: TargetLink | None = None
        self._sent: bytes | None = None
        """The head that went out, while it may have to go out again."""
        self._again = False
        """It went out a second time."""
        self._heard_target = False
        self._head_sent = False
        self._opened = False
        self._continued = False
        self._closed_outcome = False
        self.is_over = False
        self.broke_off = False
        """The answer ended in the middle: the client must not take it for whole."""
        self.moved_at = 0.0
        """When something of it moved last."""
        self._crowded = False
        """The client does not keep up."""
        self._target_is_full = False
        self._ended = False
        """The client sends no more."""
        self._is_decided = False
        """What was decided is on its way to the record."""
        self._denying = False
        """It has failed before that, and goes on record as refused."""
        self._ticket: Ticket | None = None
        """The question that is waited for."""
        self.waits_for_target = False
        """The request is with the service."""

    def begin(self, early: bytes = b"") -> None:
        """Start. `early`: what came of the body."""
        try:
            rest = request(self.line, self.masker, self)
        except Exception as exc:  # noqa: BLE001 - whatever it was, the exchange ends, and `fail` sorts by whose fault
            self._request_over(exc)
            return
        if rest is None:
            self._request_over(None)
            return
        self.requests = self.lane = Lane(rest, _CARRY_OUT, self._request_over, self.session.label, self)
        if early:
            self.requests.hear(early)
        self.requests.resume(None)

    # --- what sockets say ---

    def client_sent(self, data: bytes) -> None:
        """More of the request came, or of a WebSocket."""
        if self.relay.is_open():
            self.moved_at = self._loop.time()
        requests = self.requests
        if requests is not None:
            requests.hear(data)
            if requests.unheard_bytes > MAX_UNHEARD:
                self._client.read(on=False, why="unheard")

    def client_ended(self) -> None:
        """The client sends no more. Whoever is held for people is taken to have gone: one that closed looks the same."""
        self._ended = True
        if self.relay.is_open():
            self.abandon()
        elif not self.relay.body.is_done:
            if self.requests is not None:
                self.requests.lose()
        else:
            self._call_off("the client has gone")

    def target_sent(self, data: bytes) -> None:
        """The service says something."""
        self._heard_target = True
        reader = self.relay.reader
        if reader.status or not reader.is_in_head:  # a head that comes in drops is no sign of life
            self.moved_at = self._loop.time()
        self._sent = None
        self._answer(data)

    def target_closed(self) -> None:
        """The service has closed its end."""
        self.moved_at = self._loop.time()
        wire, self._sent = self._sent, None
        if wire is not None and not self._heard_target and self._link is not None and self._may_run_twice():
            link, self._link, self._again = self._link, None, True
            self.session.pool(self.relay).drop(link)
            spawn(self._dispatch_again(wire), self.session.label)
            return
        self._answer(None)

    def _answer(self, data: bytes | None) -> None:
        """Take in what the service says; None: that it has closed its end."""
        if self.is_over or self._denying:
            return
        try:
            reply(self.line, self.masker, self, data)
        except Exception as exc:  # noqa: BLE001 - whatever it was, the exchange ends, and `fail` sorts by whose fault
            self.fail(exc)
        else:
            if self.relay.is_answered:
                self._over(self.relay.reader.keeps and self.relay.is_sent())

    def target_full(self, *, full: bool) -> None:
        """The service does not keep up."""
        self.moved_at = self._loop.time()
        self._target_is_full = full
        self._client.read(on=not full, why="crowded")

    def client_full(self, *, full: bool) -> None:
        """The client does not keep up: the service is not read."""
        link = self._link
        self._crowded = full
        self.moved_at = self._loop.time()
        if link is not None and link.transport is not None and link.is_open():
            (link.transport.pause_reading if full else link.transport.resume_reading)()

    # --- commands ---

    def _waiting(self) -> Lane:
        """The lane, for a command of its own."""
        assert self.requests is not None  # noqa: S101 - whatever asks, it runs it
        return self.requests

    def _hear_client(self, _: c.HearClient) -> Any:
        requests = self._waiting()
        if self.relay.expects_continue and not self._continued and not requests.unheard:
            self._client.go_on()
        self._continued = True
        heard = requests.listen()
        if not requests.unheard:
            self._client.read(on=True, why="unheard")
        return heard

    def clock(self) -> int:
        """See `World.clock`."""
        return int(time.time())

    def _count(self, command: c.Command) -> Any:
        return self.session.counting[type(command)](command)

    def count(self, counting: Coroutine[c.Command, Any, None]) -> None:
        """See `World.count`."""
        found: object = None
        try:
            while True:
                found = self._count(counting.send(found))
        except StopIteration:
            return

    def write(self, decisions: tuple[Permit | Refusal, ...]) -> tuple[Intended | Denied, ...] | None:
        """See `World.write`."""
        self._is_decided = True
        return Listens.write(self, decisions)

    def _ask(self, command: c.AskHuman) -> Any:
        return self._waiting().later(self._asked(command))

    async def _asked(self, command: c.AskHuman) -> Ticket:
        line, desk = self.line, self.session.desk
        ticket = await desk.ask(command.question, line.connection, session="", state=command.state, said=line.said)
        if self.is_over and ticket.id and ticket.answer is None and ticket.is_new and not desk.is_waited_for(ticket.id):
            desk.withdraw(ticket.id, State.CANCELLED)
        return ticket

    def _await_answer(self, command: c.AwaitAnswer) -> Any:
        if self._ended:
            if command.ticket.is_new and not self.session.desk.is_waited_for(command.ticket.id):
                self.session.desk.withdraw(command.ticket.id, State.CANCELLED)
            return Reply(None, "the client has gone")
        self._ticket = command.ticket
        return self._waiting().later(
            self._answered(self.session.desk.wait(command.ticket, command.seconds, by=self, keeps=True))
        )

    async def _answered(self, waiting: Coroutine[Any, Any, Reply]) -> Reply:
        try:
            return await waiting
        finally:
            self._ticket = None

    def _call_off(self, why: str) -> bool:
        """Whoever made the request waits no longer. Their question goes with them, unless an earlier answer has told them of it."""
        ticket = self._ticket
        if ticket is not None:
            self.session.desk.call_off(ticket.id, why, by=self, keeps=not ticket.is_new)
        return ticket is not None

    def run(self, order: Order) -> bool:
        """See `World.run`."""
        if not order.intended:
            if self._link is not None and self._link.transport is not None:
                self._link.transport.write(order.wire)
            return True
        self.waits_for_target = True
        self.moved_at = self._loop.time()
        shown = self.session.ready()
        if shown is not None and (link := self.session.pool(self.relay).take(self.moved_at)) is not None:
            self._attach(link, order.wire, shown)
            return True
        spawn(self._dispatched(order.wire), self.session.label)
        return False

    async def _dispatched(self, wire: bytes) -> None:
        """Let the lane go on once the request's head was sent, on a connection that has to be waited for."""
        try:
            await self._dispatch(wire)
        except Exception as exc:  # noqa: BLE001 - the lane ends with it, and `fail` sorts by whose fault
            self._waiting().fail(exc)
        else:
            self._waiting().resume(None)

    async def _dispatch(self, wire: bytes) -> None:
        """Send a request's head on a connection that has to be waited for."""
        destination = self.session.service(self.relay)
        shown = self.session.ready()
        if shown is None:
            shown = await self.session.fetch()
        link = await destination.open()
        if self.is_over:
            destination.pool.give_back(link, not link.is_used, self._loop.time())
            raise ConnectionResetError("the client has gone")
        self.moved_at = self._loop.time()
        self._attach(link, wire, shown)

    async def _dispatch_again(self, wire: bytes) -> None:
        """As `_dispatch`, once a kept connection turned out to be closed: no lane waits for it."""
        try:
            await self._dispatch(wire)
        except Exception as exc:  # noqa: BLE001 - the exchange ends with it, and `fail` sorts by whose fault
            self.fail(exc)

    def _attach(self, link: TargetLink, wire: bytes, shown: bytes) -> None:
        """Give the judged request to the service, with the credential and the actor put before its blank line."""
        self._link = link
        link.taker = self
        if link.is_used and self.relay.body.is_done:
            self._sent = wire
        if link.transport is not None:
            link.transport.write(self.session.dressed(self.relay, wire, shown))
            if self._crowded:
                link.transport.pause_reading()

    def _may_run_twice(self) -> bool:
        """Whether it is a plain read, and was not sent again before: what a route calls something else happens once at most.

        It went out whole, on a connection that had carried another before.
        """
        under, relay = self.relay.under, self.relay
        if under is None or self._again or relay.reader.socket is not None or relay.head.method not in RETRIED:
            return False
        facts = under.permit.operation.facts
        return facts.action is Action.READ and not facts.opaque

    def send(self, recorded: tuple[Recorded, ...]) -> None:
        """See `World.send`."""
        relay, masker = self.relay, self.masker
        out: list[bytes] = []
        each: Recorded
        for each in recorded:
            out.append(self._client.framed(relay, each, masker.length, not self._head_sent, masker.has_body))
            self._head_sent = True
        opens = False
        if relay.reader.socket is not None:
            opens, self._opened = relay.is_open() and not self._opened, relay.is_open()
        if relay.is_answered:
            self._closed_outcome = True
            out.append(self._client.ending(relay))
        self._client.write(b"".join(out))
        if opens:
            self._client.opened()

    # --- the end ---

    def _request_over(self, failure: BaseException | None) -> None:
        """Its lane has ended: with all of the request sent, or the gateway's own answer; or it failed."""
        if self.relay.bug is not None:
            _log.error("a request could not be judged", session=self._journal.session, exc_info=self.relay.bug)
        if failure is not None:
            self.fail(failure, by_client=True)
        elif self.relay.is_answered and self.relay.under is None:
            self.moved_at = self._loop.time()
            self._over(False)
        elif not self.waits_for_target:
            self.fail(ConnectionResetError("the client has gone"))
        elif self.relay.is_answered:
            self.moved_at = self._loop.time()
            self._over(self.relay.reader.keeps)

    def fail(self, failure: BaseException, *, by_client: bool = False) -> None:
        """End it: tell the client what can be told, as long as nothing of an answer went out. `by_client`: it came of the request."""
        if self.is_over or self._denying:
            return
        if self._is_decided or isinstance(failure, ConnectionResetError):
            self._end(failure, by_client=by_client)
            return
        self._denying = True
        if self.requests is not None:
            self.requests.stop()
        spawn(self._denied(failure, by_client=by_client), self.session.label)

    async def _denied(self, failure: BaseException, *, by_client: bool) -> None:
        """It fails before anything was decided: it is on record as refused, before the client hears of it."""
        try:
            why = failure if isinstance(failure, Exception) else RuntimeError()
            written = self._journal.write((undecided(self.line, self.relay, why),))
            await self._journal.wait_durable(written)
        except Exception as exc:  # noqa: BLE001 - it ends all the same, and the operator hears of it
            _log.error("a request that failed is not on record", session=self._journal.session, error=str(exc))
            failure = exc if isinstance(exc, OstiaryError) else failure
        self._end(failure, by_client=by_client)

    def _end(self, failure: BaseException, *, by_client: bool) -> None:
        if self.is_over:
            return
        self.moved_at = self._loop.time()
        told, name = _explained(failure, self.waits_for_target and not by_client)
        if not isinstance(failure, OstiaryError | OSError):
            _log.error("bug in an exchange", session=self._journal.session, exc_info=failure)
        outcome = self.relay.outcome("unknown" if isinstance(failure, OSError) else "error", name)
        if outcome is not None:
            self._close(outcome)
        if not self._head_sent:
            self._client.answer(self.relay.failed(told), bodiless=self.relay.head.method == b"HEAD")
            self._over(False, False)
        elif self.relay.is_open():
            ours, theirs = self.relay.goodbye(told)
            self._client.write(ours)
            if self._link is not None and self._link.transport is not None:
                self._link.transport.write(theirs)
            self._over(False, False)
        else:
            self._over(False, None)

    def _close(self, outcome: Outcome) -> None:
        if self._closed_outcome:
            return
        self._closed_outcome = True
        try:
            self._journal.outcomes((outcome,))
        except (OstiaryError, OSError) as exc:
            # Recovery will close it as unknown: the log says so then, and the operator hears it now.
            _log.error("the end of a request is not on record", session=self._journal.session, error=str(exc))

    def _over(self, keeps: bool, goes_on: bool | None = True) -> None:
        """Let go of everything. Runs once; `moved_at` is now. `goes_on` None: the answer broke off, and the client must see that."""
        if self.is_over:
            return
        self.is_over = True
        self.give_up()
        if self.requests is not None:
            self.requests.stop()
        link, self._link = self._link, None
        if link is not None:
            if self._crowded and link.transport is not None and link.is_open():
                link.transport.resume_reading()  # whoever gets it next has a client of their own
            self.session.pool(self.relay).give_back(link, keeps, self.moved_at)
        if goes_on is None:
            self.broke_off = True
            self._client.over(self, False)
        else:
            self._client.over(self, goes_on and not self.relay.closes and self.relay.body.is_done)

    def is_late(self, now: float) -> bool:
        """Whether the service has been silent, or has taken nothing, for too long. A client that does not read is not its fault."""
        limit = self.session.destination.connection.upstream.reply_seconds
        is_its_turn = (not self.relay.takes_more() or self._target_is_full) and not self._crowded
        return self._link is not None and is_its_turn and now - self.moved_at > limit

    def is_stuck(self, now: float, seconds: float) -> bool:
        """Whether the client has not taken its answer for so long: it holds a connection to the service, which others wait for."""
        return self._crowded and now - self.moved_at > seconds

    def is_silent(self, now: float, seconds: float) -> bool:
        """Whether it is a WebSocket in which nobody has said anything for so long."""
        return self.relay.is_open() and now - self.moved_at > seconds

    @property
    def is_judging(self) -> bool:
        """Whether nothing was decided yet: what is held of the request is held by us."""
        return self.relay.phase is Phase.JUDGING

    @property
    def held_bytes(self) -> int:
        """Of the request's body: what was heard and is not decided, and what nobody has heard yet."""
        unheard = 0 if self.requests is None else self.requests.unheard_bytes
        return unheard + (self.relay.body.size if self.is_judging else 0)

    def left(self) -> None:
        """The client has gone. A request that waits for people is refused on record; any other ends."""
        if not self._call_off("the client has gone"):
            self.abandon()

    def abandon(self) -> None:
        """The client has gone, or the session ends."""
        self._call_off("the session has ended")
        self._head_sent = True  # nothing can be told any more
        self.fail(ConnectionResetError("the client has gone"))


_COMMANDS: Final[dict[type, str]] = {
    c.HearClient: "_hear_client", c.Count: "_count", c.Hold: "_count", c.Take: "_count", c.AskHuman: "_ask", c.AwaitAnswer: "_await_answer",
    c.AwaitDurable: "park", c.AwaitRun: "park", c.Keep: "keep",
}  # fmt: skip
_CARRY_OUT: Final[dict[type, Callable[..., Any]]] = {kind: getattr(Exchange, name) for kind, name in _COMMANDS.items()}
"""How an exchange carries out each kind of command: one table for all of them."""


def _explained(failure: BaseException, asked: bool) -> tuple[Exception, str]:
    """What the client hears, and what the outcome says."""
    match failure:
        case Unmaskable():
            hint = "The operator can name its media type in pass_types, or policy can show its classes in clear."
            return NotAdmitted(Reason.UNMASKABLE, str(failure), hint), Reason.UNMASKABLE.name
        case PeerMisbehaved() if asked:
            return NotAdmitted(Reason.TARGET_REFUSED, f"its answer breaks the protocol ({failure.why.name})"), failure.why.name
        case PeerMisbehaved():
            return failure, failure.why.name
        case NotAdmitted():
            return failure, failure.reason.name
        case LogFailed() | PayloadError():
            told = unrecorded(failure)
            return told, told.reason.name
        case OSError():
            return NotAdmitted(Reason.TARGET_UNREACHABLE, "it closed the connection"), Reason.TARGET_UNREACHABLE.name
        case _:
            return RuntimeError(), "INTERNAL_ERROR"
