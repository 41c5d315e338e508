"""COPY in text and CSV format: fields by position, escapes seen through, rows that do not end refused."""

from __future__ import annotations

import csv
import io
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ostiary.kernel.nets import Net, Wanted
from ostiary.model.errors import PeerMisbehaved

KEEP, SCAN, REDACT, LAST4, NULL = range(5)
TEXT, BPCHAR, JSON, LITERAL, NUMBER, BYTEA = 1, 2, 3, 5, 6, 9
SSN = b"078-05-1120"


def frame(body: bytes) -> bytes:
    return b"d" + struct.pack("!I", len(body) + 4) + body


def bodies(frames: bytes) -> list[bytes]:
    out = []
    at = 0
    while at < len(frames):
        tag, length = struct.unpack_from("!cI", frames, at)
        assert tag == b"d"
        out.append(frames[at + 5 : at + 1 + length])
        at += 1 + length
    assert at == len(frames)
    return out


def text(kernel, line: bytes, treatments: list[int], families: list[int] | None = None, **form: bytes) -> bytes:
    settings = {"delimiter": b"\t", "null": b"\\N", "header": b"", **form}
    kinds = bytes(families or [TEXT] * len(treatments))
    masked, _ = kernel.copies.mask_copy_text(frame(line) * 2, bytes(treatments), kinds, 31, **settings)
    first, second = bodies(masked)
    assert first == second
    return first


def comma(kernel, line: bytes, treatments: list[int], families: list[int] | None = None, **form: bytes) -> bytes:
    settings = {"delimiter": b",", "null": b"", "header": b"", "quote": b'"', "escape": b'"', **form}
    kinds = bytes(families or [TEXT] * len(treatments))
    masked, _ = kernel.copies.mask_copy_csv(frame(line) * 2, bytes(treatments), kinds, 31, **settings)
    first, second = bodies(masked)
    assert first == second
    return first


def test_text_fields_are_masked_by_position(kernel):
    line = b"1\tana\t4111111111111111\t\\N\tx\n"
    assert text(kernel, line, [KEEP, REDACT, LAST4, REDACT, NULL]) == b"1\t***\t************1111\t\\N\t\\N\n"


def test_a_null_may_be_longer_than_the_value(kernel):
    assert text(kernel, b"\t1\t2\t3\n", [KEEP, NULL, NULL, NULL], null=b"(none at all)") == (
        b"\t(none at all)\t(none at all)\t(none at all)\n"
    )


def test_growth_and_shrinking_in_one_frame_keep_its_length_true(kernel):
    line = b"1\t" + "é".encode() * 1 + b"\n"
    assert text(kernel, line, [NULL, REDACT], null=b"\\N") == b"\\N\t*\n"


def test_values_of_other_types_become_null(kernel):
    assert text(kernel, b"5\t{1,2}\n", [REDACT, LAST4], [NUMBER, LITERAL]) == b"\\N\t\\N\n"


def test_detectors_look_at_text_fields(kernel):
    assert text(kernel, b"x " + SSN + b"\tana@example.com\n", [SCAN, SCAN]) == b"x ***********\t***************\n"
    assert text(kernel, b"4111111111111111\t12\n", [SCAN, SCAN], [NUMBER, NUMBER]) == b"\\N\t12\n"
    assert text(kernel, b"\\\\x" + SSN.hex().encode() + b"\n", [SCAN], [BYTEA]) == b"\\N\n"


@pytest.mark.parametrize("delimiter", [b"-", b"@", b"|"])
def test_a_delimiter_cannot_cut_a_value_into_pieces(kernel, delimiter):
    for value in (SSN, b"ana@example.com", b"4111-1111-1111-1111"):
        line = b"1" + delimiter + value.replace(delimiter, b"\\" + delimiter) + b"\n"
        left = text(kernel, line, [KEEP, SCAN], delimiter=delimiter)
        assert set(left[2:-1]) == {42}


