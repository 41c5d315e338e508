"""A recording's key can be destroyed or wrapped anew, and no proof changes by it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ostiary.vault import keeping
from ostiary.vault.keeping import destroy, is_destroyed, rewrap
from ostiary.vault.keys import KeyEncryptionKey, create_key_file
from ostiary.vault.payload_format import HEADER, PayloadError
from ostiary.vault.payload_reading import read_header, read_stream, survey
from ostiary.vault.payloads import PayloadKind, PayloadStream
from ostiary.vault.ring import load_ring, next_key_file

SESSION = "01a21445-b09a-7a06-b8fc-55ae9b1f04b5"
ENTRY = "01a21445-b09b-7c98-8416-5048e65723c5"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    create_key_file(folder / "kek-1.key")
    return folder


@pytest.fixture
def stream(tmp_path: Path, keys: Path) -> Path:
    folder = tmp_path / "payloads"
    folder.mkdir()
    made = PayloadStream.create(folder / f"{SESSION}.osp", SESSION, load_ring(keys.parent).current)
    made.write([(PayloadKind.STATEMENT, ENTRY, 1, b"SELECT 'secret'")])
    made.sync()
    made.close()
    return folder / f"{SESSION}.osp"


def told(path: Path, key: KeyEncryptionKey) -> list[bytes]:
    return [bytes(each.data) for each in read_stream(path, key) if each.data]


def hashed(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()[HEADER.size :]).hexdigest()


def test_a_destroyed_key_erases_the_recording_and_nothing_that_was_hashed(stream: Path, keys: Path) -> None:
    before, body = survey(stream), hashed(stream)
    assert told(stream, load_ring(keys.parent).current) == [b"SELECT 'secret'"]
    destroy(stream)
    assert is_destroyed(stream)
    assert survey(stream).head == before.head
    assert hashed(stream) == body
    with pytest.raises(PayloadError, match="destroyed"):
        told(stream, load_ring(keys.parent).current)


def test_a_rewrapped_recording_opens_with_the_new_key_alone(stream: Path, keys: Path) -> None:
    old = load_ring(keys.parent).current
    path = next_key_file(keys)
    fresh = create_key_file(path)
    assert path.name == "kek-2.key"
    assert load_ring(keys.parent).current.id == fresh.id
    before = survey(stream).head
    assert [what for _, what in rewrap(stream.parent, {old.id: old, fresh.id: fresh}, fresh)] == ["wrapped anew"]
    assert told(stream, fresh) == [b"SELECT 'secret'"]
    assert survey(stream).head == before
    with pytest.raises(PayloadError, match="needs the key"):
        told(stream, old)
    assert list(rewrap(stream.parent, {old.id: old}, fresh)) == []


@pytest.mark.parametrize("torn", range(26, HEADER.size, 7))
def test_a_crash_while_a_header_is_written_is_mended_by_the_next_run(stream: Path, keys: Path, torn: int) -> None:
    old = load_ring(keys.parent).current
    whole = stream.read_bytes()
    fresh = create_key_file(next_key_file(keys))
    list(rewrap(stream.parent, {old.id: old}, fresh))
    done = stream.read_bytes()
    stream.with_name(stream.name + ".rewrap").write_bytes(done[26 : HEADER.size])
    stream.write_bytes(done[:torn] + whole[torn:])
    list(rewrap(stream.parent, {old.id: old, fresh.id: fresh}, fresh))
    assert told(stream, fresh) == [b"SELECT 'secret'"]
    assert [path.name for path in stream.parent.iterdir()] == [stream.name]


def test_what_cannot_be_wrapped_anew_is_left_and_named(stream: Path, keys: Path) -> None:
    fresh = create_key_file(next_key_file(keys))
    before = stream.read_bytes()
    assert [what for _, what in rewrap(stream.parent, {}, fresh)] == [
        f"needs the key {read_header(stream).key_id}, which is not here"
    ]
    assert stream.read_bytes() == before
    destroy(stream)
    assert [what for _, what in rewrap(stream.parent, {}, fresh)] == ["destroyed"]


@pytest.mark.parametrize("torn", [False, True], ids=["before", "after"])
def test_a_destroyed_key_does_not_come_back_by_what_a_crash_left(
    stream: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    old, fresh = load_ring(keys.parent).current, create_key_file(next_key_file(keys))
    put = keeping._put

    def crash(path: Path, at: int, data: bytes) -> None:
        if torn:
            put(path, at, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "_put", crash)
        with pytest.raises(KeyboardInterrupt):
            list(rewrap(stream.parent, {old.id: old}, fresh))
    beside = stream.with_name(stream.name + keeping.BESIDE)
    left = beside.read_bytes()
    destroy(stream)
    assert not beside.exists()
    beside.write_bytes(left)  # as one destroyed by an earlier version
    assert [what for _, what in rewrap(stream.parent, {old.id: old, fresh.id: fresh}, fresh)] == ["destroyed"]
    assert is_destroyed(stream)
    assert not beside.exists()
