"""Recovery: what happens to an origin between its lock and its first new entry.

Theory of operation. Three things survive a writer: the WAL, the tail, and the signed checkpoints. They must tell one story:

    checkpoint's size  <=  entries that the tail calls drained  <=  good frames in the WAL    (else: damage, refuse)
    tail's undrained entries continue the WAL, and agree with it where they overlap           (else: damage, refuse)

First recordings get back what a power cut took of them (`ostiary.audit.redo`). What a checkpoint covers is compared with the tiles
leaf by leaf, so a flipped bit is named by its index; the root over it must be the signed one. What is behind the last good frame was never acknowledged: its bytes are kept aside and cut off. Everything from
the drained position on is written again, even what seems to be there: after a failed fsync the kernel may show pages
that never reached the disk.

Then the loose ends are tied, in this order: `gap` when entries may be missing, an `outcome: unknown` for each open intent, a
`session.end: unknown` for each open session, and a `recover` entry that counts all of it. A crash in the middle of this
is recovered from like any other.

Costs. Memory: the open intents and sessions. Time: a pass over what came after the sealer's last note of what was open, and over the last
`VERIFY_ENTRIES` signed entries, at about 5 µs an entry. Older segments are only checked for being where they must be; looking
at every byte is `ostiary audit verify`'s work.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import google_crc32c
import msgspec

from ostiary.audit.entries import Encoder
from ostiary.audit.ids import Ids
from ostiary.audit.jcs import Json
from ostiary.audit.keys import Origin, replace
from ostiary.audit.note import BadNote, Checkpoint, Verifier, last_note, read_checkpoint
from ostiary.audit.redo import restore, settle
from ostiary.audit.tail import FRAME, Remains
from ostiary.audit.tiles import TileFolder
from ostiary.audit.tree import EMPTY_ROOT, WIDTH, leaf_hash
from ostiary.audit.unfinished import Unfinished
from ostiary.audit.wal import SEGMENT_BYTES, Damaged, Frame, Segments, frames, segments

VERIFY_ENTRIES: Final = 1_000_000
_BATCH: Final = 1 << 20
_MAX_NOTE_TAIL: Final = 1 << 16


class Opened(msgspec.Struct, frozen=True):
    """The `open` file: there while a writer has the log open."""

    boot: str
    kernel: str
    at: str


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and done at a start, for people."""

    origin: str
    size: int
    """Entries in the log when it was opened, those written by recovery included."""
    signed: int
    """Size of the last checkpoint."""
    clean: bool
    """The last writer had closed the log, or there was none."""
    cut: int
    """Bytes taken off the WAL's torn end, kept aside."""
    merged: int
    """Entries brought over from the tail."""
    intents: int
    sessions: int
    gap: str
    fence: int
    seconds: float


