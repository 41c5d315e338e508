"""Field lines of HTTP heads are taken apart as two expressions of RFC 9112's grammar take them apart, or not at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ostiary.kernel.fields import read

NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
GRAMMAR = re.compile(rb"(?:" + NAME + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*")
LINE = re.compile(rb"([^:]+):([^\r]*)\r\n")
MOST = 128

PIECES = st.lists(
    st.sampled_from([b"Host", b"x-a", b":", b": ", b" ", b"\t", b"value", b"\r\n", b"\r", b"\n", b"\0", b"\x7f", b"\xff", b"a:b", b"(", b"\r\n b"]),
    max_size=12,
).map(b"".join)


def by_expressions(block: bytes) -> tuple[tuple[tuple[bytes, bytes], ...], tuple[bytes, ...]] | None:
    if GRAMMAR.fullmatch(block) is None:
        return None
    found = tuple((name, value.strip(b" \t")) for name, value in LINE.findall(block))
    return found, tuple(name.lower() for name, _ in found)


@given(PIECES | st.binary(max_size=40))
@example(b"")
@example(b"Host: app\r\nX-A:\r\nx-b: \t \r\n")
@example(b"Host: app\r")
@example(b"Host: app")
def test_a_block_is_read_as_the_grammar_reads_it_or_not_at_all(block: bytes) -> None:
    assert read(block, MOST) == by_expressions(block)


@pytest.mark.parametrize("place", ["name", "value"])
def test_every_byte_stands_only_where_the_grammar_lets_it_stand(place: str) -> None:
    for number in range(256):
        byte = bytes([number])
        block = b"a" + byte + b"c: d\r\n" if place == "name" else b"abc: d" + byte + b"e\r\n"
        assert read(block, MOST) == by_expressions(block), byte


def test_of_a_block_of_too_many_lines_no_more_are_read_than_tell_so() -> None:
    found = read(b"a:b\r\n" * 1000, 5)
    assert found is not None
    assert len(found[0]) == 6
