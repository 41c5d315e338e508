"""What the log's disk thread asks of the system: a bell to wait for, one write, one sync, and whether a file still has its name.

Compiled modules take these functions from `disk.pxd`, as C that needs no interpreter; this file is for the interpreter, and does the same.
Each says what went wrong by its `errno`, 0 where nothing did.
"""

from __future__ import annotations

import errno
import os


def let_go() -> object:
    """Let go of the interpreter, up to `take_back`: nothing in between may need it. Uncompiled, everything does."""
    return None


def take_back(held: object) -> None:
    """Have the interpreter again."""


def wait(bell: int) -> int:
    """Wait until the bell, an eventfd, was rung since the last time."""
    try:
        os.eventfd_read(bell)
    except OSError as problem:
        return problem.errno or errno.EIO
    return 0


def ring(bell: int) -> int:
    """Ring it. Never waits."""
    try:
        os.eventfd_write(bell, 1)
    except OSError as problem:
        return problem.errno or errno.EIO
    return 0


def put(fd: int, ring: memoryview, start: int, size: int, at: int) -> int:
    """Write to `at` the `size` bytes of a ring that begin at `start` and go round its end if they have to."""
    done = 0
    while done < size:
        begin = (start + done) % len(ring)
        first = min(size - done, len(ring) - begin)
        try:
            wrote = os.pwritev(fd, [ring[begin : begin + first], ring[: size - done - first]], at + done)
        except OSError as problem:
            return problem.errno or errno.EIO
        if not wrote:
            return errno.EIO
        done += wrote
    return 0


def sync(fd: int) -> int:
    """Have what was written on the disk. What says no once is unknown for good: it is asked once."""
    try:
        os.fdatasync(fd)
    except OSError as problem:
        return problem.errno or errno.EIO
    return 0


def is_named(name: bytes, device: int, number: int) -> bool:
    """Whether the file of that name is the one of that device and number."""
    try:
        found = os.stat(name)  # noqa: PTH116 - as C does
    except OSError:
        return False
    return found.st_dev == device and found.st_ino == number
