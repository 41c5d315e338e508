"""The tail: a ring in shared memory that holds what the disk does not have yet.

Theory of operation. The ring is a file on tmpfs, mapped into the writer. A store into it is in the kernel's page cache the moment
it is made, so it outlives a killed process; only a power cut takes it. That is what `buffered` promises, and why `append` never
waits for a disk.

The ring's bytes *are* the WAL's bytes: frames `u32le length | u32le crc32c(entry) | entry`, one after another, wrapping at
the end of the file byte by byte. So draining is one `writev` of one or two slices, with no work per entry. Positions
are counted in bytes from the beginning of time; position p lives at offset p modulo size.

Rules that hold:

* After the last frame stand eight zero bytes, the *stop*. A frame is made in this order: entry, new stop behind it, and only then
  its header over the old stop. A process killed anywhere in between leaves the old stop, or a header whose checksum fails.
  Frames of an earlier lap are therefore never reached.
  What a store is made of goes through a call that no compiler sees through (`Ring.put`), so that none moves one before another.
* One producer (the event loop's thread), one consumer (the writer's thread), both in one process, at the same time: the consumer needs no
  interpreter (`ostiary.audit.drain`). They share the head and the drained
  position. The latter is one number. The head is two, and the consumer reads them anew until no append began in between. Barriers keep the order in
  which they are stored.
* What was drained is on the disk: its position and number are kept twice, with a checksum each, written in turns, so one
  of them always holds. Recovery starts at the newer one.

What was tried: a sequence number in each frame costs a pass over every entry when draining. What is ugly: recovery trusts
whoever may write this file (mode 0600) for entries that were not signed yet, exactly as it trusts the WAL.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import google_crc32c

from ostiary.audit import disk, inline
from ostiary.audit.entries import MAX_ENTRY
from ostiary.model.errors import ConfigError, LogFailed

DEFAULT_SIZE: Final = 32 << 20
"""Bytes of ring: about 40,000 entries, two seconds of a stalled disk at 20,000 entries a second."""
SMALLEST: Final = 1 << 16

FRAME: Final = struct.Struct("<II")
"""length, crc32c(entry)."""
_HEADER: Final = struct.Struct("<8sQ32s16s")
"""magic, size, SHA-256 of the origin, boot id."""
_CHECKED: Final = struct.Struct("<I")
_DRAINED: Final = struct.Struct("<QQ")
"""position, number of entries."""
_MAGIC: Final = b"OSTTAIL1"
_DATA: Final = 4096
_FIRST: Final = 128
_SECOND: Final = 192
_SLOTS: Final = (_FIRST, _SECOND)
_STOP: Final = bytes(FRAME.size)
_TMPFS: Final = 0x01021994
_ONES: Final = 0xFFFFFFFF
_POLYNOMIAL: Final = 0x82F63B78
"""Of CRC-32C, its bits reversed."""
_checksum: Final = google_crc32c.value


def tail_path(tail_dir: Path, origin: str) -> Path:
    """Name an origin's tail: a hash, because the folder may be seen by others."""
    return tail_dir / f"ostiary-{hashlib.sha256(origin.encode()).hexdigest()[:24]}.tail"


def is_tmpfs(folder: Path) -> bool:
    """Tell whether `folder` lives in memory. False where the kernel does not say."""
    try:
        best, kind = "", ""
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, mount, filesystem, *_rest = line.split(" ")
            inside = folder.resolve().is_relative_to(mount.replace("\\040", " "))
            if inside and len(mount) >= len(best):
                best, kind = mount, filesystem
    except (OSError, ValueError):
        return False
    return kind in {"tmpfs", "ramfs"}


class Ring:
    """The bytes of a ring: positions count from the beginning of time and go round."""

    def __init__(self, memory: memoryview) -> None:
        self._bytes = memory
        self._size = len(memory)

    def put(self, position: int, piece: bytes) -> None:
        """Store a piece, round the end if it has to. It must not be longer than the ring."""
        at = position & (self._size - 1)
        size = len(piece)
        first = min(size, self._size - at)
        inline.put(self._bytes, at, piece, 0, first)
        if first < size:
            inline.put(self._bytes, 0, piece, first, size - first)

    def let_go(self) -> None:
        """Use the memory no more, so that it can be closed."""
        self._bytes = memoryview(bytearray())
        self._size = 0


