"""The purses of a worker: which session shares which, and what of a day was spent before a restart.

A purse is shared by all sessions that a budget counts together: those of one subject, whoever acts for it, or those under one
mandate. What was spent of a day is kept in a file, written every few seconds where it has changed and when the worker ends: a killed
worker forgets those seconds, and no more.

Several workers count in the same purses (`ostiary.alerts.till`), which outlive a killed worker; each writes those that it knows into a file of
its own, and reads those of all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from ostiary.alerts.till import SharedPurse, Till
from ostiary.config.types import Budget as Section
from ostiary.model.connections import Connection
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.restraints import DAY, Budget, Purse

MAX_PURSES: Final = 100_000
"""Purses in memory; those whose window is over make room."""
KEEP_SECONDS: Final = 2.0
"""How often what was spent of a day is written."""


class Kept(msgspec.Struct, frozen=True):
    """A day's purse, in the file."""

    name: str
    whose: str
    window: int
    spent: int


class Budgets:
    """Every budget of the configuration, and what was spent of it."""

    def __init__(self, sections: tuple[Section, ...], file: Path, till: Till | None = None, number: int = 1) -> None:
        """`till`: where several workers count together, and `number`, which of them this is; None: there is one."""
        self._sections = [
            (section, Budget(name=section.name, of=section.of, most=section.most, per=section.per)) for section in sections
        ]
        self._till = till
        self._folder = file.parent
        self._stem = file.stem
        self._file = file if till is None else file.with_stem(f"{file.stem}-{number}")
        self._purses: dict[tuple[str, str], Purse] = {}
        self._written: list[Kept] = []
        self._read()

    def purses(self, who: VerifiedIdentity, connection: Connection, now: int) -> tuple[Purse, ...]:
        """The purses of a session that is about to begin: its own, and those that it shares."""
        found = []
        for section, budget in self._sections:
            whose = _whose(section, who)
            if whose is None or not _is_about(section, who, connection):
                continue
            if budget.per == "session":
                found.append(Purse(budget))
                continue
            found.append(self._purse(budget, whose, now))
        return tuple(found)

    def _purse(self, budget: Budget, whose: str, now: int) -> Purse:
        purse = self._purses.get((budget.name, whose))
        if purse is None:
            if len(self._purses) >= MAX_PURSES:
                self._purses = {key: held for key, held in self._purses.items() if now // held.seconds <= held.window}
            purse = self._purses[budget.name, whose] = self._made(budget, whose)
        return purse

    def _made(self, budget: Budget, whose: str) -> Purse:
        return Purse(budget) if self._till is None else self._till.purse(budget, whose)

    def keep(self) -> None:
        """Write what was spent of a day, if it has changed."""
        kept = [
            Kept(name, whose, window, spent)
            for (name, whose), purse in sorted(self._purses.items())
            if purse.seconds == DAY
            for window, spent in [self._look(purse)]
            if spent
        ]
        if kept == self._written:
            return
        beside = self._file.with_suffix(".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._file)
        self._written = kept

    def _look(self, purse: Purse) -> tuple[int, int]:
        if self._till is not None and isinstance(purse, SharedPurse):
            return self._till.look(purse)
        return purse.window, purse.spent

    def _read(self) -> None:
        """Read what was spent of a day, as the one knows who knows of most: there are as many files as there were workers."""
        by_name = {budget.name: budget for _, budget in self._sections}
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for path in self._folder.glob(f"{self._stem}*.json"):
            try:
                kept = msgspec.json.decode(path.read_bytes(), type=list[Kept])
            except (OSError, msgspec.MsgspecError):
                continue
            for each in kept:
                place = each.name, each.whose
                found[place] = max(found.get(place, (0, 0)), (each.window, each.spent))
        for (name, whose), (window, spent) in found.items():
            budget = by_name.get(name)
            if budget is None or budget.per != "day":
                continue
            purse = self._purses[name, whose] = self._made(budget, whose)
            purse.window, purse.spent = window, spent
            if self._till is not None and isinstance(purse, SharedPurse):
                self._till.remember(purse)


def _whose(section: Section, who: VerifiedIdentity) -> str | None:
    """Whom a budget is counted for; None: it does not count this one."""
    if section.by == "mandate":
        # A mandate that is narrowed gets an id of its own; the task is that of the first one, so nothing is spent anew.
        return None if who.mandate is None else f"{len(who.issuer)}:{who.issuer}{who.task or who.mandate.id}"
    return f"{len(who.issuer)}:{who.issuer}{who.subject}"


def _is_about(section: Section, who: VerifiedIdentity, connection: Connection) -> bool:
    kinds = {who.kind, *(actor.kind for actor in who.acting)}
    return (
        (not section.connections or connection.name in section.connections)
        and (not section.kinds or not kinds.isdisjoint(section.kinds))
        and (not section.groups or not who.groups.isdisjoint(section.groups))
    )
