"""What restrains a session beyond its policies: budgets that it shares with others, and a demand that people look at everything.

Pure and in memory: the driver holds one `Purse` for each budget and whoever it is counted for, and gives every session a
`Restraint` over those that are about it. A session that none is about has no `Restraint`, and pays nothing.

Operations and deletes are counted before they happen, so the one that would be too many is refused. Rows and bytes are known
when they come: a session ends before the first that is too many leaves; where they are counted by the second, the next
operation is refused instead, because one result would always be too many for a second.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ostiary.model.errors import NotAdmitted, Reason

DAY: Final = 86_400
SESSION: Final = -1
"""Window of what is counted for as long as the session lasts."""
WINDOWS: Final = {"second": 1, "day": DAY, "session": SESSION}


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much of something may be had in a window of time."""

    name: str
    of: str
    """`operations`, `deletes`, `rows`, `bytes`."""
    most: int
    per: str
    """`second`, `session`, `day` (in UTC)."""


class Place(msgspec.Struct, frozen=True):
    """Where in a session the ask just yielded stands, for who must know what it changed before that holds."""

    in_transaction: bool
    """What it changes is undone where the session ends now."""
    is_quiet: bool
    """Nothing that was asked before is unanswered, and nothing that changes data is half done."""


class Missing(msgspec.Struct, frozen=True):
    """What of a mandate leaves no room."""

    budget: str
    """Its id."""
    what: str
    """`calls`, `objects`, `rows`, `bytes`."""
    most: int


class Purse:
    """What was spent of one budget, by one identity or under one mandate."""

    __slots__ = ("budget", "seconds", "spent", "window")
    is_shared = False
    """Whether what stands here has to be fetched before it is looked at, and brought back when it has changed."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.seconds = WINDOWS[budget.per]
        self.window = 0
        """Number of the window that `spent` is of."""
        self.spent = 0

    def turn(self, now: int) -> None:
        """Begin a new window, if it is time. A clock that goes back opens none that is over."""
        if self.seconds > 0 and (window := now // self.seconds) > self.window:
            self.window, self.spent = window, 0

    @property
    def is_empty(self) -> bool:
        """Whether everything is spent."""
        return self.spent >= self.budget.most


class Restraint:
    """One session's."""

    __slots__ = ("_before", "_flowing", "demanded", "is_shared", "purses")

    def __init__(self, purses: tuple[Purse, ...]) -> None:
        self.purses = purses
        self.is_shared = any(purse.is_shared for purse in purses)
        """Whether other workers count in them, too: then what touches them is a command."""
        self._before = tuple(purse for purse in purses if purse.budget.of in ("operations", "deletes"))
        self._flowing = tuple(purse for purse in purses if purse.budget.of in ("rows", "bytes"))
        self.demanded: tuple[tuple[str, int], ...] = ()
        """Whose approval everything takes that this session does, until further notice."""

    @property
    def is_idle(self) -> bool:
        """Whether it restrains nothing."""
        return not self.purses and not self.demanded

    def spent(self, now: int, *, deletes: bool) -> Budget | None:
        """The budget that leaves nothing for one more operation; None: there is room, and it is counted."""
        for purse in self.purses:
            purse.turn(now)
            if purse.is_empty and (deletes or purse.budget.of != "deletes"):
                return purse.budget
        for purse in self._before:
            if deletes or purse.budget.of == "operations":
                purse.spent += 1
        return None

    def took(self, rows: int, size: int) -> None:
        """Count what is about to leave. Raises `NotAdmitted` when it would be too much: then it does not."""
        for purse in self._flowing:
            purse.spent += rows if purse.budget.of == "rows" else size
            if purse.spent > purse.budget.most and purse.seconds != 1:
                budget = purse.budget
                raise NotAdmitted(Reason.BUDGET_SPENT, f"{budget.name}: {budget.most} {budget.of} a {budget.per}")
