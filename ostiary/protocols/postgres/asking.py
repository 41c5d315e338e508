"""The client's half of a session: which of its messages must be decided, and what goes to the target for them.

Theory of operation
-------------------
`take` cuts what came into frames and yields an `Ask` for each message that must be decided: Query, FunctionCall, Parse (so
that a refusal comes early), Bind, and an Execute of a portal that has already run. Everything else belongs to a permit that
exists: Describe, Close, Flush, Sync, CopyData. What goes out is laid in `outbox`, in order; `order` fills in the proofs.

A refusal has exactly the effect of an error in PostgreSQL. If nothing is outstanding and no transaction is open, the gateway
answers by itself. Otherwise it sends a statement that cannot parse in place of the refused one, so that the target fails the
transaction and skips what PostgreSQL would skip, and `answering.py` puts the refusal where the target's error stands.

COPY data that comes before the target asked for it (a client may pipeline it) waits: `stalled` says so, and the driver feeds
empty bytes once an answer came.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from ostiary.kernel.frames import Inbox, Run, scan_frontend
from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import Order
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.duties import Duties
from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.nouns import Noun
from ostiary.model.operations import Facts, Objection, Operation, Parameters, Unjudgeable
from ostiary.model.proofs import Batch, Content, Denied, Intended
from ostiary.protocols.postgres import decode, encode, refusals
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.conversation import (
    IDLE,
    MAX_NAMES,
    Conversation,
    Kind,
    Portal,
    Statement,
    Turn,
    Work,
)
from ostiary.protocols.postgres.naming import commented
from ostiary.protocols.postgres.operations import Effect
from ostiary.protocols.postgres.rewriting.conditions import caller_of
from ostiary.protocols.postgres.states import Move, Phase, move
from ostiary.protocols.postgres.understanding import Understanding, objection_facts
from ostiary.protocols.relay import Ask, Streamed

HOLD: Final = 64 << 20
"""Bytes of one client message that are held in memory to be judged. Larger ones are refused, apart from COPY data."""
MAX_DEMANDS: Final = 4
"""How often one message is rewritten: what takes a relation's place may be under demands of its own."""
HEAD_KEPT: Final = 64 << 10
"""Bytes of an over-limit message that its denial keeps, beside its length and SHA-256: connectors.md, "Bounds"."""

QUERY: Final = 0x51
BIND: Final = 0x42
FUNCTION_CALL: Final = 0x46
SYNC: Final = 0x53
EXECUTE: Final = 0x45
DESCRIBE: Final = 0x44
_DROP: Final = Move.DROP
_OPEN: Final = Phase.OPEN
COPY_DATA: Final = 0x64
COPY_DONE: Final = 0x63
COPY_FAIL: Final = 0x66

CALLS_BY_OID: Final = Objection(
    Unjudgeable.UNSUPPORTED, "function calls by OID are not supported", "Call the function with SELECT.", "0A000", None
)


# As plain numbers: where this is compiled, a turn's kind is an int of C.
_QUERY: Final = int(Kind.QUERY)
_PARSE: Final = int(Kind.PARSE)
_BIND: Final = int(Kind.BIND)
_DESCRIBE_STATEMENT: Final = int(Kind.DESCRIBE_STATEMENT)
_DESCRIBE_PORTAL: Final = int(Kind.DESCRIBE_PORTAL)
_EXECUTE: Final = int(Kind.EXECUTE)
_CLOSE: Final = int(Kind.CLOSE)
_SYNC: Final = int(Kind.SYNC)


class _Slot(Noun):
    """A place in the outbox that waits for the proof of a decision."""

    __slots__ = ("effects", "extended", "formats", "kind", "name", "portal", "statement")

    def __init__(
        self,
        kind: int,
        name: bytes,
        statement: Statement | None,
        formats: tuple[int, ...],
        portal: Portal | None,
        extended: bool,
        effects: tuple[Effect, ...] = (),
    ) -> None:
        self.kind: Final = kind
        self.name: Final = name
        self.statement: Final = statement
        self.formats: Final = formats
        self.portal: Final = portal
        self.extended: Final = extended
        self.effects: Final = effects

    def with_effects(self, effects: tuple[Effect, ...]) -> _Slot:
        """Return the same place, for a text that has these effects."""
        return _Slot(self.kind, self.name, self.statement, self.formats, self.portal, self.extended, effects)


