"""Letting go of what is old enough, from the front of a log, and keeping what somebody has a legal hold on.

Theory of operation. A log is pruned below an index, a multiple of 256: entry bundles below it go, the write-ahead log's segments, and the
recordings of sessions that had ended by then. Hash tiles stay, so the tree stands as it was signed, and every proof of a retained entry, and of
the prefix's root, holds. What is removed is on record first, in the log of the writer `operator`.

A verifier has to tell an honest prune from one that hides: so the first entry that is *kept* must itself be older than the time
that entries are kept. Times go forward along a log, so what stood before it was older still, and whoever reads the record and that entry
sees it without having what is gone. The price: up to a segment of entries more than necessary stays, and in a quiet log more.

A hold keeps the entries that it finds, and all behind them in the same log: pruning goes from the front. Holds are kept in `holds.json`, set
and released on record. What is searched is the write-ahead log, so no segment goes of which a hold finds an entry; and what a prune before
left in bundles alone (less than a tile) is looked through by itself. A write-ahead log that cannot be read to where it was signed
could hide what is held: then nothing is removed.

Only what is signed may go, by as many witnesses as the policy asks for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from ostiary.audit import walreader
from ostiary.audit.cosignature import WitnessPolicy
from ostiary.audit.index import decode, micros_of, term_text, text_of
from ostiary.audit.keys import Origin, replace
from ostiary.audit.recovery import end_of_wal, last_checkpoint, pruned, published_notes
from ostiary.audit.search import MAX_LIMIT, Query, find, fits
from ostiary.audit.tiles import TileFolder, tile_path, unbundle
from ostiary.audit.tree import WIDTH
from ostiary.audit.wal import Damaged, segments, sync_folder
from ostiary.model.errors import OstiaryError
from ostiary.vault.keeping import BESIDE
from ostiary.vault.payload_format import SUFFIX

HOLDS: Final = "holds.json"
LOCK: Final = "holds.lock"
"""Held by whoever sets or releases a hold, and by whoever removes what a hold could keep."""
MAX_HOLDS: Final = 1000
DAY_MICROS: Final = 86_400 * 1_000_000


class HoldFailed(OstiaryError):
    """A hold cannot be set or released, or those that there are cannot be read."""


class Hold(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What must be kept, and why: everything that is given must fit, as in a search."""

    reason: str
    person: str | None = None
    actor: str | None = None
    task: str | None = None
    connection: str | None = None
    session: str | None = None
    since: str | None = None
    until: str | None = None

    def query(self) -> Query:
        """Make the search that finds what is held."""
        given = {name: getattr(self, name) for name in self.__struct_fields__ if name != "reason"}
        return Query(**given, newest_first=False, limit=MAX_LIMIT)


class Prune(msgspec.Struct, frozen=True):
    """What may go from one log."""

    origin: Origin
    below: int
    """Entries with a lower index go."""
    segment: int
    """WAL segments that begin below it go."""
    kept_from: str
    """Time of the first entry that is kept."""


def holds(state: Path) -> dict[str, Hold]:
    """Return the holds by name. Raises `HoldFailed` where the file cannot be read: then nothing may be removed."""
    try:
        return msgspec.json.decode((state / HOLDS).read_bytes(), type=dict[str, Hold])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as problem:
        raise HoldFailed(f"{state / HOLDS} cannot be read, so nothing is removed: {problem}") from None


def check_room(held: Mapping[str, Hold]) -> None:
    """Raise `HoldFailed` where no further hold can be kept."""
    if len(held) >= MAX_HOLDS:
        raise HoldFailed(f"there are {MAX_HOLDS} holds already: release one")


