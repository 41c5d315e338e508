"""Entries out of frames: what checks comes out, and nothing behind the first that does not."""

from __future__ import annotations

import re
import struct

import google_crc32c
import pytest
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
        if spoilt[: end + size] == buf[: end + size]:
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


def test_a_bundle_holds_each_entry_behind_its_length_and_none_that_is_too_long(kernel):
    entries = [b"a", b"b" * 300, b""]
    assert kernel.entries.bundle(entries) == b"\0\x01a" + b"\x01\x2c" + b"b" * 300 + b"\0\0"
    with pytest.raises(ValueError, match="65536 bytes"):
        kernel.entries.bundle([bytes(1 << 16)])


KINDS = re.compile(rb'"id":"([0-9a-f-]{36})","kind":"(intent|outcome|session\.start|session\.end)","mono":')
ONE, TWO = b"00000000-0000-7000-8000-00000000000a", b"11111111-1111-7111-8111-11111111111b"
PARTS = st.sampled_from(
    [b'"id":"', b'","kind":"', b'intent","mono":', b'outcome","mono":', b'session.start","mono":', b'session.end","mono":',
     b'"ref":"', b'","result":', b'"session":"', b'",', ONE, TWO, ONE[:-1], b'\\"', b"x", b"G" * 36]
)  # fmt: skip


@given(st.lists(PARTS, max_size=14))
def test_what_an_entry_opens_or_closes_is_what_patterns_find_in_it(kernel, parts):
    entry = b"".join(parts)
    intents, sessions = {ONE.decode(): "s"}, {TWO.decode(): "i"}
    want_intents, want_sessions = dict(intents), dict(sessions)
    if (found := KINDS.search(entry)) is not None:
        ref = re.search(rb'"ref":"([0-9a-f-]{36})","result":', entry[found.end() :])
        session = re.search(rb'"session":"([0-9a-f-]{36})",', entry[found.end() :])
        name = found[1].decode()
        if found[2] == b"outcome":
            want_intents.pop(ref[1].decode() if ref else "", None)
        elif session is not None and found[2] == b"intent":
            want_intents[name] = session[1].decode()
        elif session is not None and found[2] == b"session.start":
            want_sessions[session[1].decode()] = name
        elif session is not None:
            want_sessions.pop(session[1].decode(), None)
    kernel.entries.see(entry, intents, sessions)
    assert (intents, sessions) == (want_intents, want_sessions)
