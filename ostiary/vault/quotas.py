"""How much may be recorded, by a session, an identity on a day, all on a day, and altogether: asked for before it is written.

Theory of operation. A stream asks for room in blocks (`Allowance.reach`), so most writes ask nobody. What it was given and did not use
comes back when it ends. A recording counts for the day (UTC) on which its session began, which is in its name (a UUIDv7): so what a day and
the whole store have used is found by looking at the files at the start, however the process before ended. Whose a recording is stands in none
of them: that is noted in a small file of the day beside the log, appended before the recording begins.

What is pruned meanwhile, by another process, is noticed by looking again (`recount`), which may run in a thread.

At a limit nothing is dropped: `QuotaReached` says which one, a new session is refused, an open one ends with what it wanted to do undone.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from ostiary.vault.payload_format import HEADER, SUFFIX, QuotaReached

BLOCK: Final = 1 << 18
"""Bytes that a stream is given at once, where there is room for so many."""
FIRST: Final = HEADER.size + (64 << 10)
"""Bytes without which no recording begins: room for a first statement of usual size."""
DAY_MS: Final = 86_400_000
FILE: Final = "recorded-by"
"""Begins the name of the file of a day that says whose recordings are whose."""


class Limits(msgspec.Struct, frozen=True):
    """Most bytes. None: no limit."""

    session: int
    identity_day: int | None = None
    day: int | None = None
    store: int | None = None


class Allowance:
    """What one recording may grow to."""

    def __init__(self, quotas: Quotas, session: str, whose: str, day: int) -> None:
        self._quotas = quotas
        self.session = session
        self.whose = whose
        self.day = day
        self.held = 0
        """Bytes that were given: the stream may be so large without asking."""

    def reach(self, size: int) -> int:
        """Allow a stream of `size` bytes; returns up to which size it need not ask again. Raises `QuotaReached`."""
        return self._quotas.give(self, size)

    def settle(self, size: int) -> None:
        """The stream has ended at `size` bytes."""
        self._quotas.take_back(self, size)


class _Day:
    """What the recordings that began on a day hold."""

    def __init__(self) -> None:
        self.total = 0
        self.by: dict[str, int] = {}

    def count(self, whose: str, more: int) -> None:
        self.total += more
        left = self.by.get(whose, 0) + more
        if left:
            self.by[whose] = left
        else:
            self.by.pop(whose, None)


class Quotas:
    """All recordings of one gateway. Used by one thread; `look` alone may run in another."""

    def __init__(self, limits: Limits, state: Path) -> None:
        self._limits = limits
        self._state = state
        self._open: dict[str, Allowance] = {}
        self._given = 0
        """Bytes that open recordings hold."""
        self._closed = 0
        """Bytes of all others."""
        self._settled = 0
        """Bytes of those that ended since the last look began."""
        self._begun: set[str] = set()
        """Those that were open when it began, or began since: it leaves them out."""
        self._day = -1
        self._days: dict[int, _Day] = {}
        """Today, and days on which recordings began that are open still."""

    def start(self, now_ms: int) -> None:
        """See what is there. Reads every folder of recordings, where a limit needs it."""
        self._turn(now_ms // DAY_MS)
        self.found(self.look(self.begin_look()))
        if self._limits.day is None and self._limits.identity_day is None:
            return
        whose = dict(self._noted())
        for path in _recordings(self._state):
            if _day_of(path.stem) == self._day:
                self._days[self._day].count(whose.get(path.stem, ""), _size(path))

    def allow(self, session: str, whose: str) -> Allowance:
        """Let a recording begin, or raise `QuotaReached`. `whose`: of whom all sessions count together."""
        day = _day_of(session)
        if day > self._day:
            self._turn(day)
        # A clock that goes back begins no day anew.
        made = Allowance(self, session, hashlib.sha256(whose.encode()).hexdigest()[:32], self._day)
        self._open[session] = made
        self._begun.add(session)
        try:
            made.reach(FIRST)
            self._note(made)
        except BaseException:
            self.take_back(made, 0)
            raise
        return made

    def give(self, to: Allowance, size: int) -> int:
        """See `Allowance.reach`."""
        if size <= to.held:
            return to.held
        if size > self._limits.session:
            raise QuotaReached(f"the session's recording reached its limit of {self._limits.session} bytes")
        wanted = min(max(size, to.held + BLOCK), self._limits.session)
        if self._full(to, wanted - to.held):
            wanted = size
            if full := self._full(to, wanted - to.held):
                raise QuotaReached(full)
        self._move(to, wanted - to.held)
        return wanted

    def take_back(self, of: Allowance, size: int) -> None:
        """See `Allowance.settle`."""
        if self._open.pop(of.session, None) is None:
            return
        self._move(of, size - of.held)
        self._given -= size
        self._closed += size
        self._settled += size

    def begin_look(self) -> set[str]:
        """Begin to look again; returns what `look` leaves out, which grows meanwhile."""
        self._settled = 0
        self._begun = set(self._open)
        return self._begun

    def look(self, without: set[str]) -> int:
        """Bytes of all recordings that are neither open nor new."""
        if self._limits.store is None:
            return 0
        return sum(_size(path) for path in _recordings(self._state) if path.stem not in without)

    def found(self, size: int) -> None:
        """What `look` has found."""
        self._closed = size + self._settled

    @property
    def stored(self) -> int:
        """Bytes of all recordings, with what open ones may use without asking."""
        return self._closed + self._given

    def _full(self, to: Allowance, more: int) -> str:
        """Why there is no room for so many more bytes; empty: there is."""
        limits = self._limits
        if limits.store is not None and self.stored + more > limits.store:
            return f"all recordings together reached their limit of {limits.store} bytes (recordings.store_bytes)"
        day = self._days[to.day]
        if limits.day is not None and day.total + more > limits.day:
            return f"the recordings of this day reached their limit of {limits.day} bytes (recordings.day_bytes)"
        if limits.identity_day is not None and day.by.get(to.whose, 0) + more > limits.identity_day:
            return f"this identity's recordings of this day reached their limit of {limits.identity_day} bytes (recordings.identity_day_bytes)"
        return ""

    def _move(self, of: Allowance, more: int) -> None:
        of.held += more
        self._given += more
        self._days[of.day].count(of.whose, more)

    # --- days ---

    def _turn(self, day: int) -> None:
        """Another day begins: nothing of it is used yet."""
        self._day = day
        in_use = {each.day for each in self._open.values()}
        self._days = {day: _Day()} | {of: held for of, held in self._days.items() if of in in_use}
        for path in self._state.glob(f"{FILE}-*"):
            if path != self._notes:
                path.unlink(missing_ok=True)

    @property
    def _notes(self) -> Path:
        name = (dt.date(1970, 1, 1) + dt.timedelta(days=self._day)).isoformat()
        return self._state / f"{FILE}-{name}"

    def _note(self, of: Allowance) -> None:
        if self._limits.identity_day is None:
            return
        fd = os.open(self._notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{of.session} {of.whose}\n".encode())
        finally:
            os.close(fd)

    def _noted(self) -> Iterator[tuple[str, str]]:
        try:
            text = self._notes.read_text(encoding="ascii", errors="replace")
        except OSError:
            return
        for line in text.splitlines():
            session, _, whose = line.partition(" ")
            yield session, whose


def _recordings(state: Path) -> Iterable[Path]:
    return state.glob(f"audit/*/*/payloads/*{SUFFIX}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # pruned just now
        return 0


def _day_of(session: str) -> int:
    """The day on which a session began, counted from 1970: RFC 9562, 5.7."""
    try:
        return int(session.replace("-", "")[:12], 16) // DAY_MS
    except ValueError:
        return -1
