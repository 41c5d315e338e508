"""The writer loses nothing, refuses in time, says why, and comes back when it can."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from ostiary.app.common import record
from ostiary.audit import log as log_module
from ostiary.audit.entries import SessionEntries
from ostiary.audit.journal import Journal
from ostiary.audit.keys import ensure_origin, replace
from ostiary.audit.wal import frames, segments
from ostiary.audit.writer import Health, LogBusy
from ostiary.model.decisions import Permit
from ostiary.model.errors import LogFailed
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.payloads import PayloadStream
from tests.audit_writer.conftest import GROUNDS, operation, session_facts


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def stored(house) -> list[bytes]:
    return [frame.entry for segment in segments(house.wal) for frame in frames(segment.path)]


def numbered(n: int, size: int = 300) -> bytes:
    return b'{"n":%d,"x":"%s"}' % (n, b"x" * size)


def test_an_entry_of_the_gateways_own_waits_for_a_disk_that_is_slow_for_a_moment(house, monkeypatch):
    async def start():
        log, disk = house.open(patience=0.1), Disk(monkeypatch)
        await log.writer.flush()
        disk.free.clear()
        asyncio.get_running_loop().call_later(0.5, disk.free.set)
        await record(log, "config", {"config": {"action": "start"}})
        assert log.writer.durable == log.writer.size
        await log.writer.close()

    run(start())


def test_a_burst_of_a_hundred_thousand_loses_nothing(house):
    async def burst():
        log = house.open(segment_bytes=4 << 20)
        writer, waited = log.writer, 0
        for n in range(100_000):
            while True:
                try:
                    assert writer.append(numbered(n)) == n + 1
                    break
                except LogBusy:
                    waited += 1
                    await writer.wait_room(30)
        await writer.close()
        return waited

    assert run(burst()) > 0
    entries = stored(house)[1:]
    assert len(entries) == 100_000
    assert all(entry == numbered(n) for n, entry in enumerate(entries))
    assert len(segments(house.wal)) > 5


def test_strict_entries_are_on_the_disk_when_the_wait_returns(house):
    async def strict():
        log = house.open()
        for n in range(50):
            index = log.writer.append(numbered(n))
            await log.writer.wait_durable(index)
            assert stored(house)[index] == numbered(n)
        await log.writer.close()

    run(strict())


def test_a_writer_that_another_one_fenced_off_appends_no_more(house):
    async def fenced():
        log = house.open()
        await log.writer.wait_durable(log.writer.append(numbered(0)))
        (house.origin.folder / "fence").write_text(f"{log.report.fence + 1}\n")
        with pytest.raises(LogFailed, match="another writer"):
            async with asyncio.timeout(30):
                while True:
                    await log.writer.wait_durable(log.writer.append(numbered(1)))
        kept = len(stored(house))
        with pytest.raises(LogFailed, match="another writer"):
            log.writer.append(numbered(2), closing=True)
        await log.writer.close()
        assert len(stored(house)) == kept

    run(fenced())


def test_a_fence_is_seen_however_it_changes_and_read_only_then(house):
    path = house.origin.folder / "fence"
    path.write_text("7\n")
    fence = log_module._Fence(house.origin.folder)
    with mock.patch.object(log_module, "read_fence", wraps=log_module.read_fence) as reading:
        assert [fence.number(), fence.number(), reading.call_count] == [7, 7, 1]
        replace(path, b"8\n")
        assert [fence.number(), fence.number(), reading.call_count] == [8, 8, 2]
        time.sleep(0.02)  # a clock of files may stand still so long
        path.write_text("9\n")
        assert [fence.number(), reading.call_count] == [9, 3]
        path.unlink()
        assert fence.number() == 0
        path.write_text("10\n")
        assert fence.number() == 10


def test_a_session_whose_start_found_no_place_has_no_end_either(house, monkeypatch):
    async def refused():
        log = house.open()
        facts = session_facts()
        entries = SessionEntries(log.encoder, facts)
        folder = log.origin.folder / "payloads"
        stream = PayloadStream.create(folder / "s.osp", facts.session, KeyEncryptionKey.from_bytes(bytes(32)))
        journal = Journal(log.writer, entries, log.ids, open_stream=lambda: stream)
        monkeypatch.setattr(log.writer, "_full_since", 1.0)
        with pytest.raises(LogFailed, match="full"):
            journal.start("cd" * 32, Permit(facts.identity, operation(), GROUNDS))
        journal.end("failed")
        await log.writer.close()
        assert not any(b"session." in entry for entry in stored(house))

    run(refused())


def test_a_callback_that_raises_does_not_hold_up_the_others(house):
    async def callbacks():
        log = house.open()
        done = asyncio.get_running_loop().create_future()

        def bad(_problem):
            raise RuntimeError("a bug")

        for n in range(3):
            log.writer.when_durable(log.writer.append(numbered(n)), bad)
        log.writer.when_durable(log.writer.append(numbered(3)), done.set_result)
        assert await done is None
        await log.writer.close()

    run(callbacks())


def test_waiters_are_called_in_the_order_of_the_log(house):
    async def order():
        log, seen = house.open(), []
        indexes = [log.writer.append(numbered(n)) for n in range(10)]
        for index in reversed(indexes):
            log.writer.when_durable(index, lambda _, index=index: seen.append(index))
        await log.writer.flush()
        await asyncio.sleep(0)
        await log.writer.close()
        return seen, indexes

    seen, indexes = run(order())
    assert sorted(seen) == indexes


class Disk:
    """A disk that can be told to hang or to fail. `os.fdatasync` is the one call by which the writer learns of either."""

    def __init__(self, monkeypatch):
        self.free = threading.Event()
        self.free.set()
        self.problem: OSError | None = None
        real = os.fdatasync

        def fdatasync(fd):
            self.free.wait(30)
            if self.problem is not None:
                raise self.problem
            real(fd)

        monkeypatch.setattr(os, "fdatasync", fdatasync)


def test_a_disk_that_stalls_is_refused_in_time_and_forgiven_when_it_answers(house, monkeypatch):
    async def stall():
        log = house.open(stall=0.2, patience=0.1)
        writer, disk = log.writer, Disk(monkeypatch)
        await writer.flush()
        disk.free.clear()
        index = writer.append(numbered(0))
        with pytest.raises(LogFailed, match=r"does not answer|in time"):  # which, hangs on what the deadline meets first
            await writer.wait_durable(index)
        async with asyncio.timeout(5):
            while writer.health is not Health.STALLED:  # noqa: ASYNC110 - a property of the clock sets no event
                await asyncio.sleep(0.01)
        writer.append(numbered(1))  # buffered entries go on for a while: the tail holds them
        await asyncio.sleep(0.25)
        with pytest.raises(LogFailed, match="does not answer"):
            writer.append(numbered(2))
        assert writer.append(numbered(3), closing=True) == index + 2
        disk.free.set()
        await writer.flush()
        assert writer.health is Health.OK
        await writer.wait_durable(writer.append(numbered(4)))
        await writer.close()

    run(stall())
    assert stored(house)[1:] == [numbered(0), numbered(1), numbered(3), numbered(4)]


def test_a_failed_sync_is_final_and_the_tail_keeps_what_is_in_doubt(house, monkeypatch):
    async def fail():
        log = house.open()
        writer, disk = log.writer, Disk(monkeypatch)
        await writer.flush()
        disk.problem = OSError(errno.EIO, "Input/output error")
        index = writer.append(numbered(0))
        with pytest.raises(LogFailed, match="fdatasync"):
            await writer.wait_durable(index)
        disk.problem = None
        for closing in (False, True):
            with pytest.raises(LogFailed, match="fdatasync"):
                writer.append(numbered(1), closing=closing)
        with pytest.raises(LogFailed):
            await writer.wait_durable(index)
        assert writer.health is Health.FAILED
        await writer.close()

    run(fail())

    async def again():
        with pytest.raises(LogFailed, match="has ended"):
            house.open()
        following = ensure_origin(house.state, "gw1", "w0", 2026)
        assert following.name == f"{house.origin.name}.2"
        log = house.open()
        assert log.origin == following
        assert log.finished == (house.origin,)
        await log.writer.close()

    monkeypatch.undo()
    run(again())
    assert stored(house)[1] == numbered(0)


@pytest.mark.parametrize("how", ["removed", "moved", "replaced", "its folder removed", "removed, and linked elsewhere"])
def test_what_is_written_to_a_file_that_nobody_will_find_is_no_record(house, how):
    async def lose():
        log = house.open()
        writer = log.writer
        await writer.flush()
        (path,) = [segment.path for segment in segments(house.wal)]
        match how:
            case "moved":
                path.rename(house.state / "elsewhere")
            case "its folder removed":
                shutil.rmtree(house.wal)
            case _:
                if how.endswith("elsewhere"):
                    os.link(path, house.state / "elsewhere")
                path.unlink()
                if how == "replaced":
                    path.write_bytes(bytes(100))
        index = writer.append(numbered(0))
        with pytest.raises(LogFailed, match="removed"):
            await writer.wait_durable(index)
        with pytest.raises(LogFailed, match="removed"):
            writer.append(numbered(1), closing=True)
        assert writer.health is Health.FAILED
        with contextlib.suppress(LogFailed, OSError):
            await writer.close()

    run(lose())


def test_a_full_ring_leaves_room_for_what_must_be_closed(house, monkeypatch):
    async def fill():
        log = house.open(stall=30.0)
        writer, disk = log.writer, Disk(monkeypatch)
        await writer.flush()
        disk.free.clear()
        count = 0
        with pytest.raises(LogBusy):
            for count in range(100_000):
                writer.append(numbered(count))
        with pytest.raises(LogFailed):
            await writer.wait_room(0.05)
        for n in range(100):
            writer.append(numbered(n), closing=True)
        disk.free.set()
        await writer.close()
        return count + 100

    expected = run(fill())
    assert len(stored(house)) == expected + 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_refuses_in_time_loses_nothing_and_goes_on_when_there_is_room(small_disk, tmp_path, recwarn):
    import importlib.util

    spec = importlib.util.spec_from_file_location("audit_writer_house", Path(__file__).with_name("conftest.py"))
    makers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(makers)
    house = makers.House(small_disk)
    house.tail_dir = tmp_path

    async def fill():
        log = house.open()
        writer = log.writer
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(400_000))
        accepted = []
        refused_after = None
        for n in range(20_000):
            began = time.monotonic()
            try:
                index = writer.append(numbered(n))
                accepted.append(numbered(n))
                if n % 50 == 0:
                    await writer.wait_durable(index)
            except LogFailed as problem:
                refused_after, why = time.monotonic() - began, str(problem)
                break
        assert refused_after is not None
        assert "full" in why
        assert writer.health is Health.FULL
        await asyncio.sleep(0.15)
        with pytest.raises(LogFailed, match="full"):
            writer.append(b"{}")
        ballast.unlink()
        await writer.flush()
        assert writer.health is Health.OK
        await writer.wait_durable(writer.append(numbered(-1)))
        accepted.append(numbered(-1))
        await writer.close()
        return accepted

    assert stored_after(run(fill()), house)


def stored_after(accepted, house) -> bool:
    return stored(house)[1:] == accepted


def test_without_a_sealer_the_log_goes_on_for_a_while_and_then_stops(house):
    async def unsigned():
        log = house.open(unsigned=0.3)
        writer = log.writer
        with pytest.raises(LogFailed, match="sealer"):
            for n in range(1000):
                writer.append(numbered(n))
                await asyncio.sleep(0.02)
        assert writer.health is Health.UNSIGNED
        with contextlib.suppress(LogFailed):
            writer.append(numbered(0), closing=True)
        await writer.close()

    run(unsigned())


def test_nothing_is_taken_after_closing(house):
    async def closed():
        log = house.open()
        await log.writer.close()
        await log.writer.close()
        for closing in (False, True):
            with pytest.raises(LogFailed, match="closed"):
                log.writer.append(b"{}", closing=closing)
        assert log.writer.health is Health.CLOSED

    run(closed())
    assert not list(house.tail_dir.iterdir())


def test_a_writer_works_on_uvloop_too(house):
    uvloop = pytest.importorskip("uvloop")

    async def strict():
        log = house.open()
        await asyncio.gather(*[log.writer.wait_durable(log.writer.append(numbered(n))) for n in range(64)])
        await log.writer.close()

    uvloop.run(strict())
    assert len(stored(house)) == 65
