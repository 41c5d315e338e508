"""The redo files: what recordings were given since they were last synced, so that one sync does for the recordings of all sessions.

Theory of operation. With `strict`, no entry may become durable before the payloads that it names are. A sync of each session's own
file, one after another, costs more than all else that an operation costs. So the log's disk thread writes what the files of all who
wait were given into a redo file, with where it stands in theirs, syncs that once, and then writes and syncs the entries. The recordings
have the bytes already, with the kernel. There are two redo files, which take turns: when one is full, the recordings that it names are
synced by a thread of their own while the other one is written, and then the first may be written over.

    frame := u64 generation | session (16) | u64 offset | u32 length | u32 crc32c of all before it and of the bytes | bytes

Integers are little-endian. Frames follow one another from a file's start. Each time that files take turns the generation grows by one, so
the first frame that does not check, or is of another generation than the first, ends the file.

After a power cut `restore` puts the bytes back where they stood. After a kill they stand there already. It makes no file, for retention
may have taken one, and touches no header, for a destroyed key must not come back: a recording that is new, or was given
more than `MAX_LOOSE` bytes at once, is synced itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c

from ostiary.audit.wal import SyncFailed, sync_folder
from ostiary.vault.payload_format import HEADER, SUFFIX, PayloadError, uuid_text
from ostiary.vault.payloads import Loose, PayloadStream

NAMES: Final = ("redo-0", "redo-1")
REDO_BYTES: Final = 4 << 20
"""Size of each: how much is read again after a power cut, and how often all recordings are synced."""
_BOUND: Final = struct.Struct("<Q16sQI")
_CHECKSUM: Final = struct.Struct("<I")
_FRAME_BYTES: Final = _BOUND.size + _CHECKSUM.size
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Redo:
    """One origin's redo files, in the hands of the log's disk thread."""

    def __init__(self, folder: Path, size: int = REDO_BYTES) -> None:
        """`folder`: the origin's. The files, of `size` bytes each, are made when they are first needed."""
        self._folder = folder
        self._size = size
        self._fds: list[int] = []
        self._at = 0
        self._generation = 1
        self._named: set[Path] = set()
        """Recordings that may have bytes on the disk nowhere but in the file that is written now."""
        self._syncing = ThreadPoolExecutor(1, "redo")
        self._synced: Future[None] | None = None
        """Of the recordings that the other file names."""

    def keep(self, pieces: list[Loose]) -> None:
        """Make durable what recordings were given. One that cannot be synced is in trouble itself, and holds up no other.

        Raises `SyncFailed` where it is unknown what is on the disk: that is final.
        """
        if self._synced is not None and self._synced.done():
            self._synced.result()
        shared = [piece for piece in pieces if piece.data]
        if shared and not (self._has_room(sum(len(piece.data) + _FRAME_BYTES for piece in shared)) and self._put(shared)):
            shared = []
        for piece in pieces:
            if not (piece.data and shared):
                _sync_stream(piece.stream)

    def close(self) -> None:
        """Let go of the files. What they hold counts until the recordings are synced."""
        self._syncing.shutdown(wait=False)
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _put(self, pieces: list[Loose]) -> bool:
        """Write pieces and sync them. False: the disk is too full even for this."""
        frames = b"".join([part for piece in pieces for part in _frame(self._generation, piece)])
        fd = self._fds[self._generation & 1]
        try:
            wrote = os.pwritev(fd, [frames], self._at)
        except OSError as problem:
            if problem.errno in _NO_ROOM:
                return False
            raise SyncFailed(f"the redo file: {problem.strerror}") from problem
        if wrote != len(frames):
            return False
        self._named.update(piece.stream.path for piece in pieces)
        _sync(fd, "the redo file")
        self._at += wrote
        return True

    def _has_room(self, size: int) -> bool:
        """Whether there is room for `size` bytes, once the files are made, or the other one is begun again, where that is due."""
        if size > self._size or not (self._fds or self._make()):
            return False
        if self._at + size > self._size:
            if self._synced is not None:
                self._synced.result()
            self._synced = self._syncing.submit(_sync_all, self._named)
            self._named = set()
            self._at = 0
            self._generation += 1
        return True

    def _make(self) -> bool:
        """Make both files, written once: what is only allocated costs more to sync. False: there is no room for them."""
        made: list[int] = []
        try:
            for name in NAMES:
                made.append(os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
                if os.pwritev(made[-1], [bytes(self._size)], 0) != self._size:
                    raise OSError(errno.ENOSPC, "no room")  # noqa: TRY301 - as if the system had said so
                _sync(made[-1], "the redo file")
            sync_folder(self._folder)
        except OSError as problem:
            for fd in made:
                os.close(fd)
            _remove(self._folder)
            if problem.errno in _NO_ROOM:
                return False
            raise SyncFailed(f"the redo file: {problem.strerror}") from problem
        self._fds = made
        return True


def restore(folder: Path) -> int:
    """Put back into an origin's recordings what its redo files hold. Returns how many pieces were not there."""
    held: dict[str, list[_Piece]] = {}
    for piece in sorted(piece for name in NAMES for piece in _pieces(folder / name)):
        held.setdefault(piece.session, []).append(piece)
    return sum(_put_back(folder / "payloads" / f"{session}{SUFFIX}", pieces) for session, pieces in held.items())


def settle(folder: Path, since: float) -> None:
    """Sync the recordings of an origin that its redo files name or that were written after `since` (seconds since the epoch); remove those files."""
    payloads = folder / "payloads"
    named = {piece.session for name in NAMES for piece in _pieces(folder / name)}
    for path in payloads.iterdir():
        if path.stem in named or path.stat().st_mtime > since - 60:  # clocks of file systems are coarse, and may have been set
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    sync_folder(payloads)
    _remove(folder)


def _remove(folder: Path) -> None:
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)


