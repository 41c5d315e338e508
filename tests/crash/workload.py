"""What runs while the world breaks: sessions with payloads and results, sealed on the way; it says what it would have let happen.

The writer is opened, recovered, and closed at the end, so recovery is under fire too. Each operation that was durable, and so would have
been sent to the target, is reported on a file descriptor before it "happens".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ostiary.audit.entries import SessionEntries
from ostiary.audit.journal import Journal
from ostiary.audit.keys import Origin, ensure_origin, init_state, load_signer
from ostiary.audit.log import Log, open_log
from ostiary.audit.sealer import Sealer
from ostiary.audit.verify import Policy, Report, parse_entry
from ostiary.audit.verify import verify as verify_log
from ostiary.audit.wal import frames, segments
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import OstiaryError
from ostiary.model.proofs import Content, Intended, Masked
from ostiary.recording.recorder import Recorder
from ostiary.vault.keys import load_key_file
from ostiary.vault.payload_format import PayloadTampered
from ostiary.vault.payload_reading import Record, read_stream
from ostiary.vault.payloads import PayloadStream
from tests.audit_writer.conftest import GROUNDS, operation, outcome, session_facts

YEAR = 2026


@dataclass(frozen=True)
class House:
    """A state folder and a tail beside it."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def tail(self) -> Path:
        return self.folder / "tail"

    def build(self) -> None:
        self.tail.mkdir(parents=True)
        init_state(self.state, "gw1")
        ensure_origin(self.state, "gw1", "w0", YEAR)

    def open(self, **options: float) -> Log:
        loop = asyncio.get_running_loop()
        return open_log(
            self.state, "gw1", "w0", scrub=str, loop=loop, year=YEAR, tail_dir=self.tail,
            tail_bytes=1 << 16, segment_bytes=6000, redo_bytes=1000, **options,
        )  # fmt: skip

    @property
    def origins(self) -> list[Path]:
        return sorted((self.state / "audit" / "w0").iterdir())


@dataclass
class Plan:
    """One run: how many sessions at once, how many operations each, and how patient."""

    sessions: int = 2
    operations: int = 3
    patience: float = 20.0
    seal_every: int = 2
    strict: bool = True
    say: Callable[[str], None] = field(default=lambda _: None)


async def work(house: House, plan: Plan) -> None:
    """Run a plan to its end, or until something is refused."""
    log = house.open(patience=plan.patience)
    sealing = _Sealing(log.origin)
    kek = load_key_file(house.state / "keys" / "kek-1.key")
    try:
        done = await asyncio.gather(
            *(_session(log, kek, plan, sealing, n) for n in range(plan.sessions)), return_exceptions=True
        )
        for problem in done:
            if isinstance(problem, BaseException) and not isinstance(problem, OstiaryError | OSError):
                raise problem
    finally:
        await log.writer.close(2.0)
        sealing.upto(log.writer.durable)


