"""Drive a line of the path by hand: `expect` what it asks for, `then` say what it hears."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Self

from ostiary.model.commands import Command


class Playbook:
    """One coroutine of `session/path.py` in conversation with a test."""

    def __init__(self, line: Coroutine[Command, Any, None]) -> None:
        self._line = line
        self._asked: Command | None = self._step(None)

    def expect(self, command: Command | type[Command], *, then: object = None) -> Self:
        """The line must be asking for `command` (of a class: for one of that class); answer it with `then`.

        A callable `then` gets the command and returns the answer.
        """
        asked = self._asked
        if not (isinstance(asked, command) if isinstance(command, type) else asked == command):
            raise AssertionError(f"expected {command}, the line asked for {asked}")
        self._asked = self._step(then(asked) if callable(then) else then)
        return self

    def finished(self) -> None:
        """The line must be over."""
        if self._asked is not None:
            raise AssertionError(f"still asking for {self._asked}")

    @property
    def asked(self) -> Command | None:
        """What it asks for now."""
        return self._asked

    def _step(self, reply: object) -> Command | None:
        try:
            return self._line.send(reply)
        except StopIteration:
            return None
