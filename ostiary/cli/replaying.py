"""`ostiary sessions replay` of a terminal: played here, or written as a file that other players read."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import os
import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.output import emit_safe, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ostiary.recording.asciicast import Terminal
    from ostiary.vault.payload_reading import Gap, Record


class ReplayOutput(enum.StrEnum):
    """How a recording is written."""

    TEXT = "text"
    JSON = "json"
    ASCIICAST = "asciicast"


Speed = Annotated[
    float | None, typer.Option(min=0.0, max=1024.0, help="Play the terminal so many times as fast; 0: without waiting.", show_default="1")
]
IdleLimit = Annotated[float | None, typer.Option(min=0.0, help="Wait at most so many seconds where nothing happened.")]
Start = Annotated[str | None, typer.Option("--from", help="Play from here on, since the terminal was opened: 90, 1:30 or 1:01:30.")]
Stop = Annotated[str | None, typer.Option("--to", help="Play up to here.")]
Which = Annotated[int, typer.Option("--terminal", min=1, help="Which terminal, of a session with several.")]
Transcript = Annotated[bool, typer.Option("--transcript", help="Print the transcript, also where a terminal could be played.")]
File = Annotated[Path | None, typer.Option("--file", help="Where to write the asciicast (a new file); standard output if not given.")]

Opened = "Callable[[], Iterator[Record | Gap]]"


def find_terminal(opened: Callable[[], Iterator[Record | Gap]], number: int) -> Terminal | None:
    """Return a terminal of a recording by its number; None where it has no terminal at all."""
    from ostiary.recording.asciicast import terminals

    found = list(islice(terminals(opened()), number))
    if found and len(found) < number:
        raise CommandFailed(ExitCode.NO, f"the session has {len(found)} terminals, and none with the number {number}")
    return found[-1] if found else None


def play(
    opened: Callable[[], Iterator[Record | Gap]],
    terminal: Terminal,
    *,
    speed: float | None,
    idle_limit: float | None,
    start: str | None,
    stop: str | None,
) -> None:
    """Play a terminal in this one."""
    from ostiary.cli.player import KEYS, Player, keyboard
    from ostiary.recording.asciicast import frames

    size = shutil.get_terminal_size((terminal.columns, terminal.rows))
    if size.columns < terminal.columns or size.lines < terminal.rows:
        say(f"the terminal was {terminal.columns}x{terminal.rows}, larger than this one ({size.columns}x{size.lines}): it may look odd")
    with keyboard() as keys, contextlib.suppress(KeyboardInterrupt):
        if sys.stdin.isatty() and sys.stdout.isatty():
            say(KEYS)
        Player(
            lambda: frames(opened(), terminal),
            sys.stdout,
            keys,
            speed=1.0 if speed is None else speed,
            idle_limit=idle_limit,
            start_us=_moment(start) or 0,
            stop_us=_moment(stop),
        ).play()


def _moment(text: str | None) -> int | None:
    from ostiary.cli.player import moment_us

    try:
        return None if text is None else moment_us(text)
    except ValueError:
        raise CommandFailed(ExitCode.USAGE, f"not a time: {text}; write seconds, or 1:30, or 1:01:30") from None


def write_asciicast(
    opened: Callable[[], Iterator[Record | Gap]], terminal: Terminal, *, began: str, title: str, idle_limit: float | None, file: Path | None
) -> None:
    """Write a terminal as asciicast. `began`: when the session did, RFC 3339."""
    from ostiary.recording.asciicast import frames, lines

    try:
        since = int(dt.datetime.fromisoformat(began).timestamp() + terminal.t_us / 1e6)
    except ValueError:
        since = 0
    written = lines(frames(opened(), terminal), terminal, began=since, title=title, idle_limit=idle_limit)
    if file is None:
        emit_safe(written)
        return
    _write(file, written)
    say(f"wrote {file}")


def _write(file: Path, written: Iterable[str]) -> None:
    """Write a new file that is this user's alone: a recording says what others did."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CommandFailed(ExitCode.USAGE, f"{file} is there already") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in written)
