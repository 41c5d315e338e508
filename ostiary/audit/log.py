"""Opening an origin: lock, recovery, tail, writer. The one door through which a process gets to write a log."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Final

import msgspec

from ostiary.audit.entries import Encoder, Scrub
from ostiary.audit.ids import Ids
from ostiary.audit.jcs import Json
from ostiary.audit.keys import (
    ABANDONED,
    FAILED,
    Origin,
    newest_part,
    origins,
    read_origin,
    replace,
    this_year,
    write_new,
)
from ostiary.audit.recovery import (
    VERIFY_ENTRIES,
    Opened,
    Recovered,
    is_unsigned,
    kernel_boot,
    last_checkpoint,
    recover,
    write_entries,
)
from ostiary.audit.redo import REDO_BYTES, Redo, settle
from ostiary.audit.tail import DEFAULT_SIZE, TailFile, is_tmpfs
from ostiary.audit.wal import SEGMENT_BYTES, Damaged, Segments, sync_folder
from ostiary.audit.writer import PATIENCE_SECONDS, STALL_SECONDS, Writer
from ostiary.model.errors import ConfigError, LogFailed

DEFAULT_TAIL_DIR: Final = Path("/dev/shm")  # noqa: S108 - the tail is meant to be in memory; the file is made 0600

_log = logging.getLogger(__name__)


class Log(msgspec.Struct, frozen=True):
    """An origin, open for writing."""

    origin: Origin
    writer: Writer
    encoder: Encoder
    ids: Ids
    report: Recovered
    finished: tuple[Origin, ...] = ()
    """Earlier origins, closed by this start or one before, whose last entries are not signed yet."""


def open_log(
    state_dir: Path,
    gateway: str,
    writer: str,
    *,
    scrub: Scrub,
    loop: asyncio.AbstractEventLoop,
    year: int | None = None,
    tail_dir: Path = DEFAULT_TAIL_DIR,
    tail_bytes: int = DEFAULT_SIZE,
    segment_bytes: int = SEGMENT_BYTES,
    redo_bytes: int = REDO_BYTES,
    verify_entries: int = VERIFY_ENTRIES,
    patience: float = PATIENCE_SECONDS,
    stall: float = STALL_SECONDS,
    unsigned: float | None = None,
) -> Log:
    """Open a writer's log of this year, recovered and ready; blocks on the disk, so call it before serving.

    `unsigned`: seconds that the log may go on without a signature; None where no sealer is attached.
    Raises `ConfigError` for what an operator can set right, `LogFailed` when another writer has it, `Damaged` when it was tampered with.
    """
    year = this_year() if year is None else year
    if not is_tmpfs(tail_dir):
        _log.warning("audit.tail_dir %s is not on tmpfs: buffered entries wait for its disk", tail_dir)
    hold = _Hold(tail_dir, tail_bytes, segment_bytes, verify_entries)
    origin = read_origin(state_dir, gateway, writer, year, newest_part(state_dir, writer, year))
    if any((origin.folder / ended).exists() for ended in (FAILED, ABANDONED)):
        raise LogFailed(f"{origin.name} has ended, because a sync failed or it was given up: start the gateway again")
    finished = []
    for earlier in origins(state_dir, gateway, writer):
        if earlier.term >= origin.term or (earlier.folder / ABANDONED).exists():
            continue
        if not (earlier.folder / "closed").exists():
            _finish(earlier, origin, hold, scrub)
            finished.append(earlier)
        elif _is_unsigned(earlier):
            finished.append(earlier)
    started = hold.take(origin, scrub)
    marker = origin.folder / "open"
    opened_at = time.time()
    stamp = started.encoder.stamp(time.time_ns())
    replace(marker, msgspec.json.encode(Opened(started.encoder.boot, kernel_boot(), stamp)))
    made = Writer(
        started.file.begin(started.segments.index, uuid.UUID(started.encoder.boot).bytes),
        started.segments,
        patience=patience,
        stall=stall,
        unsigned=unsigned,
        redo=Redo(origin.folder, redo_bytes),
        fence=started.report.fence,
        read_fence=_Fence(origin.folder).number,
        on_clean=lambda: _settle(origin, opened_at, marker),
        on_closed=lambda: os.close(started.lock),
        on_failed=lambda why: _mark_failed(origin, why),
    )
    if started.segments.index == 0:
        made.append(_first(state_dir, started))
    made.start(loop)
    return Log(origin, made, started.encoder, started.ids, started.report, tuple(finished))


class _Started(msgspec.Struct, frozen=True):
    """An origin that is locked and recovered."""

    origin: Origin
    lock: int
    file: TailFile
    segments: Segments
    encoder: Encoder
    ids: Ids
    report: Recovered


class _Hold(msgspec.Struct, frozen=True):
    """How origins are taken hold of."""

    tail_dir: Path
    tail_bytes: int
    segment_bytes: int
    verify_entries: int

    def take(self, origin: Origin, scrub: Scrub) -> _Started:
        """Lock an origin and recover it. Lets go of everything when that fails."""
        with contextlib.ExitStack() as undo:
            lock = _lock(origin)
            undo.callback(os.close, lock)
            fence = _next_fence(origin)
            file = TailFile(self.tail_dir, origin.name, self.tail_bytes)
            undo.callback(file.abandon)
            ids = Ids()
            encoder = Encoder(f"{origin.gateway}/{origin.writer}", str(uuid.uuid4()), scrub)
            out, report = recover(
                origin,
                file.remains,
                encoder,
                ids,
                fence=fence,
                tail_existed=file.existed,
                segment_bytes=self.segment_bytes,
                verify_entries=self.verify_entries,
            )
            undo.pop_all()
        return _Started(origin, lock, file, out, encoder, ids, report)


def _finish(origin: Origin, following: Origin, hold: _Hold, scrub: Scrub) -> None:
    """Close an earlier year's origin for good: recover it, and let its last entry name the origin that follows."""
    started = hold.take(origin, scrub)
    try:
        if started.segments.index:
            anchor: Json = {"next": following.name, "origin": origin.name}
            write_entries(started.segments, [_entry(started, "anchor", {"anchor": anchor})])
            started.segments.close()
        (origin.folder / "open").unlink(missing_ok=True)
        started.file.remove()
        write_new(origin.folder / "closed", b"")
    finally:
        os.close(started.lock)


