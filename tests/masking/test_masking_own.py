"""Detectors of an operator's own and national ids, wherever text leaves: rows, messages, bodies, output."""

from __future__ import annotations

import struct

import pytest

from ostiary.masking import DETECTORS, mask, plan_rows, scrub
from ostiary.masking.documents import Rules
from ostiary.masking.http import MAX_HELD, ReplyMasker
from ostiary.model.connections import Detector, Look
from ostiary.model.proofs import Batch, Content, Masked
from ostiary.model.results import ColumnDescription, ReplyEnd, ReplyHead
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh.results import Stretch

STAFF = Detector(r"\bEMP-[0-9]{4}\b", "staff")
PLACE = Detector(r"Room [0-9]+ of \w+ house", "place")
LOOK: Look = frozenset({*DETECTORS, "nl_bsn", STAFF, PLACE})
TEXT = b"EMP-1234 and ana@example.com with 111222333 in Room 12 of blue house\n"
MASKED = b"******** and *************** with ********* in *********************\n"
COUNTS = (("email", 1), ("nl_bsn", 1), ("place", 1), ("staff", 1))
NOBODY: frozenset[str] = frozenset()


def row(cell: bytes) -> bytes:
    return b"D" + struct.pack("!IHi", 10 + len(cell), 1, len(cell)) + cell


def rows(cell: bytes, clear: frozenset[str]) -> Masked:
    plan = plan_rows((ColumnDescription("x", 0, 0, 25, -1, -1, 0),), {}, clear, LOOK, ())
    return mask(clear, Batch(row(cell), Content.ROWS, plan, 1, strip=False), LOOK)


def test_rows_are_counted_by_class_and_a_class_in_clear_is_shown() -> None:
    assert rows(TEXT, NOBODY).frames == row(MASKED)
    assert rows(TEXT, NOBODY).counts == COUNTS
    shown = rows(TEXT, frozenset({"staff", "nl_bsn"}))
    assert shown.frames == row(b"EMP-1234 and *************** with 111222333 in *********************\n")
    assert shown.counts == (("email", 1), ("place", 1))
    assert rows(TEXT, frozenset({*DETECTORS, "nl_bsn", "staff", "place"})).counts == ()


def test_two_detectors_of_one_class_are_counted_as_one() -> None:
    look: Look = frozenset({Detector("a[0-9]", "x"), Detector("b[0-9]", "x"), Detector("c[0-9]", "ssn")})
    frame = b"N" + struct.pack("!I", 19) + b"Ma1 b2 c3 078\0\0"
    out = mask(NOBODY, Batch(frame, Content.MESSAGE, None, 0, strip=False), look)
    assert out.frames[5:] == b"M** ** ** 078\0\0"
    assert out.counts == (("ssn", 1), ("x", 2))


@pytest.mark.parametrize("tag", [b"E", b"N"])
def test_errors_and_notices_are_looked_through(tag: bytes) -> None:
    body = b"SERROR\0C23505\0M" + TEXT + b"\0D" + TEXT + b"\0\0"
    frame = tag + struct.pack("!I", len(body) + 4) + body
    out = mask(NOBODY, Batch(frame, Content.MESSAGE, None, 0, strip=False), LOOK)
    assert out.frames[5:] == body.replace(TEXT, MASKED)
    assert out.counts == tuple((name, 2) for name, _ in COUNTS)


# --- HTTP ----------------------------------------------------------------------------------------------------------


def body(kind: str, data: bytes, piece: int) -> tuple[bytes, dict[str, int]]:
    masker = ReplyMasker(LOOK, Rules(()), frozenset())
    parts = [ReplyHead(200, ((b"Content-Type", kind.encode()), (b"X-Of", b"EMP-1234")), True, None, True)]
    out, heads, counts = b"", b"", {}
    for part in [*parts, *(data[at : at + piece] for at in range(0, len(data), piece)), ReplyEnd()]:
        for masked in masker.mask(part):
            heads += masked.frames if masked.content is Content.HTTP_HEAD else b""
            out += masked.frames if masked.content is Content.HTTP_BODY else b""
            for name, number in masked.counts:
                counts[name] = counts.get(name, 0) + number
    assert b"X-Of: ********" in heads
    return out, counts


@pytest.mark.parametrize("piece", [1 << 20, 7])
def test_bodies_are_looked_through(piece: int) -> None:
    assert body("text/plain", TEXT, piece)[0] == MASKED
    said, counts = body("application/json", b'{"EMP-1234": ["\\u0045MP-1234", 111222333, "x"], "of": "Room 1 of red house"}', piece)
    assert said == b'{"********": ["********", null, "x"], "of": "*******************"}'
    assert counts == {"staff": 3, "nl_bsn": 1, "place": 1}  # one in the head
    assert body("application/xml", b"<a>E&#77;P-<![CDATA[1234]]></a>", piece)[0] == b"<a>********</a>"


def test_a_pattern_with_ends_is_matched_against_a_whole_string() -> None:
    look: Look = frozenset({Detector("^[0-9]{6}$", "x")})
    masker = ReplyMasker(look, Rules(()), frozenset())
    parts = [ReplyHead(200, ((b"Content-Type", b"application/json"),), True, None, True), b'["123456", "1234567"]', ReplyEnd()]
    assert b"".join(each.frames for part in parts for each in masker.mask(part)).endswith(b'["******", "1234567"]')


def test_a_long_body_hides_nothing_at_its_edges() -> None:
    for before in range(MAX_HELD - 24, MAX_HELD + 24, 5):
        text = (b"." * before + b" Room 12 of blue house ") + b"." * 5_000
        assert body("text/plain", text, 65_536)[0] == text.replace(b"Room 12 of blue house", b"*" * 21)


# --- SSH -----------------------------------------------------------------------------------------------------------


def output(pieces: list[bytes], *, pause: bool = False) -> bytes:
    stream, batches = Stretch(0, (), detects=True, by_line=True), []
    for piece in pieces:
        batches.append(stream.feed(piece))
        if pause:
            batches.append(stream.flush(b""))
    batches.append(stream.end())
    frames = [mask(NOBODY, batch, LOOK).frames for batch in batches if batch is not None]
    return b"".join(each.data for frame in frames for each in m.decode(frame))  # type: ignore[union-attr]


def test_output_is_masked_wherever_it_is_cut() -> None:
    text = b"first\n" + TEXT + b"$ "
    expected = b"first\n" + MASKED + b"$ "
    for at in range(len(text)):
        assert output([text[:at], text[at:]]) == expected, at
    assert output([bytes([byte]) for byte in text]) == expected


def test_a_prompt_comes_though_its_line_does_not_end() -> None:
    stream = Stretch(0, (), detects=True, by_line=True)
    assert stream.feed(b"ana@web:~$ ") is None
    batch = stream.flush(b"")
    assert batch is not None
    assert mask(NOBODY, batch, LOOK).frames.endswith(b"ana@web:~$ ")


def test_what_was_shown_in_a_pause_is_kept_in_sight() -> None:
    out = output([b"Room 12 of ", b"blue house\n"], pause=True)
    assert out == b"Room 12 *************\n"


def test_free_text_is_scrubbed_with_the_same() -> None:
    assert scrub(TEXT, LOOK) == MASKED
    assert scrub("größe 111222333", {"nl_bsn"}) == "größe *********"
