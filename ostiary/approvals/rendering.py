r"""What an approver sees: every byte of the statement and its parameters, with nothing that could make it look like another.

Control, format and bidirectional characters are spelled out (`\u202e`); so is a letter of another script inside a word of Latin
letters, which is how one name is made to look like another; and each such thing is flagged. Bytes that are not text are shown as bytes.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ostiary.approvals.words import MAX_SHOWN, Contents
from ostiary.model.operations import Operation
from ostiary.model.printable import printable

_WORD: Final = re.compile(r"\w+")
_MAX_FLAGS: Final = 20


def contents(operation: Operation) -> Contents | None:
    """Take what an approver has to see; None: it is too large to be shown whole, so it is not offered."""
    parameters = operation.parameters
    values = () if parameters is None else parameters.values
    size = len(operation.statement) + sum(len(value) for value in values if value is not None)
    if size > MAX_SHOWN:
        return None
    return Contents(operation.statement, None if parameters is None else parameters.formats, values)


def shown(held: Contents) -> tuple[str, list[str], list[str]]:
    """Return the statement, each parameter, and what to look out for, as lines that do nothing to a terminal."""
    flags: list[str] = []
    statement = _text(held.statement, "the statement", flags, keep_newlines=True)
    formats = held.formats or ()
    parameters = []
    for number, value in enumerate(held.values):
        code = formats[0] if len(formats) == 1 else formats[number] if number < len(formats) else 0
        if value is None:
            parameters.append("NULL")
        elif code == 1:
            parameters.append(f"binary {value.hex()}")
        else:
            parameters.append(_text(value, f"parameter {number + 1}", flags))
    return statement, parameters, flags[:_MAX_FLAGS]


def _text(data: bytes, where: str, flags: list[str], *, keep_newlines: bool = False) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        flags.append(f"{where} is not UTF-8 text: its bytes are shown")
        return printable(data.decode("latin-1").encode("unicode_escape").decode())
    for char in sorted({char for char in text if _is_strange(char)}):
        name = unicodedata.name(char, "unnamed")
        flags.append(f"{where} holds U+{ord(char):04X} {name}")
    spelled = {at for word in _WORD.finditer(text) for at in _mixed(word)}
    return "".join(
        char.encode("unicode_escape").decode() if at in spelled else printable(char, keep_newlines=keep_newlines)
        for at, char in enumerate(text)
    )


def _is_strange(char: str) -> bool:
    return not char.isascii() or (not char.isprintable() and char not in "\n\t\r")


def _mixed(word: re.Match[str]) -> list[int]:
    """Return where in a word with Latin letters there are letters of another script."""
    if word[0].isascii() or not any(char.isascii() and char.isalpha() for char in word[0]):
        return []
    return [at for at, char in enumerate(word[0], word.start()) if not (char.isascii() or _is_latin(char))]


def _is_latin(char: str) -> bool:
    name = unicodedata.name(char, "")
    return name.startswith("LATIN ") and "DOTLESS" not in name
