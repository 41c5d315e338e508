"""Tessera, which others wrote in Go, reads our logs, and our verifier reads Tessera's: `make fsck`."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.audit.keys import ensure_origin, init_state
from ostiary.audit.log import open_log
from ostiary.audit.sealer import seal_once
from ostiary.audit.verify import Policy
from ostiary.audit.verify import verify as verify_log

VENV = Path(__file__).parents[1] / ".venv"
FSCK = VENV / "bin" / "tessera-fsck"
TEST_LOG = VENV / "tessera" / "testdata" / "log"
TEST_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
"""As Tessera publishes it beside its test log."""


async def fill(state: Path, tail: Path, count: int) -> None:
    loop = asyncio.get_running_loop()
    log = open_log(state, "gw1", "w0", scrub=str, loop=loop, year=2026, tail_dir=tail, patience=60)
    for n in range(count - log.report.size - 1):
        log.writer.append(b'{"n":%d}' % n)
        if n % 1000 == 0:
            await log.writer.flush()
    await log.writer.close()


def accepts(folder: Path, vkey: str, key: Path) -> bool:
    """Whether fsck finds the log whole. It exits with 0 either way: what it says on stderr is its verdict.

    Of a log with hundreds of bundles it does not end once it has found one that is wrong: it says so each second, and is ended here.
    """
    key.write_text(vkey + "\n")
    command = [FSCK, f"--storage_url=file://{folder}/", f"--public_key={key}", "--ui=false", "-v=1"]
    try:
        said = subprocess.run(command, check=True, capture_output=True, timeout=20).stderr
    except subprocess.TimeoutExpired as late:
        said = late.stderr or b""
    assert b"Completed ranges" in said or b":Invalid" in said
    return b":Invalid" not in said and b"fsck failed" not in said


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: a busy disk is not what is tested."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1500, 65_536, 70_001])
def test_tesseras_fsck_accepts_a_log_as_it_is_and_no_other(memory: Path, count: int) -> None:
    (memory / "tail").mkdir()
    state = memory / "state"
    init_state(state, "gw1")
    origin = ensure_origin(state, "gw1", "w0", 2026)
    asyncio.run(fill(state, memory / "tail", count))
    assert seal_once(origin) == 0
    assert accepts(origin.folder / "log", origin.vkey, memory / "key")
    files = (origin.folder / "log" / "tile" / "entries").rglob("*")
    bundle = max(path for path in files if path.is_file())
    data = bytearray(bundle.read_bytes())
    data[-1] ^= 1
    bundle.write_bytes(bytes(data))
    assert not accepts(origin.folder / "log", origin.vkey, memory / "key")


def test_our_verifier_accepts_tesseras_test_log_and_finds_what_was_changed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    shutil.copytree(TEST_LOG, folder)
    folder.chmod(0o700)
    policy = Policy.parse(f"log {TEST_KEY}\nquorum none\n")
    report = verify_log(folder, policy, tree_only=True)
    assert (report.status, report.size, report.problems) == ("whole", 15, [])
    bundle = folder / "tile" / "entries" / "000.p" / "15"
    bundle.parent.chmod(0o700)
    bundle.chmod(0o600)
    data = bytearray(bundle.read_bytes())
    data[2] ^= 1
    bundle.write_bytes(bytes(data))
    report = verify_log(folder, policy, tree_only=True)
    assert (report.status, report.first_bad) == ("tampered", 0)