def _is_unsigned(origin: Origin) -> bool:
    """Whether a closed log was left without its last signature. One that is damaged hinders no start: its verifier says so."""
    try:
        return is_unsigned(origin)
    except (Damaged, OSError) as problem:
        _log.warning("%s is closed, and cannot be looked at: %s", origin.name, problem)
        return False


def _entry(started: _Started, kind: str, members: dict[str, Json]) -> bytes:
    now = time.time_ns()
    return started.encoder.entry(kind, started.ids.next(now), now, time.monotonic_ns(), members)


def _first(state_dir: Path, started: _Started) -> bytes:
    """Make an origin's first entry: an anchor that names the origin before it, and how far that one was signed."""
    origin = started.origin
    anchor: dict[str, Json] = {"origin": origin.name}
    earlier = [each for each in origins(state_dir, origin.gateway, origin.writer) if each.term < origin.term]
    if earlier:
        anchor["previous"] = _previous(earlier[-1])
    return _entry(started, "anchor", {"anchor": anchor})


def _previous(origin: Origin) -> Json:
    """Say how the origin before ended: how far it was signed, and whether it failed or was given up."""
    said: dict[str, Json] = {"origin": origin.name}
    with contextlib.suppress(OSError):
        said["abandoned"] = (origin.folder / ABANDONED).read_text(encoding="utf-8", errors="replace").strip()[:512]
    if (origin.folder / FAILED).exists():
        said["failed"] = True
    try:
        last = last_checkpoint(origin)
    except Damaged as problem:
        if "abandoned" not in said:
            raise
        return said | {"damaged": str(problem)[:512]}
    return said | {"root": base64.b64encode(last.root).decode(), "size": last.size}


def _settle(origin: Origin, since: float, marker: Path) -> None:
    """Bring recordings to the disk, then say that the log was closed: their ends were not waited for while sessions ended."""
    settle(origin.folder, since)
    marker.unlink(missing_ok=True)
    sync_folder(marker.parent)


def _mark_failed(origin: Origin, why: str) -> None:
    """Note that a sync failed. Where even that cannot be written, recovery finds the log open, and looks at it as after a crash."""
    with contextlib.suppress(OSError, ConfigError):
        write_new(origin.folder / FAILED, f"{why}\n".encode())


def _lock(origin: Origin) -> int:
    fd = os.open(origin.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise LogFailed(f"another writer has {origin.name} open") from None
    return fd


def read_fence(folder: Path) -> int:
    """Read how often an origin was opened."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / "fence").read_text(encoding="ascii"))
    return 0


class _Fence:
    """An origin's fence as its writer sees it, ten times a second: read anew only where the file is another, or was changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "fence"
        self._seen: tuple[int, ...] = ()
        self._number = 0

    def number(self) -> int:
        """How often the origin was opened; 0 where that cannot be read."""
        try:
            found = self._path.stat()
        except OSError:
            return 0
        seen = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if seen != self._seen:
            self._seen, self._number = seen, read_fence(self._folder)
        return self._number


def _next_fence(origin: Origin) -> int:
    fence = read_fence(origin.folder) + 1
    replace(origin.folder / "fence", f"{fence}\n".encode())
    return fence
