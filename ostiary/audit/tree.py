"""The Merkle tree of RFC 6962, 2.1, grown from the right, in the shape that C2SP tlog-tiles publishes.

`Frontier` keeps, for each level of tiles, the hashes of that level's last, partial tile: at most 255 a level. That is all one needs to
append, to compute the root, and to write the tiles; and all of it can be read back from the tiles.

A node is 65 bytes, and `hashlib` spends three times as long on each as the hash itself takes. So where many are made they are made by `ostiary.audit.evp`.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ostiary.audit import evp

WIDTH: Final = 256
"""Hashes in a full tile: height 8."""
_sha256 = hashlib.sha256
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def _functions() -> list[int]:
    """Where the functions of OpenSSL stand, in the library that `hashlib` itself uses; zeroes where there are none, or others."""
    try:
        import _hashlib  # noqa: PLC0415 - a Python without OpenSSL has none

        library = ctypes.CDLL(_hashlib.__file__)
        return [ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in _NAMES]
    except (ImportError, AttributeError, OSError):
        return [0] * len(_NAMES)


_NAMES: Final = ("EVP_MD_CTX_new", "EVP_MD_fetch", "EVP_DigestInit_ex2", "EVP_DigestUpdate", "EVP_DigestFinal_ex")
"""Since OpenSSL 3.0, and to stay."""
_new, _fetch, _begin, _more, _finish = _functions()
_digest = evp.found(_new, _fetch, _begin, _more, _finish)
IS_DIRECT: Final = bool(_digest.is_found)
"""Whether many hashes are made by OpenSSL's own functions. One, and all where there are none, by `hashlib`."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry: RFC 6962, 2.1."""
    return hashlib.sha256(b"\0" + entry).digest()


def leaf_hashes(entries: Sequence[bytes]) -> list[bytes]:
    """Hash many entries, each by itself."""
    if not _digest.is_found:
        return [_sha256(b"\0" + entry).digest() for entry in entries]
    hashes = []
    for entry in entries:
        hashes.append(evp.part(_digest, b"\0", entry, 0, len(entry)))  # noqa: PERF401 - no comprehension has typed names
    return hashes


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees together: RFC 6962, 2.1."""
    return hashlib.sha256(b"\1" + left + right).digest()


def full_root(hashes: Sequence[bytes]) -> bytes:
    """Compute the root over 2^k subtrees of one size."""
    while len(hashes) > 1:
        row = b"".join(hashes)
        if _digest.is_found:
            hashes = [evp.part(_digest, b"\1", row, at, 64) for at in range(0, len(row), 64)]
        else:
            hashes = [_sha256(b"\1" + row[at : at + 64]).digest() for at in range(0, len(row), 64)]
    return hashes[0]


class Tile(NamedTuple):
    """One tile's place and hashes."""

    level: int
    number: int
    hashes: tuple[bytes, ...]


class Frontier:
    """The right edge of a tree."""

    def __init__(self) -> None:
        self.size = 0
        self._rows: list[list[bytes]] = [[]]

    @classmethod
    def restored(cls, size: int, rows: list[list[bytes]]) -> Frontier:
        """Rebuild from the last partial tile of each level, lowest first. Raises ValueError when they do not fit `size`."""
        widths = [(size >> (8 * level)) % WIDTH for level in range(len(rows))]
        if [len(row) for row in rows] != widths or size >> (8 * len(rows)):
            raise ValueError("the partial tiles do not belong to a tree of this size")
        frontier = cls()
        frontier.size, frontier._rows = size, [list(row) for row in rows] or [[]]
        return frontier

    def append(self, leaf: bytes) -> list[Tile]:
        """Add one leaf hash; returns the tiles that it filled, lowest level first."""
        return self.extend([leaf])

    def extend(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Add leaf hashes; returns the tiles that they filled, in the order in which they were."""
        filled: list[Tile] = []
        at = 0
        while at < len(leaves):
            row = self._rows[0]
            some = leaves[at : at + WIDTH - len(row)]
            row += some
            at += len(some)
            self.size += len(some)
            if len(row) == WIDTH:
                self._carry(filled)
        return filled

    def _carry(self, filled: list[Tile]) -> None:
        """The lowest row is full: hand its root on to the next, and so on."""
        level = 0
        while len(row := self._rows[level]) == WIDTH:
            filled.append(Tile(level, (self.size >> (8 * (level + 1))) - 1, tuple(row)))
            self._rows[level] = []
            level += 1
            if level == len(self._rows):
                self._rows.append([])
            self._rows[level].append(full_root(row))

    def partial(self) -> Iterator[Tile]:
        """Yield the partial tiles of a tree of this size; empty ones do not exist."""
        for level, row in enumerate(self._rows):
            if row:
                yield Tile(level, self.size >> (8 * (level + 1)), tuple(row))

    def root(self) -> bytes:
        """Compute the root: RFC 6962, 2.1, by folding the full subtrees from the right."""
        root: bytes | None = None
        for row in self._rows:
            at = len(row)
            while at:
                width = at & -at
                subtree = full_root(row[at - width : at])
                root = subtree if root is None else node_hash(subtree, root)
                at -= width
        return EMPTY_ROOT if root is None else root

    def copy(self) -> Frontier:
        """Take a copy, to grow it without changing this one."""
        twin = Frontier()
        twin.size, twin._rows = self.size, [list(row) for row in self._rows]
        return twin
