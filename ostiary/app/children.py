"""A child process of the gateway, as its supervisor holds it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import Final

from ostiary.app.orders import Prepared, Ready, Word, hear, say
from ostiary.model.errors import OstiaryError

MALLOC: Final = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20), "MALLOC_TOP_PAD_": str(1 << 20)}
"""For glibc, where the environment says nothing else: what a batch or a chunk of rows took stays with the process for the next. Given back to the kernel each time, it is
faulted in again page by page."""


class ChildFailed(OstiaryError):
    """A part of the gateway did not start. Its own words are on stderr already."""


class Child:
    """One of them, started or not."""

    def __init__(self, name: str, number: int = 0, of: int = 1) -> None:
        """`number`: which worker it is, from 1, `of` how many; 0: none."""
        self.name = name
        self.number = number
        self.called = f"{name}-{number}" if of > 1 else name
        self.deaths = 0
        self.start_at = 0.0
        self.link: socket.socket | None = None
        self.listens: dict[str, str] | None = None
        self.prepared: Prepared | None = None
        """What it said last of policies that it was given."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, orders: int, commons: int) -> None:
        """Start it. Both are descriptors: what it starts with, and what workers share; -1: nothing."""
        # Messages have ends, and descriptors belong to one.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passed = [fd for fd in (theirs.fileno(), orders, commons) if fd >= 0]
        command = [sys.executable, "-m", "ostiary.app.child", self.name, str(theirs.fileno()), str(orders), str(commons)]
        # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which then ends its children in order.
        self._process = subprocess.Popen(command, pass_fds=passed, start_new_session=True, env=MALLOC | os.environ)  # noqa: S603 - ourselves
        theirs.close()
        self.link = ours
        self.listens = None
        self.prepared = None

    def hear(self) -> bool:
        """Read what it says; False once it has closed its end."""
        assert self.link is not None  # noqa: S101 - it was started
        word, _ = hear(self.link)
        match word:
            case Ready():
                self.listens = word.listens
            case Prepared():
                self.prepared = word
            case _:
                pass
        return word is not None

    def say(self, word: Word, fd: int | None = None) -> bool:
        """Tell it something; False where it is not there to hear it."""
        if self.link is None:
            return False
        try:
            say(self.link, word, fd)
        except OSError:
            return False
        return True

    def has_prepared(self, number: int) -> bool:
        """Whether it has said what came of these policies."""
        return self.prepared is not None and self.prepared.number == number

    def ended(self) -> None:
        """It has gone."""
        assert self.link is not None  # noqa: S101 - it was started
        self.link.close()
        self.link = None
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """Ask it to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def finish(self, deadline: float) -> None:
        """Wait until it has ended, and kill it after that."""
        if self._process is not None:
            try:
                self._process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self.link is not None:
            self.link.close()
            self.link = None
