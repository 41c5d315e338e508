"""Detectors beyond the built-in ones: patterns of the operator's own, and national ids.

Theory of operation. A batch is first searched whole for anything that could be a match, by one pattern that is all of them without
their assertions (`Candidates`): RE2 does that at hundreds of megabytes a second, and of most batches it is all that is done. What stands
beside a value may join with it there, so a hit is only a place to look at: if no hit touches a region, there is no match in it, since
searches from left to right never leap over one. A region that is touched is then searched by itself, exactly.

A text that is not UTF-8 is searched once more, as one of a character a byte.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ostiary.kernel.detect import NAMES
from ostiary.model.patterns import compiled, loosened, matches, next_match

MAX_CANDIDATES: Final = 2_000
"""Places of one batch that are told apart; behind them everything is looked at."""


class Net:
    """One detector. `check` says of a candidate whether it is one; a pattern with a group finds what is in the group."""

    __slots__ = ("_check", "_group", "_patterns", "data_class", "pattern")

    def __init__(self, pattern: str, data_class: str, check: Callable[[bytes], bool] | None = None) -> None:
        """Raises ValueError for a pattern that is none. With `check`, it is one of ASCII alone."""
        self.data_class = data_class
        self.pattern = pattern
        self._check = check
        self._patterns = [compiled(pattern, latin=True)] if check is not None else _both(pattern)
        self._group = 1 if self._patterns[0].groups else 0

    @property
    def is_latin(self) -> bool:
        """Whether it can be looked for in text of one character a byte."""
        return self._check is not None or len(self._patterns) > 1

    def find(self, text: bytes, *, is_utf8: bool) -> Iterator[tuple[int, int]]:
        """(start, end) of each match in a region."""
        for pattern in self._patterns[:1] if is_utf8 else self._patterns:
            found = pattern.search(text)
            while found is not None:
                left, right = found.span(self._group)
                at = max(right, left + 1)
                if right > left:
                    if self._check is None or self._check(text[left:right]):
                        yield left, right
                    else:
                        at = left + 1
                found = next_match(pattern, text, at)


def _both(pattern: str) -> list[Any]:
    """A pattern over UTF-8, and over one character a byte if its own characters have one."""
    try:
        return [compiled(pattern), compiled(pattern, latin=True)]
    except ValueError:
        return [compiled(pattern)]


class Wanted:
    """What is looked for: built-in detectors as bits, and others."""

    __slots__ = ("_kinds", "_loose", "alone", "bits", "names", "nets")

    def __init__(self, bits: int, nets: Sequence[Net]) -> None:
        self.bits = bits
        self.nets = tuple(nets)
        self.names = tuple(dict.fromkeys([*NAMES, *(net.data_class for net in nets)]))
        """What counts are kept of: the built-in detectors, then other data classes."""
        self._kinds = tuple(self.names.index(net.data_class) for net in nets)
        self._loose = _any_of(nets)
        self.alone: Wanted = Wanted(0, self.nets) if bits else self
        """The same without the built-in ones."""

    def candidates(self, data: bytes) -> Candidates | None:
        """Where matches could be; None: nowhere."""
        if not data:
            return None
        if not self._loose:
            return Candidates(self, data, [(0, len(data))])
        spans: list[tuple[int, int]] = []
        for pattern in self._loose[:1] if data.isascii() else self._loose:
            known = len(spans)
            for span in matches(pattern, data):
                if len(spans) - known >= MAX_CANDIDATES:
                    spans.append((span[0], len(data)))
                    break
                spans.append(span)
        return Candidates(self, data, spans) if spans else None

    def find(self, text: bytes) -> list[tuple[int, int, int]]:
        """(kind, start, end) of each match in a region."""
        is_utf8 = _is_utf8(text)
        return [
            (kind, left, right)
            for net, kind in zip(self.nets, self._kinds, strict=True)
            for left, right in net.find(text, is_utf8=is_utf8)
        ]


def _any_of(nets: Sequence[Net]) -> list[Any]:
    """All of them as one pattern, in both readings; empty: it would be too large, and every place is a candidate."""
    made: list[Any] = []
    for latin in (False, True):
        each = [f"(?:{loosened(net.pattern)})" for net in nets if net.is_latin or not latin]
        try:
            made += [compiled("|".join(each), latin=latin, bounded=False)] if each else []
        except ValueError:
            return []
    return made


class Candidates:
    """Places of one batch that have to be looked at."""

    __slots__ = ("_data", "_ends", "_starts", "_wanted")

    def __init__(self, wanted: Wanted, data: bytes, spans: list[tuple[int, int]]) -> None:
        self._wanted = wanted
        self._data = data
        self._starts: list[int] = []
        self._ends: list[int] = []
        for left, right in sorted(spans):
            if self._ends and left <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], right)
            else:
                self._starts.append(left)
                self._ends.append(right)

    def within(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """(kind, start, end) of each match in `data[start:stop]`, as places in the batch."""
        at = bisect_right(self._ends, start)
        if at >= len(self._starts) or self._starts[at] >= stop:
            return []
        return [(kind, start + left, start + right) for kind, left, right in self._wanted.find(self._data[start:stop])]


def names_of(wanted: int | Wanted) -> tuple[str, ...]:
    """What a scanner's counts are of, in their order."""
    return NAMES if isinstance(wanted, int) else wanted.names


def bits_of(wanted: int | Wanted) -> int:
    """The built-in detectors of it."""
    return wanted if isinstance(wanted, int) else wanted.bits


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
