"""Patterns of an operator's own: bounded, found wherever a value stands, and nowhere else."""

from __future__ import annotations

import json
import re
import struct
from types import SimpleNamespace

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from ostiary.kernel.nets import Net, Wanted
from ostiary.kernel.values import BPCHAR, BYTEA, INT8, JSON, JSONB, LITERAL, NUMBER, NUMERIC, OPAQUE, TEXT, number_text
from ostiary.model.patterns import MAX_MATCH, WINDOW, checked, compiled, loosened

SCAN = 1
STAFF = Wanted(0, [Net(r"EMP-[0-9]{4}", "staff")])
BOTH = Wanted(31, [Net(r"EMP-[0-9]{4}", "staff"), Net(r"\b77[0-9]{5}\b", "account")])


def row(*cells: bytes) -> bytes:
    body = struct.pack("!H", len(cells)) + b"".join(struct.pack("!i", len(cell)) + cell for cell in cells)
    return b"D" + struct.pack("!I", len(body) + 4) + body


def line(text: bytes) -> bytes:
    return b"d" + struct.pack("!I", len(text) + 4) + text


def seen(wanted: Wanted, text: bytes) -> list[bytes]:
    candidates = wanted.candidates(text)
    return [] if candidates is None else [text[left:right] for _, left, right in candidates.within(0, len(text))]


# --- patterns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "no regular expression of RE2"),
        ("(?=x)", "no regular expression of RE2"),
        (r"(a)\1", "no regular expression of RE2"),
        ("a*", "matches an empty text"),
        ("", "matches an empty text"),
        ("(a)", "captures"),
        ("(?P<n>a)", "captures"),
        (r"\Qa\E", r"\Q"),
        ("a" * 513, "513 characters"),
        ("(?:[a-z0-9äöü]{100}){9}", "too large"),
        ("\ud800", "characters that are none"),
    ],
)
def test_a_pattern_that_will_not_do_is_refused_with_a_reason(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        checked(pattern)


@pytest.mark.parametrize(
    ("pattern", "loose"),
    [
        (r"\bEMP-\d{4}\b", r"(?:)EMP-\d{4}(?:)"),
        (r"^[^a^$]\$x$", r"(?:)[^a^$]\$x(?:)"),
        (r"[]^]a$", r"[]^]a(?:)"),
        (r"[[:^alpha:]$]\^b\B", r"[[:^alpha:]$]\^b(?:)"),
        (r"\b+x\A*", r"(?:)+x(?:)*"),
        (r"\\b^", r"\\b(?:)"),
    ],
)
def test_without_assertions_a_pattern_is_still_one(pattern: str, loose: str) -> None:
    assert loosened(pattern) == loose
    compiled(loose)


@given(
    st.sampled_from([r"\bab?\b", "^a+$", "a[^b]{0,3}b", "(?:a|ab)(?:c|bcd)", r"\B[b-d]{2}", "(?m)^b|d$", "(?i)AB", "ä.?b", r"a\C"]),
    st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b" ", b"\n", "ä".encode(), b"\xe4", b"\xff"]), max_size=12).map(b"".join),
    st.lists(st.sampled_from([b"a", b"b", b" ", b"\0", b"\xe4"]), max_size=4).map(b"".join),
    st.lists(st.sampled_from([b"a", b"b", b" ", b"\0", b"\xe4"]), max_size=4).map(b"".join),
)
def test_what_stands_beside_a_region_neither_makes_nor_hides_a_match(pattern: str, text: bytes, before: bytes, behind: bytes) -> None:
    try:
        wanted = Wanted(0, [Net(pattern, "x")])
    except ValueError:
        return  # \C is not allowed by every build of RE2
    alone = [(left, right) for _, left, right in wanted.find(text)]
    candidates = wanted.candidates(before + text + behind)
    found = [] if candidates is None else candidates.within(len(before), len(before) + len(text))
    assert [(left - len(before), right - len(before)) for _, left, right in found] == alone


def test_a_match_is_found_at_every_place_of_a_long_text() -> None:
    for at in (0, 1, WINDOW - 5, WINDOW, WINDOW + MAX_MATCH - 3, 3 * WINDOW + 1):
        text = b"EMP-0000" + b"." * at + b"EMP-1234" + b"." * 2 * WINDOW + b"EMP-9999"
        assert seen(STAFF, text) == [b"EMP-0000", b"EMP-1234", b"EMP-9999"]
    digits = Wanted(0, [Net("7[0-9]{4,}", "x")])
    assert seen(digits, b"x 71111 " + b"7" * (WINDOW + 3) + b" x") == [b"71111", b"7" * WINDOW]


