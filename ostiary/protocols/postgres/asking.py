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

from ostiary.kernel.frames import Inbox, Run
from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import Order
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.duties import Duties
from ostiary.model.errors import Misdeed, PeerMisbehaved
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
    opened,
)
from ostiary.protocols.postgres.naming import commented
from ostiary.protocols.postgres.operations import Effect
from ostiary.protocols.postgres.rewriting.conditions import caller_of
from ostiary.protocols.postgres.states import Move, Phase, move, taken
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
PARSE: Final = 0x50
BARE: Final = 5
"""Bytes of a message without a body."""
STATEMENT: Final = 0x53
"""Of what a Describe asks: a statement, or (`P`) a portal."""
_DROP: Final = Move.DROP
_TAKEN: Final = taken(Phase.OPEN)
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


class _Slot:
    """A place in the outbox that waits for the proof of a decision. Made by `_slot`, and never changed."""

    __slots__ = ("effects", "extended", "formats", "kind", "name", "portal", "statement")

    kind: int
    name: bytes
    statement: Statement | None
    formats: tuple[int, ...]
    portal: Portal | None
    extended: bool
    effects: tuple[Effect, ...]

    def with_effects(self, effects: tuple[Effect, ...]) -> _Slot:
        """Return the same place, for a text that has these effects."""
        return _slot(self.kind, self.name, self.statement, self.formats, self.portal, self.extended, effects)


def _slot(
    kind: int,
    name: bytes,
    statement: Statement | None,
    formats: tuple[int, ...],
    portal: Portal | None,
    extended: bool,
    effects: tuple[Effect, ...] = (),
) -> _Slot:
    slot = _Slot.__new__(_Slot)
    slot.kind = kind
    slot.name = name
    slot.statement = statement
    slot.formats = formats
    slot.portal = portal
    slot.extended = extended
    slot.effects = effects
    return slot


class _Pass:
    """Bytes that belong to a permit that exists, and the turn that they open, if any. Never changed."""

    __slots__ = ("turn", "wire")

    wire: bytes
    turn: Turn | None


_QUERY_SLOT: Final = _slot(_QUERY, b"", None, (), None, False, ())
_NO_RUNS: Final[list[Run]] = []


