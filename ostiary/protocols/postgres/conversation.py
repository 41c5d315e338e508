"""What both directions of one PostgreSQL session share: what is outstanding, and what names mean.

Theory of operation
-------------------
The target answers in the order in which it was asked. So every message that draws an answer puts a `Turn` at the end of
`pending`, and each answer belongs to the turn at its head. A `Work` is one intended operation under way; a simple query has
one turn, a portal may have several (each Execute), all of the same work.

An error in the extended protocol makes the target skip everything up to the next Sync (PostgreSQL 18, 54.2.3), so the turns up
to that Sync are struck off and their works end as `skipped`. A work's outcome is decided at ReadyForQuery and not before:
an error later in the same implicit transaction undoes what looked done.

Names: a Parse gives its name a meaning only when ParseComplete came. Until then the name stands in `parsing`; a Bind that is
pipelined behind it uses that, and if the Parse fails the Bind never runs.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

from ostiary.model.operations import Facts, is_reading
from ostiary.model.proofs import Denied, Intended, Outcome, RowPlan
from ostiary.model.results import ColumnDescription
from ostiary.protocols.postgres.operations import Effect

IDLE: Final = 0x49
IN_BLOCK: Final = 0x54
FAILED: Final = 0x45
"""ReadyForQuery status `I`: not in a transaction block. The others: `T` in one, `E` in a failed one."""
BLOCK: Final = 0x54

MAX_NAMES: Final = 10_000
"""Named statements, and open portals, of one session. PostgreSQL sets no limit; no real client comes near."""


class Kind(enum.IntEnum):
    """What a turn waits for."""

    QUERY = 1
    PARSE = 2
    BIND = 3
    DESCRIBE_STATEMENT = 4
    DESCRIBE_PORTAL = 5
    EXECUTE = 6
    CLOSE = 7
    SYNC = 8


# As plain numbers: where this is compiled, a turn's kind is an int of C.
_PARSE: Final = int(Kind.PARSE)
_BIND: Final = int(Kind.BIND)
_SYNC: Final = int(Kind.SYNC)


class Work:
    """One intended operation under way, and what became of it so far."""

    __slots__ = (
        "columns", "completed", "effects", "error", "error_text", "intended", "masked", "noticed", "rows", "sent", "status", "tags",
    )  # fmt: skip

    def __init__(self, intended: Intended, effects: tuple[Effect, ...]) -> None:
        self.intended = intended
        self.effects = effects
        """What it does to the names of the session, once it ran."""
        self.rows = 0
        self.sent = 0
        """Bytes of result that went to the client."""
        self.completed = 0
        """Statements of the text that have run: the number of the one at hand."""
        self.tags: list[str] = []
        """Of the first of them."""
        self.error = ""
        self.error_text = ""
        self.masked: dict[str, int] | None = None
        self.noticed = False
        """The client was told that values were masked."""
        self.columns: tuple[tuple[str, int], ...] = ()
        self.status = ""

    @property
    def facts(self) -> Facts:
        """What it does."""
        return self.intended.permit.operation.facts

    def outcome(self) -> Outcome:
        """How it ended."""
        tags = self.tags
        return Outcome(
            self.intended,
            self.status or "closed",
            tags[0] if len(tags) == 1 else "; ".join(tags[:20]),
            self.rows,
            self.sent,
            self.error,
            self.error_text,
            tuple(sorted(self.masked.items())) if self.masked else (),
            self.columns,
        )


class Statement:
    """One Parse: the verdict is bound to it, never to its name."""

    __slots__ = ("asked", "columns", "facts", "parameter_types", "segment", "sql")

    def __init__(
        self, sql: bytes, parameter_types: tuple[int, ...], facts: Facts, segment: int, asked: bytes | None = None
    ) -> None:
        self.sql = sql
        self.asked = asked
        """What the client sent, where `sql` is what the gateway made of it."""
        self.parameter_types = parameter_types
        self.facts = facts
        """As they were when it was parsed; each Bind looks again."""
        self.segment = segment
        """Which stretch between two Syncs of the client it was sent in."""
        self.columns: tuple[ColumnDescription, ...] | None = None
        """What the target described; None: not yet. Empty: no rows."""


class Portal:
    """One Bind."""

    __slots__ = ("formats", "plan", "statement", "work")

    def __init__(self, statement: Statement, formats: tuple[int, ...]) -> None:
        self.statement = statement
        self.formats = formats
        """Of the result's columns, as Bind asked for them."""
        self.work: Work | None = None
        """Set once its intent is durable and its Bind goes out."""
        self.plan: RowPlan | None = None


class Turn:
    """One message whose answer is outstanding."""

    __slots__ = ("denied", "hidden", "kind", "name", "plan", "portal", "statement", "work")

    def __init__(self, kind: int, work: Work | None = None) -> None:
        self.kind = kind
        """A `Kind`."""
        self.work = work
        self.denied: Denied | None = None
        """The message was replaced by one that fails: its error becomes this refusal."""
        self.hidden = False
        """The gateway asked on its own behalf: the client does not hear the answer."""
        self.name = b""
        self.statement: Statement | None = None
        self.portal: Portal | None = None
        self.plan: RowPlan | None = None