class _Sealing:
    """A sealer in this process: it gives up where the real one would exit, and is begun again."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._sealer: Sealer | None = None

    def upto(self, durable: int) -> None:
        try:
            if self._sealer is None:
                self._sealer = Sealer(self._origin.folder, load_signer(self._origin.key_file))
            for _ in self._sealer.seal(durable):
                pass
        except (OstiaryError, OSError):
            self._sealer = None


async def _session(log: Log, kek, plan: Plan, sealing: _Sealing, number: int) -> None:
    facts = session_facts()
    folder = log.origin.folder / "payloads"
    stream = PayloadStream.create(folder / f"{facts.session}.osp", facts.session, kek)
    journal = Journal(log.writer, SessionEntries(log.encoder, facts), log.ids, open_stream=lambda: stream)
    recorder = Recorder(stream)
    under_way: list[Intended] = []
    try:
        start = journal.start("cd" * 32, Permit(facts.identity, operation(), GROUNDS))
        await journal.wait_durable(start)
        for n in range(plan.operations):
            decision = (Refusal if n % 4 == 3 else Permit)(facts.identity, operation(), GROUNDS)
            written = journal.write((decision,))
            try:
                await journal.wait_durable(written)
                (proof,) = journal.proofs(written)
            except OstiaryError:
                journal.give_up(written)
                raise
            plan.say(proof.entry)  # durable: from here on it happens
            if isinstance(proof, Intended):
                under_way.append(proof)
                masked = Masked(frames=b"C\0\0\0\x0dSELECT 1\0", content=Content.CONTROL, rows=0, counts=())
                recorder.record(masked, journal.elapsed_us(), proof.entry)
                journal.outcomes((outcome(proof),))
                under_way.clear()
            if n % plan.seal_every == number % plan.seal_every:
                sealing.upto(log.writer.durable)
            await asyncio.sleep(0)
    finally:
        with contextlib.suppress(OstiaryError, OSError):
            # As a session does that dies: what is under way is closed first.
            journal.outcomes(tuple(outcome(proof, status="unknown") for proof in under_way))
            journal.end("ended")


@dataclass(frozen=True)
class Story:
    """What a log says after all: by origin."""

    reports: list[Report]
    entries: list[dict[str, object]]
    blobs: set[str]
    """What the recordings hold that can be read."""


def read_back(house: House) -> Story:
    """Recover the log as the next start does, seal it, and verify it with the stranger's eyes."""

    async def once() -> None:
        ensure_origin(house.state, "gw1", "w0", YEAR)
        log = house.open(patience=20.0)
        await log.writer.close()

    asyncio.run(once())
    reports, entries, blobs = [], [], set()
    kek = load_key_file(house.state / "keys" / "kek-1.key")
    for folder in house.origins:
        for path in (folder / "payloads").glob("*.osp"):
            with contextlib.suppress(PayloadTampered):  # the header itself may not have come to the disk
                blobs |= {record.ref.blob for record in read_stream(path, kek) if isinstance(record, Record)}
        policy = Policy.parse((folder / "policy").read_text())
        vkey_name = next(iter(policy.logs))
        key = house.state / "keys" / "signers" / f"w0-{folder.name}.key"
        origin = Origin(vkey_name, folder, "", key, "gw1", "w0", YEAR)
        size = sum(1 for segment in segments(folder / "wal") for _ in frames(segment.path))
        sealer = Sealer(origin.folder, load_signer(key))
        for _ in sealer.seal(size):
            pass
        reports.append(verify_log(folder, policy, checksums=True))
        entries += [parse_entry(frame.entry) for segment in segments(folder / "wal") for frame in frames(segment.path)]
    return Story(reports, entries, blobs)


def judge(story: Story, happened: list[str], *, power_cut: bool = False) -> None:
    """The promises: what happened is on record, every intent has one outcome, and a stranger finds nothing wrong.

    After a power cut a recording may end early and the log says so (`gap`): that, and nothing else, may be incomplete.
    """
    ids = [str(entry["id"]) for entry in story.entries]
    assert len(ids) == len(set(ids)), "an entry stands twice"
    missing = set(happened) - set(ids)
    assert not missing, f"it happened, and is on no record: {missing}"
    intents = [entry["id"] for entry in story.entries if entry["kind"] == "intent"]
    closed = [entry["ref"] for entry in story.entries if entry["kind"] == "outcome"]
    assert sorted(map(str, intents)) == sorted(map(str, closed)), "an intent has no outcome, or two"
    named = {ref["blob"] for entry in story.entries if entry["id"] in happened for ref in _refs(entry)}
    assert named or not happened, "what happened names no payload"
    assert not (lost := named - story.blobs), f"it happened, and its statement or parameters are on no disk: {lost}"
    for report in story.reports:
        wrong = [problem for problem in report.problems if problem.tampered]
        assert not wrong, wrong
        said = any(entry["kind"] in {"gap", "recover"} for entry in story.entries)
        odd = [problem for problem in report.problems if not (power_cut and said)]
        assert not odd, odd


def _refs(value: object) -> Iterator[dict[str, str]]:
    if isinstance(value, dict):
        if "blob" in value:
            yield value
        for inner in value.values():
            yield from _refs(inner)


def write_all(fd: int, text: str) -> None:
    os.write(fd, text.encode())
