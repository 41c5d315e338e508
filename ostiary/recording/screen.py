"""What stood on a terminal's screen, line by line: a terminal without colours, for who searches and reads recordings.

Theory of operation
-------------------
Characters go to cells as a VT220 or xterm would put them there. A line is *said* when the cursor leaves it by a line feed, before any of it
is overwritten, erased or scrolled away, and at the end: so all text is said that could be seen, and a word is found however it was put there:
in pieces, in colours, cell by cell, or across the right margin (rows that go on are one line). What was overwritten before anybody could
have seen it is said, too.

A recording is a stranger's. Screens are at most `MAX_COLUMNS` by `MAX_ROWS`, whatever was asked for. What is said is paid for by what comes in
(`CREDIT` characters for each byte, and some to begin with): a program that overwrites a long line all the time makes no
endless text of it; then `is_partial` says that not everything was.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final

from ostiary.kernel.terminal import CONTROL, CSI, TEXT, Parser

MAX_COLUMNS: Final = 1000
MAX_ROWS: Final = 200
MAX_JOINED: Final = 16
"""Rows of one line."""
CREDIT: Final = 16
FIRST_CREDIT: Final = 1 << 20
MOST_CREDIT: Final = 1 << 24
_MAX_MARKS: Final = 8
"""Characters of one cell."""
_TAB: Final = 8


class _Row:
    __slots__ = ("cells", "goes_on", "is_new")

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.goes_on = False
        """The line goes on in the next row."""
        self.is_new = False
        """Something was put here that was not said."""

    def clear(self) -> None:
        """Make it a blank one."""
        self.cells = []
        self.goes_on = self.is_new = False


class Screen:
    """One terminal's screen."""

    def __init__(self, columns: int, rows: int, said: Callable[[str], None], *, plain: bool = False) -> None:
        """`plain`: there is no terminal, so a line feed begins a new line."""
        self._said = said
        self._plain = plain
        self._parser = Parser()
        self._columns, self._count = _size(columns, rows)
        self._rows = [_Row() for _ in range(self._count)]
        self._main: tuple[list[_Row], int, int] | None = None
        self._y = self._x = 0
        self._top, self._bottom = 0, self._count - 1
        self._wraps = True
        self._from_top = False
        self._saved = (0, 0)
        self._last = " "
        self._credit = FIRST_CREDIT
        self.is_partial = False

    # --- in ----------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take in what a program wrote."""
        self._credit = min(MOST_CREDIT, self._credit + CREDIT * len(data))
        for kind, text, last in self._parser.feed(data):
            if kind == TEXT:
                self._write(text)
            elif kind == CONTROL:
                self._control(text)
            elif kind == CSI:
                self._sequence(text, last)
            else:
                self._escape(last)

    def resize(self, columns: int, rows: int) -> None:
        """The window has another size: rows go at the top, or come at the bottom."""
        self.end()
        self._columns, self._count = _size(columns, rows)
        gone = max(0, self._y - self._count + 1)
        kept = self._rows[gone : gone + self._count]
        for row in kept:
            del row.cells[self._columns :]
        self._rows = kept + [_Row() for _ in range(self._count - len(kept))]
        self._y = min(self._y - gone, self._count - 1)
        self._x = min(self._x, self._columns)
        self._top, self._bottom = 0, self._count - 1
        if self._main is not None:
            main = self._main[0][: self._count]
            self._main = (main + [_Row() for _ in range(self._count - len(main))], 0, 0)

    def settle(self) -> None:
        """Nothing came for a while: say what stands there, but for the line that is being written."""
        for y, row in enumerate(self._rows):
            if row.is_new and y != self._y:
                self._say(y)

    def end(self) -> None:
        """Say all that was not said yet."""
        for y, row in enumerate(self._rows):
            if row.is_new:
                self._say(y)

    # --- saying ------------------------------------------------------------------------------------------------------

    def _say(self, y: int) -> None:
        """Say the line of which this row is a part."""
        first = last = y
        while first and self._rows[first - 1].goes_on and y - first < MAX_JOINED:
            first -= 1
        while self._rows[last].goes_on and last + 1 < self._count and last - first < MAX_JOINED:
            last += 1
        rows = self._rows[first : last + 1]
        size = sum(len(row.cells) for row in rows)
        for row in rows:
            row.is_new = False
        if size > self._credit:
            self.is_partial = True
            return
        self._credit -= size
        text = "".join("".join(row.cells) for row in rows).rstrip()
        if text:
            self._said(text)

    def _lose(self, y: int, start: int, stop: int) -> None:
        """Something of a row is about to go: it is said first, and what is left of it later, as that may be another word."""
        row = self._rows[y]
        if any(cell.strip() for cell in row.cells[start:stop]):
            if row.is_new:
                self._say(y)
            row.is_new = True

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        if not text.isascii():
            for char in text:
                self._write_wide(char)
            return
        self._last = text[-1]
        at = 0
        while at < len(text):
            if self._x >= self._columns:
                self._wrap()
            piece = text[at : at + self._columns - self._x]
            self._put(list(piece))
            at += len(piece)

    def _write_wide(self, char: str) -> None:
        kind = unicodedata.category(char)
        if kind in {"Cf", "Zl", "Zp"}:
            return  # seen by nobody; a word is the same with it and without
        if kind in {"Mn", "Me"}:
            cells = self._rows[self._y].cells
            if 0 < self._x <= len(cells) and len(cells[self._x - 1]) < _MAX_MARKS:
                cells[self._x - 1] += char
            return
        cells = [char, ""] if unicodedata.east_asian_width(char) in {"W", "F"} and self._columns > 1 else [char]
        if self._x + len(cells) > self._columns:
            self._wrap()
        self._x = min(self._x, self._columns - len(cells))
        self._last = char
        self._put(cells)

    def _wrap(self) -> None:
        if self._wraps:
            self._rows[self._y].goes_on = True
            self._down()
            self._x = 0
        else:
            self._x = self._columns - 1

    def _put(self, cells: list[str]) -> None:
        row, x = self._rows[self._y], self._x
        end = x + len(cells)
        old = row.cells
        if x < len(old):
            if row.is_new and any(was not in {now, " "} for was, now in zip(old[x:end], cells, strict=False)):
                self._say(self._y)
        elif x > len(old):
            old += [" "] * (x - len(old))
        old[x:end] = cells
        row.is_new = True
        if end < self._columns:
            row.goes_on = False
        self._x = end

    # --- controls ----------------------------------------------------------------------------------------------------

    def _control(self, char: str) -> None:
        if char in "\n\v\f":
            self._line_feed()
            if self._plain:
                self._x = 0
        elif char == "\r":
            self._x = 0
        elif char == "\b":
            self._x = max(0, min(self._x, self._columns - 1) - 1)
        elif char == "\t":
            self._x = min(self._columns - 1, (self._x // _TAB + 1) * _TAB)

    def _line_feed(self) -> None:
        row = self._rows[self._y]
        row.goes_on = False
        if row.is_new:
            self._say(self._y)
        self._down()

    def _down(self) -> None:
        if self._y == self._bottom:
            self._scroll(self._top, 1)
        elif self._y + 1 < self._count:
            self._y += 1

    def _scroll(self, top: int, count: int) -> None:
        """Rows of the region go up, from `top` on."""
        count = min(count, self._bottom - top + 1)
        gone = self._gone(top, count)
        self._rows[top : self._bottom + 1] = self._rows[top + count : self._bottom + 1] + gone

    def _scroll_down(self, top: int, count: int) -> None:
        count = min(count, self._bottom - top + 1)
        gone = self._gone(self._bottom + 1 - count, count)
        self._rows[top : self._bottom + 1] = gone + self._rows[top : self._bottom + 1 - count]

    def _gone(self, first: int, count: int) -> list[_Row]:
        """Take rows out, to be put in again as blank ones."""
        gone = self._rows[first : first + count]
        for y, row in enumerate(gone, first):
            if row.is_new:
                self._say(y)
        for row in gone:
            if row.cells or row.goes_on:
                row.clear()
        return gone

    def _escape(self, last: str) -> None:
        match last:
            case "7":
                self._saved = (self._y, self._x)
            case "8":
                self._go(*self._saved)
            case "D" | "E":
                self._line_feed()
                self._x = 0 if last == "E" else self._x
            case "M":
                if self._y == self._top:
                    self._scroll_down(self._top, 1)
                else:
                    self._y = max(0, self._y - 1)
            case "c":
                self._gone(0, self._count)
                self._main, self._wraps, self._from_top = None, True, False
                self._top, self._bottom = 0, self._count - 1
                self._y = self._x = 0

    # --- sequences ---------------------------------------------------------------------------------------------------

    def _sequence(self, parameters: str, last: str) -> None:
        if parameters.startswith("?"):
            if last in {"h", "l"}:
                for each in parameters[1:].split(";"):
                    self._mode(each, on=last == "h")
            return
        found = [int(each[:6]) if each.isdecimal() and each.isascii() else 0 for each in parameters.split(";")]
        first = found[0]
        count = max(1, first)
        second = found[1] if len(found) > 1 else 0
        if last in _MOVING:
            self._move(last, count)
        elif last in {"H", "f"}:
            self._go(count - 1 + (self._top if self._from_top else 0), max(1, second) - 1)
        elif last == "J":
            self._erase_rows(first)
        elif last in {"K", "X"}:
            self._erase(last, first, count)
        elif last in {"@", "P"}:
            self._shift(last, count)
        elif last == "b":
            self._write(self._last * min(count, self._columns))
        elif last in _REGION:
            self._region(last, count, second, len(found))
        elif last == "s":
            self._saved = (self._y, self._x)
        elif last == "u":
            self._go(*self._saved)

    def _region(self, last: str, count: int, second: int, numbers: int) -> None:
        """Rows that go up or down, and between which."""
        inside = self._top <= self._y <= self._bottom
        if last == "r":
            bottom = min(second or self._count, self._count) - 1
            if count - 1 < bottom:
                self._top, self._bottom = count - 1, bottom
                self._go(self._top if self._from_top else 0, 0)
        elif last == "L" and inside:
            self._scroll_down(self._y, count)
        elif last == "M" and inside:
            self._scroll(self._y, count)
        elif last == "S":
            self._scroll(self._top, count)
        elif last == "T" and numbers == 1:
            self._scroll_down(self._top, count)

    def _mode(self, mode: str, *, on: bool) -> None:
        match mode:
            case "6":
                self._from_top = on
            case "7":
                self._wraps = on
            case "47" | "1047" | "1049":
                self._other_screen(on=on)

    def _other_screen(self, *, on: bool) -> None:
        if on and self._main is None:
            self.end()
            self._main = (self._rows, self._y, self._x)
            self._rows = [_Row() for _ in range(self._count)]
        elif not on and self._main is not None:
            self.end()
            rows, y, x = self._main
            self._main = None
            self._rows = rows
            self._go(y, x)

    def _go(self, y: int, x: int) -> None:
        self._y = max(0, min(y, self._count - 1))
        self._x = max(0, min(x, self._columns - 1))

    def _move(self, last: str, count: int) -> None:
        match last:
            case "A" | "F":
                self._go(self._y - count, 0 if last == "F" else self._x)
            case "B" | "e" | "E":
                self._go(self._y + count, 0 if last == "E" else self._x)
            case "C" | "a":
                self._go(self._y, self._x + count)
            case "D":
                self._go(self._y, self._x - count)
            case "G" | "`":
                self._go(self._y, count - 1)
            case "d":
                self._go(count - 1, self._x)
            case "I":
                self._go(self._y, (self._x // _TAB + count) * _TAB)
            case "Z":
                self._go(self._y, max(0, (self._x + _TAB - 1) // _TAB - count) * _TAB)

    def _erase_rows(self, how: int) -> None:
        if how == 0:
            self._blank(self._y, self._x, self._columns)
            lost = range(self._y + 1, self._count)
        elif how == 1:
            self._blank(self._y, 0, self._x + 1)
            lost = range(self._y)
        else:
            lost = range(self._count if how == 2 else 0)
        for y in lost:
            self._blank(y, 0, self._columns)

    def _erase(self, last: str, first: int, count: int) -> None:
        if last == "X":
            self._blank(self._y, self._x, self._x + count)
        elif first <= 2:
            start, stop = ((self._x, self._columns), (0, self._x + 1), (0, self._columns))[first]
            self._blank(self._y, start, stop)

    def _blank(self, y: int, start: int, stop: int) -> None:
        cells = self._rows[y].cells
        if not cells:
            return
        self._lose(y, start, stop)
        if stop >= len(cells):
            del cells[start:]
            self._rows[y].goes_on = False
        else:
            cells[start:stop] = [" "] * (stop - start)

    def _shift(self, last: str, count: int) -> None:
        """Characters are put in (@) or taken out (P) at the cursor."""
        cells = self._rows[self._y].cells
        x = min(self._x, self._columns - 1)
        if last == "P":
            self._lose(self._y, x, x + count)
            del cells[x : x + count]
        elif x < len(cells):
            self._lose(self._y, max(x, self._columns - count), self._columns)
            cells[x:x] = [" "] * min(count, self._columns - x)
            del cells[self._columns :]


_MOVING: Final = frozenset("AFBeECaDG`dIZ")
_REGION: Final = frozenset("LMSTr")


def _size(columns: int, rows: int) -> tuple[int, int]:
    """RFC 4254, 6.2: a size of nothing is none that was said."""
    return max(1, min(columns or 80, MAX_COLUMNS)), max(1, min(rows or 24, MAX_ROWS))
