"""Outlives the demo only if the demo was killed, and then cleans up after it: children never survive, folders neither.

It hears on standard input what there is to clean up, a line each: `process PID SIGNAL`, `folder PATH`; `done` when all
is clean. The end of that input without `done` is the demo's death. Processes are held by pidfd, so that a number
that was given to somebody else meanwhile is never hit.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

PATIENCE_SECONDS: Final = 15.0


class Guard:
    """The demo's side: tells a guard what would have to be cleaned up."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ostiary.demo.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._say("done")
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()

    def process(self, pid: int, end_with: signal.Signals) -> None:
        """From now on this process is to be ended by this signal."""
        self._say(f"process {pid} {int(end_with)}")

    def folder(self, path: Path) -> None:
        """From now on this folder is to be removed."""
        self._say(f"folder {path}")

    def _say(self, line: str) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()


def main() -> None:
    """Listen, and clean up if nobody said that it was done."""
    processes: list[tuple[int, int]] = []
    folders: list[str] = []
    for line in sys.stdin:
        what, _, rest = line.rstrip("\n").partition(" ")
        match what:
            case "done":
                return
            case "process":
                pid, number = rest.split(" ")
                with contextlib.suppress(OSError):
                    processes.append((os.pidfd_open(int(pid)), int(number)))
            case "folder":
                folders.append(rest)
    for handle, number in reversed(processes):
        _end(handle, number)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _end(handle: int, number: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    for each in (signal.Signals(number), signal.SIGKILL):
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(handle, each)
        if select.select([handle], [], [], max(0.1, deadline - time.monotonic()))[0]:
            return


if __name__ == "__main__":
    main()
