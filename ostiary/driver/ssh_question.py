"""What one channel asks of people: a question at a time, withdrawn when the channel goes."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from ostiary.approvals.desk import Desk
from ostiary.approvals.words import State
from ostiary.model import commands as c
from ostiary.model.approvals import Reply, Ticket
from ostiary.session.path import Line

GONE: Final = "the client has gone"


class Asking:
    """Puts the questions of one channel, and waits for their answers."""

    def __init__(self, desk: Desk, line: Line, *, session: str, channel: bytes) -> None:
        """`channel`: which of the session's it is; an answer is good for that one alone."""
        self._desk = desk
        self._line = line
        self._session = session
        self._channel = channel
        self._waits_for = ""
        self._over = False
        self.has_asked = False

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._waits_for)

    async def ask(self, command: c.AskHuman) -> Ticket:
        """Put a question, or take the answer that was given already to exactly this one."""
        self.has_asked = True
        line = self._line
        ticket = await self._desk.ask(
            command.question,
            line.connection,
            session=self._session,
            state=self._channel + command.state,
            said=line.said,
        )
        if self._over and ticket.id and ticket.answer is None:
            self._desk.withdraw(ticket.id, State.CANCELLED)
        return ticket

    def wait(self, command: c.AwaitAnswer) -> Coroutine[Any, Any, Reply]:
        """Wait until it is answered, expires, or is called off."""
        self._waits_for = command.ticket.id
        return self._answered(self._desk.wait(command.ticket, command.seconds))

    async def _answered(self, waiting: Coroutine[Any, Any, Reply]) -> Reply:
        try:
            reply = await waiting
        finally:
            self._waits_for = ""
        return Reply(None, GONE) if self._over else reply

    def call_off(self, why: str) -> bool:
        """Wait no longer; whether anything was waited for."""
        if not self._waits_for:
            return False
        self._desk.call_off(self._waits_for, why)
        return True

    def leave(self) -> None:
        """The channel is over."""
        self._over = True
        self.call_off(GONE)
