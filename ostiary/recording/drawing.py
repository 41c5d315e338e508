r"""What may reach the terminal of somebody who looks at a recording: drawing, and nothing else.

A list of what is permitted, written anew from what was understood (`ostiary.kernel.terminal`); nothing of the recording passes as it is:

    text        without format characters (bidirectional marks, tags): each becomes U+FFFD
    controls    BS HT LF CR; VT and FF as LF
    CSI n       @ A B C D E F G H I J K L M P S T X Z ` a b d e f r s u, with numbers up to 9999; J without 3, which empties the scrollback
    CSI m       styles up to 107, not 8, which hides text; colours of text and background, in the one form that every terminal reads
    CSI h l     4, ?6 ?7 ?25 ?47 ?1047 ?1049: insertion, origin, wrapping, the cursor, the other screen
    ESC         7 8 D E M; c becomes a clear screen with everything in its place

So there are no titles, clipboards, hyperlinks, notifications, images, bells, questions that the terminal would answer, modes of keyboard or
mouse, character sets, tabulators, nor window operations.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.kernel.terminal import CONTROL, CSI, TEXT, Parser

MAX_NUMBER: Final = 9999
MAX_NUMBERS: Final = 32
RESET: Final = "\x1b[?47l\x1b[m\x1b[4l\x1b[r\x1b[?6l\x1b[?7h\x1b[?25h"
"""Everything that a drawing can have changed, in its place again."""
CLEAR: Final = f"{RESET}\x1b[H\x1b[2J"

FORMAT: Final = re.compile(
    "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Format characters (Cf) and separators, without the two joiners that scripts and emoji need."""
_CONTROLS: Final = {"\b": "\b", "\t": "\t", "\n": "\n", "\v": "\n", "\f": "\n", "\r": "\r"}
_MOVES: Final = dict.fromkeys("@ABCDEFGIKLMPSTXZ`abde", 1) | {"H": 2, "f": 2, "r": 2, "J": 1, "s": 0, "u": 0}
"""How many numbers each takes."""
_MODES: Final = frozenset({"4", "?6", "?7", "?25", "?47", "?1047", "?1049"})
_ESCAPES: Final = frozenset("78DEM")
_NUMBERS: Final = re.compile(r"[0-9;]*")
_STYLES: Final = frozenset(range(108)) - {8, 38, 48, 58}
"""8 hides; the others begin colours."""
_COLOURS: Final = {"5": 1, "2": 3}
"""ITU T.416: numbers behind 38 (text), 48 (background) and 58 (underline), by the kind of the colour."""
_MAX_COLOUR: Final = 255
_MAX_UNDERLINE: Final = 5


class Drawing:
    """One stream, as it may be drawn. However it is cut, the same comes out."""

    def __init__(self) -> None:
        self._parser = Parser()

    def feed(self, data: bytes) -> str:
        """Take in what a program wrote; what of it may be drawn."""
        out: list[str] = []
        for kind, text, last in self._parser.feed(data):
            if kind == TEXT:
                out.append(text if text.isascii() else FORMAT.sub("\ufffd", text))
            elif kind == CONTROL:
                out.append(_CONTROLS.get(text, ""))
            elif kind == CSI:
                out.append(_sequence(text, last))
            elif last in _ESCAPES:
                out.append(f"\x1b{last}")
            elif last == "c":
                out.append(CLEAR)
        return "".join(out)


def _sequence(parameters: str, last: str) -> str:
    if last in _MOVES:
        return _move(parameters, last)
    if last == "m":
        return _style(parameters)
    if last in {"h", "l"}:
        prefix = "?" if parameters.startswith("?") else ""
        modes = [prefix + each.lstrip("0") for each in parameters.removeprefix("?").split(";")]
        return "".join(f"\x1b[{mode}{last}" for mode in modes[:MAX_NUMBERS] if mode in _MODES)
    return ""


def _move(parameters: str, last: str) -> str:
    if not _NUMBERS.fullmatch(parameters):
        return ""
    numbers = parameters.split(";") if parameters else []
    capped = [str(min(int(each), MAX_NUMBER)) if each else "" for each in numbers]
    if len(numbers) > _MOVES[last] or (last == "J" and capped and capped[0] not in {"", "0", "1", "2"}):
        return ""
    return f"\x1b[{';'.join(capped)}{last}"


def _style(parameters: str) -> str:
    """SGR (ECMA-48, 8.3.117; ITU T.416 for colours): what is not understood is left out, and so is what hides.

    A colour is kept whole or not at all: of half of one, what follows would be read as the rest, and what stands behind that as styles. That of underlines (58) is
    never kept, since a terminal that does not know it reads its numbers as styles; nor are colons but in `4:3`, since not all know those.
    """
    parts = parameters.split(";")[:MAX_NUMBERS]
    kept: list[str] = []
    at = 0
    while at < len(parts):
        first, *beneath = parts[at].split(":")
        number = _number(first, MAX_NUMBER)
        at += 1
        if number in {38, 48, 58}:
            values = beneath
            if not beneath:
                kind = str(_number(parts[at], MAX_NUMBER)) if at < len(parts) else ""
                size = 1 + _COLOURS[kind] if kind in _COLOURS else 0
                values = [kind, *parts[at + 1 : at + size]]
                at += size
            if number != 58:
                kept += _colour(number, values)
        elif not beneath and number in _STYLES:
            kept.append(str(number) if first else "")
        elif number == 4 and len(beneath) == 1 and (line := _number(beneath[0], _MAX_UNDERLINE)) is not None:
            kept.append(f"4:{line}")
    return f"\x1b[{';'.join(kept)}m" if kept else ""


def _colour(number: int, values: list[str]) -> list[str]:
    """A colour as `38;5;N` or `38;2;R;G;B`; nothing if it is none. With colons an empty colour space may stand in front of three."""
    size = _COLOURS.get(values[0], 0)
    numbers = values[2:] if size > 1 and len(values) == size + 2 and not values[1] else values[1:]
    found = [_number(each, _MAX_COLOUR) for each in numbers]
    if not size or len(found) != size or None in found:
        return []
    return [str(number), values[0], *map(str, found)]


def _number(text: str, most: int) -> int | None:
    """What digits say, an empty place for 0; None: it is no number, or a larger one."""
    if not text.isascii() or not (text.isdigit() or not text) or len(text) > len(str(MAX_NUMBER)):
        return None
    number = int(text or "0")
    return number if number <= most else None


__all__ = ["CLEAR", "FORMAT", "RESET", "Drawing"]
