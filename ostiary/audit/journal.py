"""A session's door to the log: it writes what was decided, and hands out the proof once that is durable.

`Intended` and `Denied` are minted here and nowhere else: whoever holds one holds an operation whose record cannot be lost any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ostiary.audit.entries import SessionEntries
from ostiary.audit.ids import Ids
from ostiary.audit.writer import Writer
from ostiary.model.connections import Durability
from ostiary.model.decisions import Grounds, Permit, Refusal
from ostiary.model.errors import LogFailed
from ostiary.model.events import PayloadRef, StreamHead
from ostiary.model.proofs import Denied, Intended, Outcome


class Journal:
    """The log as one session sees it. Belongs to the loop's thread; no method blocks.

    In `buffered` durability an entry counts once it is in the tail, so `done` is called before the method returns; in `strict`
    once fdatasync has covered it, or the writer's patience has passed: then with `LogFailed`, and what was asked must not run.
    Such an intent may be on record all the same: close it with an outcome of status `cancelled`.
    """

    def __init__(self, writer: Writer, entries: SessionEntries, ids: Ids) -> None:
        self.operations = 0
        """Intents written so far."""
        self._writer = writer
        self._entries = entries
        self._ids = ids
        self._strict = entries.facts.durability is not Durability.BUFFERED
        self._start = ""

    def start(
        self, done: Callable[[LogFailed | None], None], *, policy: str = "", grounds: Grounds | None = None
    ) -> None:
        """Write `session.start`. Raises `LogFailed` when it cannot be written."""
        t, mono, self._start = self._moment()
        entry = self._entries.start(self._start, t, mono, policy=policy, grounds=grounds)
        self._settle(self._writer.append(entry), done)

    def intend(
        self,
        permit: Permit,
        done: Callable[[Intended | LogFailed], None],
        stmt: PayloadRef | None = None,
        params: PayloadRef | None = None,
    ) -> None:
        """Write an intent; `done` gets the proof when it is durable. Raises `LogFailed` when it cannot be written."""
        t, mono, entry_id = self._moment()
        index = self._writer.append(self._entries.intent(permit, entry_id, t, mono, stmt, params))
        self.operations += 1
        intended = Intended(permit, entry_id, mono)
        if not self._strict or index < self._writer.durable:
            done(intended)
            return
        self._writer.when_durable(index, lambda problem: done(problem or intended))

    def deny(
        self,
        refusal: Refusal,
        done: Callable[[Denied | LogFailed], None],
        stmt: PayloadRef | None,
        params: PayloadRef | None = None,
    ) -> None:
        """Write a denial; `done` gets the proof when it is durable. Raises `LogFailed` when it cannot be written."""
        t, mono, entry_id = self._moment()
        index = self._writer.append(self._entries.deny(refusal, entry_id, t, mono, stmt, params))
        denied = Denied(refusal, entry_id)
        self._settle(index, lambda problem: done(problem or denied))

    def outcome(self, outcome: Outcome, recording: StreamHead | None = None) -> int:
        """Write how an operation ended; nobody waits for it. Returns its index. Raises `LogFailed`: end the session."""
        t, mono, entry_id = self._moment()
        return self._writer.append(self._entries.outcome(outcome, entry_id, t, mono, recording), closing=True)

    def end(self, status: str = "ended", recording: StreamHead | None = None) -> int:
        """Write `session.end` and ask for a checkpoint. Returns its index. Raises `LogFailed`: recovery will write it."""
        t, mono, entry_id = self._moment()
        entry = self._entries.end(
            self._start, entry_id, t, mono, status=status, operations=self.operations, recording=recording
        )
        index = self._writer.append(entry, closing=True)
        self._writer.seal_now()
        return index

    def _settle(self, index: int, done: Callable[[LogFailed | None], None]) -> None:
        if self._strict:
            self._writer.when_durable(index, done)
        else:
            done(None)

    def _moment(self) -> tuple[int, int, str]:
        t = time.time_ns()
        return t, time.monotonic_ns(), self._ids.next(t)
