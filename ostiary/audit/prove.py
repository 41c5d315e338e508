"""Proofs that stand alone: one entry was in the log, as C2SP tlog-proof (v1) writes it.

`prove` reads the published files only. The entry itself travels in the `extra` line, so whoever holds the proof and trusts
the log's key needs nothing else; `extra` proves nothing by itself, its hash has to lead to the signed root. `check` does
that, with the verifier's own reading of keys and checkpoints.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from ostiary.audit.verify import MAX_ENTRY, TILE, Checkpoint, Fault, Policy, parse_entry, tile_path
from ostiary.model.errors import OstiaryError

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF: Final = 128 * 1024
_HASH: Final = 32
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,17})")


class NoProof(OstiaryError):
    """The proof cannot be made, or does not prove anything. The sentence says why."""


class Proved(msgspec.Struct, frozen=True):
    """What a good proof says."""

    origin: str
    index: int
    size: int
    """Of the tree whose root was signed."""
    entry: dict[str, Any]
    data: bytes
    """The entry's own bytes."""
    witnesses: tuple[str, ...]


def prove(log_dir: str | Path, which: int | str) -> str:
    """Write the proof of the entry with this index, or this id, against the newest checkpoint.

    `log_dir` is an origin's folder or its published `log`. An id is looked for from the end; where the search index
    knows the index, give that. Raises `NoProof`.
    """
    base = Path(log_dir)
    log = _Published(base / "log" if (base / "log").is_dir() else base)
    index = which if isinstance(which, int) else log.index_of(which)
    if not 0 <= index < log.size:
        raise NoProof(f"entry {index} is not under the newest checkpoint, which covers {log.size} entries")
    entry = log.entry(index)
    path = [base64.b64encode(node).decode() for node in log.path(index)]
    lines = [HEADER, f"extra {base64.b64encode(entry).decode()}", f"index {index}", *path, "", log.note]
    return "\n".join(lines)


def check(proof: str, policy: Policy) -> Proved:
    """Check a proof against trusted keys: origin, signature, witnesses, inclusion, canonical form. Raises `NoProof`."""
    head, gap, note = proof.partition("\n\n")
    lines = head.split("\n")
    if len(proof) > MAX_PROOF or not gap or lines[0] != HEADER or len(lines) < 3:
        raise NoProof("not a tlog-proof of version 1")
    entry = _base64(lines[1].removeprefix("extra "))
    match = _INDEX.fullmatch(lines[2])
    path = [_base64(line) for line in lines[3:]]
    if not lines[1].startswith("extra ") or entry is None or match is None:
        raise NoProof("the proof does not hold its entry")
    hashes = [node for node in path if node is not None and len(node) == _HASH]
    if len(hashes) != len(path):
        raise NoProof("a hash of the path is malformed")
    try:
        checkpoint = Checkpoint.parse(note.encode())
        key = policy.logs.get(checkpoint.origin)
        if key is None:
            raise NoProof(f"no trusted key for {checkpoint.origin}")
        checkpoint.check(key)
    except Fault as exc:
        raise NoProof(f"the checkpoint is not good: {exc}") from None
    witnesses = checkpoint.witnesses(policy)
    if not policy.is_satisfied(policy.quorum, witnesses):
        raise NoProof("too few witnesses of the policy cosigned the checkpoint")
    index = int(match[1])
    if root_from(hashlib.sha256(b"\x00" + entry).digest(), index, checkpoint.size, hashes) != checkpoint.root:
        raise NoProof("the path does not lead from the entry to the signed root")
    try:
        parsed = parse_entry(entry)
    except ValueError as exc:
        raise NoProof(f"the entry is in the log, but malformed: {exc}") from None
    return Proved(checkpoint.origin, index, checkpoint.size, parsed, entry, tuple(sorted(witnesses)))


def root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that an audit path leads to (RFC 9162, 2.1.3.2); None where its length cannot be right."""
    if not 0 <= index < size:
        return None
    node, last = leaf, size - 1
    for sibling in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = _node(sibling, node)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            node = _node(node, sibling)
        index >>= 1
        last >>= 1
    return node if last == 0 else None


class _Published:
    """A published log as far as its newest checkpoint covers it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self.note = (folder / "checkpoint").read_text(encoding="utf-8")
            self.size = Checkpoint.parse(self.note.encode()).size
        except (OSError, UnicodeDecodeError, Fault) as exc:
            raise NoProof(f"the newest checkpoint cannot be read: {exc}") from None

    def entry(self, index: int) -> bytes:
        return self._bundle(index // TILE)[index % TILE]

    def index_of(self, entry_id: str) -> int:
        """Look through the bundles from the end."""
        wanted = f'"id":"{entry_id}"'.encode()
        for number in reversed(range((self.size + TILE - 1) // TILE)):
            for i, data in enumerate(self._bundle(number)):
                if wanted in data and msgspec.json.decode(data).get("id") == entry_id:
                    return number * TILE + i
        raise NoProof(f"no entry under the newest checkpoint has the id {entry_id}")

    def path(self, index: int) -> list[bytes]:
        """PATH(index, D[size]) of RFC 6962, 2.1.1: from the leaf's sibling up."""
        found: list[bytes] = []
        low, high = 0, self.size
        while high - low > 1:
            middle = low + (1 << (high - low - 1).bit_length() - 1)
            if index < middle:
                found.append(self._root(middle, high))
                high = middle
            else:
                found.append(self._root(low, middle))
                low = middle
        return found[::-1]

    def _root(self, low: int, high: int) -> bytes:
        """MTH(D[low:high]), `low` being a multiple of the largest power of two below `high - low`."""
        width = high - low
        if width & (width - 1) == 0:
            return self._perfect(width.bit_length() - 1, low)
        middle = low + (1 << width.bit_length() - 1)
        return _node(self._root(low, middle), self._root(middle, high))

    def _perfect(self, height: int, low: int) -> bytes:
        """The root of the perfect subtree of a height over the leaves from `low` on: at most 128 hashes of one tile."""
        level = height // 8
        first = low >> 8 * level
        row = self._tile(level, first // TILE)
        nodes = [row[32 * i : 32 * i + 32] for i in range(first % TILE, first % TILE + (1 << height % 8))]
        while len(nodes) > 1:
            nodes = [_node(nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
        return nodes[0]

    def _tile(self, level: int, number: int) -> bytes:
        return self._read(str(level), number, (self.size >> 8 * level) - number * TILE)

    def _bundle(self, number: int) -> list[bytes]:
        count = min(TILE, self.size - number * TILE)
        data = self._read("entries", number, count)
        entries, at = [], 0
        for _ in range(count):
            length = int.from_bytes(data[at : at + 2], "big")
            entries.append(data[at + 2 : at + 2 + length])
            at += 2 + length
            if at > len(data) or length > MAX_ENTRY:
                raise NoProof("an entry bundle is damaged: verify the log")
        return entries

    def _read(self, level: str, number: int, count: int) -> bytes:
        path = f"tile/{level}/{tile_path(number)}"
        for name in ([] if count >= TILE else [f"{path}.p/{count}"]) + [path]:
            try:
                return (self._folder / name).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise NoProof(f"{name} cannot be read: {exc.strerror}") from None
        raise NoProof(f"{path} is missing: verify the log")


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _base64(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None
