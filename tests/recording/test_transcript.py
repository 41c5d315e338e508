"""A recording reads as what the client saw, and cannot drive the terminal of who reads it."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.audit.journal import parameter_bytes
from ostiary.model.errors import PeerMisbehaved
from ostiary.model.events import PayloadKind, PayloadRef
from ostiary.model.operations import Parameters
from ostiary.model.proofs import Content, Masked
from ostiary.recording.asked import asked
from ostiary.recording.http_transcript import http_events
from ostiary.recording.parameters import decode_parameters
from ostiary.recording.recorder import Recorder
from ostiary.recording.repeats import Repeats
from ostiary.recording.ssh_transcript import ssh_events
from ostiary.recording.transcript import events, lines, render
from ostiary.recording.values import shown
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.payload_reading import Gap, Record, read_stream
from ostiary.vault.payloads import LARGEST_REMEMBERED, PayloadStream

OP = "0190a0b0-2222-7222-8333-444455556666"
KEK = KeyEncryptionKey.from_bytes(bytes(32))


def frame(tag: str, body: bytes) -> bytes:
    return tag.encode() + struct.pack("!I", 4 + len(body)) + body


def described(*columns: tuple[str, int, int]) -> bytes:
    body = struct.pack("!H", len(columns))
    for name, oid, form in columns:
        body += name.encode() + b"\0" + struct.pack("!IhIhih", 0, 0, oid, -1, -1, form)
    return frame("T", body)


def row(*values: bytes | None) -> bytes:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return frame("D", body)


def done(tag: str) -> bytes:
    return frame("C", tag.encode() + b"\0")


def record(kind: PayloadKind, data: bytes, t_us: int = 0, number: int = 0) -> Record:
    return Record(number, kind, OP, t_us, data, PayloadRef("", "", len(data)))


def masked(frames: bytes) -> Masked:
    return Masked(frames=frames, content=Content.ROWS, rows=1, counts=())


def test_a_session_reads_from_top_to_bottom(tmp_path: Path) -> None:
    stream = PayloadStream.create(tmp_path / "s.osp", OP, KEK)
    recorder = Recorder(stream)
    stream.write([(PayloadKind.STATEMENT, OP, 1500, b"select id, name\nfrom t where a = $1")])
    stream.write([(PayloadKind.PARAMS, OP, 1500, parameter_bytes(Parameters((), (b"x\x1b[2J", None))))])
    frames = (
        described(("id", 23, 1), ("name", 25, 0))
        + row(b"\0\0\0\x07", b"Ana")
        + row(b"\0\0\0\x08", None)
        + done("SELECT 2")
    )
    assert recorder.record(masked(frames), 2_000_001, OP).frames == frames
    head = stream.close()
    text = [line.text for line in render(read_stream(stream.path, KEK, head))]
    assert text == [
        f"+0.001500  {OP}",
        "> select id, name",
        "> from t where a = $1",
        "  $1 = x\\x1b[2J",
        "  $2 = NULL",
        "  id | name",
        "  ---+-----",
        "  7  | Ana",
        "  8  | NULL",
        "+2.000001  SELECT 2",
    ]


def test_with_events_only_nothing_is_written_and_the_batch_goes_on() -> None:
    assert Recorder(None).record(masked(b"x"), 0, OP).frames == b"x"


def test_a_batch_larger_than_a_chunk_is_recorded_whole(tmp_path: Path) -> None:
    stream = PayloadStream.create(tmp_path / "s.osp", OP, KEK)
    frames = described(("v", 25, 0)) + b"".join(row(b"%d" % n * 100) for n in range(2000)) + done("SELECT 2000")
    assert len(frames) > 3 * 65_536
    Recorder(stream).record(masked(frames), 0, OP)
    stored = [r for r in read_stream(stream.path, KEK, stream.close()) if isinstance(r, Record)]
    assert b"".join(r.data for r in stored) == frames
    got = list(events(stored))
    assert [e.values[0] for e in got if e.kind == "row"] == [f"{n}" * 100 for n in range(2000)]
    assert sum(1 for _ in lines(got)) > 2000


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_frames_cut_anywhere_read_the_same(data: st.DataObject) -> None:
    wire = (
        described(("a", 25, 0))
        + row(b"x" * 30)
        + done("SELECT 1")
        + frame("E", b"SERROR\0C42601\0Mno\0\0")
        + frame("Z", b"I")
    )
    whole = list(events([record(PayloadKind.RESULT, wire)]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    parts = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert list(events([record(PayloadKind.RESULT, part) for part in parts])) == whole
    assert [e.kind for e in whole] == ["columns", "row", "complete", "error"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(PayloadKind)),
            st.binary(max_size=80) | st.builds(frame, st.sampled_from("TDCEINSAdtGH"), st.binary(max_size=60)),
        )
    )
)
def test_whatever_was_recorded_shows_as_printable_lines(recorded: list[tuple[PayloadKind, bytes]]) -> None:
    shown_lines = list(render(record(kind, data, n, n) for n, (kind, data) in enumerate(recorded)))
    assert all(line.text.replace("\t", " ").isprintable() for line in shown_lines)


def test_a_repeated_statement_and_a_gap_are_shown() -> None:
    happened = list(
        render(
            [
                record(PayloadKind.STATEMENT, b"begin", number=0),
                record(PayloadKind.AGAIN, (0).to_bytes(8, "little"), number=1),
                record(PayloadKind.COPY_IN, frame("d", b"1\ta\n") + frame("c", b"")),
                Gap(3, "the file ends in the middle of a chunk"),
            ]
        )
    )
    assert [line.text for line in happened].count("> begin") == 2
    assert any("  > 1\\ta" in line.text for line in happened)
    assert "something is missing" in happened[-1].text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 65535), st.none() | st.binary(max_size=40)), max_size=5), st.data())
def test_parameters_come_back_as_they_were(bound: list[tuple[int, bytes | None]], data: st.DataObject) -> None:
    parameters = Parameters(tuple(form for form, _ in bound), tuple(value for _, value in bound))
    raw = parameter_bytes(parameters)
    assert decode_parameters(raw) == parameters
    cut = data.draw(st.integers(0, len(raw) - 1))
    for bad in (raw[:cut], raw + b"x"):
        with pytest.raises(PeerMisbehaved):
            decode_parameters(bad)


@pytest.mark.parametrize(
    ("value", "oid", "text"),
    [
        (b"\x01", 16, "t"),
        (struct.pack("!q", -5), 20, "-5"),
        (struct.pack("!d", 1.5), 701, "1.5"),
        (struct.pack("!i", 1), 1082, "2000-01-02"),
        (struct.pack("!q", 1_000_000), 1184, "2000-01-01 00:00:01+00"),
        (struct.pack("!q", 2**63 - 1), 1114, "infinity"),
        (struct.pack("!hhHh4h", 4, 1, 0, 5, 1, 2345, 6789, 1000), 1700, "12345.67891"),
        (struct.pack("!hhHh1h", 1, -1, 0x4000, 2, 500), 1700, "-0.05"),
        (struct.pack("!hhHh", 0, 0, 0xC000, 0), 1700, "NaN"),
        (bytes(16), 2950, "00000000-0000-0000-0000-000000000000"),
        (b'\x01{"a":1}', 3802, '{"a":1}'),
        (b"ab", 23, "\\x6162"),
        (b"\xff", 99_999, "\\xff"),
    ],
)
def test_binary_values_are_spelled_out_or_shown_in_hex(value: bytes, oid: int, text: str) -> None:
    assert shown(value, oid, 1) == text


# --- statements that stand there once, and texts that are cut anywhere --------------------------------------------------


@pytest.mark.parametrize("read", [events, http_events, lambda records: ssh_events(records, ())])
def test_a_repeated_statement_is_shown_however_many_stood_before_it(read) -> None:
    records = [made(n, PayloadKind.STATEMENT, f"SELECT {n}".encode()) for n in range(5000)]
    records.append(made(5000, PayloadKind.AGAIN, (4999).to_bytes(8, "little")))
    assert [event.text for event in read(records)][-1] == "SELECT 4999"


def test_statements_that_are_remembered_need_no_more_memory_than_the_stream_has_for_them() -> None:
    held = Repeats()
    for number in range(100):
        held.keep(number, bytes(LARGEST_REMEMBERED))
    held.keep(100, bytes(LARGEST_REMEMBERED + 1))
    kept = [number for number in range(101) if held.find(number.to_bytes(8, "little")) is not None]
    assert kept == [96, 97, 98, 99]


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 250), max_size=5))
def test_a_body_that_is_cut_in_the_middle_of_a_character_reads_as_it_was(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "ignore")
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    read = http_events([made(n, PayloadKind.RESULT, piece) for n, piece in enumerate(pieces)])
    assert "".join(event.text for event in read) == data.decode(errors="backslashreplace")


def test_what_is_run_again_is_what_the_caller_asked_and_not_what_it_was_rewritten_to() -> None:
    found = asked(
        [
            made(0, PayloadKind.STATEMENT, b"SELECT * FROM (SELECT * FROM orders WHERE mine) AS orders"),
            made(1, PayloadKind.ASKED, b"SELECT * FROM orders"),
        ]
    )
    assert [each.statement for each in found.values()] == [b"SELECT * FROM orders"]


def made(number: int, kind: PayloadKind, data: bytes) -> Record:
    return Record(number, kind, OP, number, data, PayloadRef("", "", len(data)))
