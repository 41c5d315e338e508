"""Plays a recorded terminal in this one: at any speed, without long pauses, from anywhere.

What is written is drawing alone (`ostiary.recording.drawing`); at its end everything that a drawing can change is put in its place again.
Going back is beginning anew and drawing without waiting, so nothing of a recording is kept in memory.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TextIO

from ostiary.recording.asciicast import Frame
from ostiary.recording.drawing import CLEAR, RESET

KEYS: Final = "space: pause, .: one step, left and right: 10 s back and on, + and -: speed, 0: to the beginning, q: end"
STEP_US: Final = 10_000_000
_CURSOR: Final = {b"\x1b[D": "left", b"\x1b[C": "right", b"\x1bOD": "left", b"\x1bOC": "right"}
_LONGEST_WAIT: Final = 3600.0
_MAX_SPEED: Final = 1024.0


class Keys(Protocol):
    """Where keys come from."""

    def wait(self, seconds: float | None) -> str:
        """Wait so long for a key, for ever with None; empty: none came."""
        ...


class NoKeys:
    """Nobody is at a keyboard."""

    def wait(self, seconds: float | None) -> str:
        """Only wait."""
        time.sleep(min(seconds or 0.0, _LONGEST_WAIT))
        return ""


class Keyboard:
    """The keyboard of this terminal, key by key."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pressed = b""

    def wait(self, seconds: float | None) -> str:
        """See `Keys`. A cursor key comes as `left` or `right`; that nobody is there any more, as `q`."""
        if not self._pressed:
            if not select.select([self._descriptor], [], [], seconds)[0]:
                return ""
            self._pressed = os.read(self._descriptor, 64) or b"q"
        for raw, key in _CURSOR.items():
            if self._pressed.startswith(raw):
                self._pressed = self._pressed.removeprefix(raw)
                return key
        key, self._pressed = self._pressed[:1].decode("latin-1"), self._pressed[1:]
        return key


@contextlib.contextmanager
def keyboard() -> Iterator[Keys]:
    """Take single keys from the terminal, where there is one; it is as before afterwards."""
    if not sys.stdin.isatty():
        yield NoKeys()
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield Keyboard(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class Player:
    """One recording, played."""

    def __init__(
        self,
        opened: Callable[[], Iterator[Frame]],
        out: TextIO,
        keys: Keys,
        *,
        speed: float = 1.0,
        idle_limit: float | None = None,
        start_us: int = 0,
        stop_us: int | None = None,
    ) -> None:
        """`opened` reads the recording from its beginning. `speed` 0: without waiting."""
        self._opened = opened
        self._out = out
        self._keys = keys
        self._speed = speed
        self._idle_limit = idle_limit
        self._start_us = start_us
        self._stop_us = stop_us
        self._paused = False
        self._ended = False
        self._at_us = 0
        self._seek_us: int | None = None
        """Where to go on without drawing in time."""

    def play(self) -> None:
        """Play to the end, or until `q`."""
        skip_us = self._start_us
        try:
            while True:
                self._round(skip_us)
                if self._seek_us is None:
                    return
                skip_us, self._seek_us = self._seek_us, None
                self._write(CLEAR)
        finally:
            self._write(f"{RESET}\r\n")

    def _round(self, skip_us: int) -> None:
        """Play from the beginning, up to `skip_us` without waiting; ends early where a key says so."""
        self._at_us = 0
        for frame in self._opened():
            if self._stop_us is not None and frame.t_us > self._stop_us:
                return
            if frame.t_us > skip_us:
                self._wait_until(frame.t_us, skip_us)
                if self._seek_us is not None and self._seek_us > self._at_us:
                    skip_us, self._seek_us = self._seek_us, None  # onward there is no need to begin anew
            if self._ended or self._seek_us is not None:
                return
            self._at_us = frame.t_us
            if frame.code == "o":
                self._write(frame.text)

    def _wait_until(self, t_us: int, skip_us: int) -> None:
        gap = (t_us - max(self._at_us, skip_us)) / 1e6
        if self._idle_limit is not None:
            gap = min(gap, self._idle_limit)
        left = gap
        while left > 0 or self._paused:
            if not self._speed and not self._paused:
                return
            began = time.monotonic()
            pressed = self._keys.wait(None if self._paused else min(left / self._speed, _LONGEST_WAIT))
            if not self._paused:
                left -= (time.monotonic() - began) * self._speed
            if pressed and self._press(pressed):
                return

    def _press(self, key: str) -> bool:
        """Heed a key; whether the wait is over."""
        match key:
            case "q" | "\x03":
                self._ended = True
            case " ":
                self._paused = not self._paused
                return False
            case ".":
                self._paused = True
            case "+" | "-":
                self._speed = min(_MAX_SPEED, max(1 / 16, self._speed * (2 if key == "+" else 0.5)))
                return False
            case "left" | "right":
                self._seek_us = max(0, self._at_us + (STEP_US if key == "right" else -STEP_US))
            case "0":
                self._seek_us = 0
            case _:
                return False
        return True

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def moment_us(text: str) -> int:
    """Microseconds of `90`, `1:30` or `1:01:30`, with fractions. Raises `ValueError`."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    if not 0 <= seconds < 1e9:
        raise ValueError(text)
    return int(seconds * 1e6)
