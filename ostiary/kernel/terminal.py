r"""What a program says to a terminal, taken apart: text, controls, escape sequences (ECMA-48; VT220 and xterm for what it leaves open).

Theory of operation
-------------------
A state machine over decoded text. Controls inside a sequence are carried out, and do not end it, as terminals have it. Strings (OSC, DCS,
APC, PM, SOS) are dropped whole: nothing that they do is drawing. A string ends as it should, or where a line does, or after `MAX_STRING`
characters: what was never ended hides one line, and not the rest of a session. Whatever is cut in the middle goes on with the next piece, so
it makes no difference where a stream was cut. Memory is bounded: what a sequence may hold is, and text is handed on as it comes.

Line drawing (the DEC special graphics set) is translated here, so nobody further on has to know of character sets, nor switches one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final

MAX_PARAMETERS: Final = 64
"""Characters of the parameters of one sequence; a longer one is dropped."""
MAX_STRING: Final = 64 * 1024

TEXT, CONTROL, CSI, ESC = range(4)
Token = tuple[int, str, str]
"""(TEXT, text, ''), (CONTROL, character, ''), (CSI, parameters, intermediates and final), (ESC, '', intermediates and final)."""

_RUN: Final = re.compile("[^\x00-\x1f\x7f-\x9f]+")
_STRING_END: Final = re.compile("[\x07\x0a\x0d\x18\x1a\x1b\x9c]")
_GRAPHICS: Final = str.maketrans(
    "_`abcdefghijklmnopqrstuvwxyz{|}~",
    "\u00a0\u25c6\u2592\u2409\u240c\u240d\u240a\u00b0\u00b1\u2424\u240b\u2518\u2510\u250c\u2514\u253c\u23ba\u23bb\u2500\u23bc\u23bd"
    "\u251c\u2524\u2534\u252c\u2502\u2264\u2265\u03c0\u2260\u00a3\u00b7",
)
_STRINGS: Final = frozenset("PX]^_")
_GROUND, _ESCAPE, _SEQUENCE, _STRING = range(4)


class Parser:
    """One stream to one terminal."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._state = _GROUND
        self._parameters = ""
        self._intermediates = ""
        self._is_too_long = False
        self._dropped = 0
        self._graphics = [False, False]
        """Of G0 and G1: whether it is the line drawing set."""
        self._shifted = 0
        self._saved = ([False, False], 0)

    def feed(self, data: bytes) -> Iterator[Token]:
        """Take in bytes of UTF-8; what is none becomes U+FFFD."""
        return self.read(self._decoder.decode(data))

    def read(self, text: str) -> Iterator[Token]:
        """Take in text."""
        at, end = 0, len(text)
        while at < end:
            if self._state == _STRING:
                at = self._skip(text, at)
            elif self._state == _GROUND and (run := _RUN.match(text, at)) is not None:
                at = run.end()
                drawn = run[0].translate(_GRAPHICS) if self._graphics[self._shifted] else run[0]
                yield TEXT, drawn, ""
            else:
                token = self._take(text[at])
                at += 1
                if token is not None:
                    yield token

    def _skip(self, text: str, at: int) -> int:
        """Drop what a string holds; where the next thing begins."""
        found = _STRING_END.search(text, at, at + MAX_STRING - self._dropped)
        if found is None:
            stop = min(len(text), at + MAX_STRING - self._dropped)
            self._dropped += stop - at
            if self._dropped >= MAX_STRING:
                self._state = _GROUND
            return stop
        self._state = _GROUND
        # An end of line, and an escape, mean something by themselves.
        return found.start() if found[0] in "\n\r\x1b" else found.end()

    def _take(self, char: str) -> Token | None:
        code = ord(char)
        if char == "\x1b":
            self._begin(_ESCAPE)
            return None
        if char in "\x18\x1a":
            self._state = _GROUND
            return None
        if code < 0x20:
            return self._control(char)
        if code == 0x7F:
            return None
        if 0x80 <= code <= 0x9F:  # the 8-bit form of ESC and the character 0x40 before it
            self._begin(_ESCAPE)
            return self._escape(chr(code - 0x40))
        if self._state == _ESCAPE:
            return self._escape(char)
        return self._sequence(char)

    def _begin(self, state: int) -> None:
        self._state = state
        self._parameters = self._intermediates = ""
        self._is_too_long = False

    def _control(self, char: str) -> Token | None:
        if char == "\x0e":
            self._shifted = 1
        elif char == "\x0f":
            self._shifted = 0
        else:
            return CONTROL, char, ""
        return None

    def _escape(self, char: str) -> Token | None:
        """ECMA-35, 13: ESC, intermediates, final."""
        if " " <= char <= "/":
            self._intermediates = (self._intermediates + char)[:4]
            return None
        self._state = _GROUND
        if not "0" <= char <= "~":
            return TEXT, char, ""
        if not self._intermediates:
            if char == "[":
                self._begin(_SEQUENCE)
                return None
            if char in _STRINGS:
                self._state, self._dropped = _STRING, 0
                return None
            if char == "7":
                self._saved = (list(self._graphics), self._shifted)
            elif char == "8":
                self._graphics, self._shifted = list(self._saved[0]), self._saved[1]
            elif char == "c":
                self._graphics, self._shifted = [False, False], 0
        elif self._intermediates in {"(", ")"}:
            self._graphics["()".index(self._intermediates)] = char == "0"
            return None
        return ESC, "", self._intermediates + char

    def _sequence(self, char: str) -> Token | None:
        """ECMA-48, 5.4: CSI, parameters, intermediates, final."""
        if "0" <= char <= "?" and not self._intermediates:
            self._parameters += char
        elif " " <= char <= "/":
            self._intermediates += char
        elif "@" <= char <= "~":
            self._state = _GROUND
            return None if self._is_too_long else (CSI, self._parameters, self._intermediates + char)
        else:  # no sequence has it: what it began is over
            self._state = _GROUND
            return (TEXT, char, "") if char > "\x9f" else None
        if len(self._parameters) + len(self._intermediates) > MAX_PARAMETERS:
            self._is_too_long = True
            self._parameters = self._intermediates = ""
        return None
