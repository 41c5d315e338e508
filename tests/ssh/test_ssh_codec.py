"""Decoders of SSH channels and SFTP have three outcomes; what comes back is masked the same however it is cut."""

from __future__ import annotations

import base64
import contextlib
import random
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.masking import mask
from ostiary.masking.detectors import DETECTORS, scrub
from ostiary.model.errors import PeerMisbehaved
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh import sftp
from ostiary.protocols.ssh.forwards import endpoint
from ostiary.protocols.ssh.operations import Ground
from ostiary.protocols.ssh.relay import ChannelRelay, ChannelSettings
from ostiary.protocols.ssh.results import Stretch, held_from
from ostiary.protocols.ssh.sftp import Asking, Kind

NO_ATTRIBUTES = m.u32(0)
REQUESTS = [
    Asking(kind=Kind.OPEN, id=1, paths=(b"/home/a",), flags=1, tail=NO_ATTRIBUTES),
    Asking(kind=Kind.CLOSE, id=2, handle=b"h"),
    Asking(kind=Kind.READ, id=3, handle=b"h", offset=1 << 40, length=32768),
    Asking(kind=Kind.WRITE, id=4, handle=b"h", offset=7, tail=b"data"),
    Asking(kind=Kind.LSTAT, id=5, paths=(b"a",)),
    Asking(kind=Kind.FSTAT, id=6, handle=b"h"),
    Asking(kind=Kind.SETSTAT, id=7, paths=(b"a",), tail=m.u32(4) + m.u32(0o600)),
    Asking(kind=Kind.FSETSTAT, id=8, handle=b"h", tail=m.u32(0x80000001) + bytes(8) + m.u32(1) + m.string(b"n") + m.string(b"v")),
    Asking(kind=Kind.OPENDIR, id=9, paths=(b"/",)),
    Asking(kind=Kind.READDIR, id=10, handle=b"h"),
    Asking(kind=Kind.REMOVE, id=11, paths=(b"a",)),
    Asking(kind=Kind.MKDIR, id=12, paths=(b"a",), tail=NO_ATTRIBUTES),
    Asking(kind=Kind.RENAME, id=13, paths=(b"a", b"b")),
    Asking(kind=Kind.SYMLINK, id=14, paths=(b"target", b"link")),
    Asking(kind=Kind.EXTENDED, id=15, extension="posix-rename@openssh.com", paths=(b"a", b"b")),
    Asking(kind=Kind.EXTENDED, id=16, extension="fsync@openssh.com", handle=b"h"),
    Asking(kind=Kind.EXTENDED, id=17, extension="limits@openssh.com"),
]


@pytest.mark.parametrize("asking", REQUESTS, ids=lambda each: each.extension or each.kind.name)
def test_a_request_is_read_whole_and_in_no_other_way(asking: Asking) -> None:
    wire = sftp.write_request(asking, asking.id)
    assert [sftp.read_request(raw) for raw in sftp.cut(bytearray(wire))] == [asking]
    buffer, seen = bytearray(), []
    for byte in wire:
        buffer.append(byte)
        seen += [sftp.read_request(raw) for raw in sftp.cut(buffer)]
    assert seen == [asking]
    raw = wire[4:]
    for end in range(1, len(raw)):
        with pytest.raises(PeerMisbehaved):
            sftp.read_request(raw[:end])
    with pytest.raises(PeerMisbehaved):
        sftp.read_request(raw + b"x")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.sampled_from(list(Kind)))
def test_any_sftp_packet_is_a_request_or_unknown_or_the_peers_misdeed(body: bytes, kind: Kind) -> None:
    for read in (sftp.read_request, sftp.read_answer):
        with contextlib.suppress(PeerMisbehaved):
            read(bytes([kind]) + body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_any_channel_bytes_are_messages_or_the_peers_misdeed(wire: bytes) -> None:
    try:
        messages = list(m.decode(wire))
    except PeerMisbehaved:
        return
    assert b"".join(m.encode(each) for each in messages) == wire


def test_a_packet_beyond_the_bound_is_refused_by_its_length_alone() -> None:
    with pytest.raises(PeerMisbehaved):
        list(sftp.cut(bytearray(m.u32(sftp.MAX_PACKET + 1))))
    with pytest.raises(PeerMisbehaved):
        list(sftp.cut(bytearray(m.u32(0))))


# --- masking across pieces ---------------------------------------------------------------------------------------------

SENSITIVE = [
    b"4111 1111 1111 1111", b"4111111111111111", b"078-05-1120", b"DE89 3704 0044 0532 0130 00", b"ana.maria@example.com",
    b"ghp_abcdefghijklmnopqrstuvwxyz0123456789", b"AKIAIOSFODNN7EXAMPLE", b"3782 822463 10005",
    b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nAAAB\n-----END OPENSSH PRIVATE KEY-----",
]  # fmt: skip


def through(pieces: list[bytes], flush: bool = False) -> bytes:
    stream, out = Stretch(0, (), detects=True), b""
    batches = []
    for piece in pieces:
        batches.append(stream.feed(piece))
        if flush:
            batches.append(stream.flush(b""))
    batches.append(stream.end())
    for batch in batches:
        if batch is not None:
            out += b"".join(each.data for each in m.decode(mask(frozenset(), batch, DETECTORS).frames))  # type: ignore[union-attr]
    return out


@pytest.mark.parametrize("value", SENSITIVE, ids=range(len(SENSITIVE)))
def test_a_value_is_masked_wherever_it_is_cut(value: bytes) -> None:
    text = b"before, " + value + b" after\n"
    expected = scrub(text)
    assert value not in expected
    assert through([text]) == expected
    for at in range(1, len(text)):
        assert through([text[:at], text[at:]]) == expected, at
    assert through([bytes([byte]) for byte in text]) == expected


@pytest.mark.parametrize("size", [300, 900, 1500, 8000])
@pytest.mark.parametrize("step", [1, 100, 512, 1000, 5000])
def test_a_token_of_any_length_is_masked_however_it_is_cut(size: int, step: int) -> None:
    letters = base64.urlsafe_b64encode(random.Random(size).randbytes(size))
    text = b"token: eyJhbGciOiJSUzI1NiJ9." + letters + b"." + letters[:300] + b" end\n"
    assert letters[-40:] not in scrub(text)
    assert through([text[at : at + step] for at in range(0, len(text), step)]) == scrub(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*SENSITIVE, b"plain words ", b"\x1b[31m", b"12 34\r\n", b"a@b ", b"--", b" "]), max_size=6), st.data())
