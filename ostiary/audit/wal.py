"""The write-ahead log's files: segments of frames. `docs/log-format.md`, 2.

`Segments` writes; `frames` and `WalReader` read. Nothing here knows what an entry means.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c

from ostiary.audit.drain import Place
from ostiary.audit.entries import MAX_ENTRY
from ostiary.audit.tail import FRAME
from ostiary.kernel.entries import cut
from ostiary.model.errors import LogFailed

SEGMENT_BYTES: Final = 64 << 20
_CHUNK: Final = 1 << 20
_SOME: Final = 1 << 18
"""Read at a time by whom hashes and bundles it: so much stays in the processor's cache meanwhile."""


class Damaged(LogFailed):
    """The log on disk is not what was written. Names the first bad index; the log must not be extended."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(f"entry {index}: {what}")
        self.index = index


class Segment(NamedTuple):
    """One file of the WAL."""

    first: int
    """Index of its first entry."""
    path: Path


def segments(folder: Path) -> list[Segment]:
    """List the WAL's files in order."""
    return sorted(Segment(int(path.stem), path) for path in folder.glob("*.wal"))


def sync_folder(folder: Path | str) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Frame(NamedTuple):
    """One frame, where it was found."""

    entry: bytes
    end: int
    """Offset behind it."""


def frames(path: Path, offset: int = 0) -> Iterator[Frame]:
    """Yield the frames of one segment from `offset` on, up to its end, its padding, or the first that does not check."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        held, at = b"", 0
        while True:
            if len(held) - at >= FRAME.size:
                length, checksum = FRAME.unpack_from(held, at)
                if not 0 < length <= MAX_ENTRY:
                    return
                stop = at + FRAME.size + length
                if stop <= len(held):
                    entry = held[at + FRAME.size : stop]
                    if google_crc32c.value(entry) != checksum:
                        return
                    offset += FRAME.size + length
                    at = stop
                    yield Frame(entry, offset)
                    continue
            more = file.read(_CHUNK)
            if not more:
                return
            held, at = held[at:] + more, 0


class Segments:
    """Appends frames to the last segment, and begins new ones. Used by one thread at a time."""

    def __init__(self, folder: Path, index: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Open for appending entry `index`; the caller (recovery) has cut everything behind it off."""
        self._folder = folder
        self.place = Place(index, segment_bytes)

    @property
    def index(self) -> int:
        """How many entries were written."""
        return self.place.index

    def resume(self, path: Path, offset: int) -> None:
        """Go on in `path` at `offset`, where its last frame ends."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.place.move(fd, path, offset)
        if os.fstat(fd).st_size > offset:
            # Whatever stands behind the last frame is no entry: it must not look like one later.
            os.ftruncate(fd, offset)
        with contextlib.suppress(OSError):
            # Only for speed: a file whose size does not change syncs without a journal commit.
            os.posix_fallocate(fd, 0, max(self.place.limit, offset))

    def write(self, slices: list[memoryview], index: int) -> None:
        """Append the frames in `slices`, which end before entry `index`, and return once they are on the disk.

        May be called again with the same frames after an OSError in writing: it writes them to the same place.
        Raises `SyncFailed` when fdatasync says no: what is on the disk is then unknown, for good.
        """
        size = sum(len(piece) for piece in slices)
        place = self.place
        if place.fd < 0 or (place.offset and place.offset + size > place.limit):
            self._turn(size)
        self._put(slices, size)
        self._sync(place.fd)
        place.offset += size
        place.index = index

    def check(self) -> None:
        """Raise `LogFailed` when the file is not the one that stands in the log's folder: what nobody will find is no record."""
        if self.place.fd >= 0 and not self.place.stands():
            raise LogFailed("the log's file was removed, or another put in its place, while it was written")

    def _put(self, slices: list[memoryview], size: int) -> None:
        done = 0
        while done < size:
            left = slices if done == 0 else _after(slices, done)
            wrote = os.pwritev(self.place.fd, left, self.place.offset + done)
            if wrote == 0:
                raise OSError(errno.EIO, "pwritev wrote nothing")
            done += wrote

    def _turn(self, size: int) -> None:
        """Close this segment at its last frame and begin the next: preallocated, its name durable before it is used."""
        old = self.place.fd
        if old >= 0:
            os.ftruncate(old, self.place.offset)
            self._sync(old)
        path = self._folder / f"{self.index:020d}.wal"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _reserve(fd, max(self.place.limit, size), size)
            self._sync(fd)
            sync_folder(self._folder)
            self.place.move(fd, path, 0)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        if old >= 0:
            os.close(old)

    @staticmethod
    def _sync(fd: int) -> None:
        try:
            os.fdatasync(fd)
        except OSError as problem:
            # After a failed fsync the kernel may have dropped the pages and calls the next one a success: no second try.
            raise SyncFailed(f"fdatasync: {problem.strerror}") from problem

    @staticmethod
    def fail(error: int, *, in_sync: bool) -> None:
        """Raise what `write` raises where the system says `error`."""
        if in_sync:
            raise SyncFailed(f"fdatasync: {os.strerror(error)}")
        raise OSError(error, os.strerror(error))

    def close(self) -> None:
        """Cut the last segment to its last frame and let go of it."""
        fd = self.place.fd
        if fd < 0:
            return
        try:
            os.ftruncate(fd, self.place.offset)
            self._sync(fd)
        finally:
            os.close(fd)
            self.place.fd = -1


