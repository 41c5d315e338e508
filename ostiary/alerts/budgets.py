"""The purses of one worker: which session shares which, and what of a day was spent before a restart.

A purse is shared by all sessions that a budget counts together: those of one subject, whoever acts for it, or those under one
mandate. What was spent of a day is kept in a file, written every few seconds where it has changed and when the worker ends: a killed
worker forgets those seconds, and no more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

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

    def __init__(self, sections: tuple[Section, ...], file: Path) -> None:
        self._sections = [
            (section, Budget(name=section.name, of=section.of, most=section.most, per=section.per)) for section in sections
        ]
        self._file = file
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
            purse = self._purses[budget.name, whose] = Purse(budget)
        return purse

    def keep(self) -> None:
        """Write what was spent of a day, if it has changed."""
        kept = [
            Kept(name, whose, purse.window, purse.spent)
            for (name, whose), purse in sorted(self._purses.items())
            if purse.seconds == DAY and purse.spent
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

    def _read(self) -> None:
        by_name = {budget.name: budget for _, budget in self._sections}
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=list[Kept])
        except (OSError, msgspec.MsgspecError):
            return
        for each in kept:
            budget = by_name.get(each.name)
            if budget is not None and budget.per == "day":
                purse = self._purses[each.name, each.whose] = Purse(budget)
                purse.window, purse.spent = each.window, each.spent


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
