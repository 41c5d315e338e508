"""Carries out the commands of one session: the only place where its bytes meet sockets, the log and the clock.

Theory of operation
-------------------
`session/path.py` is two coroutines, and a `Lane` (`lane.py`) drives each.

Back-pressure is the transports': when one side's write buffer is full, the other side is not read. A lane that is parked keeps what
it heard, up to `MAX_UNHEARD`, and then its transport is paused too.

However a session ends, `finish` runs once: what is open in the log gets its outcome, and `session.end` follows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

import structlog

from ostiary.approvals.desk import Desk
from ostiary.approvals.words import State
from ostiary.audit.journal import Journal
from ostiary.catalogue.holder import Catalogue
from ostiary.driver.admission import unrecorded
from ostiary.driver.lane import MAX_UNHEARD, PENDING, Counting, Lane, LogWorld, Pending
from ostiary.model import commands as c
from ostiary.model.approvals import Reply
from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import Order
from ostiary.model.errors import LogFailed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason, Side
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.proofs import Recorded
from ostiary.protocols.postgres import encode, refusals
from ostiary.protocols.postgres.relay import PostgresRelay
from ostiary.session.path import Line, replies, requests
from ostiary.upstream import Target
from ostiary.vault.payload_format import PayloadError

MAX_OUTSTANDING: Final = 4096
"""Messages whose answers are outstanding before the client is no longer read."""
LINGER_SECONDS: Final = 10.0
"""How long a target may take to finish what a client that left had asked for."""

CLIENT: Final = Side.CLIENT
TARGET: Final = Side.TARGET

_log = structlog.get_logger("ostiary")


class Peer:
    """One side's socket, as an `asyncio.Protocol` (though no subclass of it): hands bytes to its lane and back-pressure to the other side."""

    __slots__ = ("_session", "side")

    def __init__(self, session: SessionDriver, side: Side) -> None:
        self._session = session
        self.side = side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was there before."""

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        session = self._session
        session.heard(self.side, data)

    def eof_received(self) -> None:
        """The peer has stopped sending; the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        del exc  # why is the same to us
        session = self._session
        session.lost(self.side)

    def pause_writing(self) -> None:
        """Too much waits to be written here: stop reading the other side."""
        session = self._session
        session.crowded(self.side, full=True)

    def resume_writing(self) -> None:
        """What waited is written."""
        session = self._session
        session.crowded(self.side, full=False)


