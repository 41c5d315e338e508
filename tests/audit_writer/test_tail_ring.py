"""The ring gives back, in order, exactly what went in; after a crash at any store, a prefix of it."""

from __future__ import annotations

import struct

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.audit.tail import FRAME, SMALLEST, Ring, TailFile, tail_path
from ostiary.audit.wal import frames
from ostiary.model.errors import ConfigError, LogFailed

BOOT = bytes(16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tails")


def begin(folder, count=0, name="gw1-0/w0/2026", size=SMALLEST):
    return TailFile(folder, name, size).begin(count, BOOT)


def left(folder, name="gw1-0/w0/2026", size=SMALLEST):
    """What recovery would find now."""
    file = TailFile(folder, name, size)
    try:
        return (-1, []) if file.remains is None else (file.remains.index, list(file.remains.entries()))
    finally:
        file.abandon()


def die(tail):
    """The process is gone; the file is not."""
    tail.close(remove=False)


STEPS = st.lists(st.one_of(st.integers(1, 9000).map(lambda n: ("put", n)), st.just(("drain", 0))), max_size=60)


@given(STEPS, st.integers(0, 2**40))
def test_what_was_not_drained_is_found_again_across_every_wrap(folder, steps, first):
    tail = begin(folder, first)
    held, drained, number = [], first, 0
    for what, size in steps:
        if what == "put":
            number += 1
            entry = (b"%d." % number + b"x" * size)[:size]
            index = tail.append(entry)
            if index < 0:
                assert tail.used() + size + 2 * FRAME.size > tail.size
            else:
                held.append(entry)
                assert index == drained + len(held) - 1
        else:
            slices, position, index = tail.pending()
            wire = b"".join(slices)
            for piece in slices:
                piece.release()
            (folder / "drained").write_bytes(wire)
            assert [frame.entry for frame in frames(folder / "drained")] == held
            tail.drained(position, index)
            drained, held = index, []
    die(tail)
    assert left(folder) == (drained, held)
    tail_path(folder, "gw1-0/w0/2026").unlink()


class Killed(Exception):
    pass


class Dying(Ring):
    """A ring that dies before its nth store, or in the middle of it."""

    def __init__(self, memory, after, part):
        super().__init__(memory)
        self.after, self.part = after, part

    def put(self, position, piece):
        self.after -= 1
        if self.after < 0:
            super().put(position, piece[: int(len(piece) * self.part)])
            raise Killed
        super().put(position, piece)


@pytest.mark.parametrize("where", [0, SMALLEST - 500, SMALLEST - 107, SMALLEST - 100, SMALLEST - 3])
@pytest.mark.parametrize("part", [0, 0.3, 0.9])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_a_crash_at_any_store_leaves_what_was_acknowledged_and_no_more(tmp_path, where, part, after):
    tail = begin(tmp_path)
    filler = 0
    while tail.head[0] < where:  # go round once before, so that old frames lie under the new ones
        for _ in range(2):
            size = min(4000, max(1, where - tail.head[0] - FRAME.size))
            assert tail.append(b"old" + b"o" * (size - 3) if size > 3 else b"o" * size) >= 0
            filler += 1
            tail.drained(*tail.head)
            if tail.head[0] >= where:
                break
    acknowledged = [b"first" * 10, b"second" * 10]
    for entry in acknowledged:
        tail.append(entry)

    ring = tail.ring
    tail.ring = Dying(tail._view[4096 :], after, part)
    try:
        tail.append(b"third" * 100)
        acknowledged.append(b"third" * 100)
    except Killed:
        pass
    tail.ring.let_go()
    tail.ring = ring
    die(tail)
    index, entries = left(tmp_path)
    assert index == filler
    # The last store is the header: once it is whole, the entry is there though its append never returned.
    assert entries in (acknowledged, [*acknowledged, b"third" * 100])


@pytest.mark.parametrize("stored", range(20))
def test_a_crash_while_noting_what_is_drained_leaves_the_note_before(tmp_path, stored):
    tail = begin(tmp_path)
    for n in range(3):
        tail.append(b"entry %d" % n)
    tail.drained(tail.head[0], 3)
    tail.append(b"entry 3")
    before = bytes(tail._memory[:4096])
    tail.drained(tail.head[0], 4)
    after = bytes(tail._memory[:4096])
    changed = next(at for at in range(4096) if before[at] != after[at]) // 64 * 64
    tail._memory[changed + stored : 4096] = before[changed + stored :]
    die(tail)
    # A prefix in which nothing changed is the note before, too.
    note = bytes(after[:changed + stored]) + before[changed + stored :]
    assert left(tmp_path) == ((4, []) if note == after else (3, [b"entry 3"]))


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_a_note_of_what_is_drained_is_checked_by_crc32c(noted, position, index):
    tail, memory = noted
    tail.drained(position & (1 << 63) - 1, index & (1 << 63) - 1)
    record = struct.pack("<QQ", position & (1 << 63) - 1, index & (1 << 63) - 1)
    assert record + struct.pack("<I", google_crc32c.value(record)) in memory[:4096]


@pytest.fixture(scope="module")
def noted(tmp_path_factory):
    tail = begin(tmp_path_factory.mktemp("tail"))
    yield tail, tail._memory
    die(tail)


def test_a_full_ring_takes_no_more_and_keeps_a_reserve(tmp_path):
    tail = begin(tmp_path)
    while tail.append(b"x" * 1000, reserve=8192) >= 0:
        pass
    taken = tail.head[1]
    while tail.append(b"y" * 1000) >= 0:
        pass
    assert tail.head[1] > taken
    die(tail)
    assert len(left(tmp_path)[1]) == tail.head[1]


def test_two_writers_cannot_share_a_tail(tmp_path):
    tail = begin(tmp_path)
    with pytest.raises(LogFailed, match="another writer"):
        TailFile(tmp_path, "gw1-0/w0/2026", SMALLEST)
    die(tail)


def test_a_tail_is_private_and_an_intruders_file_is_refused(tmp_path):
    die(begin(tmp_path))
    path = tail_path(tmp_path, "gw1-0/w0/2026")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="private"):
        TailFile(tmp_path, "gw1-0/w0/2026", SMALLEST)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        TailFile(tmp_path, "gw1-0/w0/2026", SMALLEST)


