"""Entries out of frames: what checks comes out, and nothing behind the first that does not."""

from __future__ import annotations

import struct

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

LARGEST = 100


def frame(entry: bytes) -> bytes:
    return struct.pack("<II", len(entry), google_crc32c.value(entry)) + entry


ENTRIES = st.lists(st.binary(min_size=1, max_size=LARGEST), max_size=8)


@given(ENTRIES, st.integers(0, 9), st.binary(max_size=30))
def test_whole_frames_come_out_in_order_up_to_the_number_asked_for(kernel, entries, count, before):
    buf = before + b"".join(map(frame, entries))
    found, end = kernel.entries.cut(buf, len(before), count, LARGEST)
    assert found == entries[:count]
    assert end == len(before) + sum(8 + len(entry) for entry in found)


@given(ENTRIES.filter(bool), st.data())
def test_a_flipped_bit_a_cut_or_zeroes_end_it_there(kernel, entries, data):
    buf = bytearray(b"".join(map(frame, entries)))
    at = data.draw(st.integers(0, len(buf) - 1))
    whole, end = 0, 0
    while (size := 8 + len(entries[whole])) + end <= at:
        whole, end = whole + 1, end + size
    flipped = bytearray(buf)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    for spoilt in (bytes(flipped), bytes(buf[:at]), bytes(buf[:at]) + bytes(len(buf) - at)):
        found, stop = kernel.entries.cut(spoilt, 0, 100, LARGEST)
        if spoilt == bytes(buf):
            continue
        assert found[:whole] == entries[:whole]
        assert (len(found), stop) == (whole, end)


@given(st.binary(max_size=200), st.integers(0, 3), st.integers(1, 1 << 20))
def test_no_bytes_make_it_fail(kernel, buf, count, largest):
    found, end = kernel.entries.cut(buf, 0, count, largest)
    assert 0 <= end <= len(buf)
    assert len(found) <= count


def test_what_is_longer_than_an_entry_may_be_does_not_come_out(kernel):
    assert kernel.entries.cut(frame(bytes(LARGEST + 1)), 0, 1, LARGEST) == ([], 0)
    assert kernel.entries.cut(b"\xff" * 20, 0, 1, LARGEST) == ([], 0)
