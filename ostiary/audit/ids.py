"""UUIDv7 (RFC 9562, 5.7) as fast as entries need them, growing within one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

_COUNTER_BITS: Final = 48
_HEX: Final = tuple(f"{byte:02x}" for byte in range(256))
_now: Final = time.time_ns


class Ids:
    """Makes ids that never repeat and never go backwards, even when the clock does.

    RFC 9562, 6.2, method 2: within a millisecond the last 48 bits count up from a random start (its top bit clear, so there
    is room for 2^47 ids); the 26 random bits before them are drawn anew each millisecond.
    """

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._millis = -1
        self._stem = ""
        """What stands before the counter."""
        self._prefix = ""
        """The stem and the upper four bytes of the counter, which stay the same for 65,536 ids."""
        self._counter = 0

    def next(self, now: int | None = None) -> str:
        """Make the next id. `now` is nanoseconds since 1970 (the wall clock, when left out)."""
        millis = (_now() if now is None else now) // 1_000_000
        if millis > self._millis:
            self._turn(millis)
        else:
            self._counter += 1
            if self._counter >> _COUNTER_BITS:
                self._turn(self._millis + 1)
            elif not self._counter & 0xFFFF:
                self._prefix = f"{self._stem}{self._counter >> 16:08x}"
        return f"{self._prefix}{_HEX[self._counter >> 8 & 0xFF]}{_HEX[self._counter & 0xFF]}"

    def _turn(self, millis: int) -> None:
        noise = int.from_bytes(self._random(10), "big")
        self._millis = millis
        self._counter = noise & ((1 << (_COUNTER_BITS - 1)) - 1)
        stamp = f"{millis & 0xFFFFFFFFFFFF:012x}"
        rand_a = (noise >> 48) & 0xFFF
        variant = 0x8000 | ((noise >> 60) & 0x3FFF)
        self._stem = f"{stamp[:8]}-{stamp[8:]}-7{rand_a:03x}-{variant:04x}-"
        self._prefix = f"{self._stem}{self._counter >> 16:08x}"
