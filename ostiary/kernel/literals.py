# cython: language_level=3, annotation_typing=False, boundscheck=True, wraparound=False
"""One key for statements that differ in plain numbers only.

The key must not be able to disagree with the server's lexer, so it is timid: a text with a quote, a dollar, a
backslash, a comment or a zero byte has no such key, and only runs of at most nine digits (always int4) that touch no
identifier character, dot or digit are taken for numbers. What takes their place is a zero byte, which no statement may
hold, so no text equals another one's key.

`literals.pxd` gives the types when this file is compiled; uncompiled it is plain Python, and the same tests run on both.
"""

from __future__ import annotations

from typing import Final

LONGEST: Final = 8_192
"""Bytes: longer texts are compared as they are."""
LONGEST_NUMBER: Final = 9

_PLAIN, _WORD, _DIGIT, _DASH, _SLASH, _NEVER = range(6)
_OPENS_COMMENT: Final = 0x2A


def _sorts() -> bytes:
    """What each byte is: part of a word (so is a dot), a digit, half of a comment's beginning, or a reason to have no key."""
    table = bytearray(256)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalpha() or byte in b"_.":
            table[byte] = _WORD
        elif 0x30 <= byte <= 0x39:
            table[byte] = _DIGIT
    table[0x2D], table[0x2F] = _DASH, _SLASH
    for byte in b"'\"$\\\0":
        table[byte] = _NEVER
    return bytes(table)


_SORTS: Final = _sorts()


def plain_key(text: bytes) -> bytes | None:
    """Return the text with its plain numbers taken out, or None where that is not plainly safe."""
    end = len(text)
    if end > LONGEST:
        return None
    pieces: list[bytes] = []
    kept = at = 0
    while at < end:
        sort = _SORTS[text[at]]
        begin = at
        at += 1
        if sort == _PLAIN:
            continue
        if sort == _NEVER:
            return None
        if sort == _DASH:
            if at < end and _SORTS[text[at]] == _DASH:
                return None
        elif sort == _SLASH:
            if at < end and text[at] == _OPENS_COMMENT:
                return None
        else:
            is_number = sort == _DIGIT
            while at < end:
                sort = _SORTS[text[at]]
                if sort == _WORD:
                    is_number = False
                elif sort != _DIGIT:
                    break
                at += 1
            if is_number and at - begin <= LONGEST_NUMBER:
                pieces.append(text[kept:begin])
                kept = at
    if not kept:
        return text
    pieces.append(text[kept:])
    return b"\0".join(pieces)