class SyncFailed(LogFailed):
    """The disk could not say that it has what it was given."""


def _after(slices: list[memoryview], done: int) -> list[memoryview]:
    left = []
    for piece in slices:
        if done < len(piece):
            left.append(piece[done:])
        done = max(0, done - len(piece))
    return left


def _reserve(fd: int, wanted: int, least: int) -> None:
    """Preallocate `wanted` bytes; where there is not that much, what is needed now."""
    try:
        os.posix_fallocate(fd, 0, wanted)
    except OSError as problem:
        if problem.errno == errno.ENOSPC and least < wanted:
            os.ftruncate(fd, 0)
            os.posix_fallocate(fd, 0, least)
            return
        if problem.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise


class WalReader:
    """Reads a WAL from some entry on, while it is being written."""

    def __init__(self, folder: Path, index: int) -> None:
        """Start at entry `index`, which need not be there yet."""
        self.index = index
        self._folder = folder
        self._path: Path | None = None
        self._offset = 0

    def copy(self) -> WalReader:
        """Take a copy, to read on without moving this one."""
        twin = WalReader(self._folder, self.index)
        twin._path, twin._offset = self._path, self._offset
        return twin

    def read(self, stop: int) -> Iterator[bytes]:
        """Yield the entries before `stop`, which are known to be there. Raises `Damaged` when they are not."""
        for some in self.batches(stop):
            yield from some

    def batches(self, stop: int) -> Iterator[list[bytes]]:
        """Yield the entries before `stop` in lists: as many at a time as one read of the file brings. Raises `Damaged`."""
        while self.index < stop:
            path = self._locate()
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(fd, _SOME, self._offset)
            finally:
                os.close(fd)
            found, size = cut(data, 0, stop - self.index, MAX_ENTRY)
            if found:
                self._offset += size
                self.index += len(found)
                yield found
                continue
            following = self._folder / f"{self.index:020d}.wal"
            if path == following or not following.exists():
                raise Damaged(self.index, "is not in the log, or does not check")
            self._path, self._offset = following, 0

    def _locate(self) -> Path:
        if self._path is not None:
            return self._path
        at = [segment for segment in segments(self._folder) if segment.first <= self.index]
        if not at:
            raise Damaged(self.index, "is in no segment of the log")
        self._path, position = at[-1].path, at[-1].first
        if position < self.index:
            for frame in frames(self._path):
                self._offset, position = frame.end, position + 1
                if position == self.index:
                    break
        if position != self.index:
            raise Damaged(position, "is not in the log, or does not check")
        return self._path
