"""The disk thread's short way: from the bell to the disk and back to the bell, without the interpreter.

Theory of operation. A thread that wants the interpreter takes it from the event loop, and until it has it, each of the loop's system calls
wakes it in vain: what the thread asks for after each of five calls costs both of them more than the calls do. So what needs no
object is done without: wait for the bell, read how far the ring goes, write, sync, see that the file still has its name, note it, go on waiting.
Whatever else is there to do (somebody waits, recordings go first, a new segment, the fence, the sealer, anything that went wrong)
sends the thread back to `ostiary.audit.writer`, which does it in Python. `drain.pxd` makes it C; uncompiled it is plain Python.

The loop and the thread run side by side here, so each flag has one side that sets it, and order is made by barriers:

* The loop appends, sets what it asks for, *barrier*, and looks whether the bell was rung. The thread says that it heard the bell, *barrier*, and
  looks at what is asked for and at the ring. So either the thread sees what is new, or it is rung for once more.
* The thread says how far the log is durable, *barrier*, and looks whether somebody waits. The loop says that somebody waits, *barrier*, and looks
  how far the log is durable. So nobody waits for what is there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ostiary.audit import disk, inline
from ostiary.audit.tail import Tail

_NOTHING: Final = 0
_LOOK: Final = 1
_TELL: Final = 2
_UNWRITTEN: Final = 3
_UNSYNCED: Final = 4

LOOK: Final = _LOOK
"""There may be something that is not done here. Nothing counts as written."""
TELL: Final = _TELL
"""It is on the disk, and somebody has to be told."""
UNWRITTEN: Final = _UNWRITTEN
"""Writing failed: see `Drain.error`."""
UNSYNCED: Final = _UNSYNCED
"""Syncing failed."""
_PWRITEV: Final = os.pwritev
_FDATASYNC: Final = os.fdatasync


class Place:
    """Where the log is written: in the hands of one thread at a time."""

    def __init__(self, index: int, limit: int) -> None:
        self.fd = -1
        self.offset = 0
        """Behind the last frame."""
        self.limit = limit
        self.index = index
        """Entries before the offset."""
        self.path = b""
        self._name = self.path
        self.device = self.number = 0
        """Of the file, which stay what they are while it is open."""

    def move(self, fd: int, path: Path, offset: int) -> None:
        """Go on in another file."""
        found = os.fstat(fd)
        self.fd, self.offset = fd, offset
        name = os.fsencode(path)
        self.path = name
        self._name = name
        self.device, self.number = found.st_dev, found.st_ino

    def stands(self) -> bool:
        """Whether the file still stands where it is looked for. Lets go of the interpreter meanwhile."""
        held = disk.let_go()
        found = self.is_there()
        disk.take_back(held)
        return found

    def is_there(self) -> bool:
        """Whether it does, asked by who has no interpreter."""
        return disk.is_named(self._name, self.device, self.number)


class Drain:
    """What the loop and the disk thread share beside the ring."""

    def __init__(self, tail: Tail, place: Place) -> None:
        self.durable = place.index
        """Entries known to be on the disk: every index below this one. Set by the thread."""
        self.busy_since = 0.0
        """When the thread began what it is doing with the disk; 0: it is not. Seconds of the monotonic clock."""
        self.look_at = 0.0
        """When the thread has to look at more than the ring. Its own."""
        self.tell_at = 0
        """Which index the sealer has to be told of at once."""
        self.careful = False
        """Whether the thread must take the long way until all is well again. Its own."""
        self.error = 0
        self.plain = False
        """Whether the short way may be taken at all. Set by the loop, as is all that follows."""
        self.waiting = False
        """Whether somebody waits for an entry."""
        self.beside = False
        """Whether something has to be on the disk before the entries that follow. Taken back by the thread, which has the interpreter then."""
        self.rung = False
        """The thread was told that there is something to do, and has not looked yet."""
        self._tail = tail
        self._place = place
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)

    def ring(self, plain: bool) -> None:
        """Have the thread look, if it was not asked to already. `plain`: the short way may be taken.

        It is not where writing and syncing are not the system's own: a test that makes the disk fail puts something in their place.
        """
        self.plain = plain and os.pwritev is _PWRITEV and os.fdatasync is _FDATASYNC
        inline.barrier()
        if not self.rung and self._bell >= 0:
            self.rung = True
            disk.ring(self._bell)

    def again(self) -> None:
        """Have the thread, which says this itself, look once more."""
        disk.ring(self._bell)

    def close(self) -> None:
        """Let go of the bell: the thread has ended. Whoever rings from now on reaches nothing."""
        bell, self._bell = self._bell, -1
        os.close(bell)

    def wait(self) -> int:
        """Bring to the disk what the ring holds whenever the bell rings, until there is something else to do; returns what."""
        held = disk.let_go()
        why = self._serve()
        disk.take_back(held)
        return why

    def bring(self) -> int:
        """Bring to the disk what the ring holds now; returns what else there is to do."""
        if not self.plain or self.careful:
            return LOOK
        held = disk.let_go()
        why = self._bring()
        disk.take_back(held)
        return why

    def _serve(self) -> int:
        while True:
            self.error = disk.wait(self._bell)
            if self.error:
                return _UNWRITTEN
            self.rung = False
            inline.barrier()
            why = self._bring() if self.plain and not self.careful else _LOOK
            if why != _NOTHING:
                return why

    def _bring(self) -> int:
        """Bring to the disk what the ring holds, if that is all there is to do."""
        size = self._tail.look()
        if not size:
            return _NOTHING
        at = self._place.offset
        now = inline.clock() / 1e9
        # Looked at after the ring: what belongs to an entry was handed over before it.
        if self.beside or now >= self.look_at or self._place.fd < 0 or at + size > self._place.limit:
            return _LOOK
        self.busy_since = now
        self.error = self._tail.save(self._place.fd, at)
        if self.error:
            return _UNWRITTEN
        self.error = disk.sync(self._place.fd)
        if self.error:
            return _UNSYNCED
        if not self._place.is_there():
            return _LOOK
        self.busy_since = 0.0
        self._place.offset = at + size
        self._place.index = self._tail.seen
        self._tail.settle()
        self.durable = self._tail.seen
        inline.barrier()
        return _TELL if self.waiting or self.durable >= self.tell_at else _NOTHING