def test_however_output_is_cut_the_same_leaves(parts: list[bytes], data: st.DataObject) -> None:
    text = b" ".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert through(pieces) == through([text])


@pytest.mark.parametrize("value", SENSITIVE[:8], ids=range(8))
def test_letter_by_letter_with_pauses_shows_no_more_than_its_beginning(value: bytes) -> None:
    out = through([bytes([byte]) for byte in b"x " + value + b"\n"], flush=True)
    shown = out.removeprefix(b"x ").rstrip(b"\n")
    clear = len(shown.split(b"*")[0])
    assert b"*" in shown
    assert clear <= 15


def test_a_prompt_and_what_was_typed_go_out_at_once() -> None:
    stream = Stretch(0, (), detects=True)
    prompt = stream.feed(b"ana@host:~$ ")
    assert prompt is not None
    assert prompt.cut == (0, len(b"ana@host:~$ "))
    assert stream.feed(b"1234567") is None
    typed = stream.flush(b"echo 1234567")
    assert typed is not None
    assert not stream.is_holding


def test_the_echo_of_what_is_typed_waits_for_nothing() -> None:
    stream, typed = Stretch(0, (), detects=True), b""
    assert stream.feed(b"ana@host:~$ ", typed) is not None
    for byte in b"git log -1 ana@example.com 4111":
        typed += bytes([byte])
        batch = stream.feed(bytes([byte]), typed)
        assert batch is not None, typed
        assert not stream.is_holding


@pytest.mark.parametrize("value", SENSITIVE[:8], ids=range(8))
def test_typing_every_letter_first_shows_no_more_of_a_value(value: bytes) -> None:
    """What is told must stand in one piece in what was typed, not letter by letter."""
    typed = bytes(range(32, 127))
    stream, out = Stretch(0, (), detects=True), b""
    for byte in b"x " + value + b"\n":
        for batch in (stream.feed(bytes([byte]), typed), stream.flush(typed)):
            if batch is not None:
                out += b"".join(each.data for each in m.decode(mask(frozenset(), batch, DETECTORS).frames))  # type: ignore[union-attr]
    shown = out.removeprefix(b"x ").rstrip(b"\n")
    assert b"*" in shown
    assert len(shown.split(b"*")[0]) <= 15


DIGITED = rb"[A-Za-z]{0,3}[0-9][A-Za-z0-9]{0,33}"
GROUPS = re.compile(rb"(?<![A-Za-z0-9])" + DIGITED + rb"(?:[ -](?:" + DIGITED + rb"|[A-Za-z0-9]{4})){0,255}(?:[ -][A-Za-z0-9]{0,4})? ?\Z")
"""What is held, said in short: too slow for what a target may send, and right for what is short."""
WORDS = [b"1", b"12", b"1234", b"abcd", b"abc", b"abc1", b"abcd1", b" ", b"-", b"  ", b".", b"\n", b"\xc3", b"1" * 34, b"abc" + b"1" * 34, b"1" * 35]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(b"".join))
def test_what_is_held_of_groups_is_what_the_expression_says(data: bytes) -> None:
    last = len(data.rstrip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+/-.%'&@=\xc3"))
    groups = GROUPS.search(data)
    assert held_from(data) == min(last, len(data) if groups is None else groups.start())


@pytest.mark.parametrize("end", ["abcde", "1234-", "abcd", "- "])
def test_groups_without_end_are_judged_at_once(end: str) -> None:
    """Before, each group was tried in two ways, and a kilobyte stopped the worker for good."""
    program = f"from ostiary.protocols.ssh.results import held_from; print(held_from(b'1234 ' * 200 + b'{end}'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == {"abcde": 1000, "1234-": 0, "abcd": 0, "- ": 1002}[end]


def test_a_protected_stream_is_withheld_whole() -> None:
    batch = Stretch(0, ("secrets",), detects=True).feed(b"PASSWORD=x\nY\n")
    assert batch is not None
    masked = mask(frozenset(), batch, frozenset())
    assert masked.frames.endswith(b"**********\n*\n")
    assert masked.counts == (("secrets", 1),)
    assert mask(frozenset({"secrets"}), batch, frozenset()).frames.endswith(b"PASSWORD=x\nY\n")


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("Example.COM.", 443, "example.com:443"), ("127.0.0.1", 80, "127.0.0.1:80"), ("::1", 80, "::1:80"),
        ("[::1]", 80, "::1:80"), ("::ffff:169.254.169.254", 80, "169.254.169.254:80"), ("2852039166", 80, None), ("0xA9FEA9FE", 80, None),
        ("169.254.43518", 80, None), ("0251.0376.0251.0376", 80, None), ("a b", 80, None), ("host", 0, None), ("host", 65536, None),
        ("fe80::1%eth0", 80, None), ("", 80, None), ("x\ny", 80, None), ("1.2.3.4.", 80, None),
    ],
)  # fmt: skip
def test_where_a_forward_leads_has_one_spelling(host: str, port: int, expected: str | None) -> None:
    assert endpoint(host, port) == expected