class _Pass(Noun):
    """Bytes that belong to a permit that exists, and the turn that they open, if any."""

    __slots__ = ("turn", "wire")

    def __init__(self, wire: bytes, turn: Turn | None) -> None:
        self.wire: Final = wire
        self.turn: Final = turn


_QUERY_SLOT: Final = _Slot(_QUERY, b"", None, (), None, False)


class Asking:
    """Client bytes in, asks and orders out. One a session."""

    def __init__(self, talk: Conversation, understanding: Understanding, *, describes: bool, comment: bytes = b"") -> None:
        """`comment`: what follows the text of each statement on its way; see `ostiary.protocols.postgres.naming`."""
        self._comment = comment
        self._talk = talk
        self._understanding = understanding
        self._describes = describes
        """Masking needs to know where columns come from, so every Parse is described once on the gateway's behalf."""
        self._inbox = Inbox(scan_frontend, HOLD)
        self._todo: deque[tuple[bytes, Run]] = deque()
        self._outbox: list[_Slot | _Pass] = []
        self._streamed: list[Streamed] = []
        self._answers: list[Batch] = []
        self._slot = _QUERY_SLOT
        self._obeyed: list[Duties] = []
        """The demands that the message at hand was rewritten for."""
        self._skipping = False
        """The client's message was refused: what follows is discarded up to its Sync."""
        self._segment = 0
        self._oversize: tuple[int, hashlib._Hash, bytearray] | None = None
        self.stalled = False
        self.leaving = False

    # --- what was heard ---

    def take(self, data: bytes, snapshot: Snapshot) -> Iterator[Ask]:
        """Yield each message that must be decided. `decided` is called for each before the next is taken."""
        self._understanding.renew(snapshot, not (self._talk.pending or self._outbox))
        todo = self._todo
        if data:
            buf, runs = self._inbox.feed(data)
            for run in runs:
                todo.append((buf, run))
        self.stalled = False
        while (ask := self._next(snapshot)) is not None:
            yield ask

    def _next(self, snapshot: Snapshot) -> Ask | None:
        """The next message that must be decided; what comes before it is taken. None: no more, or it must wait (`stalled`)."""
        todo = self._todo
        while todo and not self.leaving:
            item = todo[0]
            buf, run = item
            tag = run[0]
            if tag in (COPY_DATA, COPY_DONE, COPY_FAIL):
                if not self._copy_message(buf, run):
                    self.stalled = True
                    return None
                todo.popleft()
                continue
            if tag == BIND and self._talk.parsing and self._is_unsettled(buf, run):
                self.stalled = True
                return None
            todo.popleft()
            if run[3] == 0:
                ask = self._too_large(buf, run)
            elif tag == QUERY:
                if self._skipping or self._talk.copying_in is not None:
                    move(self._phase, decode.frontend(buf[run[1] : run[2]]))  # dropped, or out of turn
                    continue
                ask = self._query(buf, run, snapshot)
            else:
                ask = self._other(buf[run[1] : run[2]], snapshot)
            if ask is not None:
                return ask
        return None

    def _query(self, buf: bytes, run: Run, snapshot: Snapshot) -> Ask:
        start, end = run[1], run[2]
        wire = buf if start == 0 and end == len(buf) else buf[start:end]
        sql = wire[5:-1]
        if len(wire) < 6 or wire[-1] or 0 in sql:
            raise PeerMisbehaved(Misdeed.TRAILING_BYTES, "Query")
        understood = self._understanding.look(sql, snapshot)
        self._slot = _QUERY_SLOT
        if understood.effects:
            self._slot = _QUERY_SLOT.with_effects(understood.effects)
        return Ask(Operation(understood.facts, sql, None, wire), True)

    @property
    def _phase(self) -> Phase:
        if self._talk.copying_in is not None:
            return Phase.COPYING
        return Phase.SKIPPING if self._skipping else _OPEN

    def _other(self, wire: bytes, snapshot: Snapshot) -> Ask | None:
        message = decode.frontend(wire)
        if move(self._phase, message) is _DROP:
            return None
        # The tags of every transaction come first: a class that does not match costs as much as a look-up.
        tag = wire[0]
        if tag == SYNC:
            self._skipping = False
            self._segment += 1
            # During COPY FROM STDIN the target ignores Sync and Flush (54.2.6).
            self._pass(wire, None if self._talk.copying_in is not None else Turn(_SYNC))
            return None
        if tag == EXECUTE and isinstance(message, m.Execute):
            return self._execute(wire, message)
        if tag == BIND and isinstance(message, m.Bind):
            return self._bind(wire, message, snapshot)
        if tag == DESCRIBE and isinstance(message, m.Describe):
            self._describe(wire, message)
            return None
        match message:
            case m.Parse():
                return self._parse(wire, message, snapshot)
            case m.Terminate():
                self.leaving = True
                return None
            case m.Flush():
                self._pass(wire, None)
                return None
            case m.Close():
                turn = Turn(_CLOSE)
                turn.name = message.kind.encode() + message.name
                if message.kind == "P":
                    turn.portal = self._portal(message.name)
                else:
                    turn.statement = self._talk.statement(message.name)
                self._pass(wire, turn)
                return None
            case m.FunctionCall():
                self._slot = _QUERY_SLOT
                return self._object(wire, wire, CALLS_BY_OID)
            case _:
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, type(message).__name__)

    def _parse(self, wire: bytes, message: m.Parse, snapshot: Snapshot) -> Ask:
        talk = self._talk
        if message.name and len(talk.statements) + len(talk.parsing) >= MAX_NAMES:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"more than {MAX_NAMES} prepared statements")
        facts = self._understanding.look(message.statement, snapshot, message.parameter_types).facts
        statement = Statement(message.statement, message.parameter_types, facts, self._segment)
        self._slot = _Slot(_PARSE, message.name, statement, (), None, True)
        return Ask(Operation(facts, message.statement, None, wire), False)

    def _is_unsettled(self, buf: bytes, run: Run) -> bool:
        """Whether a Bind names a statement whose Parse may have failed without this Bind being skipped.

        A Parse in an earlier stretch between Syncs can fail while the name keeps an older meaning: what the Bind then
        runs is known only when the answer is here.
        """
        message = decode.frontend(buf[run[1] : run[2]])
        if not isinstance(message, m.Bind):
            return False
        statement = self._talk.parsing.get(message.statement)
        return statement is not None and statement.segment != self._segment

    def _bind(self, wire: bytes, message: m.Bind, snapshot: Snapshot) -> Ask:
        talk = self._talk
        statement = talk.statement(message.statement)
        self._slot = _Slot(_BIND, message.portal, statement, message.result_formats, None, True)
        if statement is None or self._understanding.is_prepared_in_sql(message.statement):
            name = message.statement.decode("utf-8", "replace")
            return self._object(wire, wire, Objection(
                Unjudgeable.UNKNOWN_OBJECT, f'prepared statement "{name}" does not exist',
                "Prepare it with Parse in this session; a statement made with PREPARE is run with EXECUTE.", "26000", None,
            ))  # fmt: skip
        if len(talk.portals) >= MAX_NAMES:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"more than {MAX_NAMES} open portals")
        # Facts are looked up anew for each Bind: the catalogue, or the session, may have changed since the Parse.
        understood = self._understanding.look(statement.sql, snapshot, statement.parameter_types)
        if understood.effects:
            self._slot = self._slot.with_effects(understood.effects)
        parameters = Parameters(message.parameter_formats, message.parameters, statement.parameter_types)
        return Ask(Operation(understood.facts, statement.sql, parameters, wire, statement.asked), True)

    def _execute(self, wire: bytes, message: m.Execute) -> Ask | None:
        portal = self._portal(message.portal)
        if portal is None:
            self._slot = _Slot(_EXECUTE, message.portal, None, (), None, True)
            name = message.portal.decode("utf-8", "replace")
            return self._object(wire, wire, Objection(
                Unjudgeable.UNKNOWN_OBJECT, f'portal "{name}" does not exist',
                "Bind it in this transaction; a cursor made with DECLARE is read with FETCH.", "34000", None,
            ))  # fmt: skip
        work = portal.work
        if work is not None and work.status:  # it ran to its end: to run it again is a new operation
            self._slot = _Slot(_EXECUTE, message.portal, None, (), portal, True)
            was = work.intended.permit.operation
            return Ask(Operation(was.facts, was.statement, was.parameters, wire, was.asked), True)
        turn = Turn(_EXECUTE)
        turn.name, turn.portal = message.portal, portal
        self._pass(wire, turn)
        return None

    def _portal(self, name: bytes) -> Portal | None:
        """The portal that `name` means once everything in the outbox is sent."""
        for item in reversed(self._outbox):
            if isinstance(item, _Slot) and item.kind == _BIND and item.name == name:
                return item.portal
        return self._talk.portals.get(name)

    def _describe(self, wire: bytes, message: m.Describe) -> None:
        if message.kind == "S":
            turn = Turn(_DESCRIBE_STATEMENT)
            turn.statement = self._talk.statement(message.name)
        else:
            turn = Turn(_DESCRIBE_PORTAL)
            turn.portal = self._portal(message.name)
        self._pass(wire, turn)

    def _copy_message(self, buf: bytes, run: Run) -> bool:
        """Pass CopyData, CopyDone or CopyFail on; False: it must wait until the target has said whether it wants it."""
        talk = self._talk
        if talk.copying_in is None:
            # What comes after a failed COPY is dropped, as PostgreSQL does (54.2.6); what may belong to one that is
            # still to begin waits for the answer.
            return self._skipping or not (self._outbox or talk.pending)
        tag, start, end, _ = run
        wire = buf[start:end]
        self._streamed.append(Streamed(talk.copying_in.intended, wire, tag == COPY_DONE))
        self._pass(wire, None)
        if tag != COPY_DATA:
            decode.frontend(wire)
            talk.copying_in = None
        return True

    def _too_large(self, buf: bytes, run: Run) -> Ask | None:
        """Swallow a message that is too large to judge; deny it, with length, hash and beginning, at its end."""
        tag, start, end, _ = run
        if self._oversize is None:
            self._oversize = (0, hashlib.sha256(), bytearray())
        length, digest, head = self._oversize
        piece = memoryview(buf)[start:end]
        digest.update(piece)
        head += piece[: max(0, HEAD_KEPT - len(head))]
        self._oversize = (length + len(piece), digest, head)
        if self._inbox.left:
            return None
        self._oversize = None
        if self._skipping:
            return None
        extended = tag not in (QUERY, FUNCTION_CALL)
        self._slot = _Slot(_BIND, b"", None, (), None, True) if extended else _QUERY_SLOT
        note = f"[{length + len(piece)} bytes, sha256 {digest.hexdigest()}] ".encode()
        return self._object(b"", note + bytes(head), Objection(
            Unjudgeable.OVERSIZE, f"a message of {length + len(piece)} bytes cannot be judged",
            f"Messages of up to {HOLD >> 20} MiB are; load more with COPY FROM STDIN.", "54000", None,
        ))  # fmt: skip

    def _object(self, wire: bytes, statement: bytes, objection: Objection) -> Ask:
        """Ask about what cannot be judged: policy turns the objection into a refusal, which is on record."""
        return Ask(Operation(objection_facts(objection), statement, None, wire), True)

    def _pass(self, wire: bytes, turn: Turn | None) -> None:
        self._outbox.append(_Pass(wire, turn))

    # --- before somebody is asked ---

    @property
    def is_complete(self) -> bool:
        """Whether the outbox ends where PostgreSQL ends an implicit transaction: at a Sync, or at a simple Query."""
        if not self._outbox:
            return True
        last = self._outbox[-1]
        if isinstance(last, _Pass):
            return last.turn is not None and last.turn.kind == _SYNC
        return last.kind == _QUERY

    @property
    def has_begun(self) -> bool:
        """Whether something that takes effect waits in the outbox, before the message at hand."""
        return any(isinstance(item, _Slot) for item in self._outbox)

    def means(self, ask: Ask, snapshot: Snapshot) -> Facts:
        """Judge the message at hand again: time has passed."""
        slot = self._slot
        statement = slot.statement or (None if slot.portal is None else slot.portal.statement)
        types = () if statement is None else statement.parameter_types
        understood = self._understanding.look(ask.operation.statement, snapshot, types)
        if understood.effects != slot.effects:
            self._slot = slot.with_effects(understood.effects)
        return understood.facts

    def obey(self, permit: Permit, duties: Duties, snapshot: Snapshot) -> Operation | Objection:
        """See `Relay.obey`."""
        slot, operation = self._slot, permit.operation
        caller = caller_of(permit.who)
        objection = self._understanding.unmet(operation.facts, duties, caller)
        if objection is None:
            return operation
        if operation.asked is None:
            self._obeyed = []
        if slot.kind not in (_QUERY, _PARSE) or duties in self._obeyed or len(self._obeyed) >= MAX_DEMANDS:
            return objection  # it is as it was sent, or as it was rewritten already
        self._obeyed.append(duties)
        asked = operation.asked if operation.asked is not None else operation.statement
        types = () if slot.statement is None else slot.statement.parameter_types
        text = self._understanding.rewrite(operation.statement, snapshot, types, duties, caller)
        if isinstance(text, Objection):
            return text
        understood = self._understanding.look(text, snapshot, types)
        if understood.facts.objection is not None:
            return understood.facts.objection
        if slot.statement is None:
            wire = encode.encode(m.Query(text))
            self._slot = _QUERY_SLOT.with_effects(understood.effects)
        else:
            wire = encode.encode(m.Parse(slot.name, text, types))
            statement = Statement(text, types, understood.facts, self._segment, asked)
            self._slot = _Slot(slot.kind, slot.name, statement, slot.formats, slot.portal, slot.extended, slot.effects)
        return Operation(understood.facts, text, operation.parameters, wire, asked)

    # --- what was decided ---

    def decided(self, ask: Ask, decision: Permit | Refusal) -> bool:
        """Lay the message in the outbox, or its refusal; True if the decision is to be made durable."""
        slot = self._slot
        if isinstance(decision, Refusal):
            self._outbox.append(_Slot(slot.kind, slot.name, None, slot.formats, None, slot.extended, slot.effects))
            self._skipping = slot.extended
            if slot.kind == _PARSE and not slot.name:
                # A Parse that fails drops the unnamed statement all the same (54.2.3): nothing may run under its old meaning.
                self._talk.statements.pop(b"", None)
            return True
        if slot.kind == _PARSE:
            turn = Turn(_PARSE)
            turn.name, turn.statement = slot.name, slot.statement
            assert slot.statement is not None  # noqa: S101 - a permitted Parse has one
            self._talk.parsing[slot.name] = slot.statement
            self._understanding.parsing(slot.name, slot.statement.facts, slot.statement.sql)
            self._pass(commented(decision.operation.wire, self._comment), turn)
            if self._describes:
                turn = Turn(_DESCRIBE_STATEMENT)
                turn.statement, turn.hidden = slot.statement, True
                self._pass(encode.encode(m.Describe("S", slot.name)), turn)
            return False
        # What comes behind it, be it in the same read, is judged as after it. If it is dropped in the end, that asks for too much.
        if slot.effects:
            self._understanding.sent(slot.effects)
        if slot.kind == _BIND:
            assert slot.statement is not None  # noqa: S101 - without one it was objected to
            slot = _Slot(
                _BIND, slot.name, slot.statement, slot.formats, Portal(slot.statement, slot.formats), True, slot.effects
            )
            self._understanding.bound(slot.name, ask.operation.facts)
        self._outbox.append(slot)
        return True

    def order(self, proofs: tuple[Intended | Denied, ...]) -> Order:
        """Fill the proofs into the outbox and empty it."""
        outbox = self._outbox
        if len(outbox) == 1 and outbox[0] is _QUERY_SLOT and not self._talk.skipping:
            only = proofs[0]
            if isinstance(only, Intended):
                outbox.clear()
                return Order((only,), self._send_query(only, ()))
        wires: list[bytes] = []
        intended: list[Intended] = []
        used = 0
        self._outbox = []
        for item in outbox:
            proof = None
            if not isinstance(item, _Pass):
                proof = proofs[used]
                used += 1
            if self._talk.skipping and not self._is_sync(item):
                self._drop(item, proof)
            elif isinstance(item, _Pass):
                self._send_pass(item, wires)
            elif isinstance(proof, Denied):
                self._send_refusal(item, proof, wires)
            elif proof is not None:
                intended.append(proof)
                wires.append(
                    self._send_query(proof, item.effects)
                    if item.kind == _QUERY
                    else self._send_extended(item, proof)
                )
        return Order(tuple(intended), b"".join(wires) if len(wires) != 1 else wires[0])

    def _is_sync(self, item: _Slot | _Pass) -> bool:
        if isinstance(item, _Pass) and item.turn is not None and item.turn.kind == _SYNC:
            self._talk.skipping = False
            return True
        return False

    def _drop(self, item: _Slot | _Pass, proof: Intended | Denied | None) -> None:
        """The target would discard it: so it is not sent, and an intent that was written ends as skipped."""
        if isinstance(item, _Pass) and item.turn is not None:
            self._talk.forget(item.turn)
        if isinstance(proof, Intended):
            work = Work(proof, ())
            work.status = "skipped"
            self._talk.open_works.append(work)

    def _send_query(self, proof: Intended, effects: tuple[Effect, ...]) -> bytes:
        work = Work(proof, effects)
        self._talk.open_works.append(work)
        self._talk.pending.append(Turn(_QUERY, work))
        wire = proof.permit.operation.wire
        return commented(wire, self._comment) if self._comment else wire

    def _send_extended(self, item: _Slot, proof: Intended) -> bytes:
        talk = self._talk
        work = Work(proof, item.effects)
        talk.open_works.append(work)
        turn = Turn(item.kind, work)
        turn.name, turn.portal = item.name, item.portal
        if item.portal is not None:
            item.portal.work = work
            if item.kind == _BIND:
                talk.portals[item.name] = item.portal
        talk.pending.append(turn)
        talk.unsynced = True
        return proof.permit.operation.wire

    def _send_pass(self, item: _Pass, wires: list[bytes]) -> None:
        turn = item.turn
        wires.append(item.wire)
        if turn is None:
            return
        if turn.kind == _EXECUTE and turn.portal is not None:
            turn.work = turn.portal.work
        self._talk.pending.append(turn)
        self._talk.unsynced = turn.kind != _SYNC

    def _send_refusal(self, item: _Slot, denied: Denied, wires: list[bytes]) -> None:
        talk = self._talk
        if not talk.pending and not talk.unsynced and talk.status == IDLE:
            frames = refusals.refusal(denied.refusal)
            if not item.extended:
                frames += encode.READY["I"]
            self._answers.append(Batch(frames, Content.CONTROL, None, 0, False))
            return
        turn = Turn(_PARSE if item.extended else _QUERY)
        turn.denied = denied
        talk.pending.append(turn)
        talk.unsynced = talk.unsynced or item.extended
        wires.append(refusals.POISON_PARSE if item.extended else refusals.POISON_QUERY)

    def streamed(self) -> Iterable[Streamed]:
        """COPY data of the last order."""
        streamed, self._streamed = self._streamed, []
        return streamed

    def answers(self) -> Iterable[Batch]:
        """Refusals to be told at once."""
        answers, self._answers = self._answers, []
        return answers
