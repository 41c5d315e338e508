"""What the real writer, sealer and journal make is whole to the verifier, and equal to what a second writer makes of it."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from pathlib import Path

import pytest

from ostiary.audit import verify as module
from ostiary.audit.entries import SessionEntries
from ostiary.audit.journal import Journal
from ostiary.audit.keys import ensure_origin, init_state
from ostiary.audit.log import open_log
from ostiary.audit.prove import check, prove
from ostiary.audit.sealer import seal_once
from ostiary.audit.search import Query, outcome_of, search, show
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.proofs import Content, Intended, Masked
from ostiary.recording.recorder import Recorder
from ostiary.recording.transcript import render
from ostiary.vault.keys import load_key_file
from ostiary.vault.payload_reading import read_stream
from ostiary.vault.payloads import PayloadStream
from tests.audit_reader.makelog import Log
from tests.audit_writer.conftest import GROUNDS, operation, outcome, session_facts

OPERATIONS = 150


@pytest.fixture(scope="module")
def state_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which two sessions of 150 operations were written, sealed in three goes, and closed."""
    state = tmp_path_factory.mktemp("real") / "state"
    tail = state.parent / "tail"
    tail.mkdir()
    init_state(state, "gw1")
    origin = ensure_origin(state, "gw1", "w0", 2026)
    kek = load_key_file(state / "keys/kek-1.key")
    folder = origin.folder / "payloads"
    folder.mkdir(exist_ok=True)

    async def one_session() -> None:
        log = open_log(
            state, "gw1", "w0", scrub=str, loop=asyncio.get_running_loop(), year=2026, tail_dir=tail, tail_bytes=1 << 20,
            segment_bytes=1 << 17, patience=30.0,
        )  # fmt: skip
        facts = session_facts()
        stream = PayloadStream.create(folder / f"{facts.session}.osp", facts.session, kek)
        journal = Journal(log.writer, SessionEntries(log.encoder, facts), log.ids, open_stream=lambda: stream)
        recorder = Recorder(stream)
        journal.start("cd" * 32, Permit(facts.identity, operation(), GROUNDS))
        for n in range(OPERATIONS):
            decision = (Refusal if n % 10 == 9 else Permit)(facts.identity, operation(), GROUNDS)
            written = journal.write((decision,))
            await journal.wait_durable(written)
            (proof,) = journal.proofs(written)
            if isinstance(proof, Intended):
                masked = Masked(frames=b"C\0\0\0\x0dSELECT 1\0", content=Content.CONTROL, rows=0, counts=())
                recorder.record(masked, journal.elapsed_us(), proof.entry)
                journal.outcomes((outcome(proof),))
        journal.end("ended")
        await log.writer.close()

    for _ in range(2):
        asyncio.run(one_session())
        assert seal_once(origin) == 0
    return state


@pytest.fixture
def state(state_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(state_once, tmp_path / "state")
    return tmp_path / "state"


def test_the_real_log_is_whole_by_policy_and_by_root(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert module.main([str(state), "--policy", str(state / "policy"), "--checksums"]) == 0, capsys.readouterr().out
    assert module.main([str(state / "audit/w0/2026"), "--root", str(state / "keys/root.vkey")]) == 0
    capsys.readouterr()
    module.main([str(state), "--policy", str(state / "policy"), "--output", "json"])
    (report,) = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    assert report["entries"]["intent"] == report["entries"]["outcome"] == 2 * OPERATIONS * 9 // 10
    assert report["heads"] == 2
    assert report["blobs"] >= 2 * OPERATIONS
    assert report["size"] > 512


def test_a_second_writer_makes_the_same_bytes(state: Path, tmp_path: Path) -> None:
    real = state / "audit/w0/2026"
    policy = module.Policy.parse((state / "policy").read_text())
    log = module._Log(real / "log", module.Report(""), 0, tree_only=False)
    log.newest(policy)
    twin = Log(tmp_path / "twin", origin=log._report.origin)
    twin.entries = [entry for _, entry, _ in log.entries() if entry is not None]
    with (real / "log/checkpoints").open("rb") as file:
        twin.sizes = [module.Checkpoint.parse(note).size for note, _ in module._notes(file)][:-1]
    twin.write()
    names = {p.relative_to(real / "log") for p in (real / "log/tile").rglob("*") if p.is_file()}
    assert names
    for name in names:
        assert (real / "log" / name).read_bytes() == (twin.base / "log" / name).read_bytes(), name
    ours, theirs = ((base / "log/checkpoint").read_text() for base in (real, twin.base))
    assert ours.split("\n")[:3] == theirs.split("\n")[:3]
    assert base64.b64decode(ours.split("\n")[2])


def test_one_byte_changed_in_the_real_log_is_found_at_its_entry(state: Path) -> None:
    bundle = state / "audit/w0/2026/log/tile/entries/001"
    data = bytearray(bundle.read_bytes())
    data[60] ^= 1
    bundle.write_bytes(data)
    report = module.verify(state / "audit/w0/2026", module.Policy.parse((state / "policy").read_text()))
    assert (report.status, report.first_bad) == ("tampered", 256)


def test_searching_showing_proving_and_reading_the_recording_fit_together(state: Path) -> None:
    denied = list(search(state, Query(person="ana", verdict="deny", limit=1000)))
    assert len(denied) == 2 * OPERATIONS // 10
    intent = next(search(state, Query(kind="intent", actor="coder", object="public.orders")))
    found = show(state, intent["id"])
    closing = outcome_of(state, intent["id"])
    assert found is not None
    assert closing is not None
    assert closing.entry["result"]["status"] == "ok"
    policy = module.Policy.parse((state / "policy").read_text())
    proved = check(prove(state / "audit" / found.origin, found.index), policy)
    assert proved.entry == intent
    path = state / "audit" / found.origin / "payloads" / f"{intent['session']}.osp"
    text = [line.text for line in render(read_stream(path, load_key_file(state / "keys/kek-1.key")))]
    assert text.count("> SELECT id, total FROM orders WHERE id = 7") == OPERATIONS
    assert sum("SELECT 1" in line for line in text) == OPERATIONS * 9 // 10
    assert text.count("  $1 = 7") == OPERATIONS