def ended(name: str, body: bytes) -> bytes:
    """What a client hears of how a command ended."""
    relay = ChannelRelay(ChannelSettings(ground=Ground(connection="web", home="/home/ana", protected=()), accept_env=(), detects=True, keeps_files=False, links=True))
    return b"".join(batch.frames for batch, _ in relay.results(m.encode(m.Request(name, body))))


def test_the_text_beside_a_signal_and_what_stands_behind_a_status_reach_nobody() -> None:
    signal = m.string(b"TERM") + b"\1" + m.string(b"card 4111 1111 1111 1111") + m.string(b"\x1b]52;c;eA==\7")
    assert ended("exit-signal", signal) == m.encode(m.Request("exit-signal", m.string(b"TERM") + b"\1" + m.string(b"") * 2))
    assert ended("exit-status", m.u32(3)) == m.encode(m.Request("exit-status", m.u32(3)))
    for name, body in (("exit-signal", m.string(b"\x1b[2J") + signal[8:]), ("exit-status", m.u32(3) + b"4111 1111 1111 1111"), ("exit-signal", b"")):
        with pytest.raises(PeerMisbehaved):
            ended(name, body)


def test_what_a_server_adds_of_its_own_to_attributes_and_versions_is_not_passed_on() -> None:
    own = m.u32(2) + m.string(b"user.card") + m.string(b"4111 1111 1111 1111") + m.string(b"user.ssn") + m.string(b"078-05-1120")
    plain = bytes(8) + m.u32(0o600)
    assert sftp.read_attributes(m.u32(0x80000005) + plain + own) == m.u32(5) + plain
    assert sftp.read_attributes(m.u32(5) + plain) == m.u32(5) + plain
    named = m.u32(1) + m.string(b"a") + m.string(b"-rw a") + m.u32(0x80000005) + plain + own
    assert sftp.read_names(named) == [(b"a", b"-rw a", m.u32(5) + plain)]
    for wrong in (m.u32(5) + plain + b"4111 1111 1111 1111", m.u32(0x10), b""):
        with pytest.raises(PeerMisbehaved):
            sftp.read_attributes(wrong)
    offered = m.string(b"fsync@openssh.com") + m.string(b"1") + m.string(b"limits@openssh.com") + m.string(b"4111 1111 1111 1111")
    assert sftp.read_version(offered) == [(b"fsync@openssh.com", b"1"), (b"limits@openssh.com", b"")]


@given(st.lists(st.tuples(st.sampled_from([Kind.DATA, Kind.STATUS, Kind.HANDLE]), st.binary(max_size=40)), max_size=8), st.lists(st.integers(1, 30), max_size=40))
def test_answers_are_the_same_whether_or_not_they_are_copied_wherever_they_are_cut(packets: list[tuple[Kind, bytes]], cuts: list[int]) -> None:
    wire = b"".join(sftp.packet(kind, body) for kind, body in packets)
    held, found, at = bytearray(), [], 0
    for size in [*cuts, len(wire)]:
        found += [bytes(each) for each in sftp.cut_through(held, memoryview(wire)[at : at + size])]
        at += size
    assert found == list(sftp.cut(bytearray(wire))) == [bytes([kind]) + body for kind, body in packets]
    assert not held


@pytest.mark.parametrize("size", [0, sftp.MAX_PACKET + 1])
@pytest.mark.parametrize("cut", [1, 4, 9])
def test_an_answer_of_no_size_or_too_large_is_the_targets_misdeed_however_it_is_cut(size: int, cut: int) -> None:
    wire, held = m.u32(size) + b"\x67 and more", bytearray()
    with pytest.raises(PeerMisbehaved):
        for at in range(0, len(wire), cut):
            list(sftp.cut_through(held, wire[at : at + cut]))
