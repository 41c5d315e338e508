"""The WAL as its readers see it while somebody writes: entries in order, up to where they are whole.

Format: `docs/log-format.md`, 2. A reader never changes a segment, and takes a frame that does not check for one that is
being written: it stops there and looks again next time. Damage is the verifier's to name.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import google_crc32c
import msgspec

MAX_ENTRY: Final = 16_384
_FRAME: Final = struct.Struct("<II")
_SEGMENT: Final = re.compile(r"[0-9]{20}\.wal")
_READ: Final = 1 << 20


class Place(msgspec.Struct, frozen=True):
    """Where an entry stands: segment (by its first index), offset of its frame, and its index in the log."""

    segment: int
    offset: int
    index: int


def origins(state_dir: Path) -> list[Path]:
    """The folders of all origins: `<state>/audit/<writer>/<year>`."""
    return sorted(path.parent for path in (state_dir / "audit").glob("*/*/wal") if path.is_dir())


def segments(folder: Path) -> list[int]:
    """First indices of an origin's segments, in order."""
    return sorted(int(path.name[:20]) for path in (folder / "wal").iterdir() if _SEGMENT.fullmatch(path.name))


def read_from(folder: Path, start: Place | None) -> Iterator[tuple[Place, bytes]]:
    """Entries from `start` on (None: from the oldest segment), with where each stands."""
    known = segments(folder)
    if start is None:
        if not known:
            return
        start = Place(known[0], 0, known[0])
    segment, offset, index = start.segment, start.offset, start.index
    while True:
        try:
            with _path(folder, segment).open("rb") as file:
                file.seek(offset)
                for at, entry in _frames(file.fileno(), offset):
                    yield Place(segment, at, index), entry
                    index += 1
        except FileNotFoundError:
            return
        # The next segment is named after the index that follows; until it is there, this one is the last.
        if index == segment or not _path(folder, index).exists():
            return
        segment, offset = index, 0


def resumed(folder: Path, place: Place) -> Place:
    """Where to read on: at the place, or at the oldest segment where its own was pruned."""
    oldest = next(iter(segments(folder)), place.segment)
    return Place(oldest, 0, oldest) if oldest > place.segment else place


def read_at(folder: Path, place: Place) -> bytes | None:
    """The one entry at a place; None if no whole frame stands there (any more)."""
    try:
        fd = os.open(_path(folder, place.segment), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        head = os.pread(fd, 8, place.offset)
        if len(head) < 8:
            return None
        length, crc = _FRAME.unpack(head)
        if not 1 <= length <= MAX_ENTRY:
            return None
        entry = os.pread(fd, length, place.offset + 8)
    finally:
        os.close(fd)
    return entry if len(entry) == length and google_crc32c.value(entry) == crc else None


def after(place: Place, entry: bytes) -> Place:
    """The place behind an entry."""
    return Place(place.segment, place.offset + 8 + len(entry), place.index + 1)


def _frames(fd: int, offset: int) -> Iterator[tuple[int, bytes]]:
    held, at = b"", 0
    while more := os.read(fd, _READ):
        held = held[at:] + more
        at = 0
        while len(held) - at >= 8:
            length, crc = _FRAME.unpack_from(held, at)
            if not 1 <= length <= MAX_ENTRY:
                return
            if len(held) - at < 8 + length:
                break
            entry = held[at + 8 : at + 8 + length]
            if google_crc32c.value(entry) != crc:
                return
            yield offset, entry
            at += 8 + length
            offset += 8 + length


def _path(folder: Path, segment: int) -> Path:
    return folder / "wal" / f"{segment:020d}.wal"
