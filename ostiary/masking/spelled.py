"""Other spellings of a text's characters, by which a value could pass for something else."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

_REFERENCE: Final = re.compile(rb"&#|&[a-z]", re.IGNORECASE)
_ESCAPE: Final = re.compile(rb"\\+(?:u\{?0*([0-7][0-9A-Fa-f])\}?|x([0-7][0-9A-Fa-f])|([0-7]{2,3}))")
_QUOTED: Final = re.compile(rb"=([2-7][0-9A-F])|=\r?\n")
_PLUS: Final = re.compile(rb"[0-9]\+[0-9]{2,6}\+[0-9]")  # a form's blanks are `+`
SPELLED: Final = re.compile(rb"&#|&[A-Za-z]|%|\\[ux0-7]|=(?:[2-7][0-9A-F]|\r?\n)|[0-9]\+[0-9]")
"""Where one of these five may begin."""


def spelled_out(data: bytes) -> Iterator[bytes]:
    """`data` with character references, percent signs, plus signs for blanks, backslash and quoted-printable escapes written out, each where there are any."""
    if _REFERENCE.search(data) is not None:
        yield html.unescape(data.decode("utf-8", "replace")).encode()
    if b"%" in data:
        yield unquote_to_bytes(data)
    if b"+" in data and _PLUS.search(data) is not None:
        yield unquote_to_bytes(data.replace(b"+", b" "))
    if b"\\" in data and _ESCAPE.search(data) is not None:
        yield _ESCAPE.sub(_escaped, data)
    if b"=" in data and _QUOTED.search(data) is not None:
        yield _QUOTED.sub(lambda m: bytes([int(m[1], 16)]) if m[1] else b"", data)


def _escaped(found: re.Match[bytes]) -> bytes:
    if found[3]:
        return bytes([int(found[3], 8) & 0x7F])
    return bytes([int(found[1] or found[2], 16)])
