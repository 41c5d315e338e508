"""A witness: cosigns a log's checkpoint when it extends the last one that it cosigned. C2SP tlog-witness, without the HTTP.

State. One file a log, only ever appended to: the checkpoints that were cosigned, one after another, each synced to the disk before
its cosignature leaves. The last whole note is what the next one must extend; a note cut short by a crash was never answered, and is
cut off. Comparing and appending happen under one lock, so nothing is rolled back by a race. The folder has one owner at a time.

Trust. The logs' keys come from a policy file that is read anew when it changes. A log that is not in it is unknown (404).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from ostiary.audit.consistency import MAX_PROOF, is_consistent
from ostiary.audit.cosignature import Cosigner, WitnessPolicy
from ostiary.audit.keys import load_private, write_private
from ostiary.audit.note import BadNote, Checkpoint, Verifier, last_note, read_checkpoint
from ostiary.audit.tree import EMPTY_ROOT
from ostiary.audit.wal import sync_folder
from ostiary.model.errors import ConfigError, LogFailed

MAX_REQUEST: Final = 1 << 15
SIZE_TYPE: Final = "text/x.tlog.size"
_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,17})")
_TAIL: Final = 1 << 16


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: str
    type: str = "text/plain; charset=utf-8"


class _Refused(Exception):
    def __init__(self, answer: Reply) -> None:
        super().__init__(answer.body)
        self.answer = answer


def make_witness(folder: Path, name: str) -> str:
    """Make a witness's folder and key; returns its vkey. Raises `ConfigError` where there is one already."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return write_private(folder / "witness.key", name, lambda seed: Cosigner(name, seed).vkey, kind=4)


class Witness:
    """A witness's key and what it saw of each log."""

    def __init__(self, folder: Path, logs: Path, clock: Callable[[], float] = time.time) -> None:
        """Take hold of the folder. Raises `ConfigError`, and `LogFailed` when another witness has it."""
        self._folder = folder
        self._logs = logs
        self._clock = clock
        self._cosigner = Cosigner(*load_private(folder / "witness.key", kind=4))
        self._keys: dict[str, str] = {}
        self._stamp = (0, 0)
        self._mutex = threading.Lock()
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise LogFailed(f"another witness has {folder}") from None
        self._refresh()

    @property
    def vkey(self) -> str:
        """What goes into policies."""
        return self._cosigner.vkey

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._lock)

    def add_checkpoint(self, body: bytes) -> Reply:
        """Reply an `add-checkpoint` request."""
        try:
            old, proof, note = _request(body)
            verifier, name = self._verifier(note)
            checkpoint = _checked(note, verifier)
            if old > checkpoint.size:
                return Reply(400, "the old size is larger than the checkpoint's\n")
            with self._mutex:
                return self._extend(name, old, proof, checkpoint)
        except _Refused as refused:
            return refused.answer
        except OSError:
            return Reply(503, "the witness cannot keep its state\n")

    def _extend(self, name: str, old: int, proof: list[bytes], new: Checkpoint) -> Reply:
        path = self._folder / f"{hashlib.sha256(name.encode()).hexdigest()}.notes"
        last = self._last(path, name)
        if old != last.size:
            raise _Refused(Reply(409, f"{last.size}\n", SIZE_TYPE))
        if old == new.size and last.root != new.root:
            raise _Refused(Reply(409, "another tree of this size was cosigned\n"))
        if not is_consistent(old, last.root, new.size, new.root, proof):
            raise _Refused(Reply(422, "the proof does not show that the tree extends the one before\n"))
        line = self._cosigner.cosign(new.text(), int(self._clock()))
        if old != new.size or not path.exists():
            _append(path, f"{new.text()}\n{line}")
        return Reply(200, line)

    def _last(self, path: Path, name: str) -> Checkpoint:
        """Read back the last checkpoint that was cosigned. A file that is damaged is refused, never begun anew."""
        try:
            with path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - _TAIL))
                data = file.read()
        except FileNotFoundError:
            return Checkpoint(name, 0, EMPTY_ROOT)
        note = last_note(data.decode(errors="replace"))
        if not data.endswith(note.encode()) or not note:
            whole = data.rfind(note.encode()) + len(note.encode()) if note else 0
            os.truncate(path, end - len(data) + whole)  # cut short by a crash, before it was answered
            if not note and end <= _TAIL:
                return Checkpoint(name, 0, EMPTY_ROOT)
        try:
            text, _, line = note.partition("\n\n")
            origin, size, root = text.split("\n")
            found = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
        except ValueError:
            raise _Refused(Reply(503, "the witness's own state is damaged\n")) from None
        if origin != name or not line.startswith("\u2014 "):
            raise _Refused(Reply(503, "the witness's own state is damaged\n"))
        return found

    def _verifier(self, note: str) -> tuple[Verifier, str]:
        name = note.split("\n", 1)[0]
        self._refresh()
        vkey = self._keys.get(name)
        if vkey is None:
            raise _Refused(Reply(404, "this log is not known here\n"))
        return Verifier(vkey), name

    def _refresh(self) -> None:
        """Read the policy file again if it changed. One that does not parse changes nothing, except at the start."""
        try:
            found = self._logs.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp == self._stamp:
                return
            keys = WitnessPolicy.parse(self._logs.read_text(encoding="utf-8"), str(self._logs)).logs
            for vkey in keys.values():
                Verifier(vkey)
        except (OSError, UnicodeDecodeError, ConfigError, BadNote) as problem:
            if not self._keys:
                raise ConfigError(str(self._logs), f"cannot be used: {problem}") from None
            return
        self._keys, self._stamp = keys, stamp


def _request(body: bytes) -> tuple[int, list[bytes], str]:
    try:
        head, gap, note = body.decode().partition("\n\n")
        first, *lines = head.split("\n")
        match = _OLD.fullmatch(first)
        proof = [base64.b64decode(line, validate=True) for line in lines]
    except (UnicodeDecodeError, ValueError, binascii.Error):
        raise _Refused(Reply(400, "not an add-checkpoint request\n")) from None
    if not gap or match is None or len(proof) > MAX_PROOF or any(len(each) != 32 for each in proof):
        raise _Refused(Reply(400, "not an add-checkpoint request\n"))
    return int(match[1]), proof, note


def _checked(note: str, verifier: Verifier) -> Checkpoint:
    try:
        return read_checkpoint(note, verifier)
    except BadNote as problem:
        is_unsigned = "signed by" in str(problem) or "signature of" in str(problem)
        raise _Refused(Reply(403 if is_unsigned else 400, "the checkpoint is not good\n")) from None


def _append(path: Path, note: str) -> None:
    is_new = not path.exists()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(fd).st_size
        try:
            view = memoryview(note.encode())
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)
    if is_new:
        sync_folder(path.parent)