class _Piece(NamedTuple):
    generation: int
    session: str
    at: int
    data: bytes


def _frame(generation: int, piece: Loose) -> tuple[bytes, bytes, bytes]:
    bound = _BOUND.pack(generation, piece.stream.session, piece.at, len(piece.data))
    checksum = google_crc32c.extend(google_crc32c.value(bound), piece.data)
    return bound, _CHECKSUM.pack(checksum), piece.data


def _pieces(path: Path) -> Iterator[_Piece]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    at, current = 0, 0
    while at + _FRAME_BYTES <= len(raw):
        generation, session, offset, length = _BOUND.unpack_from(raw, at)
        (checksum,) = _CHECKSUM.unpack_from(raw, at + _BOUND.size)
        begin = at + _FRAME_BYTES
        data = raw[begin : begin + length]
        if not length or len(data) != length or generation != (current or generation):
            return
        if google_crc32c.extend(google_crc32c.value(raw[at : at + _BOUND.size]), data) != checksum:
            return
        yield _Piece(generation, uuid_text(session), offset, data)
        current, at = generation, begin + length


def _put_back(path: Path, pieces: list[_Piece]) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0  # retention took it
    put = 0
    try:
        size = os.fstat(fd).st_size
        for piece in pieces:
            if not HEADER.size <= piece.at <= size:
                break
            put += os.pread(fd, len(piece.data), piece.at) != piece.data
            # Even what seems to be there: after a failed sync the kernel may show pages that never reached the disk.
            if os.pwritev(fd, [piece.data], piece.at) != len(piece.data):
                raise OSError(errno.ENOSPC, "no room to put back what a recording was given", str(path))
            size = max(size, piece.at + len(piece.data))
        os.fdatasync(fd)
    finally:
        os.close(fd)
    return put


def _sync_stream(stream: PayloadStream) -> None:
    """Sync a recording itself. Its session may have ended meanwhile; whoever waits for one that fails looks at its `trouble`."""
    try:
        stream.sync()
    except PayloadError:
        if stream.trouble is None:  # it is closed
            _sync_all({stream.path})
            sync_folder(stream.path.parent)


def _sync_all(paths: set[Path]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # retention took it
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _sync(fd, path.name)
            finally:
                os.close(fd)


def _sync(fd: int, name: str) -> None:
    try:
        os.fdatasync(fd)
    except OSError as problem:
        raise SyncFailed(f"{name}: fdatasync: {problem.strerror}") from problem