class SessionDriver(LogWorld):
    """One session between a client and a target, from the first statement to `session.end`, and the world of its path."""

    def __init__(
        self,
        *,
        line: Line,
        relay: PostgresRelay,
        journal: Journal,
        catalogue: Catalogue,
        desk: Desk,
        cancel: Callable[[], None],
        ended: Callable[[], None],
        counting: Counting,
    ) -> None:
        """`desk` asks people; `cancel` asks the target to stop what it is doing; `ended` is called once, at the end."""
        super().__init__(journal)
        self.line = line
        self.who: VerifiedIdentity = line.who
        self._relay = relay
        self._catalogue = catalogue
        self._desk = desk
        self._has_asked = False
        self._question = ""
        """Id of the question whose answer is waited for."""
        self._settling = False
        """The requests wait until nothing is outstanding."""
        self._nudged = False
        """An answer came for which client bytes wait, while the requests were waiting for something else."""
        self._cancel = cancel
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._client: asyncio.Transport | None = None
        self._target: asyncio.Transport | None = None
        self._client_paused: set[str] = set()
        """Why the client is not read; empty: it is."""
        self._target_paused: set[str] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._finished = False
        self._idle_seconds = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._heard_at = self._loop.time()
        carry_out: dict[type, Callable[[Any], Any]] = {
            c.HearClient: self._hear_client,
            c.HearTarget: self._hear_target,
            c.LookUp: self._look_up,
            c.Settle: self._settle,
            c.AskHuman: self._ask,
            c.AwaitAnswer: self._await_answer,
            c.AwaitDurable: self.park,
            c.Keep: self.keep,
            **counting,
        }
        name = f"session {journal.session}"
        self._requests = self.lane = Lane(requests(line, self), carry_out, self._requests_over, name)
        self._replies = Lane(replies(line, self), carry_out, self._replies_over, name)

    def begin(self, client: asyncio.Transport, target: Target, early: bytes) -> None:
        """Take over both sockets. `early`: what the client sent beyond its login.

        Raises `NotAdmitted` if the target has gone in between.
        """
        self._client, self._target = client, target.transport
        self._requests.resume(None)
        self._replies.resume(None)
        client.set_protocol(cast(asyncio.Protocol, Peer(self, CLIENT)))
        target.attach(cast(asyncio.Protocol, Peer(self, TARGET)))
        if early:
            self._requests.hear(early)

    @property
    def session(self) -> str:
        """The session's id."""
        return self._journal.session

    @property
    def is_waiting(self) -> bool:
        """Something that the client asked for has not been answered."""
        return self._relay.outstanding > 0 or bool(self._question)

    def end_when_idle(self, seconds: float) -> None:
        """End the session once its client has said nothing for so many seconds, and nothing is being done for it."""
        self._idle_seconds = seconds
        self._idle_timer = self._loop.call_later(seconds, self._is_it_idle)

    def _is_it_idle(self) -> None:
        left = self._heard_at + self._idle_seconds - self._loop.time()
        if left <= 0 and not self.is_waiting:
            self.cut(NotAdmitted(Reason.IDLE))
        elif not self._finished:
            self._idle_timer = self._loop.call_later(max(left, 1.0), self._is_it_idle)

    # --- what sockets say ---

    def heard(self, side: Side, data: bytes) -> None:
        """Bytes came from one side."""
        if side is TARGET:
            self._replies.hear(data)
            if self._relay.is_stalled:
                if self._requests.waits:
                    self._requests.hear(b"")
                else:
                    self._nudged = True
            if self._settling and not self._relay.is_settling:
                self._settling = False
                self._requests.resume(None)
            if self._client_paused and "ahead" in self._client_paused and self._relay.outstanding < MAX_OUTSTANDING // 2:
                self._pause(CLIENT, "ahead", on=False)
            lane = self._replies
        else:
            if self._idle_timer is not None:
                self._heard_at = self._loop.time()
            self._requests.hear(data)
            if self._relay.outstanding > MAX_OUTSTANDING:
                self._pause(CLIENT, "ahead", on=True)
            lane = self._requests
        if lane.unheard_bytes > MAX_UNHEARD:
            self._pause(side, "unheard", on=True)

    def lost(self, side: Side) -> None:
        """One side's socket is closed."""
        if side is CLIENT and self._question:
            self._desk.call_off(self._question, "the client has gone")
        (self._requests if side is CLIENT else self._replies).lose()

    def crowded(self, side: Side, *, full: bool) -> None:
        """One side is not read while the other has too much to be written."""
        self._pause(TARGET if side is CLIENT else CLIENT, "crowded", on=full)

    def _pause(self, side: Side, why: str, *, on: bool) -> None:
        transport = self._client if side is CLIENT else self._target
        reasons = self._client_paused if side is CLIENT else self._target_paused
        if transport is None or transport.is_closing():
            return
        if on:
            if not reasons:
                transport.pause_reading()
            reasons.add(why)
        elif why in reasons:
            reasons.discard(why)
            if not reasons:
                transport.resume_reading()

    # --- commands ---

    def _hear_client(self, _command: c.HearClient) -> bytes | Pending | None:
        if self._relay.is_leaving:
            return None
        if self._nudged:
            self._nudged = False
            if not self._requests.unheard:
                return b""
        heard = self._requests.listen()
        if self._client_paused and "unheard" in self._client_paused and not self._requests.unheard:
            self._pause(CLIENT, "unheard", on=False)
        return heard

    def _hear_target(self, _command: c.HearTarget) -> bytes | Pending | None:
        heard = self._replies.listen()
        if self._target_paused and "unheard" in self._target_paused and not self._replies.unheard:
            self._pause(TARGET, "unheard", on=False)
        return heard

    def known(self) -> Snapshot | None:
        """See `World.known`."""
        return self._catalogue.current()

    def _look_up(self, command: c.LookUp) -> Any:
        snapshot = None if command.afresh else self._catalogue.current()
        if snapshot is not None:
            return snapshot
        return self._requests.later(self._catalogue.refresh(time.monotonic() if command.afresh else 0.0))

    def clock(self) -> int:
        """See `World.clock`."""
        return int(time.time())

    def _settle(self, _command: c.Settle) -> Any:
        if not self._relay.is_settling:
            return None
        self._settling = True
        return PENDING

    def _ask(self, command: c.AskHuman) -> Any:
        self._has_asked = True
        line = self.line
        return self._requests.later(
            self._desk.ask(
                command.question, line.connection, session=self._journal.session, state=command.state, said=line.said
            ),
        )

    def _await_answer(self, command: c.AwaitAnswer) -> Any:
        if self._requests.gone:
            self._desk.withdraw(command.ticket.id, State.CANCELLED)
            return Reply(None, "the client has gone")
        self._question = command.ticket.id
        return self._requests.later(self._answered(self._desk.wait(command.ticket, command.seconds)))

    async def _answered(self, waiting: Coroutine[Any, Any, Reply]) -> Reply:
        try:
            reply = await waiting
        finally:
            self._question = ""
        if reply.answer is not None and self._requests.gone:
            return Reply(None, "the client has gone")
        return reply

    def call_off(self) -> bool:
        """Call off the question that is waited for, as the client cancels; whether there is one."""
        if not self._question:
            return False
        self._desk.call_off(self._question, "it was called off")
        return True

    def run(self, order: Order) -> bool:
        """See `World.run`."""
        target = self._target
        if target is not None and not target.is_closing():
            target.write(order.wire)
        return True

    def outdate(self) -> None:
        """See `World.outdate`."""
        self._catalogue.invalidate()

    def send(self, recorded: tuple[Recorded, ...]) -> None:
        """See `World.send`."""
        client = self._client
        if client is None or client.is_closing():
            return
        if len(recorded) == 1:
            client.write(recorded[0].frames)
        else:
            client.write(b"".join([r.frames for r in recorded]))

    # --- the end ---

    def _requests_over(self, failure: BaseException | None) -> None:
        if failure is not None:
            self.cut(failure)
        elif self._target is not None and not self._finished and not self._target.is_closing():
            # The client has left. What it asked for last still runs, as it would without a gateway.
            self._target.write(encode.TERMINATE)
            self._timers.append(self._loop.call_later(LINGER_SECONDS, self.finish, "client gone"))
            self._pause(TARGET, "crowded", on=False)

    def _replies_over(self, failure: BaseException | None) -> None:
        if failure is not None:
            self.cut(failure)
        elif self._requests.gone or self._relay.is_leaving:
            self.finish("ended")
        elif self._relay.has_farewell:
            self.finish(Reason.TARGET_UNREACHABLE.name)
        else:
            self.cut(NotAdmitted(Reason.TARGET_UNREACHABLE, "the target closed the connection"))

    def cut(self, failure: BaseException) -> None:
        """End the session at once, and tell the client why, as far as it is its business."""
        if self._finished:
            return
        told, status = _explain(failure)
        if self._client is not None and not self._client.is_closing():
            self._client.write(told)
        if not isinstance(failure, OstiaryError):
            _log.error("bug in a session", session=self._journal.session, exc_info=failure)
        self.finish(status)

    def finish(self, status: str) -> None:
        """Close what is open in the log, and both sockets. Runs once."""
        if self._finished:
            return
        self._finished = True
        for timer in (*self._timers, self._idle_timer):
            if timer is not None:
                timer.cancel()
        for lane in (self._requests, self._replies):
            if not lane.is_over and not lane.busy:
                lane.is_over = True
        if self._relay.outstanding > 0:
            self._cancel()  # nobody is there to hear of it any more
        if self._question:
            self._desk.call_off(self._question, "the session has ended")
        if self._has_asked:
            self._desk.leave(self._journal.session)
        try:
            self.give_up()
            outcomes = self._relay.abandon()
            if outcomes:
                self._journal.outcomes(outcomes)
            self._journal.end(status)
        except (OstiaryError, OSError) as exc:
            # Recovery will close them as unknown: the log says so then, and the operator hears it now.
            _log.error("a session's end is not on record", session=self._journal.session, error=str(exc))
        for transport in (self._client, self._target):
            if transport is not None:
                transport.close()
        self._ended()
        self._let_go()

    def _let_go(self) -> None:
        """Hold on to nobody: then all that a session was goes with it, and the collector need not find it."""
        self._requests.stop()
        self._replies.stop()
        self._ended = self._cancel = _nothing


def _nothing() -> None:
    """What is left to be done once a session is over."""


def _explain(failure: BaseException) -> tuple[bytes, str]:
    """What the client hears, as a FATAL ErrorResponse, and the status of `session.end`."""
    match failure:
        case PeerMisbehaved():
            return refusals.goodbye(failure), failure.why.name
        case NotAdmitted():
            return refusals.goodbye(failure), failure.reason.name
        case LogFailed() | PayloadError():
            told = unrecorded(failure, "Nothing runs unrecorded, and no answer goes out. Try again later.")
            return refusals.not_admitted(told), told.reason.name
        case _:
            return refusals.goodbye(failure if isinstance(failure, Exception) else RuntimeError()), "INTERNAL_ERROR"
