"""Every byte of a small log changed, every file cut at every place, everything moved, left out, doubled, replaced: `make tamper`.

Each has to be found, and the entry or the file that it was done to has to be named. `-rP` shows how many things were done.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.vault.keys import WrongKey, load_key_file
from ostiary.vault.payload_format import PayloadError
from ostiary.vault.payload_reading import read_stream
from tests.audit_reader.tampering import HEADER_KEY, Change, Target
from tests.crash.workload import Plan

PARTS = 8
SMALL = Plan(sessions=1, operations=3, seal_every=2)
TWO_AT_ONCE = Plan(sessions=2, operations=4, seal_every=3)
BEYOND_A_TILE = Plan(sessions=2, operations=75, seal_every=40)


@pytest.fixture
def memory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ostiary-tamper-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def judge(target: Target, changes: Iterator[Change]) -> None:
    count, wrong = 0, []
    for change in changes:
        count += 1
        if fault := target.fault(change):
            wrong.append(fault)
    print(f"changes {count}")
    assert count
    assert not wrong, f"{len(wrong)} of {count}: {wrong[:20]}"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_change_of_any_byte_and_a_cut_at_any_place_are_found_and_named(memory: Path, part: int) -> None:
    target = Target(memory / "log", SMALL)
    judge(target, itertools.islice(target.every_byte(), part, None, PARTS))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("plan", [SMALL, TWO_AT_ONCE], ids=["one session", "two at once"])
def test_whatever_is_moved_left_out_doubled_or_replaced_is_found_and_named(memory: Path, plan: Plan) -> None:
    target = Target(memory / "log", plan)
    judge(target, target.every_structure())


@pytest.mark.timeout(3600)
def test_what_is_done_to_a_log_of_more_than_a_tile_is_found_and_named(memory: Path) -> None:
    target = Target(memory / "log", BEYOND_A_TILE)
    assert len(target.entries) > 256
    judge(target, itertools.chain(target.removals(), target.replacements(), target.one_flip_an_entry(), target.chunks(near=True)))


def test_what_no_hash_covers_is_found_by_whoever_has_the_key(memory: Path) -> None:
    target = Target(memory / "log", SMALL)
    key = load_key_file(target.house.state / "keys/kek-1.key")
    (path,) = target.sessions
    before = path.read_bytes()
    for at in HEADER_KEY:
        for bit in range(8):
            changed = bytearray(before)
            changed[at] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises((WrongKey, PayloadError)):
                list(read_stream(path, key))
