"""Frames: found whole, judged early, held in bounds. Runs on whichever of the two speeds is built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.kernel import frames
from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m

ROW = encode.data_row([b"abcd", None, b""])
COPY = encode.encode(m.CopyData(b"1\tx\n"))
DONE = encode.encode(m.CommandComplete("SELECT 3"))
READY = encode.READY["I"]


def frame(tag: str, size: int) -> bytes:
    return tag.encode() + (size + 4).to_bytes(4, "big") + b"x" * size


def test_neighbouring_rows_are_one_run_and_everything_else_is_its_own():
    wire = encode.BIND_COMPLETE * 2 + ROW * 3 + DONE + COPY * 2 + READY
    runs, consumed = frames.scan(wire, 0)
    assert consumed == len(wire)
    assert [(chr(tag), count) for tag, _, _, count in runs] == [
        ("2", 1),
        ("2", 1),
        ("D", 3),
        ("C", 1),
        ("d", 2),
        ("Z", 1),
    ]
    assert b"".join(wire[start:end] for _, start, end, _ in runs) == wire


def test_describe_of_a_client_is_no_row():
    wire = encode.encode(m.Describe("S", b"a")) * 2 + COPY * 2
    assert [run[3] for run in frames.scan_frontend(wire, 0)[0]] == [1, 1, 2]


@pytest.mark.parametrize("scan", [frames.scan, frames.scan_frontend])
def test_what_is_not_whole_stays(scan):
    wire = COPY * 3
    for cut in range(len(wire) + 1):
        _, consumed = scan(wire[:cut], 0)
        assert consumed == cut // len(COPY) * len(COPY)
        if consumed < cut - 4:
            assert frames.frame_size(wire[:cut], consumed) == len(COPY)


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_read(buffer):
    assert frames.scan(buffer(ROW * 2), len(ROW)) == ([(ord("D"), len(ROW), 2 * len(ROW), 1)], 2 * len(ROW))


@pytest.mark.parametrize(
    ("scan", "head", "why"),
    [
        (frames.scan_frontend, b"y", Misdeed.UNKNOWN_TAG),
        (frames.scan, b"Q", Misdeed.UNKNOWN_TAG),
        (frames.scan, b"\x00", Misdeed.UNKNOWN_TAG),
        (frames.scan_frontend, b"Q\0\0\0\3", Misdeed.BAD_LENGTH),
        (frames.scan_frontend, b"Q\0\0\0\0", Misdeed.BAD_LENGTH),
        (frames.scan_frontend, b"Q\xff\xff\xff\xff", Misdeed.BAD_LENGTH),
        (frames.scan_frontend, b"Q\x40\0\0\1", Misdeed.BAD_LENGTH),
        (frames.scan_frontend, b"S\0\0\x27\x11", Misdeed.BAD_LENGTH),
        (frames.scan_frontend, b"p\0\1\0\0", Misdeed.BAD_LENGTH),
        (frames.scan, b"D\x80\0\0\0", Misdeed.BAD_LENGTH),
        (frames.scan, b"Z\0\x10\0\1", Misdeed.BAD_LENGTH),
    ],
)
def test_a_bad_header_is_refused_before_its_body_comes(scan, head, why):
    with pytest.raises(PeerMisbehaved) as caught:
        scan(head, 0)
    assert caught.value.why is why


def test_a_gigabyte_is_announced_and_not_refused():
    assert frames.scan(b"D\x40\0\0\0", 0) == ([], 0)
    assert frames.frame_size(b"D\x40\0\0\0", 0) == (1 << 30) + 1


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_frames_or_misbehaviour(wire, from_client):
    scan = frames.scan_frontend if from_client else frames.scan
    try:
        runs, consumed = scan(wire, 0)
    except PeerMisbehaved:
        return
    assert b"".join(wire[start:end] for _, start, end, _ in runs) == wire[:consumed]
    assert all(count for *_, count in runs)


def test_rows_are_walked_to_their_last_byte():
    assert frames.check_rows(ROW * 1000, 0, 1000 * len(ROW), 3) == 1000
    assert frames.check_rows(b"", 0, 0, 3) == 0


@pytest.mark.parametrize(
    ("body", "columns", "why"),
    [
        (b"", -1, Misdeed.BAD_LENGTH),
        (b"\0", -1, Misdeed.BAD_LENGTH),
        (b"\0\1", -1, Misdeed.BAD_LENGTH),
        (b"\0\1\0\0\0", -1, Misdeed.BAD_LENGTH),
        (b"\0\1\0\0\0\2x", -1, Misdeed.BAD_LENGTH),
        (b"\0\1\xff\xff\xff\xfe", -1, Misdeed.BAD_LENGTH),
        (b"\0\1\x80\0\0\0", -1, Misdeed.BAD_LENGTH),
        (b"\0\1\0\0\0\1xy", -1, Misdeed.TRAILING_BYTES),
        (b"\0\0\0", -1, Misdeed.TRAILING_BYTES),
        (b"\0\1\0\0\0\1x", 2, Misdeed.BAD_FIELD),
    ],
)
def test_a_bad_row_is_misbehaviour(body, columns, why):
    wire = encode.frame(b"D", body) + ROW
    with pytest.raises(PeerMisbehaved) as caught:
        frames.check_rows(wire, 0, 5 + len(body), columns)
    assert caught.value.why is why


def test_rows_of_one_result_have_one_width():
    wire = encode.data_row([b"a"]) + encode.data_row([b"a", b"b"])
    with pytest.raises(PeerMisbehaved):
        frames.check_rows(wire, 0, len(wire), -1)


@given(st.binary(max_size=60), st.integers(-1, 3))
def test_any_row_is_right_or_misbehaviour(body, columns):
    wire = encode.frame(b"D", body)
    try:
        decode.check_data_row(wire, columns)
    except PeerMisbehaved:
        return
    assert len(body) >= 2


@given(
    st.lists(st.sampled_from([ROW, COPY, DONE, READY, frame("d", 300), encode.BIND_COMPLETE]), max_size=12),
    st.lists(st.integers(1, 90), max_size=40),
    st.integers(10, 400),
)
def test_an_inbox_loses_no_byte_however_the_chunks_fall(parts, cuts, hold):
    wire = b"".join(parts)
    inbox = frames.Inbox(hold, from_client=False)
    out = b""
    rest = wire
    while rest:
        size = cuts.pop() if cuts else len(rest)
        chunk, rest = rest[:size], rest[size:]
        buf, runs = inbox.feed(chunk)
        for tag, start, end, count in runs:
            piece = bytes(buf[start:end])
            if count:
                assert frames.scan(piece, 0) == ([(tag, 0, len(piece), count)], len(piece))
            out += piece
        assert inbox.held <= max(hold, 5)
    assert out == wire
    assert inbox.held == inbox.left == 0


def test_a_huge_row_comes_out_in_pieces_in_bounded_memory():
    inbox = frames.Inbox(1 << 20, from_client=False)
    size = 60 << 20
    chunk = b"x" * (256 << 10)
    buf, runs = inbox.feed(READY + b"D" + (size + 4).to_bytes(4, "big"))
    assert [(chr(tag), count) for tag, _, _, count in runs] == [("Z", 1), ("D", 0)]
    assert frames.frame_size(buf, runs[1].start) == size + 5
    seen = 0
    while inbox.left:
        assert inbox.left == size - seen
        buf, runs = inbox.feed(chunk)
        assert buf is chunk
        assert [tuple(run) for run in runs] == [(ord("D"), 0, len(chunk), 0)]
        assert inbox.held == 0
        seen += len(chunk)
    assert seen == size
    buf, runs = inbox.feed(READY)
    assert (buf, [tuple(run) for run in runs]) == (READY, [(ord("Z"), 0, len(READY), 1)])


def test_a_large_frame_that_fits_is_joined_once():
    inbox = frames.Inbox(1 << 20, from_client=False)
    wire = frame("d", 1 << 19) + READY
    runs = []
    for at in range(0, len(wire), 1000):
        buf, runs = inbox.feed(wire[at : at + 1000])
        assert runs == [] or at + 1000 >= len(wire)
    assert bytes(buf) == wire
    assert [run.count for run in runs] == [1, 1]
