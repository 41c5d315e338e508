"""Consistency of two trees of one log: RFC 6962, 2.1.2. Made from published tiles, checked from nothing but the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ostiary.audit.tiles import TileFolder
from ostiary.audit.tree import WIDTH, full_root, node_hash

MAX_PROOF: Final = 63
"""Hashes in a proof at most: tlog-witness, "add-checkpoint"."""

Subtree = Callable[[int, int], bytes]
"""The root over the leaves from an index to another; the first is a multiple of the largest power of two in between."""


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Prove that a tree of size `new` extends its own first `old` leaves. Empty where there is nothing to prove."""
    return _part(old, 0, new, subtree, whole=True) if 0 < old < new else []


def _part(old: int, low: int, high: int, subtree: Subtree, *, whole: bool) -> list[bytes]:
    """SUBPROOF(old, D[low:high], whole)."""
    width = high - low
    if old == width:
        return [] if whole else [subtree(low, high)]
    half = 1 << (width - 1).bit_length() - 1
    if old <= half:
        return [*_part(old, low, low + half, subtree, whole=whole), subtree(low + half, high)]
    return [*_part(old - half, low + half, high, subtree, whole=False), subtree(low, low + half)]


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Check a proof: RFC 9162, 2.1.4.2."""
    if not 0 <= old <= new or len(proof) > MAX_PROOF:
        return False
    if old in {0, new}:
        return not proof and (not old or old_root == new_root)
    # A tree of 2^k leaves is a subtree of the larger one: its root is the first hash, and not sent.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path or not proof:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    one = other = path[0]
    for node in path[1:]:
        if not last:
            return False
        if at & 1 or at == last:
            one, other = node_hash(node, one), node_hash(node, other)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            other = node_hash(other, node)
        at, last = at >> 1, last >> 1
    return not last and one == old_root and other == new_root


def subtrees(tiles: TileFolder, size: int) -> Subtree:
    """Roots of subtrees of a published tree of this size. The function raises `Damaged` where a tile is missing."""

    def root(low: int, high: int) -> bytes:
        width = high - low
        if width & (width - 1):
            middle = low + (1 << width.bit_length() - 1)
            return node_hash(root(low, middle), root(middle, high))
        height = width.bit_length() - 1
        level = height // 8
        first = low >> 8 * level
        row = tiles.hashes(level, first // WIDTH, size)
        return full_root(row[first % WIDTH : first % WIDTH + (1 << height % 8)])

    return root
