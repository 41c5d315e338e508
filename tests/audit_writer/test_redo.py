"""What a recording was given is on the disk before the entry that names it, and one sync does for all recordings."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path

import pytest

from ostiary.audit import redo
from ostiary.audit.entries import SessionEntries
from ostiary.audit.ids import Ids
from ostiary.audit.journal import Journal
from ostiary.audit.redo import Redo, restore, settle
from ostiary.audit.wal import SyncFailed
from ostiary.model.decisions import Permit
from ostiary.model.events import PayloadKind
from ostiary.vault.keeping import destroy, is_destroyed
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.payload_format import HEADER, PayloadError, StreamFailed
from ostiary.vault.payload_reading import Record, read_stream
from ostiary.vault.payloads import MAX_LOOSE, PayloadStream
from tests.audit_writer.conftest import GROUNDS, operation, session_facts

KEK = KeyEncryptionKey.from_bytes(bytes(32))
OP = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "payloads").mkdir()
    return tmp_path


def begun(folder: Path) -> PayloadStream:
    session = Ids().next()
    stream = PayloadStream.create(folder / "payloads" / f"{session}.osp", session, KEK)
    stream.keeps_loose = True
    return stream


def give(stream: PayloadStream, data: bytes) -> None:
    stream.append(PayloadKind.RESULT, OP, 1, data)


def keep(redo: Redo, *streams: PayloadStream) -> None:
    redo.keep([loose for stream in streams if (loose := stream.loose()) is not None])


def read(stream: PayloadStream) -> list[bytes]:
    return [record.data for record in read_stream(stream.path, KEK) if isinstance(record, Record)]


@pytest.fixture
def kept_once(folder: Path) -> PayloadStream:
    """A recording of one record that stands in the redo file alone, as far as the disk knows."""
    kept = Redo(folder)
    stream = begun(folder)
    keep(kept, stream)
    give(stream, b"x")
    keep(kept, stream)
    kept.close()
    return stream


def lose(stream: PayloadStream, size: int) -> None:
    """As a power cut does: what the file was given behind `size` is gone."""
    os.truncate(stream.path, size)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that were synced, one a call."""
    calls: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (calls.append(fd), real(fd))[1])
    return calls


def test_what_a_power_cut_took_of_recordings_is_put_back(folder):
    kept = Redo(folder)
    one, two = begun(folder), begun(folder)
    keep(kept, one, two)  # new ones are synced themselves
    sizes = one.path.stat().st_size, two.path.stat().st_size
    for n in range(3):
        give(one, b"one %d" % n)
        give(two, b"two %d" % n)
        keep(kept, one, two)
    kept.close()
    lose(one, sizes[0])
    lose(two, sizes[1] + 3)
    assert restore(folder) == 6
    assert read(one) == [b"one 0", b"one 1", b"one 2"]
    assert read(two) == [b"two 0", b"two 1", b"two 2"]
    assert restore(folder) == 0, "a second time there is nothing to do"
    settle(folder, 0)
    assert [path.name for path in folder.iterdir()] == ["payloads"]


def test_one_sync_does_for_all_recordings(folder, synced):
    kept = Redo(folder)
    streams = [begun(folder) for _ in range(20)]
    keep(kept, *streams)
    for stream in streams:
        give(stream, b"x")
    keep(kept, *streams)  # makes the files
    for stream in streams:
        give(stream, b"y")
    synced.clear()
    keep(kept, *streams)
    assert len(synced) == 1
    kept.close()


def test_files_that_are_full_take_turns_once_their_recordings_are_synced(folder):
    kept = Redo(folder, 4096)
    stream, other = begun(folder), begun(folder)
    keep(kept, stream, other)
    for n in range(100):
        give(stream, b"%d" % n * 100)
        if n == 3:
            give(other, b"once")
        size = stream.path.stat().st_size
        keep(kept, stream, other)
    kept.close()
    assert {(folder / name).stat().st_size for name in redo.NAMES} == {4096}
    lose(stream, size - 30)  # into what is in the newest file alone
    assert restore(folder) > 0
    assert read(stream) == [b"%d" % n * 100 for n in range(100)]
    assert read(other) == [b"once"]


def test_what_is_too_much_for_the_redo_file_is_synced_where_it_is(folder, synced):
    kept = Redo(folder, 4096)
    stream = begun(folder)
    keep(kept, stream)
    for size in (MAX_LOOSE + 1, 5000):  # too much to be held, too much for the file
        give(stream, bytes(size))
        synced.clear()
        keep(kept, stream)
        assert synced[-1] == stream._fd
    assert not any(os.pread(fd, 4096, 0).strip(b"\0") for fd in kept._fds)
    kept.close()


def test_a_frame_that_was_torn_ends_the_file_and_older_ones_behind_it_count_for_nothing(folder):
    kept = Redo(folder)
    stream = begun(folder)
    keep(kept, stream)
    for n in range(3):
        size = stream.path.stat().st_size
        give(stream, b"%d" % n)
        keep(kept, stream)
    kept.close()
    path = next(folder / name for name in redo.NAMES if (folder / name).read_bytes().strip(b"\0"))
    raw = bytearray(path.read_bytes())
    at = raw.rindex(stream.session)
    raw[at + 40] ^= 1
    path.write_bytes(raw)
    lose(stream, size)
    assert restore(folder) == 0
    assert read(stream) == [b"0", b"1"]


def test_a_recording_that_retention_took_does_not_come_back(folder, kept_once):
    kept_once.path.unlink()
    assert restore(folder) == 0
    assert not kept_once.path.exists()


