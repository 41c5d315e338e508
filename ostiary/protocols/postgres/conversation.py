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
from collections.abc import Iterator
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

MOST_ANSWERED: Final = 64
"""Answered turns that a queue may hold on to, where as many wait behind them."""
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
_IDLE: Final = IDLE


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
    """One message whose answer is outstanding; made by `opened`."""

    __slots__ = ("denied", "hidden", "kind", "name", "plan", "portal", "statement", "work")

    kind: int
    """A `Kind`."""
    work: Work | None
    denied: Denied | None
    """The message was replaced by one that fails: its error becomes this refusal."""
    hidden: bool
    """The gateway asked on its own behalf: the client does not hear the answer."""
    name: bytes
    statement: Statement | None
    portal: Portal | None
    plan: RowPlan | None


def opened(
    kind: int, work: Work | None = None, name: bytes = b"", statement: Statement | None = None, portal: Portal | None = None
) -> Turn:
    """Return a new `Turn`. Where this is compiled, its class is not called: each message opens one."""
    turn = Turn.__new__(Turn)
    turn.kind = kind
    turn.work = work
    turn.denied = None
    turn.hidden = False
    turn.name = name
    turn.statement = statement
    turn.portal = portal
    turn.plan = None
    return turn


class Turns:
    """What is outstanding, in order: a list whose front is taken off when half of it was answered."""

    __slots__ = ("_first", "_turns")

    def __init__(self) -> None:
        self._turns: list[Turn | None] = []
        self._first = 0
        """Those before it were answered."""

    def __len__(self) -> int:
        return len(self._turns) - self._first

    def __iter__(self) -> Iterator[Turn]:
        return (turn for turn in self._turns[self._first :] if turn is not None)

    def first(self) -> Turn | None:
        """Return the one whose answer comes next; None: nothing is outstanding."""
        return self._turns[self._first] if self._first < len(self._turns) else None

    def second(self) -> Turn | None:
        """Return the one behind it."""
        return self._turns[self._first + 1] if self._first + 1 < len(self._turns) else None

    def append(self, turn: Turn) -> None:
        """A message went out."""
        self._turns.append(turn)

    def popleft(self) -> None:
        """The answer to the first came."""
        turns = self._turns
        self._first += 1
        if self._first == len(turns):
            turns.clear()
            self._first = 0
            return
        turns[self._first - 1] = None
        if self._first >= MOST_ANSWERED and 2 * self._first > len(turns):
            del turns[: self._first]
            self._first = 0

    def drop_second(self) -> None:
        """The second will not be answered."""
        del self._turns[self._first + 1]

    def clear(self) -> None:
        """Nothing is outstanding any more."""
        self._turns, self._first = [], 0


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
        self.pending = Turns()
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
        found = self.parsing.get(name) if self.parsing else None
        return found if found is not None else self.statements.get(name)

    def is_outstanding(self) -> bool:
        """Whether any answer has yet to come."""
        return self.pending.first() is not None

    def finish(self, work: Work, status: str) -> None:
        """Settle how `work` ended; its outcome is made at ReadyForQuery."""
        if not work.status:
            work.status = status

    def fail_until_sync(self) -> None:
        """An error came in the extended protocol: strike off all that the target now skips."""
        turn = self.pending.first()
        while turn is not None and turn.kind != _SYNC:
            self.pending.popleft()
            if turn.work is not None:
                self.finish(turn.work, "skipped")
            self.forget(turn)
            turn = self.pending.first()
        self.skipping = turn is None

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
        is_quiet = not self.is_outstanding()
        if status == _IDLE:
            self.uncounted = False
            if is_quiet and self.portals:
                self.portals = {}  # they end with their transaction (54.2.3)
        if is_quiet and not (failed or self.portals or self.defined or len(self.open_works) != 1):
            # One operation was open, and it is over: as good as always.
            only = self.open_works.pop()
            self._end(only)
            if only.status == "ok" and only.facts.invalidates_catalogue:
                self.defined = self.outdated = True
                if status == _IDLE:
                    self.defined = False
            return
        if status == _IDLE and self.portals:
            # Apart from those that were bound ahead for the next one.
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
            if failed and status == _IDLE and work.status == "ok":
                work.status = "rolled back"
            self._end(work)
            if work.status == "ok" and work.facts.invalidates_catalogue:
                self.defined = True
        self.open_works = still_open
        if self.defined:
            self.outdated = True
            if status == _IDLE:
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