@pytest.mark.parametrize("quote", [b'"', b"-", b"0", b"@", b"'"])
@pytest.mark.parametrize("escape", [None, b"\\", b"1"])
def test_a_quote_cannot_cut_a_value_into_pieces(kernel, quote, escape):
    escape = escape or quote
    for value in (SSN, b"ana@example.com", b"4111-1111-1111-1111"):
        inner = value if escape == quote else value.replace(escape, escape * 2)
        line = b"x," + quote + inner.replace(quote, escape + quote) + quote + b"\n"
        left = comma(kernel, line, [KEEP, SCAN], quote=quote, escape=escape)
        assert set(left[2:-1].strip(quote)) <= {42}


def test_csv_fields_are_masked_by_position(kernel):
    line = b'1,"a, ""b""","4111 1111",,plain\n'
    assert comma(kernel, line, [KEEP, REDACT, LAST4, REDACT, REDACT]) == b'1,******,"*****1111",,*****\n'
    assert comma(kernel, b'"a\nb",c\n', [KEEP, NULL]) == b'"a\nb",\n'
    assert comma(kernel, b'"call\n078-05-1120",c\n', [SCAN, KEEP]) == b'"call\n***********",c\n'


def test_a_value_that_looks_like_null_is_masked_where_it_may_be_one(kernel):
    # In text format PostgreSQL writes the value 'guess' and NULL alike under NULL 'guess': telling them apart would tell the value.
    assert text(kernel, b"1\tguess\n", [KEEP, REDACT], null=b"guess") == b"1\t*****\n"
    assert comma(kernel, b'1,"guess"\n', [KEEP, REDACT], null=b"guess") == b'1,"*****"\n'
    assert comma(kernel, b"1,guess\n", [KEEP, REDACT], null=b"guess") == b"1,guess\n"


def test_the_header_line_stays(kernel):
    frames = frame(b"id\tssn\n") + frame(b"1\tx\n")
    masked, counts = kernel.copies.mask_copy_text(
        frames, bytes([KEEP, REDACT]), bytes([TEXT] * 2), 0, delimiter=b"\t", null=b"\\N", header=b"id\tssn\n"
    )
    assert bodies(masked) == [b"id\tssn\n", b"1\t*\n"]
    assert counts[1] == 1


@pytest.mark.parametrize("line", [b"1\t2", b"1\n", b"1\t2\t3\n", b"1\t2\\", b"1\t2\\\n", b"1\t2\n3"])
def test_a_text_row_that_is_not_whole_is_refused(kernel, line):
    with pytest.raises(PeerMisbehaved):
        text(kernel, line, [KEEP, REDACT])


@pytest.mark.parametrize("line", [b"1,2", b'1,"2\n', b'1,"2"x\n', b'1,x"2"\n', b"1\n", b"1,2,3\n"])
def test_a_csv_row_that_is_not_whole_is_refused(kernel, line):
    with pytest.raises(PeerMisbehaved):
        comma(kernel, line, [KEEP, REDACT])


def test_rows_without_columns_pass(kernel):
    assert text(kernel, b"\n\n", []) == b"\n\n"


pieces = st.lists(
    st.sampled_from(
        ["\t", "\n", "\\", "\\N", '"', ",", "-", "078-05-1120", "4111111111111111", "é", "x@y.example", "a"]
    ),
    max_size=8,
).map("".join)


def escaped(field: str | None, delimiter: str) -> str:
    if field is None:
        return "\\N"
    table = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(table.get(c, "\\" + c if c == delimiter else c) for c in field)


@given(st.data(), st.sampled_from("\t,-|"))
def test_both_speeds_agree_and_columns_stay_columns(plain, built, data, delimiter):
    columns = data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.lists(st.none() | pieces, min_size=columns, max_size=columns), max_size=4))
    treatments = bytes(data.draw(st.lists(st.integers(0, 4), min_size=columns, max_size=columns)))
    families = bytes(data.draw(st.lists(st.sampled_from([1, 2, 3, 5, 6, 9]), min_size=columns, max_size=columns)))
    frames = b"".join(frame((delimiter.join(escaped(f, delimiter) for f in row) + "\n").encode()) for row in rows)
    form = {"delimiter": delimiter.encode(), "null": b"\\N", "header": b""}
    results = [speed.copies.mask_copy_text(frames, treatments, families, 31, **form) for speed in (plain, built)]
    assert results[0] == results[1]
    again = plain.copies.mask_copy_text(results[0][0], bytes(columns), families, 31, **form)
    assert again[0] is results[0][0]


