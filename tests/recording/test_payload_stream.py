"""A payload stream gives back what was put in, tells of what is missing, and never of what it holds."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.model.events import PayloadKind, StreamHead
from ostiary.vault import payload_format as form
from ostiary.vault.keys import KeyEncryptionKey, WrongKey
from ostiary.vault.payload_reading import Gap, Record, read_header, read_stream, survey
from ostiary.vault.payloads import PayloadStream

SESSION = "0190a0b0-1111-7222-8333-444455556666"
OP = "0190a0b0-2222-7222-8333-444455556666"
KEK = KeyEncryptionKey.from_bytes(bytes(range(32)))
SQL, PARAMS, RESULT = PayloadKind.STATEMENT, PayloadKind.PARAMS, PayloadKind.RESULT


@pytest.fixture
def stream(tmp_path: Path) -> PayloadStream:
    return PayloadStream.create(tmp_path / "s.osp", SESSION, KEK)


def records(path: Path, expected: StreamHead | None = None) -> list[Record | Gap]:
    return list(read_stream(path, KEK, expected))


def chunk_offsets(path: Path) -> list[tuple[int, int]]:
    data, at, found = path.read_bytes(), form.HEADER.size, []
    while at < len(data):
        size = form.WORD.unpack_from(data, at)[0] & ~form.GOES_ON
        found.append((at, 4 + size))
        at += 4 + size
    return found


def test_what_goes_in_comes_out_with_the_same_references(stream: PayloadStream) -> None:
    items = [(SQL, OP, 5, b"select 1"), (PARAMS, OP, 6, b"\0\xff"), (RESULT, "", 7, b"")]
    refs = stream.write(items)
    head = stream.close()
    got = records(stream.path, head)
    assert [(r.kind, r.entry, r.t_us, r.data) for r in got] == items
    assert [r.ref for r in got] == refs
    assert [r.number for r in got] == [0, 1, 2]
    assert head.bytes == stream.path.stat().st_size


def test_one_batch_is_one_chunk_and_its_blob_is_the_hash_of_the_ciphertext(stream: PayloadStream) -> None:
    refs = stream.write([(SQL, OP, n, b"select %d" % n) for n in range(100)])
    ((at, size),) = chunk_offsets(stream.path)
    sealed = stream.path.read_bytes()[at + 4 : at + size]
    assert {r.blob for r in refs} == {hashlib.sha256(sealed).hexdigest()}
    assert len({r.commit for r in refs}) == 100


@pytest.mark.parametrize("size", [65_486, 65_487, 65_488, 131_072, 1_000_000])
def test_a_payload_larger_than_a_chunk_is_split_without_loss(stream: PayloadStream, size: int) -> None:
    data = os.urandom(size)
    before = (SQL, OP, 0, b"a")
    refs = stream.write([before, (PARAMS, OP, 1, data), (SQL, OP, 2, b"b")])
    head = stream.close()
    assert [r.data for r in records(stream.path, head)] == [b"a", data, b"b"]
    raw = stream.path.read_bytes()
    spans = chunk_offsets(stream.path)
    assert all(length - 20 <= form.MAX_PLAIN for _, length in spans)
    blobs, run = set(), hashlib.sha256()
    for at, length in spans:
        run.update(raw[at + 4 : at + length])
        if not form.WORD.unpack_from(raw, at)[0] & form.GOES_ON:
            blobs.add(run.hexdigest())
            run = hashlib.sha256()
    assert {r.blob for r in refs} <= blobs


def test_a_repeated_statement_is_stored_once_and_still_told(stream: PayloadStream) -> None:
    first = stream.write([(SQL, OP, 1, b"select secret"), (SQL, OP, 2, b"select secret")])
    size = stream.path.stat().st_size
    again = stream.write([(SQL, SESSION, 3, b"select secret")])
    assert stream.path.stat().st_size == size
    assert again == first[:1] == first[1:]
    stream.append(RESULT, OP, 4, b"rows")
    got = records(stream.path, stream.close())
    assert [r.kind for r in got] == [SQL, PayloadKind.AGAIN, PayloadKind.AGAIN, RESULT]
    assert [int.from_bytes(r.data, "little") for r in got[1:3]] == [0, 0]
    assert (got[2].entry, got[2].t_us) == (SESSION, 3)


def test_ten_thousand_repeats_end_up_in_bounded_chunks(stream: PayloadStream) -> None:
    for n in range(5000):
        stream.write([(SQL, OP, n, b"begin")])
    stream.append(RESULT, OP, 1, b"x" * 60_000)
    got = records(stream.path, stream.close())
    assert sum(r.kind is PayloadKind.AGAIN for r in got) == 4999


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([SQL, PARAMS, RESULT]),
                st.sampled_from(["", OP, SESSION]),
                st.integers(0, 2**64 - 1),
                st.binary(max_size=200) | st.integers(60_000, 140_000).map(bytes),
            ),
            max_size=4,
        ),
        max_size=6,
    ),
    st.data(),
)
def test_whatever_is_written_reads_back_and_every_cut_is_a_gap(
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[list[tuple[PayloadKind, str, int, bytes]]],
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("p") / f"{uuid.uuid4()}.osp"
    stream = PayloadStream.create(path, SESSION, KEK)
    refs = [ref for call in calls for ref in stream.write(call)]
    head = stream.close()
    got = records(path, head)
    stored = {(r.ref, r.data) for r in got if isinstance(r, Record)}
    flat = [item for call in calls for item in call]
    assert {(ref, item[3]) for ref, item in zip(refs, flat, strict=True)} <= stored
    assert survey(path).head == head
    whole = path.read_bytes()
    if len(whole) > form.HEADER.size:
        cut = data.draw(st.integers(form.HEADER.size, len(whole) - 1))
        path.write_bytes(whole[:cut])
        short = records(path, head)
        assert isinstance(short[-1], Gap)
        kept = [r for r in short if isinstance(r, Record)]
        assert kept == got[: len(kept)]


def test_a_changed_byte_anywhere_is_refused(stream: PayloadStream) -> None:
    stream.write([(SQL, OP, 1, b"select 1"), (PARAMS, OP, 1, bytes(70_000))])
    head = stream.close()
    whole = stream.path.read_bytes()
    for at in [
        *range(110),
        len(whole) // 2,
        len(whole) - 1,
        *(at + n for at, _ in chunk_offsets(stream.path) for n in range(5)),
    ]:
        bad = bytearray(whole)
        bad[at] ^= 0x41
        stream.path.write_bytes(bad)
        try:
            got = records(stream.path, head)
        except (form.PayloadError, WrongKey):
            continue
        assert isinstance(got[-1], Gap), at  # a length that now reaches beyond the end


def ending_at(stream: PayloadStream, at: int) -> None:
    """Give it a record whose chunk ends there."""
    beside = stream.path.with_name(f"{uuid.uuid4()}.osp")
    empty = PayloadStream.create(beside, SESSION, KEK)
    empty.write([(SQL, OP, 1, b"")])
    empty.close()
    around = beside.stat().st_size - form.HEADER.size
    stream.write([(SQL, OP, 2, bytes(at - stream.path.stat().st_size - around))])
    assert stream.path.stat().st_size == at


@pytest.mark.parametrize("lost", [1, 3, 15, 16, 40])
def test_a_last_sector_that_never_came_to_the_disk_is_a_gap_and_no_forgery(stream: PayloadStream, lost: int) -> None:
    stream.write([(SQL, OP, 1, b"select 1")])
    ending_at(stream, 1024 + lost)
    stream.close()
    whole = stream.path.read_bytes()
    for behind in (b"", bytes(200)):
        stream.path.write_bytes(whole[:1024] + bytes(lost) + behind)
        *before, last = read_stream(stream.path, KEK)
        assert [each.data for each in before if isinstance(each, Record)] == [b"select 1"]
        assert isinstance(last, Gap)
    if lost > 3:  # with fewer, chance alone may have made zeros of them
        stream.path.write_bytes(whole[:1022] + bytes([whole[1022] ^ 0x41]) + whole[1023:])
        with pytest.raises(form.PayloadTampered):
            list(read_stream(stream.path, KEK))


@pytest.mark.parametrize("lost", [1, 3, 4, 7, 15, 16, 40])
def test_a_sector_older_than_the_one_behind_it_is_a_gap_where_its_last_chunk_began(
    stream: PayloadStream, lost: int
) -> None:
    ending_at(stream, 1024 - lost)
    for n in range(2):
        stream.write([(SQL, OP, n, b"x" * 400)])
    stream.close()
    whole = stream.path.read_bytes()
    stream.path.write_bytes(whole[: 1024 - lost] + bytes(lost) + whole[1024:])
    *before, last = read_stream(stream.path, KEK)
    assert len(before) == 1
    assert isinstance(last, Gap)


def test_chunks_swapped_repeated_or_dropped_are_refused(stream: PayloadStream) -> None:
    for n in range(3):
        stream.write([(SQL, OP, n, b"select %d" % n)])
    head = stream.close()
    whole = stream.path.read_bytes()
    parts = [whole[at : at + size] for at, size in chunk_offsets(stream.path)]
    for order in ([1, 0, 2], [0, 0, 1, 2], [0, 2], [1, 2]):
        stream.path.write_bytes(whole[: form.HEADER.size] + b"".join(parts[n] for n in order))
        with pytest.raises(form.PayloadTampered):
            records(stream.path, head)


def test_another_key_and_another_session_do_not_open_it(stream: PayloadStream, tmp_path: Path) -> None:
    stream.write([(SQL, OP, 1, b"select 1")])
    stream.close()
    with pytest.raises(form.PayloadError, match=KEK.id):
        list(read_stream(stream.path, KeyEncryptionKey.from_bytes(bytes(32))))
    other = PayloadStream.create(tmp_path / "o.osp", OP, KEK)
    other.write([(SQL, OP, 1, b"select 1")])
    other.close()
    mixed = stream.path.read_bytes()[: form.HEADER.size] + other.path.read_bytes()[form.HEADER.size :]
    stream.path.write_bytes(mixed)
    with pytest.raises(form.PayloadTampered):
        records(stream.path)


def test_nothing_of_a_payload_stands_in_the_file_or_in_a_repr(stream: PayloadStream) -> None:
    stream.write([(SQL, OP, 1, b"PLANTED-4111111111111111" * 3000), (PARAMS, OP, 1, b"PLANTED")])
    stream.append(RESULT, OP, 2, b"PLANTED" * 20_000)
    raw = stream.path.read_bytes()
    assert b"PLANTED" not in raw
    assert stat_mode(stream.path) == 0o600
    assert bytes(range(32)).hex() not in repr(KEK)
    assert read_header(stream.path).session == SESSION


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_quota_is_told_before_anything_is_written(tmp_path: Path) -> None:
    stream = PayloadStream.create(tmp_path / "q.osp", SESSION, KEK, quota=10_000)
    stream.write([(SQL, OP, 1, b"select 1")])
    size = stream.path.stat().st_size
    with pytest.raises(form.QuotaReached, match="10000"):
        stream.write([(PARAMS, OP, 1, bytes(10_000))])
    with pytest.raises(form.QuotaReached):
        stream.append(RESULT, OP, 1, bytes(100_000))
    assert stream.path.stat().st_size == size
    assert len(records(stream.path, stream.close())) == 1


def test_a_full_disk_ends_the_stream_and_leaves_whole_groups(tmp_path: Path) -> None:
    # RLIMIT_FSIZE makes write(2) come up short and then fail, as a full disk does; it is a whole process's, so a child's.
    script = """
