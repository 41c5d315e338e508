"""The sealer: a process of its own that owns an origin's signing key, and signs what the log says, once.

    python -m ostiary.audit.sealer --folder DIR --key FILE --fd N        beside a running writer
    python -m ostiary.audit.sealer --folder DIR --key FILE --once        seal what is in a log that nobody writes
    python -m ostiary.audit.sealer --folder DIR --key FILE --check --witnesses FILE      see that it was not rolled back

Theory of operation. The process that writes the log parses hostile bytes, so it must not be able to sign. It tells the sealer only
*how far* its log is durable; the sealer reads the entries itself from the WAL, appends their hashes to its own frontier, and signs
that. There is no message that makes it shrink the tree, replace an entry or sign a root that it did not compute: what it signed
once can only be extended. When the WAL does not go on where the last checkpoint ends, it refuses, says why, and exits.

Witnesses. With `--witnesses POLICY` each checkpoint is shown to the policy's witnesses before it is published, and published with the
cosignatures that came in time. Too few do not hold it up: it is asked for again. Only after `--witness-lag` seconds without a quorum the
sealer stops telling the writer that the log is signed, and the writer stops taking entries. `--check` asks the witnesses
once, at a start: one that knows a larger tree or another history ends with 1.

Order of publishing: tiles and bundles, then the checkpoint into the list of all checkpoints, then `checkpoint` itself; each
durable before the next begins. A crash leaves at most tiles that nothing points to yet. The frontier is not stored: it is
read back from the tiles, and must have the root that was signed.

A checkpoint is due `--interval` seconds after there is something new, or when the writer asks; after `--entries` new entries already
a quarter of the interval after the last one. (Without that pause, 20,000 entries a second are twenty checkpoints a second, and each
costs a dozen syncs.) One that only the number calls for ends with a whole tile: partial tiles that the next quarter of the interval
replaces are not made. What it leaves out is due as if it had come by itself.
Exit codes: 0 the writer has gone and all is sealed; 1 refused: the log is not the one that was signed; 2 misconfigured.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from ostiary.audit.consistency import subtrees
from ostiary.audit.cosignature import WitnessPolicy
from ostiary.audit.keys import Origin, load_signer
from ostiary.audit.note import Checkpoint, Signer, Verifier, last_note, read_checkpoint
from ostiary.audit.recovery import end_of_wal, pruned
from ostiary.audit.tiles import Publication, TileFolder, tile_file, tile_path
from ostiary.audit.tree import EMPTY_ROOT, WIDTH, leaf_hash, leaf_hashes
from ostiary.audit.unfinished import Unfinished
from ostiary.audit.wal import Damaged, WalReader, segments
from ostiary.audit.witnessing import Signed, Witnesses
from ostiary.audit.writer import MESSAGE
from ostiary.kernel.entries import bundle
from ostiary.model.errors import ConfigError, LogFailed

_T = TypeVar("_T")
INTERVAL_SECONDS: Final = 1.0
MAX_UNSIGNED: Final = 1024
"""Entries after which a checkpoint is due."""
_MAX_STEP: Final = 8192
"""Entries under one checkpoint at most, so that a long backlog is published in steps."""
_PAUSE: Final = 0.25
"""Of the interval, between checkpoints that only the number of entries calls for."""
_ASKED_SECONDS: Final = 0.05
"""Between checkpoints that the writer asks for: many short sessions share one."""
_SAVE_ENTRIES: Final = 50_000
_RETRY_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 1.0
"""Between looks at witnesses that are missing."""
_NICE: Final = 5


class Sealer:
    """One origin's tree and its signer."""

    def __init__(self, folder: Path, signer: Signer, witnesses: Witnesses | None = None) -> None:
        """Read back what was signed. Raises `Damaged` when tiles or WAL do not agree with it."""
        self._folder = folder
        self._signer = signer
        self._witnesses = witnesses
        self._tiles = TileFolder(folder / "log")
        self._tiles.sweep()
        last = self._last()
        self._tree = self._tiles.frontier(last.size, last.size)
        if self._tree.root() != last.root:
            raise Damaged(last.size, "the tiles do not have the root that was signed")
        first = last.size // WIDTH * WIDTH
        self._bundle = self._tiles.entries(first // WIDTH, last.size) if first < last.size else []
        self._wal = WalReader(folder / "wal", first)
        self._rejoin(last.size)
        self._open = Unfinished.load(folder / "low")
        begins = min((segment.first for segment in segments(folder / "wal")), default=0)
        if self._open.index < begins <= pruned(folder).segment:
            self._open = Unfinished(begins)  # as recovery does: what was pruned is open no more
        if self._open.index < last.size:
            catching_up = WalReader(folder / "wal", self._open.index)
            for entry in catching_up.read(last.size):
                self._open.see(entry)
        self._saved = self._open.index

    @property
    def size(self) -> int:
        """Size of the signed tree."""
        return self._tree.size

    def _last(self) -> Checkpoint:
        verifier = Verifier(self._signer.vkey)
        listed = self._folder / "log" / "checkpoints"
        data = listed.read_bytes()[-(1 << 20) :] if listed.exists() else b""
        note = last_note(data.decode(errors="replace"))
        if data and not (note and data.endswith(note.encode())):
            # A note cut short by a crash: it was never published, and would spoil the next one.
            whole = data.rfind(note.encode()) + len(note.encode()) if note else 0
            os.truncate(listed, listed.stat().st_size - len(data) + whole)
        newest = read_checkpoint(note, verifier) if note else Checkpoint(self._signer.name, 0, EMPTY_ROOT)
        shown = self._folder / "log" / "checkpoint"
        if shown.exists():
            published = read_checkpoint(shown.read_text(encoding="utf-8"), verifier)
            if published.size > newest.size or (published.size == newest.size and published.root != newest.root):
                raise Damaged(newest.size, "the list of checkpoints lacks one that was published")
        return newest

    def _rejoin(self, size: int) -> None:
        """The WAL must go on where the tree ends: its last entries are those of the last bundle."""
        at = self._wal.index
        for entry, kept in zip(self._wal.read(size), self._bundle, strict=True):
            if entry != kept:
                raise Damaged(at, "the WAL does not hold the entry that was signed")
            at += 1
        for entry, leaf in zip(self._bundle, self._tiles.hashes(0, size // WIDTH, size), strict=True):
            if leaf_hash(entry) != leaf:
                raise Damaged(size // WIDTH * WIDTH, "the last bundle does not hold the entries that were signed")

    def seal(self, durable: int) -> Iterator[int]:
        """Extend the tree to `durable` entries, and publish; yields each size that was signed. Raises `Damaged`."""
        if durable < self.size:
            raise Damaged(durable, f"the log ends here, but {self.size} entries were signed")
        while self.size < durable:
            stop = min(durable, (self.size + _MAX_STEP) // WIDTH * WIDTH)
            full = _patiently(lambda: self._extend(stop), "tiles")  # noqa: B023 - called before the next round
            note = self._cosigned(self._signed())
            _patiently(lambda: self._tiles.append_note(note), "checkpoints")  # noqa: B023 - as above
            _patiently(lambda: self._tiles.publish([("checkpoint", note.encode())]), "checkpoint")  # noqa: B023 - as above
            self._tiles.forget_partials(full)
            if self._open.index >= self._saved + _SAVE_ENTRIES:
                self.save()
            yield self.size

    def _signed(self) -> Signed:
        text = Checkpoint(self._signer.name, self.size, self._tree.root()).text()
        return Signed(self._signer.sign(text), text, self.size, subtrees(self._tiles, self.size))

    def _cosigned(self, signed: Signed) -> str:
        return signed.note if self._witnesses is None else self._witnesses.cosign(signed)

    def ask_again(self) -> None:
        """Ask once more for cosignatures of the last checkpoint, and publish those that came."""
        if not self.size:
            return
        signed = self._signed()
        note = self._cosigned(signed)
        if note != signed.note:
            _patiently(lambda: self._tiles.publish([("checkpoint", note.encode())]), "checkpoint")

    def ask_if_short(self) -> None:
        """Ask for cosignatures of a checkpoint that was published without a quorum."""
        if self._witnesses is None or not self.size:
            return
        shown = self._folder / "log" / "checkpoint"
        if not shown.exists() or not self._witnesses.is_enough(self._signed().text, shown.read_text(encoding="utf-8")):
            self.ask_again()

    def check_witnesses(self, entries: int) -> None:
        """See that no witness knows more, or another history, than a log of `entries`. Raises `WitnessSays`."""
        if self._witnesses is not None:
            self._witnesses.check_start(self._signed(), entries)

    def _extend(self, stop: int) -> list[str]:
        """Publish the tiles of a tree of `stop` entries; returns the names of those that are full now. Where it raises, it can be called again."""
        tree, bundled, wal = self._tree.copy(), list(self._bundle), self._wal.copy()
        full: list[str] = []
        with Publication(self._tiles) as publication:
            for entries in wal.batches(stop):
                self._open.see_all(entries[max(0, self._open.index - tree.size) :])
                bundled += entries
                # Written while it is at hand: of a long backlog no more than one read is in memory.
                for tile in tree.extend(leaf_hashes(entries)):
                    files = [tile_file(tile)]
                    if not tile.level:
                        files.append((tile_path("entries", tile.number), bundle(bundled[:WIDTH])))
                        del bundled[:WIDTH]
                    for name, data in files:
                        publication.add(name, data)
                        full.append(name)
            for tile in tree.partial():
                # A row that did not grow is on the disk as it is.
                if self.size >> 8 * tile.level != tree.size >> 8 * tile.level:
                    publication.add(*tile_file(tile))
            if bundled:
                publication.add(tile_path("entries", tree.size // WIDTH, len(bundled)), bundle(bundled))
            publication.finish()
        self._tree, self._bundle, self._wal = tree, bundled, wal
        return full

    def save(self) -> None:
        """Note what is open at this point, so that recovery need not read everything before."""
        self._saved = self._open.index
        with contextlib.suppress(OSError):  # a hint only
            self._open.save(self._folder / "low")


def _patiently(publish: Callable[[], _T], what: str) -> _T:
    """Try until the disk has room: the writer refuses meanwhile, and nothing may be published out of order."""
    told = False
    while True:
        try:
            return publish()
        except OSError as problem:
            if problem.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            if not told:
                print(f"sealer: no room for {what}", file=sys.stderr, flush=True)  # noqa: T201 - a process's own log
                told = True
            time.sleep(_RETRY_SECONDS)


class Link:
    """What the writer says, and is told: see `ostiary.audit.writer.MESSAGE`."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self.durable = 0
        self.fence = -1
        """Which writer is speaking; -1: none yet."""
        self.asked = False
        self.gone = False

    def listen(self, seconds: float | None) -> None:
        """Wait for a message at most so long, and read all there are."""
        select.select([self._socket], [], [], seconds)
        while not self.gone:
            try:
                data = self._socket.recv(64)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if len(data) != MESSAGE.size:
                self.gone = True
                return
            what, durable, fence = MESSAGE.unpack(data)
            if fence < self.fence:
                continue  # an older writer's last words
            # A new writer's word counts even when it says less: then the log was rolled back, and `seal` refuses.
            self.durable = max(self.durable, durable) if fence == self.fence else durable
            self.fence = fence
            self.asked = self.asked or what == b"F"

    def say(self, size: int) -> None:
        """Tell the writer how far the log is signed."""
        with contextlib.suppress(OSError):
            self._socket.send(MESSAGE.pack(b"S", size, 0), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class _Lag:
    """How long the log may go without a quorum of witnesses before its writer is no longer told that it is signed."""

    def __init__(self, witnesses: Witnesses | None, seconds: float) -> None:
        self._witnesses = witnesses
        self._seconds = seconds

    @property
    def is_short(self) -> bool:
        """Whether cosignatures are missing, and have to be asked for again."""
        return self._witnesses is not None and self._witnesses.is_short

    @property
    def is_over(self) -> bool:
        return (
            self._witnesses is not None
            and self._witnesses.is_short
            and 0 < self._seconds < time.monotonic() - self._witnesses.satisfied_at
        )


def serve(sealer: Sealer, link: Link, folder: Path, interval: float, entries: int, lag: _Lag) -> None:
    """Seal as the writer goes on, until it has gone. Raises `Damaged`, `LogFailed`."""
    link.say(sealer.size)
    due: float | None = None
    """When all that is new has to be signed."""
    many: float | None = None
    """When whole tiles of it have to."""
    last = whole_at = 0.0
    whole = 0
    while True:
        times = [at for at in (due, many) if at is not None]
        pauses = [max(0.0, min(times) - time.monotonic())] if times else []
        link.listen(min([*pauses, *([_AGAIN_SECONDS] if lag.is_short else [])], default=None))
        if lag.is_short and not link.gone and link.durable == sealer.size:
            sealer.ask_again()
            if not lag.is_over:
                link.say(sealer.size)
        now = time.monotonic()
        news = 0 if link.fence < 0 else link.durable - sealer.size
        if link.durable // WIDTH != whole:  # it falls where a new writer knows less
            whole, whole_at = link.durable // WIDTH, now
        if news and due is None:
            due = now + interval
        if link.asked and news:
            due = min(due or now, max(now, last + _ASKED_SECONDS))
        many = last + interval * _PAUSE if news >= entries else None
        goal = sealer.size
        if news < 0 or (news and ((due is not None and now >= due) or link.gone)):
            goal = link.durable
        elif many is not None and now >= many:
            goal = whole * WIDTH if whole * WIDTH > sealer.size else link.durable
        if goal != sealer.size:
            _check_fence(folder, link)
            for size in sealer.seal(goal):
                if not lag.is_over:
                    link.say(size)
            last, many = time.monotonic(), None
            # What is left came after the last whole tile.
            due = whole_at + interval if sealer.size < link.durable else None
        if not news or sealer.size == link.durable:
            due, link.asked = None, False
        if link.gone:
            return


def _check_fence(folder: Path, link: Link) -> None:
    """Another writer has opened the log since: what this one says does not count any more."""
    with contextlib.suppress(OSError, ValueError):
        current = int((folder / "fence").read_text(encoding="ascii"))
        if link.fence < current:
            raise LogFailed(f"writer {link.fence} was fenced off by writer {current}")


def _lock(folder: Path) -> int:
    fd = os.open(folder / "sealer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 5.0
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                raise LogFailed(f"another sealer has {folder}") from None
            time.sleep(0.05)
        else:
            return fd


def start_sealer(
    origin: Origin,
    fd: int,
    *,
    interval: float = INTERVAL_SECONDS,
    entries: int = MAX_UNSIGNED,
    witnesses: Path | None = None,
    witness_lag: float = 0.0,
) -> subprocess.Popen[bytes]:
    """Start a sealer process at one end of a SOCK_SEQPACKET pair. Keep `fd`: a successor can be started on it."""
    command = [*_command(origin), "--fd", str(fd), "--interval", str(interval), "--entries", str(entries)]
    if witnesses is not None:
        command += ["--witnesses", str(witnesses), "--witness-lag", str(witness_lag)]
    return subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL)  # noqa: S603 - our own module


def seal_once(origin: Origin, witnesses: Path | None = None) -> int:
    """Seal all that is in the WAL of a log that nobody has open. Returns the sealer's exit code."""
    command = [*_command(origin), "--once", *([] if witnesses is None else ["--witnesses", str(witnesses)])]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode  # noqa: S603 - as above


def check_witnesses(origin: Origin, witnesses: Path) -> int:
    """Ask the witnesses what they know of a log that nobody has open; 0: nothing that speaks against it."""
    command = [*_command(origin), "--check", "--witnesses", str(witnesses)]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode  # noqa: S603 - as above


def _command(origin: Origin) -> list[str]:
    return [sys.executable, "-m", "ostiary.audit.sealer", "--folder", str(origin.folder), "--key", str(origin.key_file)]


def _witnesses(path: Path | None) -> Witnesses | None:
    if path is None:
        return None
    return Witnesses(WitnessPolicy.read(path), lambda text: print(f"sealer: {text}", file=sys.stderr, flush=True))  # noqa: T201 - its own log


def main(arguments: list[str] | None = None) -> int:
    """Run a sealer: see the module's first lines."""
    parser = argparse.ArgumentParser(prog="ostiary-sealer", description="Signs an audit log's checkpoints.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--interval", type=float, default=INTERVAL_SECONDS)
    parser.add_argument("--entries", type=int, default=MAX_UNSIGNED)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--fd", type=int)
    how.add_argument("--once", action="store_true")
    how.add_argument("--check", action="store_true")
    parser.add_argument("--witnesses", type=Path)
    parser.add_argument("--witness-lag", type=float, default=0.0)
    options = parser.parse_args(arguments)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    try:
        lock = _lock(options.folder)
        witnesses = _witnesses(options.witnesses)
        sealer = Sealer(options.folder, load_signer(options.key), witnesses)
        try:
            if options.check:
                sealer.check_witnesses(end_of_wal(options.folder))
            elif options.once:
                if not list(sealer.seal(end_of_wal(options.folder))):
                    sealer.ask_if_short()
            else:
                lag = _Lag(witnesses, options.witness_lag)
                serve(sealer, Link(options.fd), options.folder, options.interval, options.entries, lag)
        finally:
            sealer.save()
            os.close(lock)
    except ConfigError as problem:
        print(f"sealer: {problem}", file=sys.stderr)  # noqa: T201 - a process's last words
        return 2
    except (LogFailed, OSError) as problem:
        print(f"sealer: refused: {problem}", file=sys.stderr)  # noqa: T201 - a process's last words
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
