"""Purses in which several workers count: what was spent stands in the memory that they share, under one lock.

What is decided about a purse is decided in `ostiary.model.restraints`, which knows one worker alone. Here it is fetched before, and brought
back after. A purse that cannot be had, because there is no room for another one or somebody does not let go of the lock, has nothing left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ostiary.model.commands import Hold, Take
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.restraints import Budget, Purse, Restraint
from ostiary.policy.restrained import restrained
from ostiary.store.commons import NUMBER, CommonsBusy, Table, key_of

BODY: Final = 2 * NUMBER.size
"""Of a purse: when its window ends, in seconds since 1970, and what was spent in it."""
RECORDS: Final = 1 << 18


class SharedPurse(Purse):
    """A purse as this worker last saw it."""

    __slots__ = ("at", "key")
    is_shared = True

    def __init__(self, budget: Budget, whose: str) -> None:
        super().__init__(budget)
        self.key = key_of(budget.name, budget.per, whose)
        self.at = 0
        """Where it was found last."""


class Till:
    """Fetches purses, and brings them back."""

    def __init__(self, table: Table, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock

    def purse(self, budget: Budget, whose: str) -> SharedPurse:
        """The purse of somebody."""
        return SharedPurse(budget, whose)

    def hold(self, command: Hold) -> Permit | Refusal | NeedsApproval:
        """See `Hold`. Raises `NotAdmitted` where what is left cannot be known."""
        with self._fetched(command.restraint):
            return restrained(command.restraint, command.permit, command.now)

    def take(self, command: Take) -> None:
        """See `Take`. Raises `NotAdmitted`."""
        with self._fetched(command.restraint):
            command.restraint.took(command.rows, command.size)

    def look(self, purse: SharedPurse) -> tuple[int, int]:
        """The window of a purse and what was spent in it, as it is now; nothing is locked or changed, so any thread may ask."""
        if not self._table.holds(purse.key, purse.at):
            return purse.window, purse.spent
        return self._read(purse)

    def remember(self, purse: SharedPurse) -> None:
        """What this purse says was spent: nobody may know of less."""
        known = purse.window, purse.spent
        with self._table.lock:
            self._find(purse)
            if known > self._read(purse):
                purse.window, purse.spent = known
                self._write(purse)

    @contextmanager
    def _fetched(self, restraint: Restraint) -> Iterator[None]:
        purses = [purse for purse in restraint.purses if isinstance(purse, SharedPurse)]
        try:
            with self._table.lock:
                for purse in purses:
                    self._find(purse)
                    purse.window, purse.spent = self._read(purse)
                try:
                    yield
                finally:
                    for purse in purses:
                        self._write(purse)
        except CommonsBusy as exc:
            raise NotAdmitted(Reason.BUDGET_SPENT, f"what is left is not known now: {exc}") from None

    def _find(self, purse: SharedPurse) -> None:
        if self._table.holds(purse.key, purse.at):
            return
        at = self._table.place(purse.key, self._is_over)
        if at is None:
            raise NotAdmitted(Reason.BUDGET_SPENT, f"{purse.budget.name}: it is counted for too many at once")
        purse.at = at

    def _is_over(self, at: int) -> bool:
        ends: int = NUMBER.unpack_from(self._table.memory, at)[0]
        return ends <= self._clock()

    def _read(self, purse: SharedPurse) -> tuple[int, int]:
        (ends,), (spent,) = (NUMBER.unpack_from(self._table.memory, purse.at + each) for each in (0, NUMBER.size))
        return (ends // purse.seconds - 1 if ends else 0), spent

    def _write(self, purse: SharedPurse) -> None:
        """The end of the window first: a worker that dies in between leaves more spent, not less."""
        memory, at = self._table.memory, purse.at
        NUMBER.pack_into(memory, at, (purse.window + 1) * purse.seconds if purse.window else 0)
        NUMBER.pack_into(memory, at + NUMBER.size, purse.spent)
