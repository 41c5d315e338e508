"""One session's way into the log: decisions in, `Intended` and `Denied` out, once they are durable.

Theory of operation
-------------------
`write` puts a batch of decisions into the session's payload stream (one chunk) and into the log's tail (one entry each), and says
what has to become durable. `proofs` hands out the proofs, and refuses to while it has not. In `buffered` durability that is at once:
the tail and the stream are with the kernel. In `strict` the disk has what the stream was given first, so that no leaf names a blob that a
power cut took, then the entries; all sessions that wait share both syncs (`ostiary.audit.redo`).

A denial always keeps the complete bytes that were refused: where a connection records events only, its stream is opened when
the first denial comes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Final

from ostiary.audit import inline
from ostiary.audit.entries import SessionEntries
from ostiary.audit.ids import Ids
from ostiary.audit.writer import Durable, Writer
from ostiary.model.connections import Durability, Recording
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import LogFailed
from ostiary.model.events import NOTHING_KEPT, Kept, PayloadKind
from ostiary.model.operations import Parameters
from ostiary.model.proofs import Denied, Intended, Outcome
from ostiary.vault.payloads import Item, PayloadStream

_STATEMENT: Final = PayloadKind.STATEMENT
_ASKED: Final = PayloadKind.ASKED
_PARAMS: Final = PayloadKind.PARAMS
_pack_count = struct.Struct(">H").pack
_pack_value = struct.Struct(">Hi").pack


class Written:
    """A batch of decisions that is on its way to being durable."""

    __slots__ = ("given_up", "index", "proofs")

    def __init__(self, index: int, proofs: tuple[Intended | Denied, ...]) -> None:
        self.index = index
        """Log index of the last entry."""
        self.proofs = proofs
        self.given_up = False
        """Nobody waits for it any more."""


class Journal:
    """One session's entries, in order, and the payloads that they refer to."""

    def __init__(
        self, writer: Writer, entries: SessionEntries, ids: Ids, *, open_stream: Callable[[], PayloadStream]
    ) -> None:
        self._writer = writer
        self._entries = entries
        self._ids = ids
        self._open_stream = open_stream
        self.is_full = entries.facts.recording is Recording.FULL
        """Statements, parameters and results are kept, not only what was refused."""
        self.session = entries.facts.session
        self.strict = entries.facts.durability is Durability.STRICT
        self.began = time.monotonic_ns()
        """Monotonic nanoseconds; what a stream's times count from."""
        self._start = ""
        self._operations = 0
        self.stream: PayloadStream | None = None
        if self.is_full:
            self._begin_stream()

    def elapsed_us(self) -> int:
        """Microseconds since the session began."""
        return (inline.clock() - self.began) // 1000

    def start(self, policy: str, admitted: Permit) -> Written:
        """Begin the session's record: its `session.start`. `policy` is the digest of the policies in force."""
        entry_id = self._ids.next()
        entry = self._entries.start(entry_id, time.time_ns(), self.began, policy=policy, grounds=admitted.grounds)
        self._bring_stream()
        index = self._writer.append(entry)
        self._start = entry_id
        return Written(index, (Intended(admitted, entry_id, self.began),))

    def write(self, decisions: tuple[Permit | Refusal, ...]) -> Written:
        """Put decisions on their way. Raises `LogFailed`, and the stream's errors: then nothing of them may run."""
        now, mono = inline.now(), inline.clock()
        entries: list[bytes] = []
        proofs: list[Intended | Denied] = []
        ids: list[str] = []
        for _ in decisions:
            ids.append(self._ids.at(now))  # noqa: PERF401 - no closure: it is typed where it is compiled
        places = self._keep(decisions, ids) if self._keeps(decisions) else None
        for number, decision in enumerate(decisions):
            entry_id, kept = ids[number], NOTHING_KEPT if places is None else places[number]
            if isinstance(decision, Permit):
                entries.append(self._entries.intent(decision, entry_id, now, mono, kept))
                proofs.append(Intended(decision, entry_id, mono))
                self._operations += 1
            else:
                entries.append(self._entries.deny(decision, entry_id, now, mono, kept))
                proofs.append(Denied(decision, entry_id))
        self._bring_stream()
        # All or none: an intent that is written while the next one finds no room would wait for an outcome for nothing.
        index = self._writer.append(entries[0]) if len(entries) == 1 else self._writer.append_all(entries)
        return Written(index, tuple(proofs))

    def give_up(self, written: Written) -> None:
        """Close the intents of a batch whose proofs nobody got: what they intended was never sent."""
        written.given_up = True
        skipped = [
            Outcome(
                intended=proof, status="skipped", tag="", rows=0, bytes=0, error="", error_text="", masked=(), columns=()
            )
            for proof in written.proofs
            if isinstance(proof, Intended)
        ]
        self.outcomes(tuple(skipped))

    def is_durable(self, written: Written) -> bool:
        """Whether the disk has what it has to have, by now."""
        return not self.strict or self._writer.durable > written.index

    def when_durable(self, written: Written, done: Durable) -> None:
        """Call `done` once the disk has a batch, or after the patience has passed, with the reason: later, never at once."""
        self._writer.when_durable(written.index, done)

    async def wait_durable(self, written: Written) -> None:
        """Wait for the disk. Raises `LogFailed` when it takes too long, or cannot; the stream's error where it has failed."""
        if self.strict:
            await self._writer.wait_durable(written.index)
        self.proofs(written)

    def proofs(self, written: Written) -> tuple[Intended | Denied, ...]:
        """Hand out the proofs of a batch that is durable. Raises `LogFailed` if it is not, or if nobody wants it any more."""
        if not self.is_durable(written):
            raise LogFailed("the entries are not durable")
        if written.given_up:
            raise LogFailed("the session has ended")
        if self.strict and (trouble := self.trouble()) is not None:
            raise trouble
        return written.proofs

    def outcomes(self, outcomes: tuple[Outcome, ...]) -> None:
        """Append outcomes."""
        now, mono = inline.now(), inline.clock()
        for outcome in outcomes:
            self._writer.append(self._entries.outcome(outcome, self._ids.at(now), now, mono), True)

    def end(self, status: str) -> None:
        """Close the recording and append `session.end`. `status`: `ended`, or the name of a reason.

        A session whose `session.start` found no place in the log has no end there either.
        """
        head = None if self.stream is None else self.stream.close()
        if not self._start:
            return
        entry = self._entries.end(
            self._start, self._ids.next(), time.time_ns(), time.monotonic_ns(),
            status=status, operations=self._operations, recording=head,
        )  # fmt: skip
        self._writer.append(entry, True)

    def trouble(self) -> Exception | None:
        """Why the session's recording cannot go on, if it cannot: nothing more can be put on record in this session."""
        return None if self.stream is None else self.stream.trouble

    # --- payloads ---

    def _begin_stream(self) -> PayloadStream:
        self.stream = stream = self._open_stream()
        stream.keeps_loose = self.strict
        return stream

    def _bring_stream(self) -> None:
        """Have what the stream was given on the disk before the entries that follow."""
        if self.strict and self.stream is not None:
            self._writer.beside(self.stream.loose())

    def _keeps(self, decisions: tuple[Permit | Refusal, ...]) -> bool:
        """Whether something of these decisions goes into the payload stream: all of them, or what was refused."""
        if self.is_full:
            return True
        for decision in decisions:  # noqa: SIM110 - no closure: it is typed where it is compiled
            if not isinstance(decision, Permit):
                return True
        return False

    def _keep(self, decisions: tuple[Permit | Refusal, ...], ids: list[str]) -> list[Kept]:
        """Put statements and parameters into the payload stream, where they are kept; one chunk for all."""
        t_us = self.elapsed_us()
        items: list[Item] = []
        places: list[tuple[int, int, int]] = []
        for number, decision in enumerate(decisions):
            entry_id = ids[number]
            if not self.is_full and isinstance(decision, Permit):
                places.append((-1, -1, -1))
                continue
            operation = decision.operation
            statement, params, asked = len(items), -1, -1
            items.append((_STATEMENT, entry_id, t_us, operation.statement))
            if operation.asked is not None:
                asked = len(items)
                items.append((_ASKED, entry_id, t_us, operation.asked))
            if operation.parameters is not None:
                params = len(items)
                items.append((_PARAMS, entry_id, t_us, parameter_bytes(operation.parameters)))
            places.append((statement, params, asked))
        stream = self.stream or self._begin_stream()
        refs = stream.write(items)
        kept: list[Kept] = []
        for statement, params, asked in places:
            if statement < 0:
                kept.append(NOTHING_KEPT)
            else:
                kept.append(Kept(refs[statement], refs[params] if params >= 0 else None, refs[asked] if asked >= 0 else None))
        return kept


def parameter_bytes(parameters: Parameters) -> bytes:
    """Bound parameters as a payload: u16be count, then for each u16be format and i32be length (-1: NULL) and bytes."""
    formats, values = parameters.formats, parameters.values
    if len(formats) == 0:
        formats = (0,) * len(values)
    elif len(formats) == 1:
        formats = formats * len(values)
    parts = [_pack_count(len(values))]
    for number, value in enumerate(values):
        code = formats[number] if number < len(formats) else 0
        if value is None:
            parts.append(_pack_value(code, -1))
        else:
            parts.append(_pack_value(code, len(value)))
            parts.append(value)
    return b"".join(parts)
