"""Who may answer, and when their answers are enough. Pure; everything that is not plainly allowed is not.

* Nobody answers their own question: not the subject, not whoever acts for it, not the person who started it, whatever groups
  they are in. The same person under another issuer is known by subject and verified e-mail address.
* An answer is a person's: a token in which anybody acts for somebody, of a workload or an agent, or that carries a mandate, is none.
* Every place of a quorum is taken by another person, and a group that nobody is in is a place that nobody takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostiary.approvals.words import Party
from ostiary.model.identity import Kind, VerifiedIdentity

Needed = tuple[tuple[str, int], ...]


def why_not_person(who: VerifiedIdentity, now: float, login_seconds: float) -> str:
    """Say why this token does not speak for a person who is there; empty if it does."""
    if who.kind is not Kind.HUMAN:
        return f"only people answer questions, and this token is a {who.kind.value}'s"
    if who.acting:
        actor = who.acting[0].name or who.acting[0].sub
        return f"{actor} acts in this token: an answer is a person's own; log in yourself"
    if who.mandate is not None or who.audience:
        return "this token is bound to connections or a mandate: answer with a token of your own login"
    if now - who.auth.at > login_seconds:
        return "your login is too old for this: log in again"
    return ""


def why_not_answer(asker: Party, who: VerifiedIdentity, needed: Needed) -> str:
    """Say why this person's answer does not count here; empty if it does."""
    if is_involved(asker, who):
        return "it is your own question, or that of somebody who acts for you"
    if not who.groups & {group for group, _ in needed}:
        return f"it takes somebody of {' or '.join(group for group, _ in needed)}, and you are in none"
    return ""


def is_involved(asker: Party, who: VerifiedIdentity) -> bool:
    """Whether `who` is the asker, acts for the asker, or set the asker to work."""
    own_names = _names(who.subject, who.email)
    if own_names & (_names(asker.sub, asker.email) | {each.sub.casefold() for each in asker.acting}):
        return True
    started = asker.initiator
    if started is None:
        return False
    # A CI system names people in its own way: whatever of theirs it could mean is taken to be theirs.
    own = {who.subject, who.name, who.email or "", (who.email or "").partition("@")[0]}
    named = {started.sub.casefold(), started.name.casefold()} - {""}
    return bool(named & {each.casefold() for each in own if each})


def is_same_person(one: Party, other: Party) -> bool:
    """Whether two answers may be one person's, under one issuer or under two."""
    return bool(_names(one.sub, one.email) & _names(other.sub, other.email))


def _names(subject: str, email: str | None) -> frozenset[str]:
    """What tells a person, whoever issued it: two issuers that give one name to two people make one of them ask somebody else."""
    return frozenset({subject.casefold(), (email or subject).casefold()})


def complete(needed: Needed, people: Sequence[frozenset[str]]) -> bool:
    """Whether every place can be taken by another one of `people` (the groups of each): a matching of places to people."""
    places = [group for group, count in needed for _ in range(count)]
    taken: dict[int, int] = {}

    def seat(place: int, tried: set[int]) -> bool:
        for person, groups in enumerate(people):
            if places[place] in groups and person not in tried:
                tried.add(person)
                if person not in taken or seat(taken[person], tried):
                    taken[person] = place
                    return True
        return False

    return bool(places) and all(seat(place, set()) for place in range(len(places)))
