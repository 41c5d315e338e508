"""UUIDv7 (RFC 9562, 5.7) as fast as entries need them, growing within one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from ostiary.audit import inline

_COUNTER_BITS: Final = 48
_POOL: Final = 4000
_NOISE: Final = 10
"""Random bytes of a millisecond."""


class Ids:
    """Makes ids that never repeat and never go backwards, even when the clock does.

    RFC 9562, 6.2, method 2: within a millisecond the last 48 bits count up from a random start (its top bit clear, so there
    is room for 2^47 ids); the 26 random bits before them are drawn anew each millisecond.

    The random bytes are drawn many at a time, and each is used once. No copy of them uses them again: a process that makes ids is
    started, not forked (`ostiary.app.orders`), and makes its `Ids` when it opens its log.
    """

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._pool = b""
        self._drawn = 0
        """How much of the pool is used."""
        self._millis = -1
        self._counter = 0
        self._text = bytearray(b"00000000-0000-7000-8000-000000000000")
        """The id that was made last."""

    def next(self, now: int | None = None) -> str:
        """Make the next id. `now` is nanoseconds since 1970 (the wall clock, when left out)."""
        return self.at(inline.now() if now is None else now)

    def at(self, now: int) -> str:
        """Make the next id at a time that the caller has looked at."""
        millis = now // 1_000_000
        if millis > self._millis:
            self._turn(millis)
        else:
            self._counter += 1
            if self._counter >> _COUNTER_BITS:
                self._turn(self._millis + 1)
        self._write(24, 12, self._counter)
        return self._text[:36].decode("ascii")

    def _turn(self, millis: int) -> None:
        if self._drawn + _NOISE > len(self._pool):
            self._pool = self._random(_POOL)
            self._drawn = 0
        noise, at = self._pool, self._drawn
        self._drawn = at + _NOISE
        self._millis = millis
        self._counter = noise[at] & 0x7F
        for more in range(at + 1, at + 6):
            self._counter = self._counter << 8 | noise[more]
        self._write(0, 8, millis >> 16)
        self._write(9, 4, millis)
        self._write(15, 3, noise[at + 6] << 8 | noise[at + 7])
        self._write(19, 4, 0x8000 | (noise[at + 8] << 8 | noise[at + 9]) & 0x3FFF)

    def _write(self, at: int, digits: int, value: int) -> None:
        """Write the last `digits` hexadecimal digits of a number."""
        for place in range(at + digits - 1, at - 1, -1):
            digit = value & 0xF
            self._text[place] = digit + (48 if digit < 10 else 87)
            value >>= 4
