"""What is old enough goes from the front, what is held stays; what is left verifies, and a prune that hides is found."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ostiary.app.alerting import read_logs
from ostiary.audit import index, keys, operator, retention, search, verify, walreader
from ostiary.audit import log as log_module
from ostiary.audit.cosignature import Cosigner, WitnessPolicy
from ostiary.audit.export import export
from ostiary.audit.keys import Origin, ensure_origin, init_state, origins, this_year
from ostiary.audit.log import Log, open_log
from ostiary.audit.operator import record
from ostiary.audit.prove import check, prove
from ostiary.audit.retention import Hold, carry_out, finish, keep_holds, plan
from ostiary.audit.sealer import seal_once
from ostiary.audit.tiles import TileFolder
from ostiary.cli.main import main
from ostiary.model.errors import LogFailed

DAY = 86_400 * 10**9
ENTRIES = 1500
KEEP = 10
SESSIONS = [f"0190a0b0-0000-7000-8000-{n:012x}" for n in range(ENTRIES)]


def opened(state: Path, tail: Path) -> Log:
    loop = asyncio.get_running_loop()
    return open_log(state, "gw1", "worker-1", scrub=str, loop=loop, tail_dir=tail, segment_bytes=1 << 16, patience=60)


async def fill(state: Path, tail: Path) -> None:
    """Append sessions' beginnings and ends, a day apart for a hundred of them: the newest are some three weeks old."""
    log = opened(state, tail)
    now = time.time_ns()
    for n in range(ENTRIES // 2):
        t = now - 23 * DAY + n * DAY // 250
        person = {"who": {"sub": "ana" if n == 300 else "bob"}}
        begun = log.ids.next(t)
        log.writer.append(log.encoder.entry("session.start", begun, t, t, {"session": SESSIONS[n], **person}))
        members = {"session": SESSIONS[n], "ref": begun, "result": {"operations": 0, "status": "ended"}, **person}
        log.writer.append(log.encoder.entry("session.end", log.ids.next(t), t, t, members))
        (log.origin.folder / "payloads" / f"{SESSIONS[n]}.osp").touch()
        if n % 100 == 0:
            await log.writer.flush()
    await log.writer.close()


async def reopen(state: Path, tail: Path) -> int:
    log = opened(state, tail)
    await log.writer.close()
    return log.report.size


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("retention")
    (home / "tail").mkdir()
    init_state(home / "state", "gw1")
    origin = ensure_origin(home / "state", "gw1", "worker-1")
    asyncio.run(fill(home / "state", home / "tail"))
    assert seal_once(origin) == 0
    return home


@pytest.fixture
def home(pattern: Path, tmp_path: Path) -> Path:
    shutil.copytree(pattern, tmp_path / "home")
    return tmp_path / "home"


def the_log(home: Path) -> Origin:
    (origin,) = origins(home / "state", "gw1", "worker-1")
    return origin


def pruned(home: Path, keep: int = KEEP, **said: object) -> retention.Prune:
    """Prune as the command does; `said`: what the record says otherwise."""
    found = plan(home / "state", the_log(home), keep)
    assert found is not None
    what = {"what": "entries", "origin": found.origin.name, "below": found.below, "keep_days": keep} | said
    record(home / "state", "gw1", str, "redact", {"redact": what}, tail_dir=home / "tail")  # type: ignore[dict-item]
    carry_out(found)
    index.drop(home / "state")
    return found


def verdict(home: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = verify.main([str(home / "state/audit"), "--root", str(home / "state/keys/root.vkey"), "--output", "json", *options])
    reports = json.loads(capsys.readouterr().out)
    return code, " ".join(problem["what"] for report in reports for problem in report["problems"])


def test_aud_023_what_is_left_verifies_and_the_root_is_the_same(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (the_log(home).folder / "log/checkpoint").read_bytes()
    found = pruned(home)
    assert 512 <= found.below < ENTRIES
    assert verdict(home, capsys=capsys) == (0, "")
    assert verdict(home, "--keep-days", str(KEEP), capsys=capsys) == (0, "")
    assert (the_log(home).folder / "log/checkpoint").read_bytes() == before
    kept = [entry["session"] for entry in search.search(home / "state", search.Query(kind="session.end", limit=5000, newest_first=False))]
    left = {path.stem for path in (the_log(home).folder / "payloads").iterdir()}
    assert set(kept) <= left
    assert SESSIONS[0] not in left
    assert len(left) < 750
    proof = prove(the_log(home).folder, found.below)
    policy = verify.Policy.parse((home / "state/policy").read_text())
    assert check(proof, policy).index == found.below
    with pytest.raises(Exception, match="missing"):
        prove(the_log(home).folder, 0)


def test_the_writer_goes_on_in_a_log_that_was_pruned(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pruned(home)
    (the_log(home).folder / "low").unlink(missing_ok=True)
    assert asyncio.run(reopen(home / "state", home / "tail")) == ENTRIES + 1
    assert plan(home / "state", the_log(home), KEEP) is None
    assert seal_once(the_log(home)) == 0
    assert verdict(home, capsys=capsys) == (0, "")


def test_nothing_young_goes_and_nothing_that_is_held(home: Path) -> None:
    state = home / "state"
    assert plan(state, the_log(home), 40) is None
    whole = plan(state, the_log(home), KEEP)
    assert whole is not None
    keep_holds(state, {"case": Hold("court", person="ana")})
    less = plan(state, the_log(home), KEEP)
    assert less is not None
    assert less.below <= less.segment <= 601 < whole.below
    keep_holds(state, {"all": Hold("court")})
    assert plan(state, the_log(home), KEEP) is None
    (state / retention.HOLDS).write_text("{")
    with pytest.raises(retention.HoldFailed, match="nothing is removed"):
        plan(state, the_log(home), KEEP)


def sessions_found(state: Path, kind: str = "session.end") -> set[str]:
    return {str(entry["session"]) for entry in search.search(state, search.Query(kind=kind, limit=5000))}


@pytest.mark.parametrize("held", [130, 300, 421, 500, 600, 749])
def test_what_is_held_is_found_and_recorded_after_every_prune(home: Path, held: int) -> None:
    state, session = home / "state", SESSIONS[held]
    keep_holds(state, {"case": Hold("court", session=session)})
    for days in (0, 30, 60):
        found = plan(state, the_log(home), KEEP, time.time() + days * 86_400)
        if found is not None:
            assert found.segment <= 1 + 2 * held
            carry_out(found)
            index.drop(state)
        assert {entry["kind"] for entry in search.search(state, search.Query(session=session))} == {"session.start", "session.end"}
        assert (the_log(home).folder / "payloads" / f"{session}.osp").exists()
        assert retention.is_held(state, session) == "case"


def test_what_is_younger_than_the_time_is_found_by_a_search_still(home: Path) -> None:
    pruned(home, keep=21)
    young = {SESSIONS[n] for n in range(501, ENTRIES // 2)}
    assert young <= sessions_found(home / "state", "session.start")


def test_the_last_entry_that_goes_is_old_enough_too(home: Path) -> None:
    origin, bounds = the_log(home), set()
    for tenth in range(20):
        now = time.time() + tenth * 8640
        found = plan(home / "state", origin, 21, now)
        if found is not None:
            entry = index.decode(TileFolder(origin.folder / "log").entries(found.segment // 256, ENTRIES + 1)[found.segment % 256])
            assert (index.micros_of(entry["t"]) or 0) <= (now - 21 * 86_400) * 1_000_000
            bounds.add(found.segment)
    assert len(bounds) > 2


def test_what_a_prune_left_in_bundles_alone_is_held_too(home: Path) -> None:
    state, found = home / "state", pruned(home, keep=21)
    assert found.below < found.segment
    session = SESSIONS[found.below // 2 + 1]
    assert session not in sessions_found(state)
    later = time.time() + 40 * 86_400
    assert plan(state, the_log(home), KEEP, later) is not None
    keep_holds(state, {"case": Hold("court", session=session.upper()[:-1] + "*", since="2020")})
    assert plan(state, the_log(home), KEEP, later) is None
    keep_holds(state, {"case": Hold("court", session=session, until="2020")})
    assert plan(state, the_log(home), KEEP, later) is not None


@pytest.mark.parametrize("known", [True, False], ids=["indexed", "not indexed"])
def test_a_damaged_frame_hides_nothing_that_is_held(home: Path, known: bool) -> None:
    state = home / "state"
    keep_holds(state, {"case": Hold("court", session=SESSIONS[300])})
    if known:
        assert SESSIONS[300] in sessions_found(state)
    segment = sorted((the_log(home).folder / "wal").iterdir())[1]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(retention.HoldFailed, match="nothing is removed"):
        plan(state, the_log(home), KEEP)
    keep_holds(state, {})
    assert plan(state, the_log(home), KEEP) is not None


@pytest.mark.parametrize("said", [SESSIONS[300], SESSIONS[300].upper(), SESSIONS[300][:-2] + "*", SESSIONS[300].upper()[:-2] + "*", "*", None])
def test_a_session_is_held_however_the_hold_names_it(home: Path, said: str | None) -> None:
    state = home / "state"
    keep_holds(state, {"other": Hold("court", session=SESSIONS[1]), "case": Hold("court", session=said, person="ANA")})
    assert retention.is_held(state, SESSIONS[300]) == "case"
    assert retention.is_held(state, SESSIONS[2]) == ""


async def append(home: Path, count: int) -> None:
    log = opened(home / "state", home / "tail")
    for _ in range(count):
        t = time.time_ns() - 20 * DAY
        log.writer.append(log.encoder.entry("config", log.ids.next(t), t, t, {"config": {"action": "test"}}))
    await log.writer.close()


async def next_year(home: Path, writer: str = "worker-1") -> tuple[Origin, ...]:
    loop, year = asyncio.get_running_loop(), this_year() + 1
    ensure_origin(home / "state", "gw1", writer, year)
    log = open_log(home / "state", "gw1", writer, scrub=str, loop=loop, tail_dir=home / "tail", year=year)
    await log.writer.close()
    return log.finished


def test_no_entry_of_a_closed_log_goes_before_it_is_signed_and_it_is_signed_at_some_start(home: Path) -> None:
    state = home / "state"
    asyncio.run(append(home, 5))
    first, later = the_log(home), time.time() + 60 * 86_400
    (first.folder / "closed").touch()  # the process died before the sealer had signed its end
    assert retention.has_unsigned_end(first)
    assert plan(state, first, KEEP, later) is None
    assert asyncio.run(next_year(home)) == (first,)
    assert seal_once(first) == 0
    assert not retention.has_unsigned_end(first)
    assert asyncio.run(next_year(home)) == ()
    found = plan(state, first, KEEP, later)
    assert found is not None
    assert found.segment == ENTRIES + 1 + 5
    carry_out(found)
    assert plan(state, first, KEEP, later) is None


def test_what_no_quorum_has_cosigned_stays(home: Path) -> None:
    state, origin = home / "state", the_log(home)
    witness = Cosigner("w.example", bytes(32))
    policy = WitnessPolicy.parse(f"witness w {witness.vkey}\nquorum w\n")
    assert plan(state, origin, KEEP, witnesses=policy) is None
    shown = origin.folder / "log/checkpoint"
    text = shown.read_text()
    shown.write_text(text + witness.cosign(text[: text.index("\n\n") + 1], int(time.time())))
    whole = plan(state, origin, KEEP, witnesses=policy)
    assert whole == plan(state, origin, KEEP)
    assert whole is not None
    shown.write_text(text + witness.cosign("another\n1\ntext\n", int(time.time())))
    assert plan(state, origin, KEEP, witnesses=policy) is None


def test_nothing_is_done_on_a_record_that_could_not_be_signed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "seal_once", lambda *_: 1)
    with pytest.raises(LogFailed, match="could not be signed"):
        record(home / "state", "gw1", str, "config", {"config": {"action": "test"}}, tail_dir=home / "tail")


def test_the_operators_log_of_last_year_is_signed_to_its_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(home / "state", "gw1", str, "config", {"config": {"action": "test"}}, tail_dir=home / "tail")
    year = this_year() + 1
    for module in (keys, log_module):
        monkeypatch.setattr(module, "this_year", lambda: year)
    record(home / "state", "gw1", str, "config", {"config": {"action": "test"}}, tail_dir=home / "tail")
    first, _ = origins(home / "state", "gw1", "operator")
    assert (first.folder / "closed").exists()
    assert not retention.has_unsigned_end(first)


def test_an_export_says_what_was_pruned_before_it_was_exported(home: Path) -> None:
    found, said = pruned(home), list[tuple[str, int, int]]()
    name = the_log(home).folder.relative_to(home / "state/audit").as_posix()
    for start in (0, 7, found.segment):
        lines = export(home / "state", "jsonl", {name: start}, lambda *gap: said.append(gap))
        assert next(each.index for each in lines if each.origin == name) == found.segment
    assert said == [(name, 0, found.segment), (name, 7, found.segment)]


def test_alerts_read_on_behind_what_was_pruned(home: Path) -> None:
    state = home / "state"
    name = the_log(home).folder.relative_to(state / "audit").as_posix()
    behind = walreader.Place(0, 0, 0)
    for place, data in itertools.islice(walreader.read_from(the_log(home).folder, None), 100):
        behind = walreader.after(place, data)
    place = (behind.segment, behind.offset, behind.index)
    entries, following = read_logs(state, {name: place})
    assert len(entries) == ENTRIES + 1 - 100
    found = pruned(home)
    asyncio.run(append(home, 3))
    new, _ = read_logs(state, {name: place})
    assert len([entry for entry in new if entry["gw"] == "gw1/worker-1"]) == ENTRIES + 1 + 3 - found.segment
    later, _ = read_logs(state, following)
    assert len([entry for entry in later if entry["gw"] == "gw1/worker-1"]) == 3


def configured(home: Path) -> str:
    file = home / "ostiary.toml"
    file.write_text(f"""
[gateway]
name = "gw1"
state_dir = "{home / "state"}"
[audit]
keep_days = {KEEP}
tail_dir = "{home / "tail"}"
[listen.postgresql]
address = "127.0.0.1:7432"
[policy]
files = ["policy.cedar"]
[[issuers]]
issuer = "https://idp.example.com"
audience = "ostiary"
discovery = true
[connections.db]
type = "postgresql"
address = "127.0.0.1:5432"
database = "shop"
user = "svc"
tls = "disable"
password = "file:password"
""")
    (home / "policy.cedar").write_text('@id("all") permit (principal, action, resource);')
    (home / "password").touch(mode=0o600)
    (home / "password").write_text("none")
    return str(file)


def test_the_command_removes_what_it_says_on_record_and_waits_for_a_hold(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, config = home / "state", configured(home)
    assert main(["audit", "prune", "--dry-run", "-o", "json", "--config", config]) == 0
    (would,) = json.loads(capsys.readouterr().out)
    with ThreadPoolExecutor(1) as pool:
        with retention.locked(state):  # somebody sets a hold just now
            done = pool.submit(main, ["audit", "prune", "--config", config])
            time.sleep(1)
            assert not done.done()
            assert not retention.pruned(the_log(home).folder).below
            keep_holds(state, {"case": Hold("court", person="ana")})
        assert done.result(60) == 0
    less = retention.pruned(the_log(home).folder)
    assert less.segment <= 601 < would["below"]
    keep_holds(state, {})
    assert main(["audit", "prune", "--config", config]) == 0
    assert retention.pruned(the_log(home).folder).below == would["below"]
    capsys.readouterr()
    assert verdict(home, "--keep-days", str(KEEP), capsys=capsys) == (0, "")


def test_what_wrapping_anew_left_beside_a_recording_goes_with_it(home: Path) -> None:
    beside = the_log(home).folder / "payloads" / f"{SESSIONS[0]}.osp.rewrap"
    beside.touch()
    pruned(home)
    assert not beside.exists()


def test_a_prune_without_a_record_is_no_prune(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(home / "state", the_log(home), KEEP)
    assert found is not None
    carry_out(found)
    code, what = verdict(home, capsys=capsys)
    assert code != 0
    assert "missing" in what
    code, what = verdict(home, "--min-index", str(found.below), "--keep-days", "1", capsys=capsys)
    assert code == 1
    assert "no entry says that they were pruned" in what


def test_aud_024_a_prune_that_hides_what_was_young_is_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pruned(home, keep_days=30)
    code, what = verdict(home, capsys=capsys)
    assert code == 1
    assert "not all of them can have been 30 days old" in what


def test_a_prune_by_a_shorter_retention_than_the_verifiers_is_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pruned(home)
    code, what = verdict(home, "--keep-days", "365", capsys=capsys)
    assert code == 1
    assert "have to be kept for 365" in what


def test_more_than_the_record_says_is_missing_and_not_pruned(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = pruned(home)
    (the_log(home).folder / "log/tile/entries" / f"{found.below // 256:03d}").unlink()
    code, what = verdict(home, capsys=capsys)
    assert code != 0
    assert "is missing" in what


def test_a_crash_at_any_removal_is_finished_by_the_next_run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(home / "state", the_log(home), KEEP)
    assert found is not None
    what = {"what": "entries", "origin": found.origin.name, "below": found.below, "keep_days": KEEP}
    record(home / "state", "gw1", str, "redact", {"redact": what}, tail_dir=home / "tail")  # type: ignore[dict-item]
    unlink, left = Path.unlink, [0]

    def crash(self: Path, missing_ok: bool = False) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        unlink(self, missing_ok=missing_ok)

    for survives in (1, 30, 150, 200):
        left[0] = survives
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", crash)
            with pytest.raises(KeyboardInterrupt):
                carry_out(found)
        assert asyncio.run(reopen(home / "state", home / "tail")) == ENTRIES + 1
        assert verdict(home, capsys=capsys) == (0, "")
    finish(found.origin.folder)
    assert not (found.origin.folder / "log/tile/entries/000").exists()
    assert SESSIONS[0] not in {path.stem for path in (found.origin.folder / "payloads").iterdir()}
