"""What the workers of one gateway count and remember together: a piece of memory that all of them have mapped.

Theory of operation
-------------------
The supervisor makes the memory (`memfd_create`: it is no file, and gone with the gateway) and hands it to each worker that it starts, so
it outlives a killed worker. It holds *tallies*, numbers in which each worker has a cell of its own, *tables* of small records by key, and
*notes*, a few texts of each worker that all others read.

A tally is read without a lock: each cell has one writer, and 64 aligned bits are stored at once. Who must know that a sum stays below a
limit (`Tally.enter`), and whoever touches a table, holds a lock of the kernel's over the memory; the kernel takes it from a process that
dies. It is held for microseconds; who cannot have it within `PATIENCE_SECONDS` gets `CommonsBusy`, and whatever that was for is refused.
A worker that dies in the middle leaves a record as it was, or counted: every change is one store, or begins with the one that makes it
strict.

A note has one writer too. Its end (`until`) is taken away before it changes and set after that, so who reads it twice the same has read it
whole.

A record stands in the bucket that its key's digest says, or nowhere. A bucket in which nothing is over has no room, and `place` says so:
memory is bounded, and whoever needed the room is refused.

One worker alone shares nothing: the same tallies over memory of its own, without a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from ostiary.model.errors import OstiaryError

MAX_WORKERS: Final = 64
PATIENCE_SECONDS: Final = 1.0
_NAP_SECONDS: Final = 0.0001
_CELL: Final = 8
_KEY: Final = 16
_PAGE: Final = 4096
WAYS: Final = 16
"""Records in a bucket."""
KEPT: Final = ("generation",)
"""Tallies that only grow: a worker that begins anew adds to its cell. All others begin at nothing."""


class CommonsBusy(OstiaryError):
    """Another worker has the lock, and does not let go of it."""


class Tally:
    """A number that all workers add to."""

    def __init__(self, cells: memoryview, own: int, lock: AbstractContextManager[None]) -> None:
        self._cells = cells
        self._own = own
        self._lock = lock

    @property
    def total(self) -> int:
        """Of all workers."""
        return sum(self._cells)

    def add(self, more: int) -> None:
        """Count for this worker."""
        self._cells[self._own] += more

    def enter(self, most: int) -> bool:
        """Count one more, unless all together have so many already, or that cannot be known now; whether it was counted."""
        try:
            with self._lock:
                if self.total >= most:
                    return False
                self.add(1)
                return True
        except CommonsBusy:
            return False

    def leave(self) -> None:
        """Count one less."""
        self.add(-1)

    def begin(self, *, kept: bool) -> None:
        """Count anew for this worker: whatever the one before it counted is over."""
        self._cells[self._own] = self._cells[self._own] + 1 if kept else 0


class Table:
    """Records of a fixed size, by key."""

    def __init__(self, memory: memoryview, body: int, lock: AbstractContextManager[None]) -> None:
        """`body`: bytes of a record behind its key."""
        self.memory = memory
        self.lock = lock
        """Hold it whenever you touch a record that others may touch."""
        self._size = _KEY + body
        self._buckets = len(memory) // (self._size * WAYS)

    def place(self, key: bytes, is_over: Callable[[int], bool]) -> int | None:
        """Where the body of the record of this key begins; None: there is no room.

        One that was not there is made, of zeros, where there was none or one that `is_over`.
        """
        at = int.from_bytes(key[:8], "big") % self._buckets * self._size * WAYS
        free = None
        for offset in range(at, at + self._size * WAYS, self._size):
            found = self.memory[offset : offset + _KEY]
            if found == key:
                return offset + _KEY
            if free is None and (found == _NOBODY or is_over(offset + _KEY)):
                free = offset
        if free is None:
            return None
        self.memory[free : free + _KEY] = _NOBODY
        self.memory[free + _KEY : free + self._size] = bytes(self._size - _KEY)
        self.memory[free : free + _KEY] = key
        return free + _KEY

    def find(self, key: bytes) -> int | None:
        """Where the body of the record of this key begins; None: there is none."""
        at = int.from_bytes(key[:8], "big") % self._buckets * self._size * WAYS
        for offset in range(at, at + self._size * WAYS, self._size):
            if self.memory[offset : offset + _KEY] == key:
                return offset + _KEY
        return None

    def bodies(self) -> range:
        """Where the bodies of all records begin, used or not."""
        return range(_KEY, self._buckets * WAYS * self._size, self._size)

    def holds(self, key: bytes, at: int) -> bool:
        """Whether the record whose body begins there is still this key's."""
        return self.memory[at - _KEY : at] == key


_NOBODY: Final = bytes(_KEY)

NOTES: Final = 16
"""Texts of one worker."""
MAX_NOTE: Final = 16 * 1024
_NOTE: Final = 16 + MAX_NOTE
_ENDS: Final = struct.Struct("=d")
NUMBER: Final = struct.Struct("=q")
"""How numbers stand in records: aligned, so that they are stored at once."""


def key_of(*parts: str) -> bytes:
    """What stands for these words in a table: no separator that one could hold is trusted."""
    whole = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).digest()[:_KEY]


