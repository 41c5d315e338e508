"""Everything that can be done to the files of a small log, one thing at a time, and what the verifier has to say of each.

A `Change` is a file's new content (None: it is gone), and what must be named: an entry's index, or the file. What nobody can see without
another's help is not among them, and is said in `docs/audit.md`: an older state of the whole log (witnesses see it), an old partial tile or
checkpoint that is gone beside a newer one, and the 68 bytes of a recording's header that wrapping its key anew changes (the key sees that: `HEADER_KEY`).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ostiary.audit.verify import Policy, Report, crc32c
from ostiary.audit.verify import verify as verify_log
from ostiary.audit.wal import frames
from tests.crash.workload import House, Plan, work

HEADER_KEY = range(26, 94)
"""The bytes of a recording that no hash covers: its key-encryption key's id, and the data key under it."""


@dataclass(frozen=True)
class Change:
    """One thing that is done to one file."""

    what: str
    path: Path
    content: bytes | None
    index: int | None = None
    """The entry that has to be named; None: the file has to be."""
    missing: bool = False
    """What is gone may be called incomplete instead of tampered with."""


class Target:
    """One origin with one or more sessions, ended and sealed."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.house = House(folder)
        self.house.build()
        asyncio.run(work(self.house, plan))
        (self.base,) = self.house.origins
        self.policy = Policy.parse((self.base / "policy").read_text())
        self.segments = sorted((self.base / "wal").glob("*.wal"))
        self.entries = [frame.entry for segment in self.segments for frame in frames(segment)]
        self.sessions = sorted((self.base / "payloads").glob("*.osp"))
        report = self.check()
        if report.status != "whole" or report.size != len(self.entries):
            raise RuntimeError(f"the log is not whole to begin with: {report.problems}")

    def check(self) -> Report:
        return verify_log(self.base, self.policy)

    def suffer(self, change: Change) -> Report:
        """What the verifier says of it; the file is put back."""
        before = change.path.read_bytes()
        try:
            if change.content is None:
                change.path.unlink()
            else:
                change.path.write_bytes(change.content)
            return self.check()
        finally:
            change.path.write_bytes(before)

    def fault(self, change: Change) -> str:
        """What is wrong with the verdict on a change; empty: nothing."""
        report = self.suffer(change)
        said = [(problem.index, problem.where, problem.what) for problem in report.problems]
        if report.status == "whole":
            return f"{change.what}: not found"
        if report.status != "tampered" and not change.missing:
            return f"{change.what}: called {report.status}: {said}"
        if change.index is not None and change.index not in {index for index, _, _ in said}:
            return f"{change.what}: entry {change.index} is not named, but {said}"
        name = change.path.relative_to(self.base).as_posix()
        first, count = self._members(change.path) if self._is_bundle(change.path) else (0, 0)
        if change.index is None and not any(
            _names(where, what, name) or (index is not None and first <= index < first + count) for index, where, what in said
        ):
            return f"{change.what}: {name} is not named, but {said}"
        return ""

    def files(self) -> list[Path]:
        """All files that a stranger is given, but for the policy and the certificate, which say whom to trust."""
        return sorted(path for part in ("log", "wal", "payloads") for path in (self.base / part).rglob("*") if path.is_file())

    def flips(self, path: Path) -> Iterator[Change]:
        """A bit of every byte that the log vouches for."""
        data = path.read_bytes()
        dice = random.Random(path.name)
        words = {at + n for at, _ in _chunks(data) for n in range(4)} if path.suffix == ".osp" else set()
        for at in range(len(data)):
            if path.suffix == ".osp" and at in HEADER_KEY:
                continue
            changed = bytearray(data)
            changed[at] ^= 1 << dice.randrange(8)
            # A checkpoint under another name is that of a log of which the policy says nothing; a chunk that would be longer than its
            # file is one that a crash may have left.
            unclear = (path.name == "checkpoint" and at < data.index(b"\n")) or at in words
            yield Change(f"bit flipped at {at} of {path.name}", path, bytes(changed), self.index_at(path, at), missing=unclear)

    def one_flip_an_entry(self) -> Iterator[Change]:
        """One bit of each entry, in each bundle and each segment; and of each hash."""
        for path in self.files():
            step = 32 if path.parent.name.startswith(("0", "x")) and "entries" not in path.parts else 1
            last: int | None = -1
            for change in itertools.islice(self.flips(path), 0, None, step):
                if step > 1 or (change.index is not None and change.index != last):
                    last = change.index
                    yield change

    def cuts(self, path: Path) -> Iterator[Change]:
        """The file ends behind each of its bytes in turn."""
        data = path.read_bytes()
        for at in range(len(data)):
            if not self._is_padding(path, data[at:]):
                yield Change(f"{path.name} cut to {at}", path, data[:at], self.index_at(path, at), missing=True)

    def removals(self) -> Iterator[Change]:
        """Each file that is needed goes. Older segments of the WAL may be pruned: their entries stand in the bundles."""
        for path in self.files():
            if not self._has_wider(path) and path not in self.segments[:-1]:
                yield Change(f"{path.name} removed", path, None, missing=True)

    def replacements(self) -> Iterator[Change]:
        """Each file is replaced by each other one of its kind, older or another's."""
        for path in self.files():
            for other in self.files():
                if path.name == "checkpoints" and other.name == "checkpoint":
                    continue  # all but the newest left out
                if other != path and other.suffix == path.suffix and other.read_bytes() != path.read_bytes():
                    yield Change(f"{path.name} replaced by {other.name}", path, other.read_bytes(), missing=True)

    def reorderings(self) -> Iterator[Change]:
        """Entries swapped, left out, doubled and moved: in the WAL, and in each bundle."""
        for path, before in self._lists():
            end = path.read_bytes()[sum(map(len, before)) :]
            begins = int(path.stem) if path.suffix == ".wal" else self._members(path)[0]
            for what, after, at in _rearranged(before):
                index = None if self._is_bundle(path) and at == len(before) else begins + at  # a bundle has no room for one more
                yield Change(f"{what} of {path.name}", path, b"".join(after) + end, index, missing=True)

    def notes(self) -> Iterator[Change]:
        """Checkpoints swapped, left out, doubled."""
        path = self.base / "log/checkpoints"
        text = path.read_bytes()
        starts = [at for at in range(len(text)) if text.startswith(b"gw1-", at) and (not at or text[at - 1 : at] == b"\n")]
        notes = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
        for what, after, _ in _rearranged(notes):
            if not _is_part(after, notes):
                yield Change(f"checkpoint {what}", path, b"".join(after), missing=True)

    def chunks(self, *, near: bool = False) -> Iterator[Change]:
        """Chunks of recordings swapped, left out, doubled; `near`: of swaps, those of neighbours alone."""
        for path in self.sessions:
            data = path.read_bytes()
            found = [chunk for _, chunk in _chunks(data)]
            for what, after, _ in _rearranged(found, near=near):
                yield Change(f"chunk {what} of {path.name}", path, data[:94] + b"".join(after), missing=True)

    def every_byte(self) -> Iterator[Change]:
        """Each byte changed, and each file cut behind each byte."""
        for path in self.files():
            yield from self.flips(path)
            yield from self.cuts(path)

    def every_structure(self) -> Iterator[Change]:
        """What can be done to files, entries, checkpoints and chunks as wholes."""
        yield from self.removals()
        yield from self.replacements()
        yield from self.reorderings()
        yield from self.notes()
        yield from self.chunks()

    # --- what is where ---

    def index_at(self, path: Path, at: int) -> int | None:
        """The entry to which a byte of a WAL or a bundle belongs; None: no entry's alone."""
        if path.suffix != ".wal" and not self._is_bundle(path):
            return None
        first, head = (int(path.stem), 8) if path.suffix == ".wal" else (self._members(path)[0], 2)
        end = 0
        for index, entry in enumerate(self.entries[first:], first):
            end += head + len(entry)
            if at < end:
                return index
        return None

    def _is_bundle(self, path: Path) -> bool:
        return "entries" in path.parts

    def _is_padding(self, path: Path, rest: bytes) -> bool:
        return path.suffix == ".wal" and not rest.strip(b"\0")

    def _has_wider(self, path: Path) -> bool:
        """An old partial tile, of which a wider one says the same and more."""
        return path.parent.suffix == ".p" and any(int(other.name) > int(path.name) for other in path.parent.iterdir())

    def _lists(self) -> Iterator[tuple[Path, list[bytes]]]:
        for segment in self.segments:
            yield segment, [struct.pack("<II", len(frame.entry), crc32c(frame.entry)) + frame.entry for frame in frames(segment)]
        for path in sorted((self.base / "log/tile/entries").rglob("*")):
            if path.is_file():
                first, count = self._members(path)
                yield path, [struct.pack(">H", len(entry)) + entry for entry in self.entries[first : first + count]]

    @staticmethod
    def _members(path: Path) -> tuple[int, int]:
        """The first entry of a bundle, and how many it has: `000.p/7`, or `000` when it is full."""
        if path.parent.suffix == ".p":
            return 256 * int(path.parent.stem), int(path.name)
        return 256 * int(path.name), 256


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The chunks of a recording, each with where it begins."""
    at = 94
    while at < len(data):
        size = 4 + (int.from_bytes(data[at : at + 4], "little") & 0x7FFFFFFF)
        yield at, data[at : at + size]
        at += size


def _names(where: str, what: str, name: str) -> bool:
    """Whether a problem names a file: by its path, or by the part of the log that it is."""
    short = name.removeprefix("log/")
    if name.startswith("log/checkpoint"):
        return "checkpoint" in where or "checkpoint" in what
    if name.startswith("wal/"):
        return where == "wal"
    return short in where or short.rpartition(".p/")[0] in where or short.rpartition(".p/")[0] in what


def _is_part(some: list[bytes], notes: list[bytes]) -> bool:
    """Whether these are notes in their order, with the newest: earlier ones say nothing that it does not."""
    rest = iter(notes)
    return some[-1:] == notes[-1:] and all(note in rest for note in some) and len(some) == len(set(some))


def _rearranged(items: list[bytes], *, near: bool = False) -> Iterator[tuple[str, list[bytes], int]]:
    """(what, the items so, the first that is not where it was)."""
    for n in range(len(items)):
        yield f"{n} left out", items[:n] + items[n + 1 :], n
        yield f"{n} doubled", [*items[: n + 1], *items[n:]], n + 1
        for m in range(n + 1, min(n + 2, len(items)) if near else len(items)):
            if items[n] != items[m]:
                swapped = list(items)
                swapped[n], swapped[m] = swapped[m], swapped[n]
                yield f"{n} and {m} swapped", swapped, n
                yield f"{n} replaced by {m}", [*items[:n], items[m], *items[n + 1 :]], n
        if n + 1 < len(items):
            yield f"{n} moved to the end", [*items[:n], *items[n + 1 :], items[n]], n
