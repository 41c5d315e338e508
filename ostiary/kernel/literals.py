# cython: language_level=3, annotation_typing=False, boundscheck=True, wraparound=False
"""One key for statements that differ in plain numbers and plain strings only.

The key must not be able to disagree with the server's lexer, so it is timid: a text with a dollar, a comment, or a backslash or
zero byte anywhere has no such key. Only runs of at most nine digits (always int4) that touch no identifier character, dot or digit are taken for numbers, and only what
stands between two apostrophes, a doubled one being one of the string's, and touches nothing that could be a prefix (`E''`, `U&''`), for a
string. A quoted name stays as it is. What takes the place of a number is a zero byte, which no statement may hold, and that of a string an
apostrophe between two, so no text equals another one's key. Texts of one key have the same tokens but for these.

`literals.pxd` gives the types when this file is compiled; uncompiled it is plain Python, and the same tests run on both.
"""

from __future__ import annotations

from typing import Final

LONGEST: Final = 8_192
"""Bytes: longer texts are compared as they are."""
LONGEST_NUMBER: Final = 9

STRING: Final = b"\0'\0"
"""Stands for a string in a key, and for nothing else."""

_PLAIN, _WORD, _DIGIT, _DASH, _SLASH, _QUOTE, _NAME, _NEVER = range(8)
_OPENS_COMMENT: Final = 0x2A
_AMPERSAND: Final = 0x26
_APOSTROPHE: Final = 0x27
_BACKSLASH: Final = 0x5C


def _sorts() -> bytes:
    """What each byte is: part of a word (so is a dot), a digit, half of a comment's beginning, or a reason to have no key."""
    table = bytearray(256)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalpha() or byte in b"_.":
            table[byte] = _WORD
        elif 0x30 <= byte <= 0x39:
            table[byte] = _DIGIT
    table[0x2D], table[0x2F], table[0x27], table[0x22] = _DASH, _SLASH, _QUOTE, _NAME
    for byte in b"$\\\0":
        table[byte] = _NEVER
    return bytes(table)


_SORTS: Final = _sorts()


_ROOM: Final = bytearray(2 * LONGEST)
"""Where a key is put together: one is never longer than half as much again as its text, `''` being the shortest string."""


def plain_key(text: bytes) -> bytes | None:
    """Return the text with its plain numbers and strings taken out, or None where that is not plainly safe."""
    end = len(text)
    if end > LONGEST:
        return None
    # Compiled, these are pointers: whatever is read lies below `end`, and the room is twice as large as the longest text.
    raw, sorts, room = text, _SORTS, _ROOM
    kept = at = size = 0
    while at < end:
        sort = sorts[raw[at]]
        begin = at
        at += 1
        if sort == _PLAIN:
            continue
        if sort in (_WORD, _DIGIT):
            at = _run(text, at, sort == _DIGIT)
            if at < 0:
                at = -at
                continue
        elif sort in (_QUOTE, _NAME):
            at = _quoted(text, begin, sort)
            if at < 0:
                return None
            if sort == _NAME:
                continue
        elif _is_unsafe(text, at, sort):
            return None
        else:
            continue
        while kept < begin:
            room[size] = raw[kept]
            size += 1
            kept += 1
        room[size] = 0
        size += 1
        if raw[begin] == _APOSTROPHE:
            room[size] = _APOSTROPHE
            room[size + 1] = 0
            size += 2
        kept = at
    if not kept:
        return text
    while kept < end:
        room[size] = raw[kept]
        size += 1
        kept += 1
    return b"" + room[:size]  # uncompiled, a slice of it is no bytes yet


def _run(text: bytes, at: int, is_number: bool) -> int:
    """Where a run of letters and digits ends, whose first stands before `at`; negative: it is no number, or none that is surely int4."""
    raw, sorts = text, _SORTS
    begin = at - 1
    end = len(text)
    while at < end:
        sort = sorts[raw[at]]
        if sort == _WORD:
            is_number = False
        elif sort != _DIGIT:
            break
        at += 1
    return at if is_number and at - begin <= LONGEST_NUMBER else -at


def _is_unsafe(text: bytes, at: int, sort: int) -> bool:
    """Whether what begins before `at` is a reason to have no key: a dollar, or a comment."""
    if at == len(text):
        return sort == _NEVER
    return sort == _NEVER or (sort == _DASH and _SORTS[text[at]] == _DASH) or (sort == _SLASH and text[at] == _OPENS_COMMENT)


def _quoted(text: bytes, at: int, sort: int) -> int:
    """Where the string or name that begins at `at` is closed: the offset behind; -1: nowhere, or there may be more to it. Two quotes are one of its own."""
    begin = at
    if begin and (text[begin - 1] == _AMPERSAND or (sort == _QUOTE and _SORTS[text[begin - 1]] in (_WORD, _DIGIT))):
        return -1  # a prefix; and U&"" has its UESCAPE, a string that changes a name
    end = len(text)
    quote = text[begin]
    is_ascii = True
    at += 1
    while at < end:
        byte = text[at]
        at += 1
        if byte == quote:
            if at == end or text[at] != quote:
                return at if is_ascii or _is_text(text[begin:at]) else -1
            at += 1
        elif byte in (_BACKSLASH, 0):  # it means something else elsewhere
            return -1
        elif byte >= 0x80:
            is_ascii = False
    return -1


def _is_text(part: bytes) -> bool:
    """Whether it is UTF-8, as all is that was judged."""
    try:
        part.decode()
    except UnicodeDecodeError:
        return False
    return True
