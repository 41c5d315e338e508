"""`python -m ostiary.demo [--once]`: set up the world, walk through it, then stay up for whoever wants to try."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Final

from ostiary.demo.screen import Screen
from ostiary.demo.tour import Tour
from ostiary.demo.world import World, world
from ostiary.model.errors import OstiaryError

SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Ending:
    """Makes a signal an orderly end: `SystemExit`, once, and not while something is being started.

    A signal between the fork of a child and the line that remembers it would leave the child to nobody.
    """

    def __init__(self) -> None:
        self._holding = False
        self._wanted = 0
        for number in SIGNALS:
            signal.signal(number, self._came)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What comes meanwhile takes effect at the end."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._wanted:
                self._end()

    def _came(self, number: int, _: FrameType | None) -> None:
        self._wanted = number
        if not self._holding:
            self._end()

    def _end(self) -> None:
        # What is being cleaned up from here on is not to be interrupted.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + self._wanted)


def main(arguments: list[str] | None = None) -> int:
    """0: each step did what it claims. 1: one did not. 130 or 143: interrupted. Nothing is left behind in any case."""
    parser = argparse.ArgumentParser(prog="python -m ostiary.demo", description="A guided tour.")
    parser.add_argument("--once", action="store_true", help="end after the tour, also on a terminal")
    chosen = parser.parse_args(arguments)
    stays = sys.stdin.isatty() and sys.stdout.isatty() and not chosen.once
    ending = Ending()
    screen = Screen()

    @contextlib.contextmanager
    def starting(what: str) -> Iterator[None]:
        with ending.held(), screen.starting(what):
            yield

    screen.title("Ostiary, a guided tour")
    screen.text(
        """A gateway stands between a shop's database and those who use it. It knows who really acts, decides each
        operation, masks what comes back, and keeps a log that nobody can quietly change."""
    )
    screen.blank()
    try:
        with world(starting) as here:
            Tour(here, screen).walk()
            screen.title("That was all of it. Everything above was real.")
            if stays:
                _invite(here, screen)
                signal.pause()
    except OstiaryError as exc:
        screen.failure(str(exc))
        return 1
    return 0


def _invite(here: World, screen: Screen) -> None:
    """Say how to try it oneself."""
    psql = shutil.which("psql") or str(here.peer.binaries / "psql")
    screen.text("It stays up. As Ana, through her agent, in another terminal (the token is good for an hour):")
    screen.blank()
    screen.plain(f"PGPASSWORD={here.token('agent')} {psql} -h 127.0.0.1 -p {here.port} -d shop")
    screen.blank()
    screen.text("Watch the log while you do:")
    screen.blank()
    screen.plain(f"{here.folder}/bin/ostiary audit tail -f -c {here.folder}/ostiary.toml")
    screen.blank()
    screen.text("Ctrl-C ends it, and leaves nothing behind.")


if __name__ == "__main__":
    sys.exit(main())
