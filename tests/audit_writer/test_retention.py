"""What is old enough goes from the front, what is held stays; what is left verifies, and a prune that hides is found."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import pytest

from ostiary.audit import index, retention, search, verify
from ostiary.audit.keys import Origin, ensure_origin, init_state, origins
from ostiary.audit.log import Log, open_log
from ostiary.audit.operator import record
from ostiary.audit.prove import check, prove
from ostiary.audit.retention import Hold, carry_out, finish, keep_holds, plan
from ostiary.audit.sealer import seal_once

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


def test_what_is_left_verifies_and_the_root_is_the_same(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert less.below <= 601 < whole.below
    keep_holds(state, {"all": Hold("court")})
    assert plan(state, the_log(home), KEEP) is None
    (state / retention.HOLDS).write_text("{")
    with pytest.raises(retention.HoldFailed, match="nothing is removed"):
        plan(state, the_log(home), KEEP)


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


def test_a_prune_that_hides_what_was_young_is_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
