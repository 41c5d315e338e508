"""What the log's compiled modules do in C: copies of memory and looks at the clocks.

Compiled modules take these functions from `inline.pxd`, as C that stands where it is used; this file is for the interpreter, and does the same.
"""

from __future__ import annotations

import time


def put(to: memoryview, at: int, piece: bytes, start: int, size: int) -> None:
    """Copy `size` bytes of `piece` from `start` on to `at`. Raises `IndexError` when they do not lie in both."""
    if min(at, start, size) < 0 or at + size > len(to) or start + size > len(piece):
        raise IndexError("a copy outside of its memory")
    to[at : at + size] = piece[start : start + size]


def taken(room: bytearray, size: int) -> bytes:
    """Take the first `size` bytes; the caller knows that they are there."""
    return bytes(room[:size])


def now() -> int:
    """Look at the wall clock: nanoseconds since 1970."""
    return time.time_ns()


def clock() -> int:
    """Look at the monotonic clock: nanoseconds."""
    return time.monotonic_ns()


def order() -> None:
    """Let no store or look behind this one move before it, as other threads see them. The interpreter keeps that by itself."""


def barrier() -> None:
    """As `order`, and let no look come before the stores that stand before this."""
