"""`ostiary sessions watch` and `end`: looking on while a session runs, and ending it."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Final

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ostiary.config.types import Config
    from ostiary.vault.payload_reading import Gap, Record

LOOK_SECONDS: Final = 0.1
ASK_SECONDS: Final = 1.0
"""How often the log is asked whether the session has ended, while nothing comes."""


class Waiting:
    """Waits for more of a recording, until its session has ended and all of it was read."""

    def __init__(self, state: str, session: str) -> None:
        self._state = state
        self._session = session
        self._asked = time.monotonic()
        self.has_ended = False

    def __call__(self) -> bool:
        """Wait a moment; whether there may be more."""
        if self.has_ended:
            return False
        time.sleep(LOOK_SECONDS)
        if time.monotonic() - self._asked >= ASK_SECONDS:
            self._asked = time.monotonic()
            self.has_ended = is_over(self._state, self._session)
        return True


def is_over(state: str, session: str) -> bool:
    """Whether the log says that a session has ended."""
    from ostiary.audit.search import Query, search

    return bool(list(search(state, Query(kind="session.end", session=session, limit=1))))


def recording(settings: Config, session: str) -> Iterator[Record | Gap]:
    """Follow the recording of a session that runs. It reads a file that the gateway writes anyway: nobody waits for who looks on."""
    from ostiary.cli.recordings import followed

    state = str(settings.gateway.state_dir)
    if is_over(state, session):
        raise CommandFailed(ExitCode.NO, f"session {session} has ended: ostiary sessions replay {session}")
    return followed(settings, session, Waiting(state, session))


def draw(records: Iterable[Record | Gap]) -> None:
    """Draw the terminal of a session as it is used; a command without one is a line."""
    from ostiary.model.printable import printable
    from ostiary.recording.drawing import CLEAR, RESET, Drawing
    from ostiary.recording.ssh_reading import read

    entry, drawing = "", Drawing()
    try:
        for piece in read(records):
            if piece.kind == "terminal" and not entry:
                entry, drawing = piece.entry, Drawing()
                _write(CLEAR)
            elif entry and piece.entry == entry:
                if piece.kind in {"output", "errors"}:
                    _write(drawing.feed(piece.data))
                elif piece.kind == "close":
                    entry = ""
                    _write(f"{RESET}\r\n")
                    say("the terminal was closed")
            elif piece.kind == "statement" and not entry:
                _write(f"> {printable(piece.data.decode(errors='backslashreplace'))}\r\n")
    finally:
        if entry:
            _write(f"{RESET}\r\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def wait_end(settings: Config, session: str, seconds: float = 10.0) -> bool:
    """Wait until the log says that a session has ended; False: it did not in time, or this machine has not its log."""
    deadline = time.monotonic() + seconds
    state = str(settings.gateway.state_dir)
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            if is_over(state, session):
                return True
            time.sleep(LOOK_SECONDS)
    return False
