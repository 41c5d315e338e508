"""Whatever way a writer ends, nothing acknowledged is lost, what is open is closed, and damage is named."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ostiary.audit.keys import ensure_origin
from ostiary.audit.recovery import last_checkpoint
from ostiary.audit.sealer import seal_once
from ostiary.audit.tail import tail_path
from ostiary.audit.unfinished import Unfinished
from ostiary.audit.wal import Damaged, frames, segments
from ostiary.model.errors import ConfigError, LogFailed

APPENDER = Path(__file__).with_name("appender.py")


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def stored(house) -> list[bytes]:
    return [frame.entry for segment in segments(house.wal) for frame in frames(segment.path)]


def reopened(house, **options):
    """Open, look at the report, close."""

    async def once():
        log = house.open(**options)
        await log.writer.close()
        return log.report

    return run(once())


def crashed(house, entries, *, flush=True, **options):
    """Write entries, then drop everything as a killed process does."""

    async def once():
        log = house.open(**options)
        for entry in entries:
            log.writer.append(entry)
        if flush:
            await log.writer.flush()
        writer = log.writer
        writer._housekeeper.cancel()
        writer._failure = LogFailed("dropped")
        writer._closing = True
        writer._wake()
        writer._thread.join()
        writer._tail.close(remove=False)
        writer._on_closed()

    run(once())


def full(*_):
    raise OSError(errno.ENOSPC, "full")


def session_of(make, intents=3, *, closed=1, ended=False):
    session = make.OneSession()
    start, first = session.start()
    entries = [first]
    for n in range(intents):
        intended, entry = session.intent()
        entries.append(entry)
        if n < closed:
            entries.append(session.outcome(intended))
    if ended:
        entries.append(session.end(start))
    return entries


@pytest.mark.parametrize("mode", ["strict", "buffered"])
def test_a_killed_writer_loses_nothing_that_was_acknowledged(house, mode):
    dice = random.Random(mode)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for _ in range(4):
        command = [sys.executable, str(APPENDER), str(house.state), str(house.tail_dir), mode]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
            acknowledged = [child.stdout.readline().split() for _ in range(dice.randrange(20, 2500))]
            time.sleep(dice.random() * 0.02)
            child.send_signal(signal.SIGKILL)
            acknowledged += [
                line.split() for line in child.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
            ]
        report = reopened(house)
        assert not report.clean
        entries = stored(house)
        assert acknowledged[0][0] == b"size"
        assert len(acknowledged) > 20
        for index, name in acknowledged[1:]:
            assert b'"id":"' + name + b'"' in entries[int(index)]
        assert (report.intents, report.gap) != (0, "tail lost")
        assert paired(entries)


def paired(entries) -> bool:
    """Every intent has exactly one later outcome, every session one end."""
    intents, sessions, ids = {}, {}, set()
    for raw in entries:
        entry = json.loads(raw)
        assert entry["id"] not in ids
        ids.add(entry["id"])
        if entry["kind"] == "intent":
            intents[entry["id"]] = 0
        elif entry["kind"] == "outcome":
            intents[entry["ref"]] += 1
        elif entry["kind"] == "session.start":
            sessions[entry["session"]] = 0
        elif entry["kind"] == "session.end":
            sessions[entry["session"]] += 1
    return set(intents.values()) <= {1} and set(sessions.values()) <= {1}


def test_what_is_open_is_closed_as_unknown_and_counted(house, make):
    crashed(house, session_of(make) + session_of(make, ended=True, closed=3))
    report = reopened(house)
    assert (report.intents, report.sessions, report.merged, report.clean) == (2, 1, 0, False)
    entries = [json.loads(entry) for entry in stored(house)]
    assert paired(stored(house))
    assert [entry["kind"] for entry in entries[-4:]] == ["outcome", "outcome", "session.end", "recover"]
    assert entries[-2]["result"] == {"status": "unknown"}
    assert entries[-1]["recover"]["intents"] == 2
    assert entries[-1]["recover"]["boot"] == entries[0]["boot"]
    again = reopened(house)
    assert again.clean
    assert again.size == report.size


def test_entries_that_were_only_in_the_tail_are_brought_over(house, make, monkeypatch):
    entries = session_of(make, 50, closed=50, ended=True)
    monkeypatch.setattr(os, "pwritev", full)
    crashed(house, entries, flush=False)
    monkeypatch.undo()
    assert stored(house) == []
    report = reopened(house)
    assert report.merged == len(entries) + 1
    assert stored(house)[1:-1] == entries


def test_a_batch_whose_writing_was_not_noted_is_written_again_and_not_twice(house, make, monkeypatch):
    entries = session_of(make, 50, closed=50, ended=True)

    async def once():
        log = house.open()
        await log.writer.flush()

        sync = os.fdatasync

        def die(fd):
            sync(fd)
            raise LogFailed("killed between the sync and the note")

        monkeypatch.setattr(os, "fdatasync", die)
        for entry in entries:
            log.writer.append(entry)
        with pytest.raises(LogFailed):
            await log.writer.flush()
        await log.writer.close()
        return len(stored(house))

    written = run(once())
    monkeypatch.undo()
    assert written > 1
    report = reopened(house)
    assert report.merged == 1 + len(entries) - written
    assert stored(house)[1:-1] == entries


def test_a_torn_end_is_cut_off_kept_aside_and_said(house, make):
    crashed(house, session_of(make, ended=True, closed=3))
    tail_path(house.tail_dir, house.origin.name).unlink()
    last = segments(house.wal)[-1].path
    end = list(frames(last))[-1].end
    with last.open("r+b") as file:
        file.seek(end)
        file.write(b"\x50\0\0\0half a frame")
    report = reopened(house)
    assert report.cut == len(b"\x50\0\0\0half a frame")
    assert report.gap == "tail lost"
    kept = list(house.wal.glob("torn-*"))
    assert [path.read_bytes() for path in kept] == [b"\x50\0\0\0half a frame"]
    kinds = [json.loads(entry)["kind"] for entry in stored(house)[-2:]]
    assert kinds == ["gap", "recover"]


def sealed(house, make, count=600):
    """A log with `count` entries that were signed, closed properly."""

    async def once():
        log = house.open()
        session = make.OneSession()
        start, first = session.start()
        log.writer.append(first)
        for _ in range((count - 3) // 2):
            intended, entry = session.intent()
            log.writer.append(entry)
            await log.writer.wait_durable(log.writer.append(session.outcome(intended)))
        log.writer.append(session.end(start))
        await log.writer.close()

    run(once())
    assert seal_once(house.origin) == 0
    assert last_checkpoint(house.origin).size == len(stored(house))


@pytest.mark.parametrize("index", [0, 255, 256, 300, 599])
def test_a_flipped_bit_in_a_signed_entry_is_named_and_the_log_not_extended(house, make, index):
    sealed(house, make)
    size = len(stored(house))
    index = min(index, size - 1)
    for segment in segments(house.wal):
        for at, frame in enumerate(frames(segment.path)):
            if segment.first + at == index:
                with segment.path.open("r+b") as file:
                    file.seek(frame.end - 5)
                    byte = file.read(1)[0]
                    file.seek(frame.end - 5)
                    file.write(bytes([byte ^ 1]))
    before = {
        path: path.read_bytes() for path in house.origin.folder.rglob("*") if path.is_file() and path.name != "fence"
    }
    with pytest.raises(Damaged) as damage:
        reopened(house)
    assert damage.value.index == index
    after = {
        path: path.read_bytes() for path in house.origin.folder.rglob("*") if path.is_file() and path.name != "fence"
    }
    assert before == after


def test_an_entry_rewritten_with_a_good_checksum_is_found(house, make):
    import struct

    import google_crc32c

    sealed(house, make)
    path = segments(house.wal)[0].path
    frame = next(frames(path))
    forged = frame.entry.replace(b'"v":1', b'"v":2')
    with path.open("r+b") as file:
        file.write(struct.pack("<II", len(forged), google_crc32c.value(forged)) + forged)
    with pytest.raises(Damaged, match="entry 0"):
        reopened(house)


def test_a_log_cut_short_behind_its_checkpoint_is_not_extended(house, make):
    sealed(house, make)
    path = segments(house.wal)[-1].path
    ends = [frame.end for frame in frames(path)]
    os.truncate(path, ends[-2])
    with pytest.raises(Damaged) as damage:
        reopened(house)
    assert damage.value.index == last_checkpoint(house.origin).size - 1


def test_a_missing_segment_is_named(house, make):
    sealed(house, make, 2000)
    files = segments(house.wal)
    assert len(files) > 3
    files[1].path.unlink()
    with pytest.raises(Damaged) as damage:
        reopened(house)
    assert damage.value.index == files[1].first


def test_a_wal_shorter_than_what_the_tail_says_was_synced_is_damage(house, make):
    crashed(house, session_of(make))
    path = segments(house.wal)[-1].path
    os.truncate(path, list(frames(path))[-2].end)
    with pytest.raises(Damaged):
        reopened(house)


def test_a_checkpoint_by_another_key_is_refused(house, make):
    sealed(house, make)
    note = (house.origin.folder / "log" / "checkpoint").read_text()
    head, _, signature = note.rpartition(" ")
    signed = base64.b64decode(signature)
    forged = signed[:-1] + bytes([signed[-1] ^ 1])
    (house.origin.folder / "log" / "checkpoint").write_text(f"{head} {base64.b64encode(forged).decode()}\n")
    with pytest.raises(Damaged, match="not good"):
        reopened(house)


def test_a_second_writer_is_kept_out(house):
    async def two():
        log = house.open()
        with pytest.raises(LogFailed, match="another writer"):
            house.open()
        await log.writer.close()

    run(two())


def test_recovery_needs_only_look_at_what_came_after_the_last_note(house, make):
    sealed(house, make, 2000)
    low = Unfinished.load(house.origin.folder / "low")
    assert low.index == len(stored(house))
    crashed(house, session_of(make))
    (house.origin.folder / "low").write_bytes(b"rubbish")
    assert reopened(house).intents == 2


def test_open_items_are_read_off_hostile_entries_as_a_parser_would(make):
    fake = '","kind":"outcome","mono":1,"ref":"00000000-0000-7000-8000-000000000000","result":{'
    session = make.OneSession()
    entries = [session.start()[1]]
    for _ in range(3):
        _, entry = session.intent(head=f'"id":"00000000-0000-7000-8000-000000000000{fake}', name=fake)
        entries.append(entry)
    found = Unfinished()
    for entry in entries:
        found.see(entry)
    assert set(found.intents) == {json.loads(entry)["id"] for entry in entries[1:]}
    assert list(found.sessions) == [json.loads(entries[0])["session"]]


def test_a_new_year_closes_the_old_log_and_links_the_two(house, make):
    crashed(house, session_of(make))
    following = ensure_origin(house.state, "gw1", "w0", 2027)
    assert reopened(house, year=2027).origin == following.name
    old = [json.loads(entry) for entry in stored(house)]
    assert old[-1]["anchor"] == {"next": following.name, "origin": house.origin.name}
    assert old[-2]["kind"] == "recover"
    assert seal_once(house.origin) == 0
    first = json.loads(next(frames(segments(following.folder / "wal")[0].path)).entry)
    assert first["anchor"]["previous"]["origin"] == house.origin.name
    assert reopened(house, year=2027).clean
    assert len(old) == len(stored(house))


def test_an_instance_without_init_says_what_to_do(tmp_path, house):
    house.state = tmp_path / "nothing"
    with pytest.raises(ConfigError, match="ostiary init"):
        reopened(house)


def test_a_year_without_a_certified_key_says_what_to_do(house):
    with pytest.raises(ConfigError, match="ostiary init"):
        reopened(house, year=2031)
