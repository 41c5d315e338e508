"""One key for statements that differ in plain numbers only.

The key must not be able to disagree with the server's lexer, so it is timid: a text with a quote, a dollar, a
backslash, a comment or a zero byte has no such key, and only runs of at most nine digits (always int4) that touch no
identifier character, dot or digit are taken for numbers. What takes their place is a zero byte, which no statement may
hold, so no text equals another one's key.
"""

from __future__ import annotations

import re
from typing import Final

_SUSPICIOUS: Final = re.compile(rb"""['"$\\\x00/-]""").search
_UNPLAIN: Final = re.compile(rb"""['"$\\\x00]|--|/\*""").search
# The first digit stands before its look-behind so that the engine can skip to digits: half the time.
_NUMBERS: Final = re.compile(rb"[0-9](?<![A-Za-z0-9_.$\x80-\xff][0-9])[0-9]{0,8}(?![A-Za-z0-9_.$\x80-\xff])").sub
LONGEST: Final = 8_192
"""Bytes: longer texts are compared as they are."""


def plain_key(text: bytes) -> bytes | None:
    """Return the text with its plain numbers taken out, or None where that is not plainly safe."""
    if len(text) > LONGEST or (_SUSPICIOUS(text) and _UNPLAIN(text)):
        return None
    return _NUMBERS(b"\0", text)