class Conversation:
    """The state that the two directions of one session share."""

    __slots__ = (
        "changed",
        "copying_in",
        "defined",
        "ended",
        "farewell",
        "flowed",
        "open_works",
        "outdated",
        "parsing",
        "pending",
        "portals",
        "segment_failed",
        "skipping",
        "statements",
        "status",
        "uncounted",
        "unsynced",
    )

    def __init__(self) -> None:
        self.pending: deque[Turn] = deque()
        self.status = IDLE
        self.statements: dict[bytes, Statement] = {}
        self.parsing: dict[bytes, Statement] = {}
        self.portals: dict[bytes, Portal] = {}
        self.copying_in: Work | None = None
        """The COPY FROM STDIN that the target is reading data for."""
        self.unsynced = False
        """Something of the extended protocol went out since the last Sync: an implicit transaction may be open."""
        self.segment_failed = False
        """There was an error since the last ReadyForQuery."""
        self.skipping = False
        """The target discards what it reads up to a Sync that has not been sent yet."""
        self.open_works: list[Work] = []
        """Intended, and not ended in the log."""
        self.ended: list[Work] = []
        """Their outcomes are made when asked for: what masking did to their last batch is known by then."""
        self.farewell = False
        """The target said that it ends the session: nothing more need be said to the client."""
        self.changed = 0
        """Rows that were changed and did not come, since somebody asked."""
        self.flowed = 0
        """Rows that came since somebody asked."""
        self.defined = False
        """DDL ran in the open transaction."""
        self.outdated = False
        self.uncounted = False
        """Rows were changed in the open transaction, and how many is not known."""

    def statement(self, name: bytes) -> Statement | None:
        """What a Bind of `name`, sent now, would use."""
        return self.parsing.get(name) or self.statements.get(name)

    def finish(self, work: Work, status: str) -> None:
        """Settle how `work` ended; its outcome is made at ReadyForQuery."""
        if not work.status:
            work.status = status

    def fail_until_sync(self) -> None:
        """An error came in the extended protocol: strike off all that the target now skips."""
        while self.pending and self.pending[0].kind != _SYNC:
            turn = self.pending.popleft()
            if turn.work is not None:
                self.finish(turn.work, "skipped")
            self.forget(turn)
        self.skipping = not self.pending

    def forget(self, turn: Turn) -> None:
        """A message that failed, or was skipped, gave its name no meaning."""
        if turn.statement is not None and turn.kind == _PARSE and self.parsing.get(turn.name) is turn.statement:
            del self.parsing[turn.name]
        if turn.portal is not None and turn.kind == _BIND and self.portals.get(turn.name) is turn.portal:
            del self.portals[turn.name]

    def ready(self, status: int) -> None:
        """ReadyForQuery: close what has ended, and what a finished transaction took with it."""
        failed = self.segment_failed
        self.segment_failed = False
        self.status = status
        self.copying_in = None
        if status == IDLE:
            self.uncounted = False
        if not (failed or self.portals or self.pending or self.defined or len(self.open_works) != 1):
            # One operation was open, and it is over: as good as always.
            only = self.open_works.pop()
            self._end(only)
            if only.status == "ok" and only.facts.invalidates_catalogue:
                self.defined = self.outdated = True
                if status == IDLE:
                    self.defined = False
            return
        if status == IDLE and self.portals:
            # Portals end with their transaction (54.2.3), apart from those that were bound ahead for the next one.
            ahead = {id(turn.portal) for turn in self.pending if turn.kind == _BIND}
            self.portals = {name: portal for name, portal in self.portals.items() if id(portal) in ahead}
        alive = {id(portal.work) for portal in self.portals.values()} if self.portals else ()
        waiting = {id(turn.work) for turn in self.pending} if self.pending else ()
        still_open: list[Work] = []
        for work in self.open_works:
            if not work.status and (id(work) in alive or id(work) in waiting):
                still_open.append(work)
                continue
            if id(work) in waiting:
                still_open.append(work)
                continue
            if failed and status == IDLE and work.status == "ok":
                work.status = "rolled back"
            self._end(work)
            if work.status == "ok" and work.facts.invalidates_catalogue:
                self.defined = True
        self.open_works = still_open
        if self.defined:
            self.outdated = True
            if status == IDLE:
                self.defined = False

    def _end(self, work: Work) -> None:
        if not work.status and work.rows and not is_reading(work.facts):
            self.uncounted = True  # it was fetched from in part, and closed: CommandComplete, which tells what it changed, never came
        self.ended.append(work)

    def abandon(self) -> tuple[Outcome, ...]:
        """The session is over: whatever the target was told and did not answer is unknown."""
        waiting = {id(turn.work) for turn in self.pending}
        for work in self.open_works:
            if not work.status:
                work.status = "unknown" if id(work) in waiting else "closed"
            self.ended.append(work)
        self.open_works = []
        self.pending.clear()
        return self.outcomes()

    def outcomes(self) -> tuple[Outcome, ...]:
        """What has ended since the last call."""
        ended = self.ended
        if not ended:
            return ()
        self.ended = []
        made: list[Outcome] = []
        for work in ended:
            made.append(work.outcome())  # noqa: PERF401 - no closure: it is typed where it is compiled
        return tuple(made)
