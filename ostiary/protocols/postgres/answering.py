"""The target's half of a session: whose answer each frame is, and how masking must look at it.

Theory of operation
-------------------
Frames are walked once, by the kernel. A stretch of frames in which nothing can be sensitive is one batch, the same bytes that
came; rows are batches of their own only where their plan is active. The head of the conversation's `pending` says whose
answer a frame is. What does not fit there is a misbehaving target, and the session is cut: attributing an answer to the
wrong operation would be worse than none.

Where masking is on, rows need a plan before they come. A simple query's RowDescription precedes them; for the extended
protocol the gateway describes every Parse itself (`Asking`), and swallows that answer here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from ostiary.kernel.frames import Inbox, Run, frame_size
from ostiary.model.connections import Look, Strategy
from ostiary.model.errors import Misdeed, NotAdmitted, PeerMisbehaved, Reason
from ostiary.model.operations import Facts, Shown
from ostiary.model.proofs import Batch, Content, Intended, Masked, RowPlan
from ostiary.model.results import ColumnDescription, CopyPlan
from ostiary.protocols.postgres import decode, encode, refusals
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.conversation import FAILED, IDLE, IN_BLOCK, Conversation, Kind, Turn, Work
from ostiary.protocols.postgres.understanding import Understanding

HOLD: Final = 256 << 10
"""Bytes of an unfinished frame that are joined; a larger one passes in pieces, or is gathered if it needs a look."""
MAX_GATHERED: Final = 128 << 20
"""Bytes of one frame that masking looks at as a whole. A larger one ends the session: it cannot be masked whole."""
MAX_DESCRIPTIONS: Final = 512
CHANGING: Final = ("INSERT ", "UPDATE ", "DELETE ", "MERGE ", "COPY ")
"""Command tags that end in a number of changed rows; of COPY TO these came."""
_CHANGING: Final = b"IUDMC"
"""Their first letters."""

(
    ROW_DESCRIPTION, DATA_ROW, COMMAND_COMPLETE, READY, ERROR, NOTICE, NOTIFICATION, PARAMETER_STATUS, PARSE_COMPLETE,
    BIND_COMPLETE, CLOSE_COMPLETE, PARAMETER_DESCRIPTION, NO_DATA, EMPTY_QUERY, SUSPENDED, COPY_IN, COPY_OUT, COPY_DATA,
    COPY_DONE,
) = b"TDCZENAS123tnIsGHdc"  # fmt: skip

_CONTROL: Final = Content.CONTROL  # looked up once

# As plain numbers: where this is compiled, a turn's kind is an int of C.
_QUERY: Final = int(Kind.QUERY)
_EXECUTE: Final = int(Kind.EXECUTE)
_SYNC: Final = int(Kind.SYNC)
_DESCRIBE_STATEMENT: Final = int(Kind.DESCRIBE_STATEMENT)
_IDLE: Final = IDLE
_IN_BLOCK: Final = IN_BLOCK
_FAILED: Final = FAILED

_REFUSED: Final = 0
(
    _DESCRIBES, _DESCRIBES_NOTHING, _COMPLETES, _ENDS, _PARSES, _CLOSES, _COPIES_IN, _COPIES_OUT, _CHANGES_NOTHING,
) = range(1, 10)  # fmt: skip
"""What a frame that is no row does."""

Columns = tuple[ColumnDescription, ...]
Protection = Mapping[tuple[int, int], tuple[str, Strategy]]


class Plans(Protocol):
    """What this needs of `ostiary.masking`; handed in, because stages do not import one another."""

    def plan_rows(
        self,
        columns: Columns,
        protected: Protection,
        clear: frozenset[str],
        detect: Look,
        formats: tuple[int, ...],
        shown: Shown | None = None,
    ) -> RowPlan:
        """See `ostiary.masking.plan.plan_rows`."""
        ...

    def plan_copy(
        self,
        columns: Columns,
        protected: Protection,
        clear: frozenset[str],
        detect: Look,
        copy: CopyPlan | None,
        shown: Shown | None = None,
    ) -> RowPlan:
        """See `ostiary.masking.plan.plan_copy`."""
        ...


Under = Intended | None

_PlanKey = tuple[Columns, tuple[int, ...], frozenset[str], frozenset[tuple[int, int]], int, Shown | None]
"""Columns, formats, classes in clear, columns of unknown origin, version of the catalogue, lineage."""
UNKNOWN: Final = "unknown"
"""The data class of a column of which nothing is known."""
NOTHING: Final[frozenset[tuple[int, int]]] = frozenset()

COPY_TRAILER: Final = b"d\0\0\0\x06\xff\xff"
"""CopyData with the end mark of the binary format, and nothing else (COPY, "File Trailer"); no text holds these bytes."""
SETTINGS_HELD: Final[Mapping[str, frozenset[str]]] = {
    "standard_conforming_strings": frozenset({"on"}),
    "client_encoding": frozenset({"UTF8"}),
    "integer_datetimes": frozenset({"on"}),
}
"""Settings on which statements are read here. A target that reports another value ends the session."""


class Answering:
    """Target bytes in, batches and outcomes out. One a session."""

    def __init__(
        self,
        talk: Conversation,
        understanding: Understanding,
        *,
        detect: Look,
        plans: Plans,
        process_ids: Mapping[bytes, bytes],
        shown: Mapping[bytes, bytes],
    ) -> None:
        self._talk = talk
        self._understanding = understanding
        self._detect = detect
        self._plans_by = plans
        self._masking = bool(understanding.protects or detect)
        self._process_ids = process_ids
        self._shown = shown
        self._inbox = Inbox(HOLD, from_client=False)
        self._described: dict[bytes, tuple[Columns, tuple[tuple[str, int], ...]]] = {}
        self._last = b""
        """The RowDescription that came last: most often the next one is the same."""
        self._columns: Columns = ()
        self._named: tuple[tuple[str, int], ...] = ()
        self._plans: dict[_PlanKey, RowPlan] = {}
        self._gathered: bytearray | None = None
        self._copy_plan: RowPlan | None = None
        self._copy_content = Content.CONTROL
        self._copy_header = False
        """The next CopyData message is a header line."""
        self._batch_work: Work | None = None
        self._reporting = False
        # Of the chunk at hand.
        self._buf = b""
        self._runs: list[Run] = []
        self._at = 0
        """Which run comes next."""
        self._begin = self._end = -1
        """The stretch of frames that passes as it is; -1: none so far."""
        self._work: Work | None = None
        """Whose answer that stretch is."""
        self._turn: Turn | None = None
        """Whose answer the run at hand is."""
        self._heeded = False
        """The run at hand was heeded, and is only to be looked at."""
        self._is_told = False
        """What the client must hear before the completion at hand was said."""
        self._told = ""
        """It is to be said, behind the stretch before it."""

    # --- what was heard ---

    def take(self, data: bytes) -> Iterable[tuple[Batch, Under]]:
        """Batches for masking, in order, each with the intent that it answers. `masked` is called for each before the next is taken."""
        self._buf, self._runs = self._inbox.feed(data)
        self._at = 0
        self._begin = self._end = -1
        self._work = None
        self._heeded = self._is_told = False
        self._told = ""
        found = self._step()
        if found is None:
            return ()
        return self._each(found) if self._at < len(self._runs) or self._begin >= 0 else (found,)

    def _each(self, found: tuple[Batch, Under] | None) -> Iterator[tuple[Batch, Under]]:
        while found is not None:
            yield found
            found = self._step()

    def _step(self) -> tuple[Batch, Under] | None:
        """The next batch, or None at the end of what came. What masking did to the one before is known by now."""
        talk = self._talk
        while self._at < len(self._runs):
            run = self._runs[self._at]
            if not self._heeded:
                self._turn = turn = talk.pending.first()
                now = turn.work if turn is not None else None
                if now is not None:
                    if self._begin >= 0 and self._work is not None and now is not self._work:
                        return self._passed()
                    self._work = now
                    if run.tag == COMMAND_COMPLETE and run.count and not self._is_told:
                        if not self._told and self._may_tell(now):
                            self._told = self._to_tell(now, self._buf, run)
                        if self._told and self._begin >= 0:
                            return self._passed()
                        self._is_told = True
                        if self._told:
                            told, self._told = self._told, ""
                            return self._notice(now, told)
                if not self._heed(run, turn, now):
                    if self._begin < 0:
                        self._begin = run.start
                    self._end = run.end
                    self._at += 1
                    self._is_told = False
                    continue
                self._heeded = True
                if self._begin >= 0:
                    return self._passed()
            self._heeded = self._is_told = False
            self._at += 1
            self._work = None
            looked_at = self._looked_at(self._buf, run, self._turn)
            if looked_at is not None:
                return looked_at
        return self._passed() if self._begin >= 0 else None

    def _may_tell(self, work: Work) -> bool:
        return work.intended.permit.operation.asked is not None or (work.masked is not None and not work.noticed)

    def _passed(self) -> tuple[Batch, Under]:
        """The stretch of frames that passes as it is."""
        begin, self._begin = self._begin, -1
        return self._control(self._buf, begin, self._end, self._work)

    def _heed(self, run: Run, turn: Turn | None, now: Work | None) -> bool:
        """Count and heed a run; True if masking must look at it, or the client must not hear it."""
        tag, count = run.tag, run.count
        if count == 0:
            return True
        if tag == DATA_ROW:
            plan = self._row_plan(turn)
            if now is not None:
                now.rows += count
                self._talk.flowed += count
                self._within_limit(now)
            return plan is not None and plan.active
        if tag == COPY_DATA:
            if now is not None:
                copied = self._copied_rows(self._buf, run.end, count)
                now.rows += copied
                self._talk.flowed += copied
                self._within_limit(now)
            return self._copy_plan is not None and self._copy_plan.active
        return self._control_frame(tag, self._buf, run.start, run.end, turn)

    def _control(self, buf: bytes, begin: int, end: int, work: Work | None) -> tuple[Batch, Under]:
        self._batch_work = work
        self._reporting = False
        raw = buf
        frames = buf if begin == 0 and end == len(buf) else raw[begin:end]
        return Batch(frames, _CONTROL, None, 0, False), None if work is None else work.intended

    def _copied_rows(self, buf: bytes, stop: int, count: int) -> int:
        """How many of the CopyData messages up to `stop` are rows: not a header line, nor the end mark of the binary format."""
        if self._copy_header:
            self._copy_header = False
            count -= 1
        return count - (buf[stop - len(COPY_TRAILER) : stop] == COPY_TRAILER)

    def _within_limit(self, work: Work, coming: int = 0) -> None:
        """Hold `@limit` of the policies that permitted it: the session ends before a row too many leaves.

        `coming`: rows of which a part is here, not counted yet.
        """
        limit = work.intended.permit.grounds.row_limit
        if limit is not None and work.rows + coming > limit:
            hint = f"Ask for fewer: add LIMIT {limit}."
            raise NotAdmitted(Reason.TOO_MANY_ROWS, f"policy allows {limit}", hint)

    def _to_tell(self, work: Work, buf: bytes, run: Run) -> str:
        """What the client is told before a statement's completion: a star that is data and one of ours look alike, as do an end and a cut."""
        told = []
        permit = work.intended.permit
        if permit.operation.asked is not None and permit.grounds.duties is not None:
            rows = permit.grounds.duties.rows
            if rows is not None and buf[run.start + 5 : run.end - 1].split(b" ")[1:] == [b"%d" % rows]:
                told.append(f"the gateway cut the result at {rows} rows, as policy demands: there may be more")
        if work.masked is not None and not work.noticed:
            work.noticed = True
            counts = ", ".join(f"{count} of {name}" for name, count in sorted(work.masked.items()))
            told.append(f"the gateway masked values: {counts}")
        return "; ".join(told)

    def _notice(self, work: Work, told: str) -> tuple[Batch, Under]:
        self._batch_work = work
        self._reporting = False
        return Batch(refusals.notice_response(told), Content.CONTROL, None, 0, False), work.intended

    def _looked_at(self, buf: bytes, run: Run, turn: Turn | None) -> tuple[Batch, Under] | None:
        """The batch for a run that masking must look at; None: there is none yet, or it is not for the client."""
        tag, count = run.tag, run.count
        frames = buf[run.start : run.end]
        if count == 0:
            whole = self._piece(tag, frames, turn)
            if whole is None:
                return None
            frames, count = whole
            if (
                count
                and tag not in (DATA_ROW, COPY_DATA)
                and not self._control_frame(tag, frames, 0, len(frames), turn)
            ):
                return self._control(frames, 0, len(frames), None if turn is None else turn.work)
        work = None if turn is None else turn.work
        self._batch_work = work
        self._reporting = False
        under = None if work is None else work.intended
        if tag == DATA_ROW:
            plan = self._row_plan(turn)
            active = plan is not None and plan.active and count > 0
            content = Content.ROWS if active else Content.CONTROL
            return Batch(frames, content, plan if active else None, count, False), under
        if tag == COPY_DATA:
            content = self._copy_content if count else Content.CONTROL
            return Batch(frames, content, self._copy_plan if count else None, count, False), under
        if tag == ERROR:
            return self._error(frames, turn), under
        if tag in (NOTICE, NOTIFICATION, PARAMETER_STATUS):
            if tag == NOTIFICATION:
                # Who notified, by the number that clients of this gateway know it by.
                frames = frames[:5] + self._process_ids.get(frames[5:9], frames[5:9]) + frames[9:]
            elif tag == PARAMETER_STATUS:
                frames = self._shown.get(frames, frames)
            strip = work is not None and work.facts.touches_protected
            if tag == NOTIFICATION:
                # It may come from anybody's statement, at any time.
                strip = self._understanding.protects and self._understanding.notifies
            return Batch(frames, Content.MESSAGE, None, 0, strip), under
        return None  # it was hidden: the answer to a question of the gateway's own

    def _piece(self, tag: int, piece: bytes, turn: Turn | None) -> tuple[bytes, int] | None:
        """A piece of a frame too large to hold: (bytes, 0) to pass it on, (frame, 1) once it is gathered, None: more to come."""
        if turn is not None and turn.work is not None and tag in (DATA_ROW, COPY_DATA):
            self._within_limit(turn.work, 1)
        if self._gathered is None:
            plan = self._row_plan(turn) if tag == DATA_ROW else self._copy_plan if tag == COPY_DATA else None
            passes = tag in (DATA_ROW, COPY_DATA) and not (plan is not None and plan.active)
            if passes:
                if turn is not None and turn.work is not None and not self._inbox.left:
                    turn.work.rows += 1
                    self._talk.flowed += 1
                return piece, 0
            if frame_size(piece) > MAX_GATHERED:
                raise PeerMisbehaved(
                    Misdeed.TOO_COSTLY, f"a value of more than {MAX_GATHERED >> 20} MiB cannot be masked"
                )
            self._gathered = bytearray()
        self._gathered += piece
        if self._inbox.left:
            return None
        frame, self._gathered = bytes(self._gathered), None
        if turn is not None and turn.work is not None and tag in (DATA_ROW, COPY_DATA):
            turn.work.rows += 1
            self._talk.flowed += 1
        return frame, 1

    # --- one frame ---

    def _control_frame(self, tag: int, buf: bytes, start: int, end: int, turn: Turn | None) -> bool:
        """Heed a frame that is no row; True if masking must look at it, or the client must not hear it."""
        if tag in (NOTICE, NOTIFICATION, ERROR):
            return True
        if tag == PARAMETER_STATUS:
            self._setting(buf[start:end])
            return True
        if tag == READY:
            self._ready(buf, start, end, turn)
            return False
        if turn is None:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, f"{chr(tag)} from the target, and nothing was asked")
        what = _ANSWERS[tag << 4 | turn.kind]
        if what == _REFUSED or turn.denied is not None:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, f"{chr(tag)} from the target for {Kind(turn.kind).name}")
        if what == _COMPLETES:
            self._complete(buf, start, end, turn)
        elif what == _DESCRIBES:
            self._row_description(buf, start, end, turn)
        elif what == _ENDS:
            self._talk.pending.popleft()
        elif what == _PARSES:
            self._parsed(turn)
        elif what == _DESCRIBES_NOTHING:
            self._no_data(turn)
        elif what == _CLOSES:
            self._closed(turn)
        elif what == _COPIES_IN:
            self._copy_in(turn)
        elif what == _COPIES_OUT:
            self._copy_out(buf[start:end], turn)
        return turn.hidden

    def _setting(self, frame: bytes) -> None:
        status = decode.backend(frame)
        if isinstance(status, m.ParameterStatus):
            held = SETTINGS_HELD.get(status.name)
            if held is not None and status.value not in held:
                raise PeerMisbehaved(
                    Misdeed.BAD_FIELD, f"the target changed {status.name}: statements would be read otherwise"
                )

    def _ready(self, buf: bytes, start: int, end: int, turn: Turn | None) -> None:
        talk = self._talk
        status = buf[start + 5] if end - start == 6 else 0
        if status not in (_IDLE, _IN_BLOCK, _FAILED):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "ReadyForQuery")
        if turn is not None:
            if turn.kind not in (_QUERY, _SYNC):
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, f"ReadyForQuery for {Kind(turn.kind).name}")
            talk.pending.popleft()
            work = turn.work
            if work is not None:
                talk.finish(work, "error" if work.error else "ok")
        # Without a turn: the answer to a Sync that a COPY FROM STDIN was thought to have swallowed.
        failed = talk.segment_failed
        talk.ready(status)
        self._understanding.ready(status != _IDLE, failed, status == _FAILED, not (talk.is_outstanding() or talk.unsynced))

    def _error(self, frame: bytes, turn: Turn | None) -> Batch:
        talk = self._talk
        report = decode.backend(frame)
        if isinstance(report, m.ErrorResponse) and report.field("V") in (b"FATAL", b"PANIC"):
            talk.farewell = True
        if turn is None:
            return Batch(frame, Content.MESSAGE, None, 0, False)  # the target is shutting down, say
        talk.segment_failed = True
        talk.copying_in = None
        work = turn.work
        denied = turn.denied
        if denied is None:
            if work is not None and isinstance(report, m.ErrorResponse):
                work.error = report.text("C") or "XX000"
                work.status = "" if turn.kind == _QUERY else "error"
            self._reporting = True
        if turn.kind not in (_QUERY, _SYNC):
            talk.fail_until_sync()
        if denied is not None:
            return Batch(refusals.refusal(denied.refusal), Content.CONTROL, None, 0, False)
        if work is not None and work.intended.permit.operation.asked is not None and isinstance(report, m.ErrorResponse):
            # A place in a text that the client did not write.
            frame = encode.encode(m.ErrorResponse(tuple(each for each in report.fields if each[0] != "P")))
        return Batch(frame, Content.MESSAGE, None, 0, strip=work is not None and work.facts.touches_protected)

    def _row_description(self, buf: bytes, start: int, end: int, turn: Turn) -> None:
        if end - start != len(self._last) or not buf.startswith(self._last, start):
            frame = buf[start:end]
            self._columns, self._named = self._described.get(frame) or self._describe(frame)
            self._last = frame
        columns, named = self._columns, self._named
        if turn.kind == _QUERY:
            work = turn.work
            assert work is not None  # noqa: S101 - a query that was not refused has one
            work.columns = named
            turn.plan = self._query_plan(columns, work) if self._masking else None
            return
        if turn.kind == _DESCRIBE_STATEMENT:
            if turn.statement is not None:
                turn.statement.columns = columns
        elif turn.portal is not None:
            turn.portal.statement.columns = columns
        self._talk.pending.popleft()

    def _describe(self, frame: bytes) -> tuple[Columns, tuple[tuple[str, int], ...]]:
        message = decode.backend(frame)
        assert isinstance(message, m.RowDescription)  # noqa: S101 - by its tag
        columns = tuple(
            ColumnDescription(
                f.name.decode("utf-8", "replace"), f.table, f.attribute, f.type, f.type_size, f.type_modifier, f.format
            )
            for f in message.fields
        )
        known = (columns, tuple((c.name, c.type_oid) for c in columns))
        if len(self._described) >= MAX_DESCRIPTIONS:
            self._described.clear()
        self._described[frame] = known
        return known

    def _query_plan(self, columns: Columns, work: Work) -> RowPlan | None:
        return self._plan(columns, tuple(c.format for c in columns), work, shown_by(work.facts, work.completed))

    def _plan(self, columns: Columns, formats: tuple[int, ...], work: Work, shown: Shown | None) -> RowPlan | None:
        if not self._masking:
            return None
        clear = work.intended.permit.grounds.clear
        facts = work.facts
        protected = self._understanding.protected_columns
        strange = self._understanding.strangers(columns, facts) if facts.touches_protected else NOTHING
        if strange:
            self._talk.outdated = True
            protected = {**protected, **dict.fromkeys(strange, (UNKNOWN, Strategy.NULL))}
        key = (columns, formats, clear, strange, self._understanding.version, shown)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans_by.plan_rows(columns, protected, clear, self._detect, formats, shown)
            if len(self._plans) >= MAX_DESCRIPTIONS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _row_plan(self, turn: Turn | None) -> RowPlan | None:
        """The plan for rows that now come; without masking, None."""
        if turn is None or turn.work is None or turn.kind not in (_QUERY, _EXECUTE):
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "rows from the target, and none were asked for")
        if not self._masking:
            return None
        if turn.kind == _QUERY:
            if turn.plan is None:
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "rows from the target before their description")
            return turn.plan
        portal = turn.portal
        if portal is None or portal.statement.columns is None:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "rows from the target before their description")
        if portal.plan is None:
            portal.plan = self._portal_plan(portal.statement.columns, portal.formats, turn.work)
        return portal.plan

    def _portal_plan(self, columns: Columns, formats: tuple[int, ...], work: Work) -> RowPlan | None:
        if len(formats) == 0:
            formats = (0,) * len(columns)
        elif len(formats) == 1:
            formats = formats * len(columns)
        work.columns = tuple((c.name, c.type_oid) for c in columns)
        return self._plan(columns, formats, work, shown_by(work.facts, 0))

    def _no_data(self, turn: Turn) -> None:
        if turn.statement is not None:
            turn.statement.columns = ()
        elif turn.portal is not None:
            turn.portal.statement.columns = ()
        self._talk.pending.popleft()

    def _complete(self, buf: bytes, start: int, end: int, turn: Turn) -> None:
        work = turn.work
        if work is None:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "CommandComplete")
        work.completed += 1
        raw = buf
        tag = raw[start + 5 : end - 1].decode("utf-8", "replace") if raw[start] == COMMAND_COMPLETE and end - start > 6 else ""
        if len(work.tags) < 1000:
            work.tags.append(tag)
        if tag and raw[start + 5] in _CHANGING and tag.startswith(CHANGING):
            count = tag.rpartition(" ")[2]
            self._talk.changed += max(0, (int(count) if count.isdecimal() else 0) - work.rows)
        turn.plan = None
        self._copy_plan = None
        if work.effects:
            self._understanding.ran(work.effects, work.completed)
        if turn.kind == _EXECUTE:
            self._talk.copying_in = None
            self._talk.pending.popleft()
            self._talk.finish(work, "ok")

    def _parsed(self, turn: Turn) -> None:
        talk = self._talk
        talk.pending.popleft()
        assert turn.statement is not None  # noqa: S101 - one that was not refused has one
        talk.statements[turn.name] = turn.statement
        if turn.name:
            self._understanding.parsed(turn.name, turn.statement.facts, turn.statement.sql)
        if talk.parsing.get(turn.name) is turn.statement:
            del talk.parsing[turn.name]

    def _closed(self, turn: Turn) -> None:
        talk = self._talk
        talk.pending.popleft()
        kind, name = turn.name[:1], turn.name[1:]
        # The name may mean something newer by now: only what it meant when it was closed goes.
        if kind == b"S":
            if talk.statements.get(name) is turn.statement:
                talk.statements.pop(name, None)
        elif talk.portals.get(name) is turn.portal:
            talk.portals.pop(name, None)

    def _copy_in(self, turn: Turn) -> None:
        talk = self._talk
        behind = talk.pending.second()
        while behind is not None and behind.kind == _SYNC:
            talk.pending.drop_second()  # the target ignores a Sync that it reads while it waits for data (54.2.6)
            behind = talk.pending.second()
        if behind is not None:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "a message was sent ahead of COPY FROM STDIN's data")
        talk.copying_in = turn.work

    def _copy_out(self, frame: bytes, turn: Turn) -> None:
        message = decode.backend(frame)
        assert isinstance(message, m.CopyOutResponse)  # noqa: S101 - by its tag
        if turn.work is None:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "CopyOutResponse")
        self._copy_plan, self._copy_content = None, Content.CONTROL
        operation = turn.work.intended.permit.operation
        step = turn.work.completed
        shown = shown_by(operation.facts, step)
        layout = self._understanding.copy_layout(
            operation.statement, step, len(message.columns), shown, binary=message.format == 1
        )
        self._copy_header = layout.written is not None and layout.written.header
        if self._masking:
            self._copy_content = Content.COPY_BINARY if layout.written is None else Content.COPY_TEXT
            self._copy_plan = self._plans_by.plan_copy(
                layout.columns,
                self._understanding.protected_columns,
                turn.work.intended.permit.grounds.clear,
                self._detect,
                layout.written,
                shown,
            )

    # --- what masking did ---

    def masked(self, masked: Masked) -> None:
        """Count what masking did, and what the client gets."""
        work = self._batch_work
        if work is None:
            return
        work.sent += len(masked.frames)
        if masked.counts:
            counts = work.masked = work.masked or {}
            for name, count in masked.counts:
                counts[name] = counts.get(name, 0) + count
        if self._reporting and masked.frames[:1] == b"E":
            report = decode.backend(masked.frames)
            if isinstance(report, m.ErrorResponse):
                work.error_text = report.text("M")[:1000]