class _Scan:
    """A pass over the WAL: checks that it holds what the last checkpoint covers, and collects what is open."""

    def __init__(self, origin: Origin, last: Checkpoint, verify_entries: int) -> None:
        self.size = 0
        self.end: tuple[Path, int] | None = None
        """Last segment, and the offset behind its last good frame."""
        self.last_entry = b""
        self._last = last
        self._tiles = TileFolder(origin.folder / "log")
        self._low = origin.folder / "low"
        self.open = Unfinished.load(self._low)
        if self.open.index > last.size:
            self.open = Unfinished()  # the note was made after the checkpoint that we know: do not trust it
        self._files = segments(origin.folder / "wal")
        begins = self._files[0].first if self._files else 0
        if begins > pruned(origin.folder).segment:
            raise Damaged(0, f"the log's first segment is missing: it begins at {begins}")
        if begins > self.open.index:
            self.open = Unfinished(begins)  # what was open in what was pruned is gone with it
        self._from = max(max(0, last.size - verify_entries) // WIDTH, -(-begins // WIDTH)) * WIDTH
        # Of a log that was pruned up to its last entries no whole tile is left to compare.
        self._frontier = self._tiles.frontier(min(self._from, last.size), last.size)
        self._row: list[bytes] = []

    def run(self) -> None:
        """Read every segment that matters. Raises `Damaged`."""
        files = self._files
        start = min(self._from, self.open.index)
        for at, segment in enumerate(files):
            following = files[at + 1].first if at + 1 < len(files) else None
            if following is not None and following <= start:
                self.size = following
                continue
            self.size, end = segment.first, 0
            for frame in frames(segment.path):
                self._look(frame)
                end = frame.end
            self.end = (segment.path, end)
            if following is not None and following != self.size:
                raise Damaged(self.size, f"{segment.path.name} ends here, but the next segment begins at {following}")
        if self.size < self._last.size:
            raise Damaged(
                self.size, f"the log ends here, or is damaged; the last checkpoint covers {self._last.size} entries"
            )

    def _look(self, frame: Frame) -> None:
        index, entry = self.size, frame.entry
        self.size += 1
        self.last_entry = entry
        if index == self.open.index:
            self.open.see(entry)
        if self._from <= index < self._last.size:
            self._compare(index, entry)

    def _compare(self, index: int, entry: bytes) -> None:
        leaf = leaf_hash(entry)
        if not self._row or index % WIDTH == 0:
            self._row = self._tiles.hashes(0, index // WIDTH, self._last.size)
        if self._row[index % WIDTH] != leaf:
            raise Damaged(index, "is not the entry that was signed")
        self._frontier.append(leaf)
        if index + 1 == self._last.size and self._frontier.root() != self._last.root:
            raise Damaged(index, "the entries and tiles up to here do not have the root that was signed")


class Pruned(msgspec.Struct, frozen=True):
    """How far a log was pruned: see `ostiary.audit.retention`."""

    below: int = 0
    """Bundles of entries with a lower index are gone."""
    segment: int = 0
    """WAL segments that begin below it are gone."""


def pruned(folder: Path) -> Pruned:
    """Read how far an origin was pruned. Raises `Damaged` where that cannot be read."""
    try:
        return msgspec.json.decode((folder / "pruned").read_bytes(), type=Pruned)
    except FileNotFoundError:
        return Pruned()
    except (OSError, msgspec.MsgspecError) as problem:
        raise Damaged(0, f"{folder / 'pruned'} cannot be read: {problem}") from None


def last_checkpoint(origin: Origin) -> Checkpoint:
    """Read the newest checkpoint that this log published. Raises `Damaged` for one that is not signed by its key."""
    found = Checkpoint(origin.name, 0, EMPTY_ROOT)
    listed = last_note(_end_of_list(origin))
    for note in [*([listed] if listed else []), *_published(origin)]:
        checkpoint = _read(origin, note, found.size)
        if checkpoint.size == found.size and checkpoint.root != found.root:
            raise Damaged(found.size, "there are two checkpoints of this size with different roots")
        found = max(found, checkpoint, key=lambda each: each.size)
    return found


def published_notes(origin: Origin) -> Iterator[tuple[Checkpoint, str]]:
    """Yield the newest checkpoints of a log and their notes, the newest first. Raises `Damaged` as `last_checkpoint` does."""
    for note in _published(origin):
        yield _read(origin, note, 0), note
    left = _end_of_list(origin)
    while note := last_note(left):
        yield _read(origin, note, 0), note
        left = left[: left.rindex(note)]


def _read(origin: Origin, note: str, size: int) -> Checkpoint:
    try:
        return read_checkpoint(note, Verifier(origin.vkey))
    except BadNote as problem:
        raise Damaged(size, f"a checkpoint is not good: {problem}") from None


def _published(origin: Origin) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        note = (origin.folder / "log" / "checkpoint").read_text(encoding="utf-8", errors="replace")
        return [note] if note else []
    return []


def _end_of_list(origin: Origin) -> str:
    listed = origin.folder / "log" / "checkpoints"
    if not listed.exists():
        return ""
    with listed.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_NOTE_TAIL))
        return file.read().decode(errors="replace")


def end_of_wal(folder: Path) -> int:
    """Tell how many entries a log has that nobody writes, signed or not."""
    files = segments(folder / "wal")
    return files[-1].first + sum(1 for _ in frames(files[-1].path)) if files else 0


def is_unsigned(origin: Origin) -> bool:
    """Whether a log that nobody writes has entries beyond its last checkpoint. Raises `Damaged`."""
    return end_of_wal(origin.folder) > last_checkpoint(origin).size