class Tail:
    """The ring. Made by `open_tail`; `append` belongs to the loop, `pending` and `drained` to the writer's thread."""

    def __init__(self, fd: int, memory: mmap.mmap, path: Path, position: int, count: int) -> None:
        self.path = path
        self._fd = fd
        self._memory = memory
        self._view = memoryview(memory)
        self.ring = Ring(self._view[_DATA:])
        self._notes = self._view[:_DATA]
        self.size = len(memory) - _DATA
        self._mask = self.size - 1
        self._slot = 0
        self._header = bytearray(FRAME.size)
        """Of the frame that is made, until it is stored."""
        self._begun = self._index = count
        """Indexes that the next frame will have: of those that were begun, and of those that are there."""
        self._position = position
        """Where the next frame goes."""
        self._drained = position
        self.seen = count
        """The index behind what the consumer looked at."""
        self._seen_position = position
        self.room = self.size - FRAME.size
        """Bytes that may stand between the drained position and the head, stop not counted."""

    def append(self, entry: bytes, reserve: int = 0) -> int:
        """Put `entry` into the ring and return its index, or -1 when fewer than `reserve` bytes would be left free."""
        position, index, length = self._position, self._index, len(entry)
        after = position + length + 8
        if after - self._drained + reserve > self.room:
            return -1
        checksum = _checksum(entry)
        self.ring.put(position + 8, entry)
        self.ring.put(after, _STOP)
        for byte in range(4):
            self._header[byte] = length >> 8 * byte & 0xFF
            self._header[byte + 4] = checksum >> 8 * byte & 0xFF
        self.ring.put(position, inline.taken(self._header, 8))
        inline.order()
        self._begun = index + 1
        inline.order()
        self._position = after
        inline.order()
        self._index = index + 1
        return index

    @property
    def head(self) -> tuple[int, int]:
        """Where the next frame goes, and the index it will have. Also for the thread: never a position of one append with the index of another."""
        while True:
            index, position = self._index, self._position
            if self._begun == index:
                return position, index

    def used(self) -> int:
        """Bytes that are not drained yet."""
        return self._position - self._drained

    def pending(self) -> tuple[list[memoryview], int, int]:
        """Slices of all that is not drained, in order, with the position and the index behind it. Release the slices."""
        position, index = self.head
        start = self._drained & self._mask
        length = position - self._drained
        first = min(length, self.size - start)
        slices = [self._view[_DATA + start : _DATA + start + first]]
        if length > first:
            slices.append(self._view[_DATA : _DATA + length - first])
        return slices, position, index

    def look(self) -> int:
        """As `pending`, for who has no interpreter: notes how far the ring goes (`seen`, an index), and returns the bytes up to there that are not drained."""
        while True:
            index = self._index
            inline.order()
            position = self._position
            inline.order()
            if self._begun == index:
                break
        self.seen, self._seen_position = index, position
        return position - self._drained

    def save(self, fd: int, at: int) -> int:
        """Write the bytes that were looked at to a file; returns 0, or the system's `errno`."""
        return disk.put(fd, self.ring._bytes, self._drained & self._mask, self._seen_position - self._drained, at)  # noqa: SLF001 - of this file

    def settle(self) -> None:
        """Note that what was looked at is on the disk."""
        self.drained(self._seen_position, self.seen)

    def drained(self, position: int, index: int) -> None:
        """Note that everything before `position`, which is entry `index`, is on the disk: its room may be used again."""
        at = _SECOND if self._slot else _FIRST
        check = _ONES
        for byte in range(16):
            value = (position if byte < 8 else index) >> 8 * (byte & 7) & 0xFF
            self._notes[at + byte] = value
            check ^= value
            for _ in range(8):
                check = check >> 1 ^ (_POLYNOMIAL if check & 1 else 0)
        check ^= _ONES
        for byte in range(4):
            self._notes[at + 16 + byte] = check >> 8 * byte & 0xFF
        self._slot ^= 1
        inline.order()
        self._drained = position

    def close(self, *, remove: bool) -> None:
        """Let go of the ring. `remove` only when it is drained: else it is what recovery needs."""
        self.ring.let_go()
        self._notes = memoryview(bytearray())
        self._view.release()
        self._memory.close()
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)


