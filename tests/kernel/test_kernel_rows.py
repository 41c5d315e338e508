"""Rows: what each treatment leaves, what hostile frames get, and the same at both speeds."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.errors import Misdeed, PeerMisbehaved

KEEP, SCAN, REDACT, LAST4, NULL = range(5)
OPAQUE, TEXT, BPCHAR, JSON, JSONB, LITERAL, NUMBER, INT8, NUMERIC, BYTEA = range(10)
ALL = 31
SSN = b"078-05-1120"
CARD = b"4111111111111111"


def body(cells: list[bytes | None]) -> bytes:
    parts = [struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell for cell in cells]
    return struct.pack("!H", len(cells)) + b"".join(parts)


def row(*cells: bytes | None) -> bytes:
    inner = body(list(cells))
    return b"D" + struct.pack("!I", len(inner) + 4) + inner


def cells_of(frames: bytes) -> list[list[bytes | None]]:
    rows = []
    at = 0
    while at < len(frames):
        tag, length, columns = struct.unpack_from("!cIH", frames, at)
        assert tag == b"D"
        end = at + 1 + length
        at += 7
        cells: list[bytes | None] = []
        for _ in range(columns):
            (size,) = struct.unpack_from("!i", frames, at)
            at += 4
            cells.append(None if size < 0 else frames[at : at + size])
            at += max(size, 0)
        assert at == end
        rows.append(cells)
    return rows


def one(kernel, cell: bytes | None, treatment: int, family: int, wanted: int = ALL) -> bytes | None:
    """One cell between two others, masked, in a batch of two rows; both must come out alike."""
    frames, _ = kernel.rows.mask_rows(
        row(b"before", cell, b"after") * 2, bytes([KEEP, treatment, KEEP]), bytes([TEXT, family, TEXT]), wanted
    )
    rows = cells_of(frames)
    assert rows[0] == rows[1]
    assert rows[0][0] == b"before"
    assert rows[0][2] == b"after"
    return rows[0][1]


@pytest.mark.parametrize(
    ("cell", "treatment", "family", "left"),
    [
        (b"secret", KEEP, TEXT, b"secret"),
        (b"secret", REDACT, TEXT, b"******"),
        ("naïve ☃".encode(), REDACT, TEXT, b"*******"),
        (b"x" * 100, REDACT, TEXT, b"*" * 100),
        ("é".encode() * 70_000, REDACT, TEXT, b"*" * 70_000),
        (b"", REDACT, TEXT, b""),
        (CARD, LAST4, TEXT, b"*" * 12 + b"1111"),
        (b"1234", LAST4, TEXT, b"****"),
        (b"12345", LAST4, TEXT, b"*2345"),
        ("müller-ß☃é".encode(), LAST4, TEXT, "******-ß☃é".encode()),
        (CARD + b"    ", LAST4, BPCHAR, b"*" * 12 + b"1111    "),
        (b"    ", LAST4, BPCHAR, b"    "),
        (b'{"a": 1}', REDACT, JSON, b'"******"'),
        (b'"' + CARD + b'"', LAST4, JSON, b'"' + b"*" * 12 + b'1111"'),
        (CARD, LAST4, JSON, b'"' + b"*" * 10 + b'1111"'),
        (b'{"card": "4111"}', LAST4, JSON, b'"**************"'),
        (b'"41\\u0031\\u0031"', LAST4, JSON, b'"**************"'),
        (b"7", REDACT, JSON, b"0"),
        (b"42", REDACT, JSON, b'""'),
        (b'\x01{"a": 1}', REDACT, JSONB, b'\x01"******"'),
        (b"anything", NULL, TEXT, None),
        (b"{1,2}", REDACT, LITERAL, None),
        (b"\0\0\0\x01", REDACT, OPAQUE, None),
        (b"42", LAST4, NUMBER, None),
        (None, REDACT, TEXT, None),
        (None, NULL, TEXT, None),
    ],
)
def test_a_treatment_leaves_what_it_says(kernel, cell, treatment, family, left):
    assert one(kernel, cell, treatment, family) == left


@pytest.mark.parametrize(
    ("cell", "family", "left"),
    [
        (b"ssn " + SSN + b" end", TEXT, b"ssn *********** end"),
        (b"clean", TEXT, b"clean"),
        (b"{a," + SSN + b"}", LITERAL, b"{a,***********}"),
        (b'{"c": "' + CARD + b'"}', JSON, b'{"c": "****************"}'),
        (
            b'{"c": ' + CARD + b', "d": [1, ' + CARD + b"]}",
            JSON,
            b'{"c": "**************", "d": [1, "**************"]}',
        ),
        (b'{"c": -' + CARD + b"}", JSON, b'{"c": "***************"}'),
        (CARD, JSON, b'"**************"'),
        (b'\x01{"c": ' + CARD + b"}", JSONB, b'\x01{"c": "**************"}'),
        (b'{"e": "ana\\u0040example.com"}', JSON, None),
        (b'{"e": "caf\\u00e9"}', JSON, b'{"e": "caf\\u00e9"}'),
        (CARD, NUMBER, None),
        (CARD + b".00", NUMBER, None),
        (b"12345.67", NUMBER, b"12345.67"),
        (b"\\x" + SSN.hex().encode(), BYTEA, None),
        (b"\\x" + b"00ff" * 8, BYTEA, b"\\x" + b"00ff" * 8),
        (b"\\000078\\05505-1120", BYTEA, None),
        (b"\\xzz", BYTEA, b"\\xzz"),
        (struct.pack("!q", int(CARD)), INT8, None),
        (struct.pack("!q", -int(CARD)), INT8, None),
        (struct.pack("!q", int(CARD) + 1), INT8, struct.pack("!q", int(CARD) + 1)),
        (struct.pack("!HhHH4H", 4, 3, 0, 0, 4111, 1111, 1111, 1111), NUMERIC, None),
        (struct.pack("!HhHH1H", 1, 0, 0, 0, 42), NUMERIC, struct.pack("!HhHH1H", 1, 0, 0, 0, 42)),
        (b"\xff\0\0" + SSN + b"\0", OPAQUE, None),
        (b"\0\x01\x02\x03\x04\x05", OPAQUE, b"\0\x01\x02\x03\x04\x05"),
    ],
)
def test_the_detectors_see_through_the_form_of_a_value(kernel, cell, family, left):
    assert one(kernel, cell, SCAN, family) == left


def luhn(prefix: str) -> int:
    total = sum(digit if n % 2 else sum(divmod(2 * digit, 10)) for n, digit in enumerate(map(int, reversed(prefix))))
    return int(prefix + str(-total % 10))


@given(st.integers(0, 62), st.integers(-3, 3), st.booleans())
def test_no_number_is_too_small_to_be_looked_at_that_could_be_a_card(kernel, power, near, negative):
    for size in (2**power + near, luhn(str(2**power))):
        number = -size if negative else size
        groups, left = [], abs(number)
        while left:
            left, group = divmod(left, 10_000)
            groups.insert(0, group)
        decimal = struct.pack(f"!HhHH{len(groups)}H", len(groups), len(groups) - 1, 0x4000 * negative, 0, *groups)
        cells = [(decimal, NUMERIC)] + ([(struct.pack("!q", number), INT8)] if -(2**63) <= number < 2**63 else [])
        for cell, family in cells:
            assert (one(kernel, cell, SCAN, family) is None) == bool(kernel.values.hits(cell, family, ALL)[0])


def test_the_shortest_card_numbers_are_found_as_numbers(kernel):
    for number in (luhn("422222222222"), luhn("499999999999")):
        assert one(kernel, struct.pack("!q", number), SCAN, INT8) is None
        assert one(kernel, struct.pack("!q", -number), SCAN, INT8) is None
        groups = [number // 10**12, number // 10**8 % 10_000, number // 10**4 % 10_000, number % 10_000]
        assert one(kernel, struct.pack("!HhHH4H", 4, 3, 0, 0, *groups), SCAN, NUMERIC) is None


def test_a_length_byte_that_looks_like_a_digit_hides_nothing(kernel):
    text = SSN + b" and more text, so that the length is 48 here...."[: 0x30 - len(SSN)]
    assert len(text) == 0x30
    array = struct.pack("!iiIii", 1, 0, 25, 1, 1) + struct.pack("!i", len(text)) + text
    record = struct.pack("!i", 2) + struct.pack("!Iii", 23, 4, 1) + struct.pack("!Ii", 25, len(text)) + text
    nested = struct.pack("!iiIii", 1, 0, 2249, 1, 1) + struct.pack("!i", len(record)) + record
    hstore = struct.pack("!i", 1) + struct.pack("!i", 1) + b"k" + struct.pack("!i", len(text)) + text
    for cell in (array, record, nested, hstore, b"\x02" + struct.pack("!i", len(text)) + text):
        assert one(kernel, cell, SCAN, OPAQUE) is None
    numbers = struct.pack("!iiIii", 1, 0, 20, 1, 1) + struct.pack("!iq", 8, int(CARD))
    assert one(kernel, numbers, SCAN, OPAQUE) is None


def test_a_value_does_not_join_with_its_neighbours(kernel):
    frames = row(b"4111", b"1111", b"1111", b"1111") + row(b"078-05", b"-1120", b"ana@", b"example.com")
    assert kernel.rows.mask_rows(frames, bytes([SCAN] * 4), bytes([TEXT] * 4), ALL)[0] is frames


def test_what_has_nothing_to_mask_comes_back_as_the_very_object(kernel):
    frames = row(b"1", None, b"text") * 3
    masked, counts = kernel.rows.mask_rows(frames, bytes([KEEP, REDACT, SCAN]), bytes([TEXT] * 3), ALL)
    assert masked is frames
    assert not any(counts)


def test_counts_are_by_column_then_by_detector(kernel):
    frames = row(b"a", CARD + b" " + SSN) + row(None, b"x@y.example")
    assert kernel.rows.mask_rows(frames, bytes([NULL, SCAN]), bytes([TEXT] * 2), ALL)[1] == (2, 0, 1, 1, 0, 1, 0)


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (b"D", Misdeed.BAD_LENGTH),
        (b"D\0\0\0\x06\0", Misdeed.BAD_LENGTH),
        (b"D\0\0\0\x04", Misdeed.BAD_LENGTH),
        (b"D\0\0\0\x03", Misdeed.BAD_LENGTH),
        (b"D\xff\xff\xff\xff\0\0", Misdeed.BAD_LENGTH),
        (b"T" + row(b"a")[1:], Misdeed.UNKNOWN_TAG),
        (row(b"a", b"b"), Misdeed.BAD_FIELD),
        (b"D\0\0\0\x06\0\0", Misdeed.BAD_FIELD),
        (b"D\0\0\0\x0a\0\x01\x80\0\0\0", Misdeed.BAD_LENGTH),
        (b"D\0\0\0\x0a\0\x01\xff\xff\xff\xfe", Misdeed.BAD_LENGTH),
        (b"D\0\0\0\x0a\0\x01\x7f\xff\xff\xff", Misdeed.BAD_LENGTH),
        (b"D\0\0\0\x0a\0\x01\0\0\0\x01", Misdeed.BAD_LENGTH),
        (b"D\0\0\0\x09\0\x01\0\0\0", Misdeed.BAD_LENGTH),
        (b"D\0\0\0\x0c\0\x01\0\0\0\x01ab", Misdeed.TRAILING_BYTES),
        (row(b"a") + b"D\0", Misdeed.BAD_LENGTH),
    ],
)
@pytest.mark.parametrize("treatment", [KEEP, SCAN, REDACT, NULL])
def test_a_malformed_row_is_the_targets_misdeed(kernel, frames, why, treatment):
    with pytest.raises(PeerMisbehaved) as caught:
        kernel.rows.mask_rows(frames, bytes([treatment]), bytes([TEXT]), ALL)
    assert caught.value.why is why


@given(st.binary(max_size=120), st.binary(max_size=4), st.integers(0, 31))
def test_hostile_bytes_raise_nothing_but_misdeeds(plain, built, raw, treatments, wanted):
    treatments = bytes(b % 6 for b in treatments)
    families = bytes((b * 7 + 3) % 11 for b in treatments)
    head = b"D" + struct.pack("!IH", len(raw) + 6, len(treatments))
    for frames in (raw, head + raw, head + raw + head):
        outcomes = []
        for speed in (plain, built):
            try:
                outcomes.append(speed.rows.mask_rows(frames, treatments, families, wanted))
            except PeerMisbehaved as exc:
                outcomes.append(str(exc))
        assert outcomes[0] == outcomes[1]


cell = st.one_of(
    st.none(),
    st.binary(max_size=100),
    st.text(max_size=100).map(str.encode),
    st.sampled_from(
        [SSN, CARD, b"ana@example.com", b'{"a": 4111111111111111}', b"\\x3037382d30352d31313230", b" " * 80]
    ),
    st.integers(0, 70).map(lambda n: b"x" * n),
)


@given(st.data())
def test_both_speeds_agree_on_rows_and_keep_the_frame_valid(plain, built, data):
    columns = data.draw(st.integers(0, 5))
    rows = data.draw(st.lists(st.lists(cell, min_size=columns, max_size=columns), max_size=5))
    treatments = bytes(data.draw(st.lists(st.integers(0, 4), min_size=columns, max_size=columns)))
    families = bytes(data.draw(st.lists(st.integers(0, 9), min_size=columns, max_size=columns)))
    wanted = data.draw(st.integers(0, 31))
    frames = b"".join(row(*cells) for cells in rows)
    masked, counts = plain.rows.mask_rows(frames, treatments, families, wanted)
    assert (masked, counts) == built.rows.mask_rows(frames, treatments, families, wanted)
    assert len(masked) <= len(frames)
    out = cells_of(masked)
    assert len(out) == len(rows)
    for before, after in zip(rows, out, strict=True):
        for column, (old, new) in enumerate(zip(before, after, strict=True)):
            if treatments[column] == KEEP or old is None:
                assert new == old
            elif treatments[column] == NULL and old:
                assert new is None
            elif treatments[column] == REDACT and old and families[column] in (TEXT, BPCHAR):
                assert set(new) <= {42}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
        | st.sampled_from([SSN.decode(), CARD.decode(), int(CARD), -int(CARD), "a\nana@example.com", 'q"\\ x@y.example']),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=12,
    ),
    st.booleans(),
    st.integers(1, 3),
)  # fmt: skip
def test_json_stays_json(kernel, value, ascii_only, treatment):
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    left = one(kernel, text, treatment, JSON)
    assert left is None or json.loads(left.decode("utf-8", "surrogatepass")) is not NotImplemented


def test_a_cell_of_many_megabytes_is_masked_in_place(kernel):
    size = 3_000_000
    frames = row(b"x" * size, SSN, b"y" * 70_000)
    masked, _ = kernel.rows.mask_rows(frames, bytes([REDACT, LAST4, NULL]), bytes([TEXT] * 3), 0)
    assert cells_of(masked) == [[b"*" * size, b"*******1120", None]]
    masked, _ = kernel.rows.mask_rows(frames, bytes([NULL, SCAN, KEEP]), bytes([TEXT] * 3), ALL)
    assert cells_of(masked) == [[None, b"*" * 11, b"y" * 70_000]]


# --- COPY in binary format ---------------------------------------------------------

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def copy_data(*parts: bytes) -> bytes:
    inner = b"".join(parts)
    return b"d" + struct.pack("!I", len(inner) + 4) + inner


def test_binary_copy_is_masked_row_by_row(kernel):
    frames = (
        copy_data(HEADER, body([b"1", SSN]))
        + copy_data(body([b"2", None]), body([b"3", b"abc"]))
        + copy_data(b"\xff\xff")
    )
    masked, counts = kernel.rows.mask_copy_rows(frames, bytes([KEEP, NULL]), bytes([OPAQUE, TEXT]), 0)
    assert masked == copy_data(HEADER, body([b"1", None])) + copy_data(
        body([b"2", None]), body([b"3", None])
    ) + copy_data(b"\xff\xff")
    assert counts[:2] == (0, 3)


@pytest.mark.parametrize(
    "frames",
    [
        copy_data(body([b"1"])[:-1]),
        copy_data(b"\xff\xff", body([b"1"])),
        copy_data(HEADER[:-1]),
        copy_data(HEADER[:-1] + b"\x05"),
        copy_data(b"\0"),
        copy_data(body([b"1"]), HEADER),
        row(b"1"),
    ],
)
def test_binary_copy_that_is_not_whole_rows_is_refused(kernel, frames):
    with pytest.raises(PeerMisbehaved):
        kernel.rows.mask_copy_rows(frames, bytes([SCAN]), bytes([TEXT]), ALL)
