"""Text of strangers, made safe for a terminal, a log line or a table cell."""

from __future__ import annotations

import json
import re
from typing import Final

_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U0001d159\U00016fe4\U000e0100-\U000e01ef]"
    "|(?<![\u203c\u2049\u2100-\u27bf\u2900-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])[\ufe0e\ufe0f](?!\u20e3)"
)
"""What Unicode counts as printable and nobody can see: Default_Ignorable_Code_Point (UAX 44) that is letter or mark, and blanks that are
letters or symbols. The choice between a symbol's picture and its drawing (U+FE0E, U+FE0F) is one only where there is no symbol before it."""


def is_visible(text: str) -> bool:
    """Whether all of `text` shows: no control or format character, nothing unassigned, nothing that looks like nothing."""
    return text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None)


def printable_json(document: str) -> str:
    """JSON without blanks between its parts, with whatever does not show escaped as JSON escapes it: it says the same, in one line for every reader."""
    return document if is_visible(document) else "".join(char if is_visible(char) else json.dumps(char)[1:-1] for char in document)


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""Spell out whatever could move a cursor, change a colour, or turn the order of letters round.

    Control characters, format characters (bidirectional marks among them), line separators, lone surrogates, marks and letters that
    nobody sees, and unassigned code points become `\x1b`, `\u202e`, …; a backslash becomes `\\`, so that nothing can pass for one of these.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    out: list[str] = []
    unseen = {found.start() for found in _UNSEEN.finditer(text)}
    for at, char in enumerate(text):
        if char == "\\":
            out.append("\\\\")
        elif (char.isprintable() and at not in unseen) or (keep_newlines and char in "\n\t"):
            out.append(char)
        else:
            out.append(char.encode("unicode_escape").decode())
    return "".join(out)
