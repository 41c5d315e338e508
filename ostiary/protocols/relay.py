"""What the path needs of a protocol: the shape that every `protocols/<name>/relay.py` has.

A relay is sans-io and belongs to one session. It cuts what it hears into messages, knows whose turn it is, and says which
of them must be decided; it never decides, sends or records anything itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import Order
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.duties import Duties
from ostiary.model.nouns import number, same, shown
from ostiary.model.operations import Facts, Objection, Operation, Unjudgeable
from ostiary.model.proofs import Batch, Denied, Intended, Masked, Outcome
from ostiary.model.restraints import Place


class _Value:
    """See `ostiary.model.nouns`."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return number(self)

    def __repr__(self) -> str:
        return shown(self)


class Ask(_Value):
    """One message that somebody must decide on."""

    __slots__ = ("operation", "takes_effect")

    def __init__(self, operation: Operation, takes_effect: bool) -> None:
        self.operation: Final = operation
        self.takes_effect: Final = takes_effect
        """False: it only prepares (Parse). It is decided so that a refusal comes early; its intent is written when it is bound."""


class Streamed(_Value):
    """Data that a client streams in under an intent that is durable already."""

    __slots__ = ("data", "ends", "under")

    def __init__(self, under: Intended, data: bytes, ends: bool) -> None:
        self.under: Final = under
        self.data: Final = data
        self.ends: Final = ends
        """It says that all has come, so that what came takes effect."""


def as_it_stands(permit: Permit | NeedsApproval, duties: Duties) -> Operation | Objection:
    """`Relay.obey` of a protocol that has no rows, so that nothing can be demanded of them."""
    if duties.parameters:
        message = "policy demands something of the parameters of a call, and here are none that could be rewritten"
        return Objection(Unjudgeable.NOT_REWRITTEN, message, "Ask whoever keeps the policy: its @parameters is for AWS.", "403", None)
    if duties.rows is None and not (duties.filters or duties.instead):
        return permit.operation
    message = "policy bounds the rows that this may return, and it has none that could be counted"
    hint = "Ask whoever keeps the policy: its @rows and @filter are for databases."
    return Objection(Unjudgeable.NOT_REWRITTEN, message, hint, "403", None)


class Relay:
    """One session's protocol engine."""

    def asks(self, data: bytes, snapshot: Snapshot) -> Iterable[Ask]:
        """Take in client bytes; in order, each message that must be decided.

        The path answers every `Ask` with `decided` before it takes the next one.

        Raises:
            PeerMisbehaved: the bytes broke the protocol.

        """
        raise NotImplementedError

    def decided(self, ask: Ask, decision: Permit | Refusal) -> bool:
        """Heed the decision on the ask just yielded; True if it has to be made durable now."""
        raise NotImplementedError

    @property
    def is_complete(self) -> bool:
        """Whether what was decided so far stands by itself, so that it can go out before a human is asked about what comes next."""
        raise NotImplementedError

    @property
    def is_inside(self) -> bool:
        """Whether the ask just yielded belongs to a transaction or an unfinished pipeline, as far as answers have come."""
        raise NotImplementedError

    def state(self) -> bytes:
        """Return a digest of whatever in the session changes what the bytes of an operation mean; from now on it is watched."""
        raise NotImplementedError

    def means(self, ask: Ask, snapshot: Snapshot) -> Facts:
        """Return what the ask just yielded would do, sent now."""
        raise NotImplementedError

    def obey(self, permit: Permit, duties: Duties, snapshot: Snapshot) -> Operation | Objection:
        """Return the operation of the ask just yielded as `duties` demand it; the permit's own, if it is so already."""
        raise NotImplementedError

    def notice(self, text: str, hint: str) -> Batch:
        """Tell the client something while it waits, between two answers."""
        raise NotImplementedError

    def order(self, proofs: tuple[Intended | Denied, ...]) -> Order:
        """Everything heard since the last order, in order, for the target: only under the proofs that it needs."""
        raise NotImplementedError

    def streamed(self) -> Iterable[Streamed]:
        """What of the last order's bytes is data under an earlier intent, to be kept before the target hears it."""
        raise NotImplementedError

    def answers(self) -> Iterable[Batch]:
        """Refusals that the gateway may answer at once, because nothing is outstanding before them."""
        raise NotImplementedError

    def results(self, data: bytes) -> Iterable[tuple[Batch, Intended | None]]:
        """Take in target bytes; batches for masking, each with the intent that it answers. `masked` is called for each before the next is taken.

        Raises:
            PeerMisbehaved: the bytes broke the protocol.

        """
        raise NotImplementedError

    def masked(self, masked: Masked) -> None:
        """Count what masking did to the batch just yielded."""
        raise NotImplementedError

    def flowed(self) -> int:
        """Rows, or what a protocol has in their place, in the batches that were yielded since the last call."""
        raise NotImplementedError

    def changed(self) -> int:
        """Rows that were changed and did not come, in what was completed since the last call."""
        raise NotImplementedError

    def place(self) -> Place | None:
        """Where the ask just yielded stands; None: this protocol has no rows to count."""
        raise NotImplementedError

    def outcomes(self) -> tuple[Outcome, ...]:
        """Operations that have ended since the last call."""
        raise NotImplementedError

    def outdated(self) -> bool:
        """Whether DDL took effect since the last call."""
        raise NotImplementedError

    def abandon(self) -> tuple[Outcome, ...]:
        """The session is over: outcomes of everything that is still open."""
        raise NotImplementedError
