"""Carries out the commands of one session: the only place where its bytes meet sockets, the log and the clock.

Theory of operation
-------------------
`session/path.py` is two coroutines without an event loop. A `Lane` drives one of them: it sends the reply in and gets the next
command out, in a plain loop, for as long as commands can be carried out at once. A command that has to wait leaves the
lane parked; whoever ends the wait calls `Lane.resume`. So a round trip costs no task and no future.

Back-pressure is the transports': when one side's write buffer is full, the other side is not read. A lane that is parked keeps what
it heard, up to `MAX_UNHEARD`, and then its transport is paused too.

However a session ends, `finish` runs once: what is open in the log gets its outcome, and `session.end` follows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog

from ostiary.approvals.desk import Desk
from ostiary.approvals.words import State
from ostiary.audit.journal import Journal, Written
from ostiary.catalogue import Catalogue
from ostiary.driver.spawn import spawn
from ostiary.model import commands as c
from ostiary.model.approvals import Reply
from ostiary.model.errors import LogFailed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason, Side
from ostiary.model.events import PayloadKind
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.restraints import Missing
from ostiary.protocols.postgres import encode, refusals
from ostiary.protocols.postgres.relay import PostgresRelay
from ostiary.recording.recorder import Recorder
from ostiary.session.path import Line, replies, requests
from ostiary.upstream import Target
from ostiary.vault.payload_format import PayloadError
from ostiary.vault.payloads import PayloadStream

MAX_UNHEARD: Final = 1 << 20
"""Bytes that a parked lane keeps before its side is no longer read."""
MAX_OUTSTANDING: Final = 4096
"""Messages whose answers are outstanding before the client is no longer read."""
LINGER_SECONDS: Final = 10.0
"""How long a target may take to finish what a client that left had asked for."""

_log = structlog.get_logger("ostiary")


class _Pending:
    """The reply is not there yet."""


PENDING: Final = _Pending()
CLIENT: Final = Side.CLIENT
TARGET: Final = Side.TARGET


class Lane:
    """One direction of the path, driven."""

    __slots__ = ("_carry_out", "_coroutine", "_failed", "_send", "busy", "gone", "is_over", "unheard", "unheard_bytes", "waits")

    def __init__(
        self,
        coroutine: Coroutine[c.Command, Any, None],
        carry_out: Mapping[type, Callable[[Any], Any]],
        failed: Callable[[BaseException | None], None],
    ) -> None:
        self._coroutine = coroutine
        self._send = coroutine.send
        self._carry_out = carry_out
        """How each kind of command is carried out; PENDING: somebody will call `resume`."""
        self._failed = failed
        self.unheard: deque[bytes] = deque()
        self.unheard_bytes = 0
        self.waits = False
        """It is parked in a Hear command."""
        self.gone = False
        """Its peer will send no more."""
        self.busy = False
        self.is_over = False

    def resume(self, reply: object) -> None:
        """Send `reply` in, and carry out commands until one has to wait."""
        if self.is_over:
            return
        self.busy = True
        try:
            send, carry_out = self._send, self._carry_out
            command = send(reply)
            while True:
                answer = carry_out[type(command)](command)
                if answer is PENDING:
                    return
                command = send(answer)
        except StopIteration:
            self.is_over = True
            self._failed(None)
        except Exception as exc:  # noqa: BLE001 - whatever it was, the session ends, and `_failed` sorts by whose fault
            self.is_over = True
            self._failed(exc)
        finally:
            self.busy = False

    def fail(self, exc: BaseException) -> None:
        """End the lane: the command that it waits for cannot be carried out."""
        if not self.is_over:
            self.is_over = True
            self._coroutine.close()
            self._failed(exc)

    def hear(self, data: bytes) -> None:
        """Bytes came from its peer."""
        if self.waits:
            self.waits = False
            self.resume(data)
        else:
            self.unheard.append(data)
            self.unheard_bytes += len(data)

    def lose(self) -> None:
        """Its peer has gone."""
        self.gone = True
        if self.waits:
            self.waits = False
            self.resume(None)

    def listen(self) -> bytes | _Pending | None:
        """Carry out a Hear command."""
        if self.unheard:
            data = self.unheard.popleft()
            self.unheard_bytes -= len(data)
            return data
        if self.gone:
            return None
        self.waits = True
        return PENDING


class Peer(asyncio.Protocol):
    """One side's socket: hands bytes to its lane and back-pressure to the other side."""

    __slots__ = ("_session", "side")

    def __init__(self, session: SessionDriver, side: Side) -> None:
        self._session = session
        self.side = side

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._session.heard(self.side, data)

    def eof_received(self) -> None:
        """The peer has stopped sending; the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        del exc  # why is the same to us
        self._session.lost(self.side)

    def pause_writing(self) -> None:
        """Too much waits to be written here: stop reading the other side."""
        self._session.crowded(self.side, full=True)

    def resume_writing(self) -> None:
        """What waited is written."""
        self._session.crowded(self.side, full=False)


class SessionDriver:
    """One session between a client and a target, from the first statement to `session.end`."""

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
        count: Callable[[c.Count], Missing | None],
    ) -> None:
        """`desk` asks people; `cancel` asks the target to stop what it is doing; `ended` is called once, at the end."""
        self.line = line
        self.who: VerifiedIdentity = line.who
        self._relay = relay
        self._journal = journal
        self._recorder = Recorder(journal.stream)
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
        self._under_way: Written | None = None
        """A batch of decisions that is not durable yet."""
        self._idle_seconds = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._heard_at = self._loop.time()
        carry_out: dict[type, Callable[[Any], Any]] = {
            c.HearClient: self._hear_client,
            c.HearTarget: self._hear_target,
            c.LookUp: self._look_up,
            c.Clock: self._clock,
            c.Count: count,
            c.Settle: self._settle,
            c.AskHuman: self._ask,
            c.AwaitAnswer: self._await_answer,
            c.MakeDurable: self._make_durable,
            c.Keep: self._keep,
            c.Run: self._run,
            c.Record: self._record,
            c.Close: self._close,
            c.Outdate: self._outdate,
            c.Send: self._send,
        }
        self._requests = Lane(requests(line), carry_out, self._requests_over)
        self._replies = Lane(replies(line), carry_out, self._replies_over)

    def begin(self, client: asyncio.Transport, target: Target, early: bytes) -> None:
        """Take over both sockets. `early`: what the client sent beyond its login.

        Raises `NotAdmitted` if the target has gone in between.
        """
        self._client, self._target = client, target.transport
        self._requests.resume(None)
        self._replies.resume(None)
        client.set_protocol(Peer(self, CLIENT))
        target.attach(Peer(self, TARGET))
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

    def _hear_client(self, _command: c.HearClient) -> bytes | _Pending | None:
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

    def _hear_target(self, _command: c.HearTarget) -> bytes | _Pending | None:
        heard = self._replies.listen()
        if self._target_paused and "unheard" in self._target_paused and not self._replies.unheard:
            self._pause(TARGET, "unheard", on=False)
        return heard

    def _look_up(self, _command: c.LookUp) -> Any:
        snapshot = self._catalogue.current()
        if snapshot is not None:
            return snapshot
        return self._later(self._requests, self._catalogue.refresh())

    def _clock(self, _command: c.Clock) -> int:
        return int(time.time())

    def _settle(self, _command: c.Settle) -> Any:
        if not self._relay.is_settling:
            return None
        self._settling = True
        return PENDING

    def _ask(self, command: c.AskHuman) -> Any:
        self._has_asked = True
        line = self.line
        return self._later(
            self._requests,
            self._desk.ask(
                command.question, line.connection, session=self._journal.session, state=command.state, said=line.said
            ),
        )

    def _await_answer(self, command: c.AwaitAnswer) -> Any:
        if self._requests.gone:
            self._desk.withdraw(command.ticket.id, State.CANCELLED)
            return Reply(None, "the client has gone")
        self._question = command.ticket.id
        return self._later(self._requests, self._answered(self._desk.wait(command.ticket, command.seconds)))

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

    def _make_durable(self, command: c.MakeDurable) -> Any:
        written = self._journal.write(command.decisions)
        if self._recorder.stream is None:
            self._recorder.stream = self._journal.stream if self._journal.is_full else None
        if not self._journal.strict:
            return self._journal.proofs(written)
        self._under_way = written
        return self._later(self._requests, self._durable(written))

    async def _durable(self, written: Written) -> Any:
        await self._journal.wait_durable(written)
        self._under_way = None
        return self._journal.proofs(written)

    def _keep(self, command: c.Keep) -> Any:
        stream = self._recorder.stream
        if stream is None:
            return None
        stream.append(PayloadKind.COPY_IN, command.under.entry, self._journal.elapsed_us(), command.data)
        if command.ends and self._journal.strict:
            return self._later(self._requests, self._kept(stream))
        return None

    async def _kept(self, stream: PayloadStream) -> None:
        await self._loop.run_in_executor(None, stream.sync)

    def _run(self, command: c.Run) -> None:
        target = self._target
        if target is not None and not target.is_closing():
            target.write(command.order.wire)

    def _record(self, command: c.Record) -> Any:
        if self._recorder.stream is None:
            return self._recorder.record(command.masked, 0, "")
        under = command.under
        return self._recorder.record(
            command.masked, self._journal.elapsed_us(), NO_OPERATION if under is None else under.entry
        )

    def _close(self, command: c.Close) -> None:
        self._journal.outcomes(command.outcomes)

    def _outdate(self, _command: c.Outdate) -> None:
        self._catalogue.invalidate()

    def _send(self, command: c.Send) -> None:
        client = self._client
        if client is None or client.is_closing():
            return
        recorded = command.recorded
        if len(recorded) == 1:
            client.write(recorded[0].frames)
        else:
            client.write(b"".join([r.frames for r in recorded]))

    def _later(self, lane: Lane, waiting: Coroutine[Any, Any, Any]) -> _Pending:
        async def wait() -> None:
            try:
                reply = await waiting
            except Exception as exc:  # noqa: BLE001 - the lane ends with it, and `_over` sorts it
                lane.fail(exc)
            else:
                lane.resume(reply)

        spawn(wait(), f"session {self._journal.session}")
        return PENDING

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
            if self._under_way is not None:
                self._journal.give_up(self._under_way)
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


NO_OPERATION: Final = "00000000-0000-0000-0000-000000000000"
"""Stands in a recording for the operation of what no operation asked for."""


def _explain(failure: BaseException) -> tuple[bytes, str]:
    """What the client hears, as a FATAL ErrorResponse, and the status of `session.end`."""
    match failure:
        case PeerMisbehaved():
            return refusals.goodbye(failure), failure.why.name
        case NotAdmitted():
            return refusals.goodbye(failure), failure.reason.name
        case LogFailed() | PayloadError():
            hint = "Nothing runs unrecorded: the statement did not. Try again later."
            reason = Reason.LOG_UNAVAILABLE
            return refusals.not_admitted(NotAdmitted(reason, str(failure), hint)), reason.name
        case _:
            return refusals.goodbye(failure if isinstance(failure, Exception) else RuntimeError()), "INTERNAL_ERROR"
