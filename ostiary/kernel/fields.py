# cython: language_level=3, annotation_typing=False, boundscheck=True, wraparound=False
"""Take the field lines of an HTTP head apart: RFC 9112, 5.

One pass over the bytes, and each of them is checked: a name is a token, a colon follows it at once, a value is visible characters, blanks and
bytes above ASCII (RFC 9110, 5.5), and a line ends in CR LF. So a bare CR or LF, a NUL, white space before a colon, a folded line and an empty name are no
field line. `fields.pxd` gives the types when this file is compiled.
"""

from __future__ import annotations

_TAB = 9
_LF = 10
_CR = 13
_SPACE = 32
_COLON = 58
_DELETE = 127


def read(block: bytes, most: int) -> tuple[tuple[tuple[bytes, bytes], ...], tuple[bytes, ...]] | None:
    """((name, value without the white space around it), …) and the names in lower case; None: it is no block of field lines.

    Of a block of more than `most` lines one more than `most` are read.
    """
    return _walk(block, block, most)


def _walk(block: bytes, data: bytes, most: int) -> tuple[tuple[tuple[bytes, bytes], ...], tuple[bytes, ...]] | None:
    headers: list[tuple[bytes, bytes]] = []
    names: list[bytes] = []
    at, end = 0, len(data)
    while at < end and len(names) <= most:
        start = at
        while at < end and is_token(data[at]):
            at += 1
        colon = at
        if at in (start, end) or data[at] != _COLON:
            return None
        at += 1
        while at < end and (data[at] == _SPACE or data[at] == _TAB):
            at += 1
        begin = at
        while at < end and ((data[at] >= _SPACE and data[at] != _DELETE) or data[at] == _TAB):
            at += 1
        if at + 2 > end or data[at] != _CR or data[at + 1] != _LF:
            return None
        stop = at
        while stop > begin and (data[stop - 1] == _SPACE or data[stop - 1] == _TAB):
            stop -= 1
        at += 2
        name = block[start:colon]
        headers.append((name, block[begin:stop]))
        names.append(name.lower())
    return tuple(headers), tuple(names)


def is_token(char: int) -> bool:
    """Whether a character may stand in a name: `tchar` of RFC 9110, 5.6.2."""
    if char >= 97:  # a to z, | and ~
        return char <= 122 or char in (124, 126)
    if char >= 65:  # A to Z, ^ _ `
        return char <= 90 or char >= 94
    if char >= 48:  # 0 to 9
        return char <= 57
    # ! # $ % & ' * + - .
    return 35 <= char <= 39 or char in (33, 42, 43, 45, 46)