def shown_by(facts: Facts, step: int) -> Shown | None:
    """The lineage of what statement `step` shows. One that was not judged (a text has fewer) may show anything."""
    if not facts.shown:
        return None
    return (
        facts.shown[step]
        if step < len(facts.shown)
        else Shown(None, tuple(sorted({n for s in facts.shown if s for n in s.every})))
    )


# --- which frame may answer which turn ---

_MAY_ANSWER: Final[Mapping[int, Mapping[int, tuple[Kind, ...]]]] = {
    _DESCRIBES: {ROW_DESCRIPTION: (Kind.QUERY, Kind.DESCRIBE_STATEMENT, Kind.DESCRIBE_PORTAL)},
    _DESCRIBES_NOTHING: {NO_DATA: (Kind.DESCRIBE_STATEMENT, Kind.DESCRIBE_PORTAL)},
    _COMPLETES: {COMMAND_COMPLETE: (Kind.QUERY, Kind.EXECUTE), EMPTY_QUERY: (Kind.QUERY, Kind.EXECUTE)},
    _ENDS: {SUSPENDED: (Kind.EXECUTE,), BIND_COMPLETE: (Kind.BIND,)},
    _PARSES: {PARSE_COMPLETE: (Kind.PARSE,)},
    _CLOSES: {CLOSE_COMPLETE: (Kind.CLOSE,)},
    _COPIES_IN: {COPY_IN: (Kind.QUERY, Kind.EXECUTE)},
    _COPIES_OUT: {COPY_OUT: (Kind.QUERY, Kind.EXECUTE)},
    _CHANGES_NOTHING: {PARAMETER_DESCRIPTION: (Kind.DESCRIBE_STATEMENT,), COPY_DONE: (Kind.QUERY, Kind.EXECUTE)},
}
"""What it does -> tag of a frame -> turns that it may answer; what is not here is refused."""


def _answers() -> bytes:
    table = bytearray(256 << 4)  # all is refused
    for what, tags in _MAY_ANSWER.items():
        for tag, kinds in tags.items():
            for kind in kinds:
                table[tag << 4 | kind] = what
    return bytes(table)


_ANSWERS: Final = _answers()
"""The same by tag << 4 | kind."""