import resource, signal, sys
from ostiary.model.events import PayloadKind as K
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault import payload_format as form
from ostiary.vault.payloads import PayloadStream
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
s = PayloadStream.create(sys.argv[1], sys.argv[2], KeyEncryptionKey.from_bytes(bytes(range(32))))
s.write([(K.STATEMENT, "", 0, b"first")])
before = s.head
for n in range(2):
    try:
        s.write([(K.PARAMS, "", 0, bytes(300_000))])
    except form.DiskFull as exc:
        print("full", exc)
assert s.head == before
s.close()
"""
    path = tmp_path / "full.osp"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), SESSION], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("no room for the session's recording") == 2
    assert [r.data for r in records(path)] == [b"first"]
    assert survey(path).torn == 0


def test_what_was_returned_survives_a_killed_process(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from ostiary.model.events import PayloadKind as K
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.payloads import PayloadStream
s = PayloadStream.create(sys.argv[1], sys.argv[2], KeyEncryptionKey.from_bytes(bytes(range(32))))
for n in range(10):
    s.append(K.RESULT, "", n, b"row %d" % n)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "killed.osp"
    done = subprocess.run([sys.executable, "-c", script, str(path), SESSION], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [r.data for r in records(path)] == [b"row %d" % n for n in range(10)]


def test_zeros_at_the_end_are_a_gap(stream: PayloadStream) -> None:
    stream.write([(SQL, OP, 1, b"select 1")])
    head = stream.close()
    with stream.path.open("ab") as file:
        file.write(bytes(4096))
    got = records(stream.path, head)
    assert isinstance(got[-1], Gap)
    assert survey(stream.path).torn == 4096


def test_closing_twice_is_harmless_and_writing_after_it_is_told(stream: PayloadStream) -> None:
    stream.sync()
    assert stream.close() == stream.close()
    with pytest.raises(form.StreamFailed, match="closed"):
        stream.write([(SQL, OP, 1, b"x")])
    with pytest.raises(form.StreamFailed, match="closed"):
        stream.sync()


def test_an_existing_file_is_never_touched(stream: PayloadStream) -> None:
    with pytest.raises(form.StreamFailed):
        PayloadStream.create(stream.path, SESSION, KEK)