@pytest.mark.parametrize("size", [0, 1000, SMALLEST + 1, SMALLEST - 1])
def test_a_size_that_cannot_be_is_refused(tmp_path, size):
    with pytest.raises(ConfigError, match=r"audit\.tail_bytes"):
        TailFile(tmp_path, "o", size)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"audit\.tail_dir"):
        TailFile(tmp_path / "nowhere", "o")


def test_a_damaged_header_is_not_taken_for_an_empty_tail(tmp_path):
    tail = begin(tmp_path)
    tail.append(b"precious")
    die(tail)
    with tail_path(tmp_path, "gw1-0/w0/2026").open("r+b") as file:
        file.seek(20)
        file.write(b"\xff")
    with pytest.raises(LogFailed, match="damaged"):
        TailFile(tmp_path, "gw1-0/w0/2026", SMALLEST)


def test_a_ring_that_was_allocated_but_never_begun_holds_nothing(tmp_path):
    path = tail_path(tmp_path, "gw1-0/w0/2026")
    path.write_bytes(bytes(4096 + SMALLEST))
    path.chmod(0o600)
    assert left(tmp_path) == (-1, [])


@given(st.binary(max_size=200), st.integers(0, 300))
def test_rubbish_behind_the_last_frame_is_never_an_entry(folder, rubbish, at):
    tail = begin(folder, name="rubbish")
    tail.append(b"one")
    end = 4096 + tail.head[0]
    stop = struct.pack("<II", 0, 0)
    tail._memory[end + at : end + at + len(rubbish)] = rubbish
    die(tail)
    _, entries = left(folder, name="rubbish")
    tail_path(folder, "rubbish").unlink()
    assert entries == [b"one"] or (at < len(stop) and entries[0] == b"one")


@pytest.mark.parametrize("size", [1, 7, 8, 9, 100])
def test_a_frame_is_whole_wherever_the_ring_ends_in_it(tmp_path, size):
    for start in range(SMALLEST - size - 2 * FRAME.size, SMALLEST + 1):
        tail = begin(tmp_path)
        while (missing := start - tail.head[0]) > 0:
            tail.append(b"o" * (4000 if missing > 8000 else min(4000, missing - FRAME.size)))
            tail.drained(*tail.head)
        assert tail.head[0] == start
        entry = bytes(range(100, 100 + size))
        tail.append(entry)
        tail.append(entry[::-1])
        die(tail)
        assert left(tmp_path)[1] == [entry, entry[::-1]]