def test_a_destroyed_key_does_not_come_back(folder, kept_once):
    wrapped = kept_once.path.read_bytes()[: HEADER.size]
    destroy(kept_once.path)
    restore(folder)
    assert is_destroyed(kept_once.path)
    assert not any(wrapped[-60:] in (folder / name).read_bytes() for name in redo.NAMES)


def test_what_a_failed_sync_left_in_the_kernel_alone_is_written_again(folder, kept_once, monkeypatch):
    """Its pages look as they should, and are not on the disk: only writing them makes them so."""
    written: list[int] = []
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: (written.append(at), real(fd, parts, at))[1])
    assert restore(folder) == 0
    assert written == [HEADER.size]


def test_recordings_are_synced_before_the_redo_files_go_whatever_the_clock_said(folder, kept_once, monkeypatch):
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))[1])
    os.utime(kept_once.path, (1, 1))
    settle(folder, 2_000_000_000)
    assert str(kept_once.path) in synced


def test_a_new_recording_of_a_session_that_has_ended_is_synced_all_the_same(folder, monkeypatch):
    synced: list[str] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))[1])
    kept, stream = Redo(folder), begun(folder)
    loose = stream.loose()
    stream.close()
    kept.keep([loose])
    kept.close()
    assert synced == [str(stream.path)]


def test_a_recording_that_cannot_be_synced_is_in_trouble_alone(folder, monkeypatch):
    kept = Redo(folder)
    bad, good = begun(folder), begun(folder)
    real = os.fdatasync

    def failing(fd: int) -> None:
        if fd == bad._fd:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", failing)
    keep(kept, bad, good)
    assert isinstance(bad.trouble, StreamFailed)
    assert good.trouble is None
    with pytest.raises(PayloadError):
        give(bad, b"x")
    give(good, b"y")
    kept.close()


def test_a_sync_that_fails_is_final(folder, monkeypatch):
    kept = Redo(folder, 4096)
    stream = begun(folder)
    keep(kept, stream)
    give(stream, b"x" * 1000)
    keep(kept, stream)
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: real(fd) if fd != kept._fds[1] else (_ for _ in ()).throw(OSError(5, "EIO")))
    give(stream, b"y")
    with pytest.raises(SyncFailed, match="the redo file"):
        keep(kept, stream)
    kept.close()


def test_what_the_thread_finds_wrong_while_files_take_turns_is_heard(folder, monkeypatch):
    kept = Redo(folder, 4096)
    stream = begun(folder)
    keep(kept, stream)

    def broken(_paths: set[Path]) -> None:
        raise SyncFailed("a recording: fdatasync: Input/output error")

    monkeypatch.setattr(redo, "_sync_all", broken)
    with pytest.raises(SyncFailed, match="a recording"):
        for _ in range(20):
            give(stream, b"x" * 1000)
            keep(kept, stream)
    kept.close()


def test_with_no_room_for_the_redo_file_recordings_are_synced_themselves(folder, monkeypatch, synced):
    kept = Redo(folder)
    stream = begun(folder)
    keep(kept, stream)
    real = os.pwritev

    def full(fd: int, parts, at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    give(stream, b"x")
    keep(kept, stream)
    assert synced[-1] == stream._fd
    assert [path.name for path in folder.iterdir()] == ["payloads"]
    monkeypatch.setattr(os, "pwritev", real)
    give(stream, b"y")
    keep(kept, stream)
    assert synced[-1] != stream._fd, "there is room again"
    kept.close()


def test_no_entry_is_on_the_disk_before_the_payloads_that_it_names(house, monkeypatch):
    """The order of what the disk is given: the recording, or what stands for it, synced; then the entry."""

    async def story() -> None:
        log = house.open()
        facts = session_facts()
        payloads = log.origin.folder / "payloads"
        payloads.mkdir(exist_ok=True)
        stream = PayloadStream.create(payloads / f"{facts.session}.osp", facts.session, KEK)
        journal = Journal(log.writer, SessionEntries(log.encoder, facts), log.ids, open_stream=lambda: stream)
        await journal.wait_durable(journal.start("cd" * 32, Permit(facts.identity, operation(), GROUNDS)))
        for n in range(3):
            statement = operation()
            await journal.wait_durable(journal.write((Permit(facts.identity, statement, GROUNDS),)))
            kept = stream.path.stat().st_size
            # As if the power went now: nothing of the recording's own file is on the disk but what was synced in it.
            copied = house.wal.parent.parent / f"cut-{n}"
            shutil.copytree(log.origin.folder, copied)
            os.truncate(copied / "payloads" / stream.path.name, HEADER.size)
            restore(copied)
            assert (copied / "payloads" / stream.path.name).stat().st_size == kept
        journal.end("ended")
        await log.writer.close()
        assert not any((log.origin.folder / name).exists() for name in redo.NAMES)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_session_whose_recording_failed_gets_no_proof(house, monkeypatch):
    async def story() -> None:
        log = house.open()
        facts = session_facts()
        stream = PayloadStream.create(house.wal.parent / "payloads" / f"{facts.session}.osp", facts.session, KEK)
        journal = Journal(log.writer, SessionEntries(log.encoder, facts), log.ids, open_stream=lambda: stream)
        real, broken = os.fdatasync, stream._fd
        monkeypatch.setattr(os, "fdatasync", lambda fd: real(fd) if fd != broken else (_ for _ in ()).throw(OSError(5, "EIO")))
        started = journal.start("cd" * 32, Permit(facts.identity, operation(), GROUNDS))
        with pytest.raises(StreamFailed):
            await journal.wait_durable(started)
        with pytest.raises(StreamFailed):
            journal.proofs(started)
        await log.writer.close()

    asyncio.run(asyncio.wait_for(story(), 60))
