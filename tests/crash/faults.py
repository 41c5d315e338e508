"""A disk that fails at one system call: the n-th that touches the state folder, counted over all threads.

The seam is the boundary to the operating system: the functions of `os` that change something. The run happens in a child that is forked
for it, so `kill` really kills: no handler runs, no buffer is flushed, and what was in memory is gone but for the tail.
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.crash.workload import House, Plan, work, write_all

CALLS = (
    "open", "write", "pwritev", "fsync", "fdatasync", "ftruncate", "truncate", "rename", "replace", "link", "unlink", "mkdir",
    "rmdir", "posix_fallocate",
)  # fmt: skip
FAULTS = ("kill", "torn", "eio", "enospc", "stall", "short")
FULL_FOR = 12
"""Calls for which a disk stays full."""
STALL_SECONDS = 0.25


class Disk:
    """Wraps `os`; the calls on paths below `root` are counted, and the one numbered `at` goes wrong."""

    def __init__(self, root: Path, at: int = -1, fault: str = "kill") -> None:
        self.count = 0
        self._root = str(root)
        self._at = at
        self._fault = fault
        self._fds: set[int] = set()
        self._lock = threading.Lock()
        self._real = {name: getattr(os, name) for name in (*CALLS, "close")}

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._wrapped(name))
        os.close = self._close

    def _close(self, fd: int) -> None:
        self._fds.discard(fd)
        self._real["close"](fd)

    def _concerns(self, name: str, args: tuple[Any, ...]) -> bool:
        if isinstance(args[0], int):
            return args[0] in self._fds
        if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
        return str(args[0]).startswith(self._root)

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*args: Any, **named: Any) -> Any:
            opened = name == "open" and str(args[0]).startswith(self._root)
            if self._concerns(name, args):
                with self._lock:
                    number, self.count = self.count, self.count + 1
                result = self._meet(name, number, lambda: real(*args, **named), args)
            else:
                result = real(*args, **named)
            if opened:
                self._fds.add(result)
            return result

        return call

    def _meet(self, name: str, number: int, go: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        fault, past = self._fault, number - self._at
        if fault == "enospc" and 0 <= past < FULL_FOR and name in {"open", "write", "pwritev", "mkdir", "link", "posix_fallocate"}:
            raise OSError(errno.ENOSPC, "No space left on device")
        if past:
            return go()
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "torn":
            self._half(name, go, args)
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "eio":
            raise OSError(errno.EIO, "Input/output error")
        elif fault == "stall":
            time.sleep(STALL_SECONDS)
        elif fault == "short" and name in {"write", "pwritev"}:
            return self._some(name, args)
        return go()

    def _some(self, name: str, args: tuple[Any, ...]) -> int:
        """Write one byte, as the kernel may."""
        if name == "write":
            return int(self._real["write"](args[0], memoryview(args[1])[:1]))
        return int(self._real["pwritev"](args[0], [memoryview(args[1][0])[:1]], args[2]))

    def _half(self, name: str, go: Callable[[], Any], args: tuple[Any, ...]) -> None:
        if name == "write":
            data = memoryview(args[1])
            self._real["write"](args[0], data[: len(data) // 2])
        elif name == "pwritev":
            data = b"".join(bytes(piece) for piece in args[1])
            self._real["pwritev"](args[0], [data[: len(data) // 2]], args[2])
        else:
            go()


def suffer(house: House, plan: Plan, at: int, fault: str) -> tuple[list[str], int]:
    """Run a plan in a child in which call `at` goes wrong; returns what happened, and how many calls it made (0: it died)."""
    said, say = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: the child begins with none of them
        child = os.fork()
    if not child:
        _child(house, plan, at, fault, say)
    os.close(say)
    with os.fdopen(said) as file:
        lines = file.read().split()
    _, status = os.waitpid(child, 0)
    counted = [int(line[1:]) for line in lines if line.startswith("=")]
    died = os.WIFSIGNALED(status)
    assert died or os.WEXITSTATUS(status) == 0, f"call {at}, {fault}: the writer fell over, exit {status}"
    return [line for line in lines if not line.startswith("=")], counted[0] if counted else 0


def _child(house: House, plan: Plan, at: int, fault: str, say: int) -> None:
    code = 1
    try:
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        plan.say = lambda entry: write_all(say, f"{entry}\n")
        disk = Disk(house.state, at, fault)
        disk.install()
        try:
            asyncio.run(work(house, plan))
            code = 0
        except Exception as problem:  # noqa: BLE001 - told by the exit code
            from ostiary.model.errors import OstiaryError

            code = 0 if isinstance(problem, OstiaryError | OSError) else 3
        write_all(say, f"={disk.count}\n")
    finally:
        os._exit(code)
