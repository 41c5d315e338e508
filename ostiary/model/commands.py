"""What a session asks of the world. `await` one inside the path to get its typed reply; the driver carries it out.

A command is an awaitable generic in its reply, so the path has no event loop in it and a test drives a whole session
as a list of "hears this, must ask that" (`ostiary.testing.Playbook`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, Self, TypeVar

import msgspec

from ostiary.model.approvals import Reply as Answered
from ostiary.model.approvals import Ticket
from ostiary.model.catalogue import Snapshot
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.identity import Budget
from ostiary.model.proofs import Denied, Intended, Masked, Outcome, Recorded
from ostiary.model.restraints import Missing

Reply = TypeVar("Reply")


class Command(msgspec.Struct, Generic[Reply], frozen=True, gc=False):
    """Something the session asks of the world."""

    def __await__(self) -> Generator[Self, Reply, Reply]:
        """Hand the command to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class HearClient(Command[bytes | None], frozen=True, gc=False):
    """Wait for bytes from the client; None once it has gone. Empty bytes: look again at what is already here."""


class HearTarget(Command[bytes | None], frozen=True, gc=False):
    """Wait for bytes from the target; None once it has gone."""


class LookUp(Command[Snapshot], frozen=True, gc=False):
    """The target's catalogue as it is known now; waits for a fresh one where DDL made the last one stale."""


class Clock(Command[int], frozen=True, gc=False):
    """Seconds since 1970, for policies that read the clock."""


class Settle(Command[None], frozen=True, gc=False):
    """Wait until everything that the target was asked has been answered: then it is known whether a transaction is open."""


class AskHuman(Command[Ticket], frozen=True, gc=False):
    """Put a question to the people whom policy wants asked, or take the answer that they have given already.

    An answer is evidence for policy, which decides again, and not a way round it.
    """

    question: NeedsApproval
    state: bytes
    """What of the session changes the meaning of the operation's bytes."""


class AwaitAnswer(Command[Answered], frozen=True, gc=False):
    """Park the session until its question is answered, expires, or is called off."""

    ticket: Ticket
    seconds: float | None
    """Wait no longer than this; None: until it expires."""


class Count(Command[Missing | None], frozen=True, gc=False):
    """Count effects against every one of these budgets, across all sessions: all of them, or none. None: there is room."""

    budgets: tuple[Budget, ...]
    calls: int = 0
    objects: tuple[bytes, ...] = ()
    """Digests of what is touched; what was touched before costs nothing."""
    rows: int = 0
    bytes: int = 0
    came: bool = False
    """They are here already, and leave only if there is room; counted either way, so nothing follows what was too much."""


class MakeDurable(Command[tuple[Intended | Denied, ...]], frozen=True, gc=False):
    """Write intents and denials, in order, as one batch, and wait until they are durable. Fails the session if not."""

    decisions: tuple[Permit | Refusal, ...]


class Keep(Command[None], frozen=True, gc=False):
    """Put what a client streams in (COPY FROM STDIN) into the recording before the target hears it."""

    under: Intended
    data: bytes
    ends: bool
    """With it the data takes effect: where intents wait for the disk, so does this, and all that came before it."""


class Order(msgspec.Struct, frozen=True):
    """What goes to the target: made by a protocol's relay from durable intents, and from what belongs to earlier ones."""

    intended: tuple[Intended, ...]
    wire: bytes


class Run(Command[None], frozen=True, gc=False):
    """Send upstream exactly what was permitted."""

    order: Order


class Record(Command[Recorded], frozen=True, gc=False):
    """Append a masked batch to the recording before anyone sees it."""

    masked: Masked
    under: Intended | None


class Close(Command[None], frozen=True, gc=False):
    """Put outcomes into the log; they precede the bytes that tell the client of them."""

    outcomes: tuple[Outcome, ...]


class Send(Command[None], frozen=True, gc=False):
    """The only way bytes reach the client."""

    recorded: tuple[Recorded, ...]


class Outdate(Command[None], frozen=True, gc=False):
    """The catalogue snapshot is stale, because DDL ran: the next `LookUp` waits for a new one."""