def kernel_boot() -> str:
    """Tell which start of the machine this is."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def recover(
    origin: Origin,
    remains: Remains | None,
    encoder: Encoder,
    ids: Ids,
    *,
    fence: int,
    tail_existed: bool,
    segment_bytes: int = SEGMENT_BYTES,
    verify_entries: int = VERIFY_ENTRIES,
) -> tuple[Segments, Recovered]:
    """Bring an origin into order, under its lock. Returns where to go on writing.

    Raises `Damaged`, which names the first bad index: such a log must not be extended.
    """
    began = time.monotonic()
    left = _opened(origin)
    if left is not None:
        restore(origin.folder)
        settle(origin.folder, (origin.folder / "open").stat().st_mtime)
    last = last_checkpoint(origin)
    scan = _Scan(origin, last, verify_entries)
    scan.run()
    found = scan.size
    again = _beyond(scan, origin, remains, last)
    cut = _cut_off(scan, origin, clean=left is None)
    out = Segments(origin.folder / "wal", scan.size, segment_bytes)
    if scan.end is not None:
        out.resume(*scan.end)
    write_entries(out, again)
    merged = max(0, out.index - found)
    for entry in again[len(again) - merged :]:
        scan.open.see(entry)
    gap = "" if left is None or tail_existed else "tail lost"
    intents, sessions = len(scan.open.intents), len(scan.open.sessions)
    if left is not None or intents or sessions:
        ends = _Ends(encoder, ids, scan.open)
        size = out.index
        write_entries(out, ends.entries(gap, _time_of(again[-1] if again else scan.last_entry)))
        counts: dict[str, Json] = {
            "cut": cut,
            "fence": fence,
            "intents": intents,
            "merged": merged,
            "sessions": sessions,
            "size": size,
        }
        if left is not None and left.boot:
            counts["boot"] = left.boot
        write_entries(out, [ends.entry("recover", {"recover": counts})])
    if out.index:
        Unfinished(out.index).save(origin.folder / "low")
    report = Recovered(
        origin=origin.name,
        size=out.index,
        signed=last.size,
        clean=left is None,
        cut=cut,
        merged=merged,
        intents=intents,
        sessions=sessions,
        gap=gap,
        fence=fence,
        seconds=time.monotonic() - began,
    )
    return out, report


def _opened(origin: Origin) -> Opened | None:
    try:
        return msgspec.json.decode((origin.folder / "open").read_bytes(), type=Opened)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        return Opened("", "", "")


def _beyond(scan: _Scan, origin: Origin, remains: Remains | None, last: Checkpoint) -> list[bytes]:
    """Collect the entries to be written (again): those that the tail has not drained. Winds `scan` back to where they begin."""
    if remains is None:
        return []
    if remains.index > scan.size:
        raise Damaged(
            scan.size, f"the log ends here, or is damaged; {remains.index} entries had been written to the disk"
        )
    if remains.index < last.size:
        raise Damaged(
            remains.index, "the tail is older than the last checkpoint: it belongs to another state of this log"
        )
    held = list(remains.entries())
    index = remains.index
    again: list[bytes] = []
    if scan.size > index:
        for path, offset, entry in _from(origin, index):
            at = index - remains.index
            if at < len(held) and entry != held[at]:
                raise Damaged(index, "the log and the tail hold different entries")
            if scan.end is not None and path == scan.end[0]:
                # Earlier segments were synced when they were closed; this one is written again from here on.
                if not again:
                    scan.size, scan.end = index, (path, offset)
                again.append(entry)
            index += 1
    return again + held[index - remains.index :]


def _from(origin: Origin, index: int) -> Iterator[tuple[Path, int, bytes]]:
    """Yield the WAL's entries from `index` on, each with its segment and the offset where it begins."""
    files = segments(origin.folder / "wal")
    for at, segment in enumerate(files):
        if at + 1 < len(files) and files[at + 1].first <= index:
            continue
        position, offset = segment.first, 0
        for frame in frames(segment.path):
            if position >= index:
                yield segment.path, offset, frame.entry
            position, offset = position + 1, frame.end


def _cut_off(scan: _Scan, origin: Origin, *, clean: bool) -> int:
    """Keep aside what stands behind the last good frame, if it is anything but padding. `Segments.resume` cuts it off."""
    if scan.end is None:
        return 0
    path, offset = scan.end
    with path.open("rb") as file:
        file.seek(offset)
        rest = file.read().rstrip(b"\0")
    rest = rest[_frames_in(rest) :].rstrip(b"\0")
    if not rest:
        return 0
    if clean:
        raise Damaged(scan.size, "the log was closed properly, and is damaged from here on")
    replace(origin.folder / "wal" / f"torn-{scan.size}-{secrets.token_hex(4)}.bin", rest)
    return len(rest)


def _frames_in(data: bytes) -> int:
    """Tell how many bytes of whole, good frames `data` begins with: those are written again, not lost."""
    at = 0
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        stop = at + FRAME.size + length
        if not length or stop > len(data) or google_crc32c.value(data[at + FRAME.size : stop]) != checksum:
            break
        at = stop
    return at


def write_entries(out: Segments, entries: Iterable[bytes]) -> None:
    """Append entries in batches of bounded size."""
    batch, count = bytearray(), 0
    for entry in entries:
        batch += FRAME.pack(len(entry), google_crc32c.value(entry)) + entry
        count += 1
        if len(batch) >= _BATCH:
            out.write([memoryview(bytes(batch))], out.index + count)
            batch, count = bytearray(), 0
    if count:
        out.write([memoryview(bytes(batch))], out.index + count)


def _time_of(entry: bytes) -> str:
    """Read an entry's `t`; empty when there is none."""
    try:
        found = msgspec.json.decode(entry)["t"]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return ""
    return str(found)


class _Ends:
    """Makes the entries that tie loose ends."""

    def __init__(self, encoder: Encoder, ids: Ids, unfinished: Unfinished) -> None:
        self.written = 0
        self._encoder = encoder
        self._ids = ids
        self._open = unfinished

    def entries(self, gap: str, since: str) -> Iterator[bytes]:
        """Yield `gap` if there is one, then an end for everything that is open."""
        if gap:
            yield self.entry("gap", {"gap": {"why": gap} | ({"since": since} if since else {})})
        unknown: Json = {"status": "unknown"}
        for intent, session in self._open.intents.items():
            yield self.entry("outcome", {"ref": intent, "session": session, "result": unknown})
        for session, start in self._open.sessions.items():
            yield self.entry("session.end", {"ref": start, "session": session, "result": unknown})

    def entry(self, kind: str, members: dict[str, Json]) -> bytes:
        """Make one entry."""
        self.written += 1
        now = time.time_ns()
        return self._encoder.entry(kind, self._ids.next(now), now, time.monotonic_ns(), members)
