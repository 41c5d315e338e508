"""Answers from the index in time that hangs on how much is asked for, not on how long the log is.

Theory of operation. Each thing that is asked (a term, words, a bound of time) is a *stream*: the numbers of the entries that have it,
newest first, or oldest first. All tables of the index stand in that order, so a stream starts anywhere at the cost of a look-up and
goes on at the cost of a row. What all streams have in common is found by leapfrog: the one that is behind goes on to where the
farthest one is, a few rows by stepping, farther by a look-up; and it ends at the limit. So neither a term that half of all entries have costs
much, nor two frequent ones that rarely meet: the sparse one says where to look in the other.

The ugly case is a beginning (`public.or*`), which stands for many terms, each a stream of its own. Few entries: they are
sorted at once. Many, and nothing else asked: the streams are merged as they come. Many beside others: each entry that the others name is
read, and its own terms are compared.

To go through time in either direction with the same comparisons, numbers are negative while newest comes first.
"""

from __future__ import annotations

import bisect
import heapq
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Final

END: Final = 1 << 63
"""Behind every number."""
_STEPS: Final = 24
"""Rows that cost as much as a look-up."""
_SORTED: Final = 100_000
"""Entries of a beginning that are sorted at once."""
_MERGED: Final = 4096
"""Terms of a beginning whose streams are merged."""

Opener = Callable[[int], Iterator[int]]
"""The numbers of a stream from a number on."""


class Stream:
    """Numbers in order, from any place on."""

    def __init__(self, opened: Opener, *, steps: int = _STEPS) -> None:
        self._open = opened
        self._steps = steps
        self._rows: Iterator[int] | None = None
        self._at = -END

    def upto(self, wanted: int) -> int:
        """Return the first number that is `wanted` or behind it; `END` where there is none. `wanted` never goes back."""
        if self._at >= wanted:
            return self._at
        if self._rows is not None:
            for _ in range(self._steps):
                self._at = next(self._rows, END)
                if self._at >= wanted:
                    return self._at
        self._rows = self._open(wanted)
        self._at = next(self._rows, END)
        return self._at


def together(streams: Sequence[Stream], first: int, last: int) -> Iterator[int]:
    """Yield the numbers from `first` to `last` that all streams have."""
    at, agreed, turn = first, 0, 0
    while True:
        found = streams[turn].upto(at)
        if found > last:
            return
        agreed = agreed + 1 if found == at else 1
        at = found
        if agreed == len(streams):
            yield at
            at, agreed = at + 1, 0
        turn = (turn + 1) % len(streams)


class Streams:
    """Makes streams of one index, in one direction of time."""

    def __init__(self, db: sqlite3.Connection, *, newest_first: bool) -> None:
        self._db = db
        self._sign = -1 if newest_first else 1
        self._compared, self._order = ("<=", "DESC") if newest_first else (">=", "ASC")

    def range(self, low: int, high: int) -> tuple[int, int]:
        """Bounds (both included) as `together` takes them."""
        return (-high, -low) if self._sign < 0 else (low, high)

    def everything(self) -> Stream:
        """Stream every entry."""
        return self._of("SELECT n FROM entry WHERE n {} ? ORDER BY n {}")

    def closing(self, ref: bytes) -> Stream:
        """Stream what closed an intent or a session."""
        return self._of("SELECT entry FROM closing WHERE ref = ? AND entry {} ? ORDER BY entry {}", ref)

    def words(self, match: str) -> Stream:
        """Stream what full-text search finds."""
        return self._of("SELECT rowid FROM words WHERE words MATCH ? AND rowid {} ? ORDER BY rowid {}", match, steps=8 * _STEPS)

    def these(self, numbers: Sequence[int]) -> Stream:
        """Numbers that are known already."""
        ordered = sorted(self._sign * number for number in numbers)
        return Stream(lambda wanted: iter(ordered[bisect.bisect_left(ordered, wanted) :]))

    def tokens(self, token: int) -> Stream:
        """Stream the operations of a value's token."""
        return self._of("SELECT entry FROM token WHERE token = ? AND entry {} ? ORDER BY entry {}", token)

    def term(self, field: str, text: str) -> Stream:
        """Stream what has a term."""
        row = self._db.execute("SELECT n FROM value WHERE field = ? AND text = ?", (field, text)).fetchone()
        return self._posting(row[0]) if row else self.these(())

    def named(self, field: str, text: str) -> Stream:
        """Stream what has a name of a field: the whole name, or its last part where none stands before it."""
        if "." in text:
            return self.term(field, text)
        sql = "SELECT n FROM value WHERE field = ? AND (text = ? OR substr(text, -length(?)) = ?)"
        last = f".{text}"
        return self.any_of([self._posting(n) for (n,) in self._db.execute(sql, (field, text, last, last)).fetchall()])

    def beginning(self, field: str, text: str, *, alone: bool) -> Stream | None:
        """Stream what has any term of a field that begins so. None: it is too much, look at the entries that other streams name."""
        bounds = (field, text, text + "\U0010ffff")
        which = "FROM value v JOIN posting p ON p.value = v.n WHERE v.field = ? AND v.text >= ? AND v.text < ?"
        few = self._db.execute(f"SELECT p.entry {which} LIMIT {_SORTED + 1}", bounds).fetchall()
        if len(few) <= _SORTED:
            return self.these([*{number for (number,) in few}])
        if not alone:
            return None
        values = "SELECT n FROM value WHERE field = ? AND text >= ? AND text < ?"
        numbers = [number for (number,) in self._db.execute(f"{values} LIMIT {_MERGED + 1}", bounds)]
        if len(numbers) <= _MERGED:
            return self._merged([self._posting(number) for number in numbers])
        return self._of(f"SELECT DISTINCT p.entry {which} AND p.entry {{}} ? ORDER BY p.entry {{}}", *bounds)

    def any_of(self, streams: Sequence[Stream]) -> Stream:
        """Stream what at least one of some streams has."""
        return self._merged(streams)

    def _posting(self, value: int) -> Stream:
        return self._of("SELECT entry FROM posting WHERE value = ? AND entry {} ? ORDER BY entry {}", value)

    @staticmethod
    def _merged(streams: Sequence[Stream]) -> Stream:
        def rows(stream: Stream, wanted: int) -> Iterator[int]:
            while (found := stream.upto(wanted)) < END:
                yield found
                wanted = found + 1

        def opened(wanted: int) -> Iterator[int]:
            last = -END
            for number in heapq.merge(*(rows(stream, wanted) for stream in streams)):
                if number != last:
                    yield number
                    last = number

        return Stream(opened)

    def _of(self, sql: str, *values: object, steps: int = _STEPS) -> Stream:
        statement = sql.format(self._compared, self._order)

        def opened(wanted: int) -> Iterator[int]:
            for (number,) in self._db.execute(statement, (*values, self._sign * wanted)):
                yield self._sign * number

        return Stream(opened, steps=steps)