@given(st.data(), st.sampled_from([b"\\N", b"", b"null", b"(none at all)"]), st.sampled_from([31, 0, Wanted(1, [Net("7", "seven")])]))
def test_there_is_room_for_a_null_string_of_any_length_in_every_field(plain, built, data, null, wanted):
    columns = data.draw(st.integers(1, 4))
    cells = st.sampled_from([b"", b"7", b"4111111111111111", b"078-05-1120", b"\\\\x30", b"x", null])
    rows = data.draw(st.lists(st.lists(cells, min_size=columns, max_size=columns), max_size=4))
    treatments = bytes(data.draw(st.lists(st.integers(0, 4), min_size=columns, max_size=columns)))
    families = bytes(data.draw(st.lists(st.integers(0, 9), min_size=columns, max_size=columns)))
    frames = b"".join(frame(b"\t".join(row) + b"\n") for row in rows)
    form = {"delimiter": b"\t", "null": null, "header": b""}
    text = [speed.copies.mask_copy_text(frames, treatments, families, wanted, **form) for speed in (plain, built)]
    assert text[0] == text[1]
    form |= {"quote": b'"', "escape": b'"'}
    comma = [speed.copies.mask_copy_csv(frames, treatments, families, wanted, **form) for speed in (plain, built)]
    assert comma[0] == comma[1]
    for masked, _ in (*text, *comma):
        assert [body.count(b"\t") for body in bodies(masked)] == [columns - 1] * len(rows)


@given(st.data())
def test_csv_agrees_at_both_speeds_and_reads_as_csv(plain, built, data):
    columns = data.draw(st.integers(2, 4))
    rows = data.draw(st.lists(st.lists(pieces, min_size=columns, max_size=columns), max_size=4))
    treatments = bytes(data.draw(st.lists(st.integers(0, 4), min_size=columns, max_size=columns)))
    lines = []
    for row in rows:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(row)
        lines.append(out.getvalue().encode())
    frames = b"".join(frame(line) for line in lines)
    form = {"delimiter": b",", "quote": b'"', "escape": b'"', "null": b"", "header": b""}
    results = [
        speed.copies.mask_copy_csv(frames, treatments, bytes([1] * columns), 31, **form) for speed in (plain, built)
    ]
    assert results[0] == results[1]
    for before, body in zip(rows, bodies(results[0][0]), strict=True):
        (after,) = csv.reader(io.StringIO(body.decode(), newline=""))
        assert len(after) == columns
        for column in range(columns):
            if treatments[column] == KEEP:
                assert after[column] == before[column]
            if treatments[column] == REDACT:
                assert set(after[column]) <= {"*"}


@given(st.binary(max_size=60), st.integers(1, 3), st.sampled_from([b"", b"\\N", b"(none at all)"]))
@example(b"x,y,z", 3, b"(none at all)")
@example(b"x,y,z\nx,", 3, b"(none at all)")
def test_hostile_copy_data_raises_nothing_but_misdeeds(plain, built, raw, columns, null):
    treatments, families = bytes([4, 2, 1][:columns]), bytes([5, 9, 1][:columns])
    for frames in (raw, frame(raw)):
        outcomes = []
        for speed in (plain, built):
            for csv_form in (False, True):
                form = {"delimiter": b",", "null": null, "header": b""}
                function = speed.copies.mask_copy_text
                if csv_form:
                    form |= {"quote": b'"', "escape": b"\\"}
                    function = speed.copies.mask_copy_csv
                try:
                    outcomes.append(function(frames, treatments, families, 31, **form))
                except PeerMisbehaved as exc:
                    outcomes.append(str(exc))
        assert outcomes[:2] == outcomes[2:]
