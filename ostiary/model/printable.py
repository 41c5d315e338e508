"""Text of strangers, made safe for a terminal, a log line or a table cell."""

from __future__ import annotations


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""Spell out whatever could move a cursor, change a colour, or turn the order of letters round.

    Control characters, format characters (bidirectional marks among them), line separators, lone surrogates and
    unassigned code points become `\x1b`, `\u202e`, …; a backslash becomes `\\`, so that nothing can pass for one of these.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    out: list[str] = []
    for char in text:
        if char == "\\":
            out.append("\\\\")
        elif char.isprintable() or (keep_newlines and char in "\n\t"):
            out.append(char)
        else:
            out.append(char.encode("unicode_escape").decode())
    return "".join(out)
