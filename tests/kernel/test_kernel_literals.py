"""Keys of statements: the same at both speeds, and what a plain reading of the rules says."""

from __future__ import annotations

import re
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

PARTS = [b"'", b"''", b'"', b"1", b"23", b"123456789", b"1234567890", b" ", b"a", b"E", b"U&", b"-", b"/", b"*", b"$", b"\\", b"\0", b"\xc3\xa4", b"\xff", b".", b"("]
LITERAL = re.compile(rb"(?P<name>\"[^\"]*\")|(?P<string>'(?:[^']|'')*')|(?P<word>[A-Za-z0-9_.\x80-\xff]+)")


def by_the_rules(text: bytes) -> bytes:
    """The key of a text that has neither prefixes, comments, dollars nor backslashes."""

    def instead(found: re.Match[bytes]) -> bytes:
        if found["string"] is not None:
            return b"\0'\0"
        word = found["word"]
        return b"\0" if word is not None and word.isdigit() and len(word) <= 9 else found[0]

    return LITERAL.sub(instead, text)


@given(parts=st.lists(st.sampled_from(PARTS), max_size=24))
def test_keys_are_the_same_compiled_and_not(plain: SimpleNamespace, built: SimpleNamespace, parts: list[bytes]) -> None:
    text = b"".join(parts)
    key = built.literals.plain_key(text)
    assert key == plain.literals.plain_key(text)
    assert key is None or type(key) is bytes


@given(words=st.lists(st.sampled_from([b"select", b"12", b"1234567890", b"a1", b"'it''s'", b"''", b'"1"', b"(3", b"4)", b"1.5", "'ä'".encode()]), max_size=12))
def test_keys_are_what_the_rules_say(kernel: SimpleNamespace, words: list[bytes]) -> None:
    text = b" ".join(words)
    assert kernel.literals.plain_key(text) == by_the_rules(text)


def test_the_longest_texts_have_room(kernel: SimpleNamespace) -> None:
    longest = kernel.literals.plain_key
    assert longest(b"'' " * 2730) == b"\0'\0 " * 2730
    assert longest(b"1 " * 4096) == b"\0 " * 4096
    assert longest(b"''" * 4096) == b"\0'\0"
    assert longest(b"a" * 8192) == b"a" * 8192
    assert longest(b"a" * 8193) is None
