"""What a permit costs of the effects that its mandate bounds, and what nobody could count, which is refused.

Calls and objects are known before an operation takes effect, so the one that is too many is refused. Rows and bytes that come back are
known when they come: the session ends before the first that is too many leaves, and with nothing left nothing more is begun.

Rows that are *changed* are known when the target has changed them, and undone only inside a transaction. So under a mandate that bounds
rows a change runs in one, by itself, and what comes next waits for its answer: one that was too much ends the session, which
undoes it. What changes rows without saying how many (TRUNCATE, DDL, a cascade, a data-modifying WITH, a function) is refused.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ostiary.model.commands import Count
from ostiary.model.connections import Connection
from ostiary.model.decisions import Grounds, Permit, Refusal
from ostiary.model.identity import Budget, VerifiedIdentity
from ostiary.model.operations import Action, Facts, is_reading
from ostiary.model.restraints import Missing, Place
from ostiary.policy.decide import NOBODY

_UNTOUCHED: Final = frozenset({"connection", "class", "column", "function", "type", "setting", "cursor", "channel"})
"""Kinds of resources that are no things of their own."""
_ALONE: Final = "Send it by itself, and wait for its answer before the next one."


def cost(permit: Permit, connection: Connection, place: Place | None, *, alone: bool) -> Count | Refusal | None:
    """What is to be counted before `permit` goes on; None: it costs nothing.

    `place`: see `Relay.place`; `alone`: nothing else was decided with it that has not been sent.
    """
    mandate = permit.who.mandate
    if mandate is None or not mandate.budgets:
        return None
    budgets, facts = mandate.budgets, permit.operation.facts
    bounded = {what for what in ("objects", "rows") if any(getattr(each, what) is not None for each in budgets)}
    why = _uncounted(facts, bounded, place, alone=alone)
    if why is not None:
        return refusal(permit, f"the mandate {mandate.id} bounds {why[0]}", why[1])
    if facts.action is Action.CONNECT and "SELECT" not in facts.name:
        return None  # to end a transaction, say, must stay possible with nothing left
    touched = {f"{connection.name}/{each.kind}/{each.name}" for each in facts.resources if each.kind not in _UNTOUCHED}
    objects = tuple(sorted(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16] for name in touched))
    return Count(budgets, calls=1, objects=objects if "objects" in bounded else ())


def beyond(permit: Permit, missing: Missing) -> Refusal:
    """The refusal of what there is no room for."""
    return refusal(permit, said(permit.who, missing), "Ask whoever gave the mandate for another one; this one cannot grow.")


def said(who: VerifiedIdentity, missing: Missing) -> str:
    """Which part is missing, in a sentence. The bound may be that of a mandate which this one was narrowed from."""
    mandate = missing.budget if who.mandate is None else who.mandate.id
    return f"the mandate {mandate} allows {missing.most} {missing.what} in all, and this would be more"


def of_all(budgets: tuple[Budget, ...], rows: int, size: int) -> Count:
    """What came, to be counted before it leaves."""
    return Count(budgets, rows=rows, bytes=size, came=True)


def refusal(permit: Permit, message: str, hint: str) -> Refusal:
    """Say no on the mandate's account."""
    return Refusal(permit.who, permit.operation, Grounds(("mandate",), permit.grounds.policy, NOBODY, None, message, hint))


def _uncounted(facts: Facts, bounded: set[str], place: Place | None, *, alone: bool) -> tuple[str, str] | None:
    """What cannot be counted of it, and what to do about it."""
    opaque = facts.opaque or any(each.action is Action.OPAQUE or each.kind == "command" for each in facts.resources)
    if "objects" in bounded and opaque:
        return "objects, and what this touches cannot be seen", "Do it in steps that can be seen through."
    if "rows" not in bounded:
        return None
    if place is None:
        return "rows, which this kind of connection cannot count", "Ask for a mandate that bounds calls or bytes."
    if not (place.is_quiet and alone):
        return "rows, and something before this is not counted yet", _ALONE
    if is_reading(facts):
        return None
    if not facts.counts_changes:
        return "rows, and how many this changes cannot be counted", "Use a plain INSERT, UPDATE, DELETE or COPY of one table."
    if not place.in_transaction:
        return "rows, and what this changes could not be undone where it is too much", "BEGIN a transaction first. " + _ALONE
    return None