def test_more_places_than_are_told_apart_are_all_looked_at() -> None:
    text = b"EMP-1234," * 5_000
    assert len(seen(STAFF, text)) == 5_000
    candidates = STAFF.candidates(text)
    assert candidates is not None
    assert candidates.within(9 * 4_999, len(text)) == [(5, 9 * 4_999, 9 * 4_999 + 8)]


def test_text_that_is_not_utf_8_is_read_a_character_a_byte() -> None:
    names = Wanted(0, [Net("Größe .{3}!", "x"), Net("名 [0-9]+", "y")])
    for encoding in ("utf-8", "latin-1"):
        assert seen(names, "die Größe abä!".encode(encoding)) == ["Größe abä!".encode(encoding)]
    assert seen(names, "名 12".encode()) == ["名 12".encode()]
    assert seen(names, "\xff 名 12".encode() + b"\xff") == ["名 12".encode()]


def test_patterns_too_large_to_be_one_are_looked_for_all_the_same() -> None:
    many = Wanted(0, [Net(f"(?:[a-z0-9]{{80}}){{6}}{n}!", f"c{n}") for n in range(32)] + [Net("EMP-[0-9]{4}", "staff")])
    assert seen(many, b"x EMP-1234 x") == [b"EMP-1234"]


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [TEXT, BPCHAR, LITERAL, JSON])
def test_text_is_starred_where_it_stands(kernel: SimpleNamespace, family: int) -> None:
    cell = b'{"a": "EMP-1234"}'
    frames, counts = kernel.rows.mask_rows(row(b"EMP-", cell, b"1234"), bytes([SCAN] * 3), bytes([TEXT, family, TEXT]), BOTH)
    assert frames == row(b"EMP-", b'{"a": "********"}', b"1234")
    assert counts == (0, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    json.loads(frames[frames.index(b"{") : frames.index(b"}") + 1])


def test_built_in_detectors_find_what_they_find_beside_it(kernel: SimpleNamespace) -> None:
    frames, counts = kernel.rows.mask_rows(row(b"EMP-1234 ana@example.com 7712345"), bytes([SCAN]), bytes([TEXT]), BOTH)
    assert frames == row(b"******** *************** *******")
    assert counts == (0, 0, 1, 0, 0, 0, 1, 1)


def one(kernel: SimpleNamespace, cell: bytes, family: int, wanted: Wanted = BOTH) -> bool:
    """Whether a value becomes NULL."""
    frames, counts = kernel.rows.mask_rows(row(cell), bytes([SCAN]), bytes([family]), wanted)
    assert (frames != row(cell)) == bool(sum(counts))
    return bytes(frames[7:]) == b"\xff\xff\xff\xff"


def test_values_that_are_no_text_become_null(kernel: SimpleNamespace) -> None:
    array = struct.pack("!iiIii", 1, 0, 25, 2, 1) + struct.pack("!i", 8) + b"EMP-1234" + struct.pack("!i", 1) + b"x"
    assert one(kernel, b"\\x" + b"EMP-1234".hex().encode(), BYTEA)
    assert one(kernel, array, OPAQUE)
    assert one(kernel, struct.pack("!q", 7712345), INT8)
    assert not one(kernel, struct.pack("!q", 8812345), INT8)
    assert one(kernel, struct.pack("!HhHHHH", 2, 1, 0, 2, 771, 2345), NUMERIC)
    assert not one(kernel, struct.pack("!HhHHHH", 2, 1, 0, 2, 881, 2345), NUMERIC)
    assert one(kernel, b"7712345", NUMBER)
    assert one(kernel, b"\x01" + b'"EMP-1234"', JSONB) is False  # starred
    short = Wanted(0, [Net("x[0-9]", "x")])
    assert one(kernel, b"x1", OPAQUE, short)
    assert one(kernel, "ü1".encode(), OPAQUE, Wanted(0, [Net("ü[0-9]", "x")]))


def test_json_that_spells_a_match_otherwise_becomes_null(kernel: SimpleNamespace) -> None:
    spelt = Wanted(31, [Net("EMP/[0-9]+", "x"), Net("Größe", "y"), Net("😀!", "z"), Net('a "b"\n', "q")])
    for text in ("\\u0045MP/1", "EMP\\/1", "Gr\\u00f6ße", "Gr\\u00F6\\u00df\\u0065", "\\uD83D\\ude00!", 'a \\"b\\"\\n'):
        assert one(kernel, f'{{"a": "{text}"}}'.encode(), JSON, spelt), text
    for text in ("\\\\u0045MP/1", "EMP\\\\/1", "caf\\u00e9", "\\n"):
        assert not one(kernel, f'{{"a": "{text}"}}'.encode(), JSON, spelt), text
    assert one(kernel, b'\x01{"a": "a \\"b\\"\\n"}', JSONB, spelt)
    assert one(kernel, b'{"{\\"a\\": \\"\\\\u0045MP/1\\"}"}', LITERAL, spelt)
    assert one(kernel, b'"ghp\\u005f0123456789abcdef0123456789abcdef0123"', JSON, spelt)


def test_a_match_that_stands_there_plainly_is_starred_though_another_word_is_spelt_otherwise(kernel: SimpleNamespace) -> None:
    cell = b'{"a": "caf\\u00e9\\n", "b": "EMP-1234"}'
    frames, _ = kernel.rows.mask_rows(row(cell), bytes([SCAN]), bytes([JSON]), BOTH)
    assert frames == row(cell.replace(b"EMP-1234", b"********"))


def test_one_match_in_plain_sight_hides_no_other_that_is_spelt_otherwise(kernel: SimpleNamespace) -> None:
    cell = b'{"a": "EMP-1234", "b": "\\u0045MP-5678"}'
    assert one(kernel, cell, JSON)
    copied = cell.replace(b"\\", b"\\\\")
    frames, _ = kernel.copies.mask_copy_text(line(copied + b"\n"), bytes([SCAN]), bytes([JSON]), BOTH, delimiter=b"\t", null=b"\\N", header=b"")
    assert b"5678" not in frames


@pytest.mark.parametrize(
    ("value", "text"),
    [((2, 1, 0, 2, 771, 2345), "7712345.00"), ((1, 0, 0x4000, 1, 12), "-12.0"), ((0, 0, 0, 0), "0"), ((1, -1, 0, 3, 1230), "0.123"),
     ((1, -2, 0, 6, 1200), "0.000012"), ((1, 2, 0, 0, 5), "500000000"), ((2, 0, 0, 4, 12, 3400), "12.3400")],
)  # fmt: skip
def test_a_binary_number_is_read_as_it_is_written(value: tuple[int, ...], text: str) -> None:
    assert number_text(struct.pack(f"!HhHH{len(value) - 4}H", *value), 1700) == text.encode()


def test_copies_are_looked_through_in_each_format(kernel: SimpleNamespace) -> None:
    plan = bytes([SCAN, SCAN]), bytes([TEXT, NUMBER])
    frames, counts = kernel.copies.mask_copy_text(
        line(b"a EMP-1234\t7712345\n") + line(b"\\EMP-12\\34\t1\n"), *plan, BOTH, delimiter=b"\t", null=b"\\N", header=b""
    )
    assert frames == line(b"a ********\t\\N\n") + line(b"**********\t1\n")
    assert counts[-2:] == (2, 1)
    frames, _ = kernel.copies.mask_copy_csv(
        line(b'"EMP-1""234",1\n') + line(b"EMP-1234,2\n"), *plan, Wanted(0, [Net('EMP-[0-9"]{4,5}', "staff")]),
        delimiter=b",", quote=b'"', escape=b'"', null=b"", header=b"",
    )  # fmt: skip
    assert b"234" not in frames


def test_where_nothing_more_is_looked_for_nothing_more_is_done(kernel: SimpleNamespace) -> None:
    frames = row(b"EMP-1234", b"7712345")
    out, counts = kernel.rows.mask_rows(frames, bytes([SCAN] * 2), bytes([TEXT, NUMBER]), 31)
    assert out is frames
    assert len(counts) == 2 + 5


def test_one_pattern_finds_nothing_that_re2_does_not(kernel: SimpleNamespace) -> None:
    text = b"EMP-12345 EMP-123 xEMP-1234x"
    assert seen(STAFF, text) == [match[0] for match in re2.compile(b"EMP-[0-9]{4}").finditer(text)]
    out = bytearray(text)
    kernel.detect.Scanner(text, out, STAFF).scan(0, len(text), 0)
    assert bytes(out) == b"********5 EMP-123 x********x"