class Remains:
    """What an earlier writer left in its tail: entries from `index` on, those before are on the disk."""

    def __init__(self, memory: mmap.mmap, size: int) -> None:
        found = [slot for at in _SLOTS if (slot := _read_slot(memory, at)) is not None]
        if not found:
            raise LogFailed("the tail's header is damaged: no drained position in it checks")
        self.position, self.index = max(found, key=lambda slot: slot[1])
        self._memory = memory
        self._size = size

    def entries(self) -> Iterator[bytes]:
        """Yield the entries not drained yet, oldest first, up to the stop or to a frame that was not finished."""
        position = self.position
        while position + FRAME.size <= self.position + self._size:
            length, checksum = FRAME.unpack(self._take(position, FRAME.size))
            if not 0 < length <= MAX_ENTRY:
                return
            entry = self._take(position + FRAME.size, length)
            if google_crc32c.value(entry) != checksum:
                return
            yield entry
            position += FRAME.size + length

    def _take(self, position: int, length: int) -> bytes:
        start = position % self._size
        first = min(length, self._size - start)
        return self._memory[_DATA + start : _DATA + start + first] + self._memory[_DATA : _DATA + length - first]


def _read_slot(memory: mmap.mmap, at: int) -> tuple[int, int] | None:
    record = memory[at : at + _DRAINED.size]
    (checksum,) = _CHECKED.unpack_from(memory, at + _DRAINED.size)
    if google_crc32c.value(record) != checksum:
        return None
    position, index = _DRAINED.unpack(record)
    return position, index


class TailFile:
    """An origin's ring file, locked. Holds what an earlier writer left until `begin` makes it a fresh ring."""

    def __init__(self, tail_dir: Path, origin: str, size: int = DEFAULT_SIZE) -> None:
        if size < SMALLEST or size & (size - 1):
            raise ConfigError("audit.tail_bytes", f"must be a power of two, at least {SMALLEST}")
        if not tail_dir.is_dir():
            raise ConfigError("audit.tail_dir", f"{tail_dir} is no folder: name one on tmpfs, such as /dev/shm")
        self.path = tail_path(tail_dir, origin)
        self._origin = hashlib.sha256(origin.encode()).digest()
        self._size = size
        self._old: mmap.mmap | None = None
        self.existed = self.path.exists()
        """False: whatever an earlier writer had here is gone with the machine's memory, or was removed."""
        self._fd = self._open()
        self.remains = self._look()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags, 0o600)
        except OSError as problem:
            raise ConfigError("audit.tail_dir", f"cannot open {self.path}: {problem.strerror}") from None
        found = os.fstat(fd)
        # In a folder that others may write to, somebody else may have made the file, to read it or to be in the way.
        foreign = found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077 or found.st_nlink > 1
        if foreign or not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise ConfigError("audit.tail_dir", f"{self.path} is not this user's own private file: remove it")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise LogFailed(f"another writer holds {self.path}") from None
        return fd

    def _look(self) -> Remains | None:
        length = os.fstat(self._fd).st_size
        if length == 0:
            return None
        if length > _DATA:
            self._old = mmap.mmap(self._fd, length, access=mmap.ACCESS_READ)
            magic, size, origin, _ = _HEADER.unpack_from(self._old, 0)
            (checksum,) = _CHECKED.unpack_from(self._old, _HEADER.size)
            good = checksum == google_crc32c.value(self._old[: _HEADER.size])
            if good and magic == _MAGIC and size == length - _DATA and origin == self._origin:
                return Remains(self._old, size)
            if not any(self._old[: _HEADER.size]):
                return None  # allocated and never begun: the writer was killed before its first entry
        raise LogFailed(f"{self.path} is damaged: it may hold entries that nobody else has; look at it, then remove it")

    def begin(self, count: int, boot: bytes) -> Tail:
        """Make it an empty ring whose next entry has index `count`. Call once what remains is on the disk."""
        if self._old is not None:
            self._old.close()
            self._old = None
        os.ftruncate(self._fd, 0)
        # A ring without blocks of its own would die of SIGBUS when memory runs out: take them now, or say no now.
        try:
            os.posix_fallocate(self._fd, 0, _DATA + self._size)
        except OSError as problem:
            raise ConfigError("audit.tail_dir", f"no room for {self._size} bytes: {problem.strerror}") from None
        memory = mmap.mmap(self._fd, _DATA + self._size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        tail = Tail(self._fd, memory, self.path, 0, count)
        tail.drained(0, count)
        header = _HEADER.pack(_MAGIC, self._size, self._origin, boot)
        memory[_HEADER.size : _HEADER.size + _CHECKED.size] = _CHECKED.pack(google_crc32c.value(header))
        memory[: _HEADER.size] = header
        return tail

    def remove(self) -> None:
        """Delete the file: what it held is on the disk, and nobody will append."""
        self.path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go without touching anything."""
        if self._old is not None:
            self._old.close()
            self._old = None
        os.close(self._fd)