class Asking:
    """Client bytes in, asks and orders out. One a session."""

    def __init__(self, talk: Conversation, understanding: Understanding, *, describes: bool, comment: bytes = b"") -> None:
        """`comment`: what follows the text of each statement on its way; see `ostiary.protocols.postgres.naming`."""
        self._comment = comment
        self._talk = talk
        self._understanding = understanding
        self._describes = describes
        """Masking needs to know where columns come from, so every Parse is described once on the gateway's behalf."""
        self._inbox = Inbox(HOLD, from_client=True)
        self._buf = b""
        self._runs = _NO_RUNS
        """What is at hand: runs of messages in that buffer."""
        self._at = 0
        """Which run comes next."""
        self._later: deque[tuple[bytes, list[Run]]] = deque()
        """What came while that waited."""
        self._said: decode.BindFields | None = None
        """What the Bind at hand says, if it was read already."""
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

    def take(self, data: bytes, snapshot: Snapshot) -> Iterable[Ask]:
        """Each message that must be decided. `decided` is called for each before the next is taken."""
        self._understanding.renew(snapshot, not (self._talk.is_outstanding() or self._outbox))
        if data:
            buf, runs = self._inbox.feed(data)
            if self._at < len(self._runs):
                self._later.append((buf, runs))
            else:
                self._buf, self._runs, self._at = buf, runs, 0
        self.stalled = False
        ask = self._next(snapshot)
        if ask is None:
            return ()
        return self._each(ask, snapshot) if self._at < len(self._runs) or self._later else (ask,)

    def _each(self, ask: Ask | None, snapshot: Snapshot) -> Iterator[Ask]:
        while ask is not None:
            yield ask
            ask = self._next(snapshot)

    def _next(self, snapshot: Snapshot) -> Ask | None:
        """The next message that must be decided; what comes before it is taken. None: no more, or it must wait (`stalled`)."""
        while not self.leaving:
            if self._at == len(self._runs):
                if not self._later:
                    self._buf, self._runs, self._at = b"", _NO_RUNS, 0
                    return None
                self._buf, self._runs = self._later.popleft()
                self._at = 0
                continue
            run = self._runs[self._at]
            tag = run.tag
            self._said = None
            if tag in (COPY_DATA, COPY_DONE, COPY_FAIL):
                if not self._copy_message(run):
                    self.stalled = True
                    return None
                self._at += 1
                continue
            if tag == BIND and self._talk.parsing and self._is_unsettled(run):
                self.stalled = True
                return None
            self._at += 1
            if run.count == 0:
                ask = self._too_large(self._buf, run)
            elif tag == QUERY:
                ask = self._query(self._wire(run), snapshot)
            else:
                ask = self._other(tag, self._wire(run), snapshot)
            if ask is not None:
                return ask
        return None

    def _wire(self, run: Run) -> bytes:
        """The message, as it came."""
        raw, start, end = self._buf, run.start, run.end
        return self._buf if start == 0 and end == len(self._buf) else raw[start:end]

    def _query(self, wire: bytes, snapshot: Snapshot) -> Ask | None:
        if self._skipping or self._talk.copying_in is not None:
            move(self._phase, decode.frontend(wire))  # dropped, or out of turn
            return None
        raw, end = wire, len(wire) - 1
        sql = raw[5:end]
        if end < 5 or raw[end] or 0 in sql:
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
        return Phase.SKIPPING if self._skipping else Phase.OPEN

    def _other(self, tag: int, wire: bytes, snapshot: Snapshot) -> Ask | None:
        if (
            self._skipping or self._talk.copying_in is not None or not _TAKEN[tag]
        ) and move(self._phase, decode.frontend(wire)) is _DROP:
            return None
        # It is in turn. The tags of every transaction come first, and no message is made of them.
        if tag == SYNC and len(wire) == BARE:
            self._skipping = False
            self._segment += 1
            # During COPY FROM STDIN the target ignores Sync and Flush (54.2.6).
            self._pass(wire, None if self._talk.copying_in is not None else opened(_SYNC))
            return None
        if tag == EXECUTE:
            return self._execute(wire, decode.executed(wire))
        if tag == BIND:
            return self._bind(wire, snapshot)
        if tag == DESCRIBE:
            self._describe(wire, decode.named(wire, "Describe"))
            return None
        if tag == PARSE:
            return self._parse(wire, snapshot)
        match decode.frontend(wire):
            case m.Terminate():
                self.leaving = True
                return None
            case m.Flush():
                self._pass(wire, None)
                return None
            case m.Close(kind, name):
                turn = opened(_CLOSE, None, kind.encode() + name)
                if kind == "P":
                    turn.portal = self._portal(name)
                else:
                    turn.statement = self._talk.statement(name)
                self._pass(wire, turn)
                return None
            case m.FunctionCall():
                self._slot = _QUERY_SLOT
                return self._object(wire, wire, CALLS_BY_OID)
            case message:
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, type(message).__name__)

    def _parse(self, wire: bytes, snapshot: Snapshot) -> Ask:
        talk = self._talk
        said = decode.parse_fields(wire)
        if said.name and len(talk.statements) + len(talk.parsing) >= MAX_NAMES:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"more than {MAX_NAMES} prepared statements")
        understood = self._understanding.look(said.statement, snapshot, said.parameter_types)
        facts = understood.facts
        statement = Statement(said.statement, said.parameter_types, facts, self._segment)
        self._slot = _slot(_PARSE, said.name, statement, (), None, True, ())
        return Ask(Operation(facts, said.statement, None, wire), False)

    def _is_unsettled(self, run: Run) -> bool:
        """Whether a Bind names a statement whose Parse may have failed without this Bind being skipped.

        A Parse in an earlier stretch between Syncs can fail while the name keeps an older meaning: what the Bind then
        runs is known only when the answer is here.
        """
        wire = self._wire(run)
        if run.count == 0:
            decode.frontend(wire)  # a piece of one is none
        self._said = said = decode.bind_fields(wire)
        statement = self._talk.parsing.get(said.statement)
        return statement is not None and statement.segment != self._segment

    def _bind(self, wire: bytes, snapshot: Snapshot) -> Ask:
        talk = self._talk
        said = self._said if self._said is not None else decode.bind_fields(wire)
        statement = talk.statement(said.statement)
        self._slot = _slot(_BIND, said.portal, statement, said.result_formats, None, True, ())
        if statement is None or self._understanding.is_prepared_in_sql(said.statement):
            name = said.statement.decode("utf-8", "replace")
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
        parameters = Parameters(said.parameter_formats, said.parameters, statement.parameter_types)
        return Ask(Operation(understood.facts, statement.sql, parameters, wire, statement.asked), True)

    def _execute(self, wire: bytes, name: bytes) -> Ask | None:
        portal = self._portal(name)
        if portal is None:
            self._slot = _slot(_EXECUTE, name, None, (), None, True, ())
            told = name.decode("utf-8", "replace")
            return self._object(wire, wire, Objection(
                Unjudgeable.UNKNOWN_OBJECT, f'portal "{told}" does not exist',
                "Bind it in this transaction; a cursor made with DECLARE is read with FETCH.", "34000", None,
            ))  # fmt: skip
        work = portal.work
        if work is not None and work.status:  # it ran to its end: to run it again is a new operation
            self._slot = _slot(_EXECUTE, name, None, (), portal, True, ())
            was = work.intended.permit.operation
            return Ask(Operation(was.facts, was.statement, was.parameters, wire, was.asked), True)
        self._pass(wire, opened(_EXECUTE, None, name, None, portal))
        return None

    def _portal(self, name: bytes) -> Portal | None:
        """The portal that `name` means once everything in the outbox is sent."""
        at = len(self._outbox)
        while at:
            at -= 1
            item = self._outbox[at]
            if isinstance(item, _Slot):
                slot = item
                if slot.kind == _BIND and slot.name == name:
                    return slot.portal
        return self._talk.portals.get(name)

    def _describe(self, wire: bytes, name: bytes) -> None:
        if wire[BARE] == STATEMENT:
            self._pass(wire, opened(_DESCRIBE_STATEMENT, None, b"", self._talk.statement(name)))
        else:
            self._pass(wire, opened(_DESCRIBE_PORTAL, None, b"", None, self._portal(name)))

    def _copy_message(self, run: Run) -> bool:
        """Pass CopyData, CopyDone or CopyFail on; False: it must wait until the target has said whether it wants it."""
        talk = self._talk
        if talk.copying_in is None:
            # What comes after a failed COPY is dropped, as PostgreSQL does (54.2.6); what may belong to one that is
            # still to begin waits for the answer.
            return self._skipping or not (self._outbox or talk.is_outstanding())
        wire = self._wire(run)
        self._streamed.append(Streamed(talk.copying_in.intended, wire, run.tag == COPY_DONE))
        self._pass(wire, None)
        if run.tag != COPY_DATA:
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
        self._slot = _slot(_BIND, b"", None, (), None, True, ()) if extended else _QUERY_SLOT
        note = f"[{length + len(piece)} bytes, sha256 {digest.hexdigest()}] ".encode()
        return self._object(b"", note + bytes(head), Objection(
            Unjudgeable.OVERSIZE, f"a message of {length + len(piece)} bytes cannot be judged",
            f"Messages of up to {HOLD >> 20} MiB are; load more with COPY FROM STDIN.", "54000", None,
        ))  # fmt: skip

    def _object(self, wire: bytes, statement: bytes, objection: Objection) -> Ask:
        """Ask about what cannot be judged: policy turns the objection into a refusal, which is on record."""
        return Ask(Operation(objection_facts(objection), statement, None, wire), True)

    def _pass(self, wire: bytes, turn: Turn | None) -> None:
        passed = _Pass.__new__(_Pass)
        passed.wire = wire
        passed.turn = turn
        self._outbox.append(passed)

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
            self._slot = _slot(slot.kind, slot.name, statement, slot.formats, slot.portal, slot.extended, slot.effects)
        return Operation(understood.facts, text, operation.parameters, wire, asked)

    # --- what was decided ---

    def decided(self, ask: Ask, decision: Permit | Refusal) -> bool:
        """Lay the message in the outbox, or its refusal; True if the decision is to be made durable."""
        slot = self._slot
        if isinstance(decision, Refusal):
            self._outbox.append(_slot(slot.kind, slot.name, None, slot.formats, None, slot.extended, slot.effects))
            self._skipping = slot.extended
            if slot.kind == _PARSE and not slot.name:
                # A Parse that fails drops the unnamed statement all the same (54.2.3): nothing may run under its old meaning.
                self._talk.statements.pop(b"", None)
            return True
        if slot.kind == _PARSE:
            turn = opened(_PARSE, None, slot.name, slot.statement)
            assert slot.statement is not None  # noqa: S101 - a permitted Parse has one
            self._talk.parsing[slot.name] = slot.statement
            if slot.name:
                self._understanding.parsing(slot.name, slot.statement.facts, slot.statement.sql)
            wire = decision.operation.wire
            self._pass(commented(wire, self._comment) if self._comment else wire, turn)
            if self._describes:
                turn = opened(_DESCRIBE_STATEMENT, None, b"", slot.statement)
                turn.hidden = True
                self._pass(encode.encode(m.Describe("S", slot.name)), turn)
            return False
        # What comes behind it, be it in the same read, is judged as after it. If it is dropped in the end, that asks for too much.
        if slot.effects:
            self._understanding.sent(slot.effects)
        if slot.kind == _BIND:
            assert slot.statement is not None  # noqa: S101 - without one it was objected to
            slot = _slot(
                _BIND, slot.name, slot.statement, slot.formats, Portal(slot.statement, slot.formats), True, slot.effects
            )
            if slot.name:
                self._understanding.bound(slot.name, ask.operation.facts)
        self._outbox.append(slot)
        return True

    def order(self, proofs: tuple[Intended | Denied, ...]) -> Order:
        """Fill the proofs into the outbox and empty it."""
        outbox = self._outbox
        if len(outbox) == 1 and outbox[0] is _QUERY_SLOT and not self._talk.skipping:
            only = proofs[0]
            if isinstance(only, Intended):
                outbox.pop()
                return Order((only,), self._send_query(only, ()))
        wires: list[bytes] = []
        intended: list[Intended] = []
        used = 0
        self._outbox = []
        for item in outbox:
            if isinstance(item, _Pass):
                passed = item
                if self._talk.skipping and not self._is_sync(passed):
                    if passed.turn is not None:
                        self._talk.forget(passed.turn)
                else:
                    self._send_pass(passed, wires)
                continue
            slot, proof = item, proofs[used]
            used += 1
            if self._talk.skipping:
                self._drop(proof)
            elif isinstance(proof, Denied):
                self._send_refusal(slot, proof, wires)
            else:
                intended.append(proof)
                wires.append(self._send_query(proof, slot.effects) if slot.kind == _QUERY else self._send_extended(slot, proof))
        return Order(tuple(intended), b"".join(wires) if len(wires) != 1 else wires[0])

    def _is_sync(self, item: _Pass) -> bool:
        if item.turn is not None and item.turn.kind == _SYNC:
            self._talk.skipping = False
            return True
        return False

    def _drop(self, proof: Intended | Denied) -> None:
        """The target would discard it: so it is not sent, and an intent that was written ends as skipped."""
        if isinstance(proof, Intended):
            work = Work(proof, ())
            work.status = "skipped"
            self._talk.open_works.append(work)

    def _send_query(self, proof: Intended, effects: tuple[Effect, ...]) -> bytes:
        work = Work(proof, effects)
        self._talk.open_works.append(work)
        self._talk.pending.append(opened(_QUERY, work))
        wire = proof.permit.operation.wire
        return commented(wire, self._comment) if self._comment else wire

    def _send_extended(self, item: _Slot, proof: Intended) -> bytes:
        talk = self._talk
        work = Work(proof, item.effects)
        talk.open_works.append(work)
        turn = opened(item.kind, work, item.name, None, item.portal)
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
        if not talk.is_outstanding() and not talk.unsynced and talk.status == IDLE:
            frames = refusals.refusal(denied.refusal)
            if not item.extended:
                frames += encode.READY["I"]
            self._answers.append(Batch(frames, Content.CONTROL, None, 0, False))
            return
        turn = opened(_PARSE if item.extended else _QUERY)
        turn.denied = denied
        talk.pending.append(turn)
        talk.unsynced = talk.unsynced or item.extended
        wires.append(refusals.POISON_PARSE if item.extended else refusals.POISON_QUERY)

    def streamed(self) -> Iterable[Streamed]:
        """COPY data of the last order."""
        if not self._streamed:
            return ()
        streamed, self._streamed = self._streamed, []
        return streamed

    def answers(self) -> Iterable[Batch]:
        """Refusals to be told at once."""
        if not self._answers:
            return ()
        answers, self._answers = self._answers, []
        return answers
