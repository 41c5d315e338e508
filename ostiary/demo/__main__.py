"""`python -m ostiary.demo [--once]`: set up the world, walk through it, then stay up for whoever wants to try."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from types import FrameType
from typing import NoReturn

from ostiary.demo.screen import Screen
from ostiary.demo.tour import Tour
from ostiary.demo.world import World, world
from ostiary.model.errors import OstiaryError


def main(arguments: list[str] | None = None) -> int:
    """0: each step did what it claims. 1: one did not. 130 or 143: interrupted. Nothing is left behind in any case."""
    parser = argparse.ArgumentParser(prog="python -m ostiary.demo", description="A guided tour.")
    parser.add_argument("--once", action="store_true", help="end after the tour, also on a terminal")
    chosen = parser.parse_args(arguments)
    stays = sys.stdin.isatty() and sys.stdout.isatty() and not chosen.once
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    screen = Screen()
    screen.title("Ostiary, a guided tour")
    screen.text(
        """A gateway stands between a shop's database and those who use it. It knows who really acts, decides each
        operation, masks what comes back, and keeps a log that nobody can quietly change."""
    )
    screen.blank()
    try:
        with world(screen.starting) as here:
            Tour(here, screen).walk()
            screen.title("That was all of it. Everything above was real.")
            if stays:
                _invite(here, screen)
                signal.pause()
    except OstiaryError as exc:
        screen.failure(str(exc))
        return 1
    return 0


def _end(number: int, _: FrameType | None) -> NoReturn:
    """End in good order, once: what is being cleaned up now is not to be interrupted."""
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


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
