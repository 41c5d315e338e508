"""What a session asks of the world. `await` one inside the path to get its typed reply; the driver carries it out.

A command is an awaitable that knows the type of its reply, so the path has no event loop in it and a test drives a whole session
as a list of "hears this, must ask that" (`ostiary.testing.Playbook`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Self

from ostiary.model.approvals import Reply as Answered
from ostiary.model.approvals import Ticket
from ostiary.model.catalogue import Snapshot
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.identity import Budget
from ostiary.model.nouns import number, same, shown
from ostiary.model.proofs import Denied, Intended, Masked, Outcome, Recorded
from ostiary.model.restraints import Missing, Restraint


class _Value:
    """See `ostiary.model.nouns`."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return number(self)

    def __repr__(self) -> str:
        return shown(self)


class Command(_Value):
    """Something the session asks of the world."""

    __slots__ = ()


class HearClient(Command):
    """Wait for bytes from the client; None once it has gone. Empty bytes: look again at what is already here."""

    __slots__ = ()

    def __await__(self) -> Generator[Self, bytes | None, bytes | None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class HearTarget(Command):
    """Wait for bytes from the target; None once it has gone."""

    __slots__ = ()

    def __await__(self) -> Generator[Self, bytes | None, bytes | None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class LookUp(Command):
    """The target's catalogue as it is known now; waits for a fresh one where DDL made the last one stale."""

    __slots__ = ("afresh",)

    def __init__(self, *, afresh: bool = False) -> None:
        self.afresh: Final = afresh
        """Not as it is known, but as it is: the target is asked."""

    def __await__(self) -> Generator[Self, Snapshot, Snapshot]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Clock(Command):
    """Seconds since 1970, for policies that read the clock."""

    __slots__ = ()

    def __await__(self) -> Generator[Self, int, int]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Settle(Command):
    """Wait until everything that the target was asked has been answered: then it is known whether a transaction is open."""

    __slots__ = ()

    def __await__(self) -> Generator[Self, None, None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class AskHuman(Command):
    """Put a question to the people whom policy wants asked, or take the answer that they have given already.

    An answer is evidence for policy, which decides again, and not a way round it.
    """

    __slots__ = ("question", "state")

    def __init__(self, question: NeedsApproval, state: bytes) -> None:
        self.question: Final = question
        self.state: Final = state
        """What of the session changes the meaning of the operation's bytes."""

    def __await__(self) -> Generator[Self, Ticket, Ticket]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class AwaitAnswer(Command):
    """Park the session until its question is answered, expires, or is called off."""

    __slots__ = ("seconds", "ticket")

    def __init__(self, ticket: Ticket, seconds: float | None) -> None:
        self.ticket: Final = ticket
        self.seconds: Final = seconds
        """Wait no longer than this; None: until it expires."""

    def __await__(self) -> Generator[Self, Answered, Answered]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Hold(Command):
    """What a permit is worth in a session that is restrained (`ostiary.policy.restrained`), while no other worker counts in the same purses."""

    __slots__ = ("now", "permit", "restraint")

    def __init__(self, restraint: Restraint, permit: Permit, now: int) -> None:
        self.restraint: Final = restraint
        self.permit: Final = permit
        self.now: Final = now

    def __await__(self) -> Generator[Self, Permit | Refusal | NeedsApproval, Permit | Refusal | NeedsApproval]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Take(Command):
    """Count what is about to leave (`Restraint.took`), while no other worker counts in the same purses. What is too much ends the session."""

    __slots__ = ("restraint", "rows", "size")

    def __init__(self, restraint: Restraint, rows: int, size: int) -> None:
        self.restraint: Final = restraint
        self.rows: Final = rows
        self.size: Final = size

    def __await__(self) -> Generator[Self, None, None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Count(Command):
    """Count effects against every one of these budgets, across all sessions: all of them, or none. None: there is room."""

    __slots__ = ("budgets", "bytes", "calls", "came", "objects", "rows")

    def __init__(
        self,
        budgets: tuple[Budget, ...],
        calls: int = 0,
        objects: tuple[bytes, ...] = (),
        rows: int = 0,
        bytes: int = 0,  # noqa: A002 - the budget's own word for it
        came: bool = False,
    ) -> None:
        self.budgets: Final = budgets
        self.calls: Final = calls
        self.objects: Final = objects
        """Digests of what is touched; what was touched before costs nothing."""
        self.rows: Final = rows
        self.bytes: Final = bytes
        self.came: Final = came
        """They are here already, and leave only if there is room; counted either way, so nothing follows what was too much."""

    def __await__(self) -> Generator[Self, Missing | None, Missing | None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class MakeDurable(Command):
    """Write intents and denials, in order, as one batch, and wait until they are durable. Fails the session if not."""

    __slots__ = ("decisions",)

    def __init__(self, decisions: tuple[Permit | Refusal, ...]) -> None:
        self.decisions: Final = decisions

    def __await__(self) -> Generator[Self, tuple[Intended | Denied, ...], tuple[Intended | Denied, ...]]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class AwaitDurable(Command):
    """Wait until the batch of intents and denials that was written last is durable: the proofs of it. Fails the session if it does not become so."""

    __slots__ = ()

    def __await__(self) -> Generator[Self, tuple[Intended | Denied, ...], tuple[Intended | Denied, ...]]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class AwaitRun(Command):
    """Wait until what was to be sent upstream is on its way: a connection, or a channel, is opened for it first."""

    __slots__ = ()

    def __await__(self) -> Generator[Self, None, None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Keep(Command):
    """Put what a client streams in (COPY FROM STDIN) into the recording before the target hears it."""

    __slots__ = ("data", "ends", "under")

    def __init__(self, under: Intended, data: bytes, ends: bool) -> None:
        self.under: Final = under
        self.data: Final = data
        self.ends: Final = ends
        """With it the data takes effect: where intents wait for the disk, so does this, and all that came before it."""

    def __await__(self) -> Generator[Self, None, None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Order(_Value):
    """What goes to the target: made by a protocol's relay from durable intents, and from what belongs to earlier ones."""

    __slots__ = ("intended", "wire")

    def __init__(self, intended: tuple[Intended, ...], wire: bytes) -> None:
        self.intended: Final = intended
        self.wire: Final = wire


class Run(Command):
    """Send upstream exactly what was permitted."""

    __slots__ = ("order",)

    def __init__(self, order: Order) -> None:
        self.order: Final = order

    def __await__(self) -> Generator[Self, None, None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Record(Command):
    """Append a masked batch to the recording before anyone sees it."""

    __slots__ = ("masked", "under")

    def __init__(self, masked: Masked, under: Intended | None) -> None:
        self.masked: Final = masked
        self.under: Final = under

    def __await__(self) -> Generator[Self, Recorded, Recorded]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Close(Command):
    """Put outcomes into the log; they precede the bytes that tell the client of them."""

    __slots__ = ("outcomes",)

    def __init__(self, outcomes: tuple[Outcome, ...]) -> None:
        self.outcomes: Final = outcomes

    def __await__(self) -> Generator[Self, None, None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Send(Command):
    """The only way bytes reach the client."""

    __slots__ = ("recorded",)

    def __init__(self, recorded: tuple[Recorded, ...]) -> None:
        self.recorded: Final = recorded

    def __await__(self) -> Generator[Self, None, None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)


class Outdate(Command):
    """The catalogue snapshot is stale, because DDL ran: the next `LookUp` waits for a new one."""

    __slots__ = ()

    def __await__(self) -> Generator[Self, None, None]:
        """Hand it to whoever drives the coroutine; what they send back is the reply."""
        return (yield self)
