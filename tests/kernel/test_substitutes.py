"""What stands in for values: keyed, of the same form, never the value, and the same in both wire formats."""

from __future__ import annotations

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.kernel.rows import mask_rows
from ostiary.kernel.substitutes import GROWTH, HASH, PARTIAL, TOKEN, Substitute
from ostiary.kernel.values import BPCHAR, JSON, JSONB, LITERAL, OPAQUE, TEXT

KEY = b"k" * 32
INT4, INT8, UUID = 23, 20, 2950


def one(how: int, family: int = TEXT, number: int = 0, *, binary: bool = False, ends: tuple[int, int] = (0, 0)) -> Substitute:
    return Substitute(how, KEY, family, number, binary, *ends)


def row(*values: bytes | None) -> bytes:
    fields = b"".join(b"\xff\xff\xff\xff" if v is None else struct.pack("!i", len(v)) + v for v in values)
    return b"D" + struct.pack("!ih", 6 + len(fields), len(values)) + fields


def test_a_hash_is_the_same_for_the_same_value_and_key_only() -> None:
    hashed = one(HASH).of(b"078-05-1120")
    assert hashed == one(HASH).of(b"078-05-1120")
    assert hashed != one(HASH).of(b"078-05-1121")
    assert hashed != Substitute(HASH, b"other" * 8, TEXT, 0, False, 0, 0).of(b"078-05-1120")
    assert hashed is not None
    assert hashed.startswith(b"h_")


def test_a_token_keeps_the_form_and_nothing_else() -> None:
    token = one(TOKEN).of(b"Ab-078 xZ")
    assert token is not None
    assert token != b"Ab-078 xZ"
    text = token.decode()
    assert text[0].isupper()
    assert text[1].islower()
    assert text[2] == "-"
    assert text[3:6].isdigit()
    assert text[6] == " "


@given(st.text())
def test_a_token_is_never_the_value_and_a_substitute_never_outgrows_its_room(text: str) -> None:
    value = text.encode("utf-8", "replace")
    for how in (HASH, TOKEN, PARTIAL):
        made = one(how, ends=(2, 3)).of(value)
        assert made is not None
        assert len(made) <= len(value) + GROWTH
        if how != PARTIAL and value:
            assert made != value or not value.strip(b"*")


def test_every_digit_gets_another_token() -> None:
    for digit in b"0123456789":
        assert one(TOKEN).of(bytes([digit])) != bytes([digit])


@pytest.mark.parametrize(
    ("value", "ends", "left"),
    [
        (b"4111111111111111", (4, 4), b"4111********1111"),
        (b"abcd", (1, 1), b"a**d"),
        (b"abc", (1, 1), b"***"),
        ("äöüß".encode(), (1, 0), "ä***".encode()),
        (b"", (1, 1), b""),
    ],
)
def test_partial_leaves_the_ends_and_never_more_than_half(value: bytes, ends: tuple[int, int], left: bytes) -> None:
    assert one(PARTIAL, ends=ends).of(value) == left


def test_numbers_and_uuids_have_the_same_substitute_in_both_formats() -> None:
    text = one(HASH, LITERAL, INT4).of(b"-5")
    raw = one(HASH, OPAQUE, INT4, binary=True).of((-5).to_bytes(4, "big", signed=True))
    assert text is not None
    assert raw is not None
    assert int(text) == int.from_bytes(raw, "big", signed=True) >= 0
    text = one(TOKEN, LITERAL, INT8).of(b"12345678901")
    raw = one(TOKEN, OPAQUE, INT8, binary=True).of((12345678901).to_bytes(8, "big"))
    assert text is not None
    assert raw is not None
    assert int(text) == int.from_bytes(raw, "big")
    value = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
    text = one(HASH, LITERAL, UUID).of(str(value).encode())
    raw = one(HASH, OPAQUE, UUID, binary=True).of(value.bytes)
    assert text is not None
    assert raw is not None
    assert uuid.UUID(text.decode()).bytes == raw != value.bytes
    assert one(HASH, OPAQUE, UUID, binary=True).of(b"short") is None


def test_json_becomes_a_json_string_and_padding_stays() -> None:
    made = one(HASH, JSON).of(b'{"a": 1}')
    assert made is not None
    assert made[:1] == made[-1:] == b'"'
    made = one(HASH, JSONB).of(b'\x01{"a": 1}')
    assert made is not None
    assert made[:2] == b'\x01"'
    made = one(TOKEN, BPCHAR).of(b"ab   ")
    assert made is not None
    assert made.endswith(b"   ")


def test_rows_grow_and_shrink_around_substitutes() -> None:
    frames = row(b"a", b"78", b"keep") + row(b"b" * 40, None, b"keep") + row(b"", b"9", b"x")
    substitutes = (one(HASH), one(TOKEN), None)
    out, counts = mask_rows(frames, bytes([5, 5, 0]), bytes([TEXT, TEXT, TEXT]), 0, substitutes)
    first, second = one(HASH).of(b"a"), one(HASH).of(b"b" * 40)
    wanted = row(first, one(TOKEN).of(b"78"), b"keep") + row(second, None, b"keep") + row(b"", one(TOKEN).of(b"9"), b"x")
    assert out == wanted
    assert counts[:3] == (2, 2, 0)


@given(st.lists(st.tuples(st.binary(max_size=30), st.none() | st.binary(max_size=60)), max_size=8))
def test_rows_with_substitutes_are_what_each_value_becomes(rows: list[tuple[bytes, bytes | None]]) -> None:
    frames = b"".join(row(a, b, b"z") for a, b in rows)
    hashing, stars = one(HASH), one(PARTIAL, ends=(1, 1))
    out, _ = mask_rows(frames, bytes([5, 5, 4]), bytes([TEXT, TEXT, TEXT]), 0, (hashing, stars, None))
    made = [row(hashing.of(a) if a else a, stars.of(b) if b else b, None) for a, b in rows]
    assert out == b"".join(made)
