"""A log's public files: C2SP tlog-tiles. Written whole or not at all, read back to go on after a restart."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar

from ostiary.audit.tree import WIDTH, Frontier, Tile
from ostiary.audit.wal import Damaged, sync_folder

_T = TypeVar("_T")
HASH: Final = 32
_SYNCS: Final = 8
"""Files synced at a time."""
_LENGTH: Final = struct.Struct(">H")


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """Write a tile's path. `level` is `entries` for bundles; `width` below 256 makes it a partial one."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03d}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def unbundle(data: bytes) -> list[bytes]:
    """Undo `bundle`. Raises ValueError when it does not come out even."""
    entries, at = [], 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise ValueError("a bundle ends within a length")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        entries.append(data[at : at + length])
        if len(entries[-1]) != length:
            raise ValueError("a bundle ends within an entry")
        at += length
    return entries


class TileFolder:
    """The `log/` folder of an origin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: set[str] = set()
        self._temporary = f".tmp-{os.getpid()}-"
        self._made = 0
        self._pool = ThreadPoolExecutor(_SYNCS, "tiles")

    def publish(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files so that each is whole and durable when this returns. Existing ones are replaced."""
        with Publication(self) as publication:
            for name, data in files:
                publication.add(name, data)
            publication.finish()

    def place(self, name: str) -> tuple[str, str]:
        """Name the file that is written for `name`, and the one that it becomes. Their folder is there when this returns."""
        path = f"{self.folder}/{name}"
        folder = path.rpartition("/")[0]
        if folder not in self._known:
            self._ensure(Path(folder))
        self._made += 1
        return f"{folder}/{self._temporary}{self._made}", path

    def _ensure(self, folder: Path) -> None:
        if str(folder) in self._known:
            return
        if not folder.is_dir():
            self._ensure(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)
        self._known.add(str(folder))

    def sync(self, fds: Sequence[int], folders: Iterable[str] = ()) -> None:
        """Make files and folders durable: side by side, because then the file system's journal commits once for many."""
        self._each(_sync_all, [fds[part::_SYNCS] for part in range(min(_SYNCS, len(fds)))])
        self._each(sync_folder, list(folders))

    def _each(self, work: Callable[[_T], None], parts: Sequence[_T]) -> None:
        if len(parts) == 1:
            work(parts[0])
            return
        for _ in self._pool.map(work, parts):
            pass

    def append_note(self, note: str) -> None:
        """Add a checkpoint to the list of all that were ever published, durably."""
        path = self.folder / "checkpoints"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, note.encode())
            os.fsync(fd)
        finally:
            os.close(fd)

    def forget_partials(self, full: Iterable[str]) -> None:
        """Remove the partial tiles of tiles that are full now: tlog-tiles, "Partial Tiles"."""
        for name in full:
            partials = f"{self.folder}/{name}.p"
            if os.path.lexists(partials):
                shutil.rmtree(partials, ignore_errors=True)
            self._known.discard(partials)

    def sweep(self) -> None:
        """Remove what a crash left half written."""
        for stray in self.folder.rglob(".tmp-*"):
            stray.unlink(missing_ok=True)

    def hashes(self, level: int, number: int, tree: int) -> list[bytes]:
        """Read a tile of a tree of size `tree`. Raises `Damaged` when it is missing or not as wide as it must be."""
        behind = tree >> (8 * (level + 1))
        width = WIDTH if number < behind else (tree >> (8 * level)) % WIDTH
        if width == 0 or number > behind:
            return []
        for name in (tile_path(level, number, width), tile_path(level, number)):
            try:
                data = (self.folder / name).read_bytes()
            except FileNotFoundError:
                continue
            if len(data) >= width * HASH and len(data) % HASH == 0:
                return [data[at : at + HASH] for at in range(0, width * HASH, HASH)]
        first = number << (8 * (level + 1))
        raise Damaged(first, f"the tile {tile_path(level, number, width)} is missing or cut short")

    def entries(self, number: int, tree: int) -> list[bytes]:
        """Read the bundle of tile `number` of a tree of size `tree`. Raises `Damaged`."""
        width = min(WIDTH, tree - number * WIDTH)
        for name in (tile_path("entries", number, width), tile_path("entries", number)):
            try:
                entries = unbundle((self.folder / name).read_bytes())
            except FileNotFoundError:
                continue
            except ValueError as problem:
                raise Damaged(number * WIDTH, f"the bundle {name} is damaged: {problem}") from None
            if len(entries) >= width:
                return entries[:width]
        raise Damaged(number * WIDTH, f"the bundle {tile_path('entries', number, width)} is missing or cut short")

    def frontier(self, size: int, tree: int) -> Frontier:
        """Read the frontier at `size` from the tiles of a tree of size `tree`, which is at least as large."""
        rows: list[list[bytes]] = []
        level = 0
        while size >> (8 * level):
            width = (size >> (8 * level)) % WIDTH
            row = self.hashes(level, size >> (8 * (level + 1)), tree)[:width] if width else []
            rows.append(row)
            level += 1
        try:
            return Frontier.restored(size, rows)
        except ValueError as problem:
            raise Damaged(size, str(problem)) from None


class Publication:
    """Files on their way into a `TileFolder`: seen by nobody before `finish`. As a context: what did not come so far is removed."""

    def __init__(self, folder: TileFolder) -> None:
        self._folder = folder
        self._fds: list[int] = []
        self._renames: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def add(self, name: str, data: bytes) -> None:
        """Write a file. An existing one will be replaced."""
        made, path = self._folder.place(name)
        self._renames.append((made, path))
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._fds.append(fd)
        _write_all(fd, data)

    def finish(self) -> None:
        """Make all that was written durable, then give each file its name, durably too."""
        self._folder.sync(self._fds)
        for made, path in self._renames:
            os.rename(made, path)  # noqa: PTH104 - names are strings here: there are two hundred a second
        self._folder.sync((), {path.rpartition("/")[0] for _, path in self._renames})
        self._renames = []

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)
        for made, _path in self._renames:
            Path(made).unlink(missing_ok=True)


def tile_file(tile: Tile) -> tuple[str, bytes]:
    """Name a tile's file, with its bytes."""
    return tile_path(tile.level, tile.number, len(tile.hashes)), b"".join(tile.hashes)


def _sync_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.fsync(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
