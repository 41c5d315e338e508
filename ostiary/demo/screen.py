"""What the tour looks like: plain lines; colour on a terminal only, and not where NO_COLOR asks for none (no-color.org)."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

MARGIN: Final = "   "
MAX_WIDTH: Final = 100


class Screen:
    """Writes the tour, line by line as it happens."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        wants_none = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self._colours = self._out.isatty() and not wants_none
        self._width = min(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, MAX_WIDTH)
        utf8 = (self._out.encoding or "").lower().replace("-", "") == "utf8"
        self._yes, self._no = ("✓", "✗") if utf8 else ("ok:", "NOT:")

    def title(self, text: str) -> None:
        """The name of what follows."""
        self._write("\n" + self._in("1", text) + "\n")

    def text(self, text: str) -> None:
        """A paragraph."""
        wrapped = textwrap.wrap(" ".join(text.split()), self._width - len(MARGIN))
        self._write("".join(f"{MARGIN}{line}\n" for line in wrapped))

    def command(self, line: str) -> None:
        """A command that runs next."""
        self._write(f"\n{MARGIN}{self._in('36', '$ ' + line)}\n")

    def output(self, text: str) -> None:
        """What a command wrote, as it wrote it. Never an escape sequence: what it quotes may be a stranger's."""
        for line in text.rstrip("\n").split("\n"):
            shown = "".join(char if char.isprintable() else "\ufffd" for char in line.expandtabs())
            self._write(f"{MARGIN}{shown}".rstrip() + "\n")

    def seen(self, claim: str, *, holds: bool) -> None:
        """A claim that was checked against what came."""
        mark = self._in("32", self._yes) if holds else self._in("31", self._no)
        self._write(f"{MARGIN}{mark} {claim}\n")

    def blank(self) -> None:
        """An empty line."""
        self._write("\n")

    def plain(self, text: str) -> None:
        """A line to be copied: never wrapped, never coloured, no margin."""
        self._write(text + "\n")

    def failure(self, text: str) -> None:
        """Why it ends here."""
        self._write(f"\n{self._in('31', text)}\n")

    @contextmanager
    def starting(self, what: str) -> Iterator[None]:
        """Say that something is being started, and how long it took."""
        began = time.monotonic()
        self._write(f"{MARGIN}starting {what} ...")
        try:
            yield
        except BaseException:
            self._write("\n")
            raise
        self._write(f" {time.monotonic() - began:.1f} s\n")

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _write(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, "replace").decode(encoding))
        self._out.flush()