def keep_holds(state: Path, held: Mapping[str, Hold]) -> None:
    """Write the holds down, durably."""
    replace(state / HOLDS, msgspec.json.encode(dict(sorted(held.items()))))


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Keep everybody else from setting or releasing a hold, and from removing anything; waits for whoever does."""
    fd = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def held_from(state: Path, origin: Origin, size: int, held: Mapping[str, Hold]) -> int | None:
    """Return the first index of a log of this size that a hold keeps; None where there is none. Raises `HoldFailed`, `Damaged`."""
    if not held:
        return None
    first = _in_bundles(origin, size, held)
    if first is not None:
        return first
    # The index knows what it read once, and says nothing of what cannot be read any more.
    if max((place.index + 1 for place, _ in walreader.read_from(origin.folder, None)), default=0) < size:
        raise HoldFailed(f"the write-ahead log of {origin.name} cannot be read to its end, so nothing is removed")
    folder = origin.folder.relative_to(state / "audit").as_posix()
    for hold in held.values():
        count = 0
        for found in find(state, hold.query()):
            count += 1
            if found.origin == folder:
                first = found.index if first is None else min(first, found.index)
        if count >= MAX_LIMIT:
            return 0  # more than can be looked through: all of it stays
    return first


def _in_bundles(origin: Origin, size: int, held: Mapping[str, Hold]) -> int | None:
    """Return the first index that a hold keeps of what stands in bundles, and in the write-ahead log no more."""
    first = pruned(origin.folder).below
    stop = min((segment.first for segment in segments(origin.folder / "wal")), default=size)
    queries = [hold.query() for hold in held.values()]
    while first < min(stop, size):
        entries = TileFolder(origin.folder / "log").entries(first // WIDTH, size)
        for number, entry in enumerate(entries[: stop - first], first):
            if any(fits(query, decode(entry)) for query in queries):
                return number
        first += WIDTH
    return None


def is_held(state: Path, session: str) -> str:
    """Return the name of a hold on a session; empty: there is none."""
    mine = term_text(session)
    for name, hold in holds(state).items():
        query = hold.query()
        wanted = term_text("*" if query.session is None else query.session)
        may = mine.startswith(wanted[:-1]) if wanted.endswith("*") else mine == wanted
        if may and any(find(state, msgspec.structs.replace(query, session=session, limit=1))):
            return name
    return ""


def signed_size(origin: Origin, witnesses: WitnessPolicy | None = None) -> int:
    """Tell how far a log is signed, and cosigned by as many witnesses as the policy asks for. Raises `Damaged`."""
    size = last_checkpoint(origin).size
    if witnesses is None:
        return size
    for checkpoint, note in published_notes(origin):
        if witnesses.is_cosigned(checkpoint.text(), note):
            return checkpoint.size
    return 0


def has_unsigned_end(origin: Origin, witnesses: WitnessPolicy | None = None) -> bool:
    """Whether a closed log's last entries are without a signature, or without a quorum's. Raises `Damaged`."""
    end = end_of_wal(origin.folder) if (origin.folder / "closed").exists() else 0
    return end > signed_size(origin, witnesses)


def plan(
    state: Path, origin: Origin, keep_days: int, now: float | None = None, witnesses: WitnessPolicy | None = None
) -> Prune | None:
    """Say what of a log is older than `keep_days`, signed and on no hold; None: nothing. Raises `Damaged`, `HoldFailed`."""
    size = signed_size(origin, witnesses)
    is_closed = (origin.folder / "closed").exists()
    files = segments(origin.folder / "wal")
    if not size or (is_closed and (not files or end_of_wal(origin.folder) != size)):
        return None  # of a closed log all went that ever will, or its last entries are not signed yet
    before = pruned(origin.folder)
    limit = held_from(state, origin, size, holds(state))
    oldest = int((time.time() if now is None else now) * 1_000_000) - keep_days * DAY_MICROS
    # A sealer begins at the last tile that is under way, so the WAL of a log that goes on keeps that whole.
    last = size if is_closed else size // WIDTH * WIDTH
    for end in sorted([*(segment.first for segment in files), *([size] if is_closed else [])], reverse=True):
        # One entry at least is kept: it shows how old those before it were.
        below = min(end, size - 1) // WIDTH * WIDTH
        if below <= before.below:
            return None
        if end > last or (limit is not None and end > limit):
            continue
        kept_from = _is_old(origin, below, min(end, size - 1), size, oldest)
        if kept_from:
            return Prune(origin, below, end, kept_from)
    return None


def _is_old(origin: Origin, below: int, end: int, size: int, oldest: int) -> str:
    """Return the time of entry `below`, if it and that of entry `end` are old enough; empty where one is not."""
    tiles = TileFolder(origin.folder / "log")
    both = [decode(tiles.entries(number // WIDTH, size)[number % WIDTH]).get("t") for number in (below, end)]
    known = [micros_of(each) for each in both]
    return str(both[0]) if all(micros is not None and micros <= oldest for micros in known) else ""


def carry_out(prune: Prune) -> int:
    """Remove what a plan says, after it went on record; returns how many recordings went. What a crash left half done is done again."""
    folder = prune.origin.folder
    replace(folder / "pruned", msgspec.json.encode({"below": prune.below, "segment": prune.segment}))
    return finish(folder)


def finish(folder: Path) -> int:
    """Remove what a log's note of its pruning says and is still there; returns how many recordings went."""
    note = pruned(folder)
    bundles = folder / "log" / "tile" / "entries"
    recordings = 0
    # Segments first, oldest first: at no moment does the WAL begin before the bundles do, so whatever a crash leaves verifies.
    for segment in segments(folder / "wal"):
        if segment.first < note.segment:
            segment.path.unlink()
    for number in range(note.below // WIDTH):
        full = folder / "log" / tile_path("entries", number)
        partial = full.with_name(f"{full.name}.p")
        if full.exists():
            for session in _ended(full):
                recording = folder / "payloads" / f"{session}{SUFFIX}"
                recordings += recording.exists()
                recording.with_name(recording.name + BESIDE).unlink(missing_ok=True)
                recording.unlink(missing_ok=True)
            full.unlink()
        if partial.is_dir():
            for file in partial.iterdir():
                file.unlink()
            partial.rmdir()
    for changed in (folder / "payloads", folder / "wal", bundles):
        if changed.is_dir():
            sync_folder(changed)
    return recordings


def _ended(bundle: Path) -> list[str]:
    """Sessions that ended in a bundle. Their ids become parts of paths, so they are nothing but ids."""
    try:
        entries = [decode(entry) for entry in unbundle(bundle.read_bytes())]
    except ValueError as problem:
        raise Damaged(0, f"{bundle} is damaged, so it is not removed: {problem}") from None
    ends = [text_of(entry.get("session")) for entry in entries if entry.get("kind") == "session.end"]
    return [session for session in ends if len(session) == 36 and set(session) <= set("0123456789abcdef-")]
