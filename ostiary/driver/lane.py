"""What the drivers of all protocols share: one direction of the path, driven, and the part of its world that puts things on record.

Theory of operation
-------------------
The path is coroutines without an event loop. A `Lane` drives one of them: it sends the reply in and gets the next command out, in a
plain loop, for as long as commands can be carried out at once. A command that has to wait leaves the lane parked; whoever ends the
wait calls `Lane.resume`. So a round trip costs no task and no future. A lane that is over hears nothing more: what it waited for
comes to nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from ostiary.audit.journal import Journal, Written
from ostiary.driver.spawn import spawn
from ostiary.model import commands as c
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import LogFailed, OstiaryError
from ostiary.model.events import PayloadKind
from ostiary.model.proofs import Denied, Intended, Masked, Outcome, Recorded
from ostiary.recording.recorder import Recorder
from ostiary.session.world import World
from ostiary.vault.payloads import PayloadStream

MAX_UNHEARD: Final = 1 << 20
"""Bytes that a parked lane keeps before its side is no longer read."""
NO_OPERATION: Final = "00000000-0000-0000-0000-000000000000"
"""Stands in a recording for the operation of what no operation asked for."""


Counting = Mapping[type, Callable[[Any], Any]]
"""Carries out what counts over all sessions: `Count`, and where there are several workers `Hold` and `Take`."""


def _nobody(failure: BaseException | None) -> None:
    """Whom it concerns that a lane has failed which nobody drives any more."""


class Pending:
    """The reply is not there yet."""


PENDING: Final = Pending()


class Lane:
    """One direction of the path, driven."""

    __slots__ = (
        "_by", "_carry_out", "_coroutine", "_failed", "_name", "_send", "busy", "gone", "is_over", "unheard", "unheard_bytes", "waits",
    )  # fmt: skip

    def __init__(
        self,
        coroutine: Coroutine[c.Command, Any, None],
        carry_out: Mapping[type, Callable[..., Any]],
        failed: Callable[[BaseException | None], None],
        name: str,
        by: object | None = None,
    ) -> None:
        """`name`: of the tasks that it waits for, in diagnostics. `by`: who carries out, where the functions of `carry_out` ask for it first."""
        self._by = by
        self._coroutine = coroutine
        self._send = coroutine.send
        self._carry_out = carry_out
        """How each kind of command is carried out; PENDING: somebody will call `resume`."""
        self._failed = failed
        self._name = name
        self.unheard: deque[bytes] | None = None
        """What came while nobody listened; None: never yet."""
        self.unheard_bytes = 0
        self.waits = False
        """It is parked in a Hear command."""
        self.gone = False
        """Its peer will send no more."""
        self.busy = False
        self.is_over = False

    def stop(self) -> None:
        """End it: it carries out nothing any more, and holds on to nobody. Whoever drives it holds it, and the collector would have to find that."""
        if not (self.is_over or self.busy):
            self._coroutine.close()
        self.is_over = True
        self._carry_out, self._failed, self._by = {}, _nobody, None

    def resume(self, reply: object) -> None:
        """Send `reply` in, and carry out commands until one has to wait."""
        if self.is_over:
            return
        self.busy = True
        try:
            send, carry_out, by = self._send, self._carry_out, self._by
            command = send(reply)
            while True:
                does = carry_out[type(command)]
                answer = does(command) if by is None else does(by, command)
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
            if self.unheard is None:
                self.unheard = deque()
            self.unheard.append(data)
            self.unheard_bytes += len(data)

    def lose(self) -> None:
        """Its peer has gone."""
        self.gone = True
        if self.waits:
            self.waits = False
            self.resume(None)

    def listen(self) -> bytes | Pending | None:
        """Carry out a Hear command."""
        if self.unheard:
            data = self.unheard.popleft()
            self.unheard_bytes -= len(data)
            return data
        if self.gone:
            return None
        self.waits = True
        return PENDING

    def later(self, waiting: Coroutine[Any, Any, Any]) -> Pending:
        """Carry out a command that has to wait: the lane goes on with what `waiting` returns, or ends with what it raises."""
        spawn(self._wait(waiting), self._name)
        return PENDING

    async def _wait(self, waiting: Coroutine[Any, Any, Any]) -> None:
        try:
            reply = await waiting
        except Exception as exc:  # noqa: BLE001 - the lane ends with it, and `_failed` sorts by whose fault
            self.fail(exc)
        else:
            self.resume(reply)


class LogWorld(World):
    """What of a path's world puts things on record, over one journal: in every protocol alike."""

    def __init__(self, journal: Journal) -> None:
        self.use(journal, Recorder(journal.stream if journal.is_full else None))

    def use(self, journal: Journal, recorder: Recorder) -> None:
        """Put things on record there: what the constructor does. Worlds of one session may share a recorder."""
        self._journal = journal
        self._recorder = recorder
        self._under_way: Written | None = None
        """A batch of decisions that is not durable yet."""
        self.lane: Lane | None = None
        """Of the requests: it waits for the disk. Set before the first command."""

    def write(self, decisions: tuple[Permit | Refusal, ...]) -> tuple[Intended | Denied, ...] | None:
        """See `World.write`."""
        journal = self._journal
        written = journal.write(decisions)
        if self._recorder.stream is None and journal.is_full:
            self._recorder.stream = journal.stream
        if journal.is_durable(written):
            return journal.proofs(written)
        self._under_way = written
        journal.when_durable(written, self._durable)
        return None

    def park(self, _command: c.AwaitDurable | c.AwaitRun) -> Pending:
        """What is waited for is under way, and resumes the lane."""
        return PENDING

    def _durable(self, problem: LogFailed | None) -> None:
        """The disk has the batch that is under way, or cannot be waited for."""
        lane, written = self.lane, self._under_way
        assert lane is not None  # noqa: S101 - set by whoever made both
        if written is None or lane.is_over:
            return
        try:
            if problem is not None:
                raise problem
            proofs = self._journal.proofs(written)
        except OstiaryError as exc:
            lane.fail(exc)
        else:
            self._under_way = None
            lane.resume(proofs)

    def keep(self, command: c.Keep) -> Any:
        """Put into the recording what is streamed in; with `strict`, the disk has all of it before its end goes out."""
        stream = self._recorder.stream
        if stream is None:
            return None
        if command.data:
            stream.append(PayloadKind.COPY_IN, command.under.entry, self._journal.elapsed_us(), command.data)
        return self._later(_synced(stream)) if command.ends and self._journal.strict else None

    def record(self, masked: Masked, under: Intended | None) -> Recorded:
        """See `World.record`."""
        if self._recorder.stream is None:
            return self._recorder.record(masked, 0, "")
        return self._recorder.record(masked, self._journal.elapsed_us(), NO_OPERATION if under is None else under.entry)

    def conclude(self, outcomes: tuple[Outcome, ...]) -> None:
        """See `World.conclude`."""
        self._journal.outcomes(outcomes)

    def give_up(self) -> None:
        """It is over: what is not durable yet will never be run."""
        if self._under_way is not None:
            self._journal.give_up(self._under_way)

    def _later(self, waiting: Coroutine[Any, Any, Any]) -> Pending:
        lane = self.lane
        assert lane is not None  # noqa: S101 - set by whoever made both
        return lane.later(waiting)


async def _synced(stream: PayloadStream) -> None:
    await asyncio.get_running_loop().run_in_executor(None, stream.sync)