class Notes:
    """A few texts of each worker, with the time until which each matters."""

    def __init__(self, memory: memoryview, workers: int, number: int) -> None:
        self._memory = memory
        self._workers = workers
        self._number = number

    def write(self, texts: dict[bytes, float]) -> None:
        """Put this worker's in the place of those that it had. Raises `ValueError` for one too long, or too many: they would not be read."""
        if len(texts) > NOTES or any(len(text) > MAX_NOTE for text in texts):
            raise ValueError("too much to share with other workers")
        at = self._number * NOTES * _NOTE
        for text, until in [*texts.items(), *[(b"", 0.0)] * (NOTES - len(texts))]:
            _ENDS.pack_into(self._memory, at, 0.0)
            NUMBER.pack_into(self._memory, at + 8, len(text))
            self._memory[at + 16 : at + 16 + len(text)] = text
            _ENDS.pack_into(self._memory, at, until)
            at += _NOTE

    def read(self, now: float) -> list[bytes]:
        """Those of all workers that still matter."""
        found = []
        for at in range(0, (self._workers + 1) * NOTES * _NOTE, _NOTE):
            (until,) = _ENDS.unpack_from(self._memory, at)
            while until > now:
                size: int = NUMBER.unpack_from(self._memory, at + 8)[0]
                text = bytes(self._memory[at + 16 : at + 16 + min(size, MAX_NOTE)])
                (again,) = _ENDS.unpack_from(self._memory, at)
                if again == until:
                    found.append(text)
                    break
                until = again
        return found


class Commons:
    """One process's way to what all share."""

    def __init__(
        self, fd: int, workers: int, number: int, tallies: Sequence[str], tables: dict[str, tuple[int, int]], notes: Sequence[str] = ()
    ) -> None:
        """Map it; `fd` -1: memory of this process's own. All but `number` is alike in all processes.

        `number`: which worker this is, from 1; 0: the supervisor. `tallies` and `notes`: their names, and `tables`: (bytes of a body, records)
        by name.
        """
        self.workers = workers
        self.number = number
        self._row = (workers + 1) * _CELL
        self._names = {name: at * self._row for at, name in enumerate(tallies)}
        self._tables: dict[str, tuple[int, int, int]] = {}
        end = _paged(len(self._names) * self._row)
        for name, (body, records) in tables.items():
            length = _paged((_KEY + body) * records)
            self._tables[name] = (end, length, body)
            end += length
        self._notes: dict[str, int] = {}
        for name in notes:
            self._notes[name] = end
            end += _paged(self._note_bytes)
        self.size = max(end, _PAGE)
        self._fd = fd
        if fd >= 0:
            os.ftruncate(fd, self.size)
            self._memory = memoryview(mmap.mmap(fd, self.size))
        else:
            self._memory = memoryview(bytearray(_paged(len(self._names) * self._row) or _PAGE))

    @classmethod
    def alone(cls, tallies: Sequence[str] = ()) -> Commons:
        """One worker's, which nobody else sees."""
        return cls(-1, 1, 1, tallies, {})

    @property
    def is_shared(self) -> bool:
        """Whether there are other workers."""
        return self._fd >= 0

    def begin(self) -> None:
        """Say that this worker has started: what the one before it counted is over."""
        for name in self._names:
            self.tally(name).begin(kept=name.partition(" ")[0] in KEPT)

    def outdate(self) -> None:
        """Somebody who cannot say so any more may have changed whatever the tallies that only grow stand for."""
        for name in self._names:
            if name.partition(" ")[0] in KEPT:
                self.tally(name).add(1)

    def tally(self, name: str) -> Tally:
        """The number of that name."""
        at = self._names[name]
        cells = self._memory[at : at + self._row].cast("q")
        return Tally(cells, self.number, self._lock(at))

    def table(self, name: str) -> Table:
        """The table of that name. Only where the memory is shared."""
        at, length, body = self._tables[name]
        return Table(self._memory[at : at + length], body, self._lock(at))

    def notes(self, name: str) -> Notes:
        """The notes of that name. Only where the memory is shared."""
        at = self._notes[name]
        return Notes(self._memory[at : at + self._note_bytes], self.workers, self.number)

    @property
    def _note_bytes(self) -> int:
        return (self.workers + 1) * NOTES * _NOTE

    def _lock(self, at: int) -> AbstractContextManager[None]:
        return _Lock(self._fd, at) if self._fd >= 0 else contextlib.nullcontext()


class _Lock:
    """A lock of the kernel's on one byte of the memory (POSIX, fcntl(2)): of a process, not of a descriptor."""

    def __init__(self, fd: int, at: int) -> None:
        self._fd = fd
        self._at = at

    def __enter__(self) -> None:
        end = 0.0
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._at)
            except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: fcntl(2)
                now = time.monotonic()
                end = end or now + PATIENCE_SECONDS
                if now >= end:
                    raise CommonsBusy("another worker of the gateway does not go on; try again") from None
                time.sleep(_NAP_SECONDS)
            else:
                return

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._at)


def make_memory() -> int:
    """A descriptor of memory to share. It is inherited by nobody to whom it is not given."""
    return os.memfd_create("ostiary-commons", os.MFD_CLOEXEC)


def _paged(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def own_tally() -> Tally:
    """A number that this process alone adds to."""
    return Tally(memoryview(bytearray(_CELL)).cast("q"), 0, contextlib.nullcontext())
