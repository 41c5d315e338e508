"""What the path asks of the world and need not wait for: plain calls, where what may take its time is an awaited command.

A driver carries them out on sockets, log and clock; a test hands in a world of its own. The types are those of the commands: `run` takes an
`Order`, made from `Intended` alone, `send` takes `Recorded`, made from `Masked`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import Command, Order
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.proofs import Denied, Intended, Masked, Outcome, Recorded


class World:
    """The world of one path. What is raised here ends the path's coroutine, and with it the session."""

    def known(self) -> Snapshot | None:
        """The target's catalogue as it is known now; None: what is known is stale, and a `LookUp` must be awaited."""
        raise NotImplementedError

    def clock(self) -> int:
        """Seconds since 1970, for policies that read the clock."""
        raise NotImplementedError

    def write(self, decisions: tuple[Permit | Refusal, ...]) -> tuple[Intended | Denied, ...] | None:
        """Write intents and denials, in order, as one batch: their proofs. None: an `AwaitDurable` must be awaited for them."""
        raise NotImplementedError

    def run(self, order: Order) -> bool:
        """Send upstream exactly what was permitted. False: the way there is opened first, and an `AwaitRun` must be awaited."""
        raise NotImplementedError

    def record(self, masked: Masked, under: Intended | None) -> Recorded:
        """Append a masked batch to the recording before anyone sees it."""
        raise NotImplementedError

    def conclude(self, outcomes: tuple[Outcome, ...]) -> None:
        """Put outcomes into the log; they precede the bytes that tell the client of them."""
        raise NotImplementedError

    def outdate(self) -> None:
        """The catalogue is stale, because DDL ran: the next look waits for a new one."""
        raise NotImplementedError

    def count(self, counting: Coroutine[Command, Any, None]) -> None:
        """Carry out what counts, where that is done at once."""
        raise NotImplementedError

    def send(self, recorded: tuple[Recorded, ...]) -> None:
        """Send to the client: the only way in which bytes reach it."""
        raise NotImplementedError
