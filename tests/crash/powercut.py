"""The power goes: what was synced is there, and of the rest any part may be.

A run is recorded as a list of the changes it made to the state folder, in order. For a cut behind any of them, the folder is made
anew from what must be there (file contents up to their last sync, names up to their folder's last sync) and a random choice of what
may be: sectors with what writes that were not synced made of them, or not, and names in the order they were made. The tail, in memory, is gone.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.workload import House, Plan, work

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""


@dataclass
class Inode:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[str, int, bytes]] = field(default_factory=list)

    def after(self, dice: random.Random) -> bytes:
        """Each sector as it was behind some of the writes, whichever, and the length behind some: a disk knows sectors, not writes."""
        stages = [bytes(self.durable)]
        content = bytearray(self.durable)
        for what, at, data in self.pending:
            _apply(content, what, at, data)
            stages.append(bytes(content))
        made = bytearray(len(dice.choice(stages)))
        for start in range(0, len(made), SECTOR):
            luck = dice.random()
            stage = stages[0] if luck < 0.4 else stages[-1] if luck < 0.8 else dice.choice(stages)
            part = stage[start : start + SECTOR][: len(made) - start]
            made[start : start + len(part)] = part
        return bytes(made)

    def sync(self) -> None:
        for what, at, data in self.pending:
            _apply(self.durable, what, at, data)
        self.pending.clear()


def _apply(content: bytearray, what: str, at: int, data: bytes) -> None:
    if what == "size":
        del content[at:]
        content.extend(bytes(at - len(content)))
    elif what == "least":
        content.extend(bytes(max(0, at - len(content))))
    elif data:
        content.extend(bytes(max(0, at - len(content))))
        content[at : at + len(data)] = data


Event = tuple[str, tuple[Any, ...]]


class Recording:
    """Wraps `os`, and writes down what changes below a folder."""

    def __init__(self, root: Path) -> None:
        self.events: list[Event] = []
        self._root = str(root)
        self._fds: dict[int, str] = {}
        self._lock = threading.Lock()
        self._real = {name: getattr(os, name) for name in _NAMES}

    def install(self) -> None:
        for name in _NAMES:
            setattr(os, name, getattr(self, f"_{name}"))

    def remove(self) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def _note(self, what: str, *args: Any) -> None:
        if isinstance(args[0], str) and args[0].startswith(self._root):
            self.events.append((what, args))

    def _open(self, path: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
        with self._lock:
            is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            fd: int = self._real["open"](path, flags, mode, **named)
            if str(path).startswith(self._root):
                self._fds[fd] = str(path)
                if is_new:
                    self._note("create", str(path))
                elif flags & os.O_TRUNC:
                    self._note("size", str(path), 0)
            return fd

    def _close(self, fd: int) -> None:
        self._fds.pop(fd, None)
        self._real["close"](fd)

    def _write(self, fd: int, data: Any) -> int:
        with self._lock:
            at = os.fstat(fd).st_size if fd in self._fds else 0
            count: int = self._real["write"](fd, data)
            if fd in self._fds:
                self._note("write", self._fds[fd], at, bytes(memoryview(data)[:count]))
            return count

    def _pwritev(self, fd: int, parts: Any, at: int) -> int:
        with self._lock:
            count: int = self._real["pwritev"](fd, parts, at)
            self._note("write", self._fds.get(fd, ""), at, b"".join(bytes(part) for part in parts)[:count])
            return count

    def _fsync(self, fd: int) -> None:
        self._real["fsync"](fd)
        with self._lock:
            self._note("sync", self._fds.get(fd, ""))

    def _fdatasync(self, fd: int) -> None:
        self._real["fdatasync"](fd)
        with self._lock:
            self._note("sync", self._fds.get(fd, ""))

    def _ftruncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._real["ftruncate"](fd, size)
            self._note("size", self._fds.get(fd, ""), size)

    def _truncate(self, path: Any, size: int) -> None:
        with self._lock:
            self._real["truncate"](path, size)
            self._note("size", str(path), size)

    def _posix_fallocate(self, fd: int, at: int, size: int) -> None:
        with self._lock:
            self._real["posix_fallocate"](fd, at, size)
            self._note("least", self._fds.get(fd, ""), at + size)

    def _rename(self, old: Any, new: Any) -> None:
        with self._lock:
            self._real["rename"](old, new)
            self._note("rename", str(old), str(new))

    _replace = _rename

    def _link(self, old: Any, new: Any, **named: Any) -> None:
        with self._lock:
            self._real["link"](old, new, **named)
            self._note("link", str(old), str(new))

    def _unlink(self, path: Any, *args: Any, **named: Any) -> None:
        with self._lock:
            self._real["unlink"](path, *args, **named)
            if not named:
                self._note("unlink", str(path))

    def _mkdir(self, path: Any, *args: Any, **named: Any) -> None:
        with self._lock:
            self._real["mkdir"](path, *args, **named)
            self._note("mkdir", str(path))


_NAMES = (
    "open", "close", "write", "pwritev", "fsync", "fdatasync", "ftruncate", "truncate", "posix_fallocate", "rename", "replace", "link",
    "unlink", "mkdir",
)  # fmt: skip


def recorded(house: House, plan: Plan) -> list[Event]:
    """Run a plan to its end; what it did to the disk, and between it, what it let happen."""
    recording = Recording(house.state)
    plan.say = lambda entry: recording.events.append(("happened", (entry,)))
    recording.install()
    try:
        asyncio.run(work(house, plan))
    finally:
        recording.remove()
    return recording.events


class Image:
    """The disk while a recording is played to it."""

    def __init__(self, base: Path) -> None:
        """`base`: a copy of the state folder as it was when the recording began, all of it durable."""
        self._base = base
        self._names: dict[str, Inode | None] = {}
        self._now: dict[str, Inode | None] = {}
        self._pending: list[tuple[str, tuple[str, ...], Inode | None]] = []
        self.happened: list[str] = []
        for path in base.rglob("*"):
            inode = None if path.is_dir() else Inode(bytearray(path.read_bytes()))
            self._names[str(path.relative_to(base))] = self._now[str(path.relative_to(base))] = inode

    def play(self, root: Path, event: Event) -> None:
        what, args = event
        if what == "happened":
            self.happened.append(args[0])
            return
        name = os.path.relpath(args[0], root)
        if what in {"write", "size", "least"}:
            inode = self._now.get(name)
            if inode is not None:
                inode.pending.append((what, args[1], args[2] if what == "write" else b""))
        elif what == "sync":
            self._sync(name)
        else:
            self._rename(what, name, os.path.relpath(args[1], root) if len(args) > 1 else "")

    def _sync(self, name: str) -> None:
        inode = self._now.get(name)
        if inode is not None:
            inode.sync()
            return
        rest = []
        for what, names, held in self._pending:
            if any(str(Path(each).parent) == name for each in names):
                _move(self._names, what, names, held)
            else:
                rest.append((what, names, held))
        self._pending = rest

    def _rename(self, what: str, name: str, other: str) -> None:
        held = Inode() if what == "create" else None if what == "mkdir" else self._now.get(name)
        names = (name, other) if other else (name,)
        self._pending.append((what, names, held))
        _move(self._now, what, names, held)

    def cut(self, folder: Path, dice: random.Random) -> None:
        """Write what a power cut may leave."""
        names = dict(self._names)
        for what, held_names, held in self._pending[: dice.randrange(len(self._pending) + 1)]:
            _move(names, what, held_names, held)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        for name, inode in sorted(names.items()):
            path = folder / name
            if inode is None:
                path.mkdir(mode=0o700, exist_ok=True)
            elif path.parent.is_dir():
                path.touch(mode=0o600)
                path.write_bytes(inode.after(dice))


def _move(names: dict[str, Inode | None], what: str, args: tuple[str, ...], held: Inode | None) -> None:
    if what in {"create", "mkdir"}:
        names.setdefault(args[0], held)
    elif what == "unlink":
        names.pop(args[0], None)
    elif what == "link":
        names[args[1]] = held
    else:
        names.pop(args[0], None)
        names[args[1]] = held
