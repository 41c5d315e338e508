"""What policy says: a value that the next hop demands. Minted only in `ostiary.policy`."""

from __future__ import annotations

from typing import Final

import msgspec

from ostiary.model.duties import Duties
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.nouns import number, same, shown
from ostiary.model.operations import Operation


class Noted(msgspec.Struct, frozen=True):
    """What the other policies would have said of an operation that an observing permit let through."""

    verdict: str
    """`deny`, `needs approval`, or `permit` with a limit that did not apply."""
    because: tuple[str, ...]
    """Ids of the policies that would have decided, sorted."""
    message: str


class Grounds(msgspec.Struct, frozen=True):
    """Why a decision came out as it did. Shared by every operation with the same facts, so it is never rebuilt."""

    because: tuple[str, ...]
    """Ids of the policies that decided, sorted; for a default deny, empty."""
    policy: str
    """Hex SHA-256 over schema and policies in force."""
    clear: frozenset[str]
    """Data classes that this identity may see in clear for this operation."""
    row_limit: int | None
    message: str
    """For the caller: which policy said no, in a sentence a person can act on. Empty for a permit."""
    hint: str
    approval: str = ""
    """Id of the approval without which it would not have been permitted."""
    approved_by: frozenset[str] = frozenset()
    """The groups whose approval that is."""
    noted: Noted | None = None
    """Of a permit that only an observing policy gave."""
    approvers: tuple[tuple[str, int], ...] = ()
    """Of a question that nobody answered with yes: who was asked, (group, how many of it), sorted."""
    duties: Duties | None = None
    """Of a permit: what it demands of the operation as it is sent; None: nothing."""


class _Value:
    """See `ostiary.model.nouns`."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return number(self)

    def __repr__(self) -> str:
        return shown(self)


class Permit(_Value):
    """Proof that policy allowed this operation for this identity."""

    __slots__ = ("grounds", "operation", "who")

    def __init__(self, who: VerifiedIdentity, operation: Operation, grounds: Grounds) -> None:
        self.who: Final = who
        self.operation: Final = operation
        self.grounds: Final = grounds


class Refusal(_Value):
    """Policy, or the judge of the statement, said no. A value, not an exception: saying no is normal work."""

    __slots__ = ("grounds", "operation", "who")

    def __init__(self, who: VerifiedIdentity, operation: Operation, grounds: Grounds) -> None:
        self.who: Final = who
        self.operation: Final = operation
        self.grounds: Final = grounds


class NeedsApproval(_Value):
    """Policy said: ask these people first. A yes is evidence for a second look, and admits nobody by itself."""

    __slots__ = ("approvers", "grounds", "operation", "who")

    def __init__(
        self, who: VerifiedIdentity, operation: Operation, grounds: Grounds, approvers: tuple[tuple[str, int], ...]
    ) -> None:
        self.who: Final = who
        self.operation: Final = operation
        self.grounds: Final = grounds
        self.approvers: Final = approvers
        """(group, how many of it), sorted."""


Decision = Permit | Refusal | NeedsApproval
