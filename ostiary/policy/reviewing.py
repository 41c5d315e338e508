"""What was granted against what was used, by identity: for `ostiary access review`.

*Granted* is what the heads of the permits in force give to somebody who was seen: whom they are for, not their conditions, so it errs on the
side of saying too much. *Used* is what the record says decided. A permit that gives and is not used is what a review is for.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ostiary.policy.entities import principal_uid
from ostiary.policy.policies import Policies
from ostiary.policy.replaying import Recalled
from ostiary.policy.source import Policy
from ostiary.policy.suppose import Believe, Supposed


class Held(msgspec.Struct):
    """One permit, for one identity."""

    who: str
    issuer: str
    policy: str
    """Id of the permit; empty: nothing in force gives what was used."""
    grants: str
    """Actions, and on what."""
    used: int
    last: int
    """Seconds since 1970; 0: never."""
    things: int
    """Different objects that it was used on."""


def review(recalled: Iterable[Recalled], policies: Policies, believe: Believe) -> list[Held]:
    """Set the permits in force against the record, the unused first for each identity."""
    people: dict[tuple[str, str], Supposed] = {}
    counts: dict[tuple[tuple[str, str], str], tuple[int, int, set[str]]] = {}
    for each in recalled:
        person = (each.who.issuer, each.who.subject)
        known = people.get(person)
        # The newest entry says which groups somebody is in now; entries come newest first.
        people[person] = known or each.who
        if each.verdict != "permit":
            continue
        for name in each.because:
            used, last, things = counts.get((person, name), (0, 0, set()))
            things.update(f"{each.connection}/{resource.name}" for resource in each.touched)
            counts[person, name] = (used + 1, max(last, each.at), things)
    rows = []
    for person, who in sorted(people.items()):
        identity = believe(who)
        own = principal_uid(identity)
        within = {("Ostiary::Group", group) for group in who.groups} | {("Ostiary::Issuer", who.issuer)}
        within.add((own["type"], own["id"]))
        shown = who.name or who.subject
        given = {policy.id: policy for policy in policies.by_id.values() if policy.permits and _is_for(policy, within)}
        for name in [*given, *(used for at, used in counts if at == person and used not in given)]:
            used, last, things = counts.get((person, name), (0, 0, set()))
            grants = _grants(given[name]) if name in given else "no longer in force"
            rows.append(Held(shown, person[0], name, grants, used, last, len(things)))
    return sorted(rows, key=lambda row: (row.who, row.issuer, row.used, row.policy))


def _is_for(policy: Policy, within: set[tuple[str, str]]) -> bool:
    scope = policy.est["principal"]
    inner = scope.get("in", {}) if scope.get("op") == "is" else scope
    entity = inner.get("entity")
    return entity is None or (entity.get("type"), entity.get("id")) in within


def _grants(policy: Policy) -> str:
    actions = ", ".join(sorted(policy.names)) or "everything"
    scope = policy.est["resource"]
    entity = scope.get("entity") or scope.get("in", {}).get("entity") or {}
    where = f" on {entity['id']}" if "id" in entity else ""
    conditional = ", under conditions" if policy.est.get("conditions") else ""
    watching = ", observed only" if policy.observes else ""
    return f"{actions}{where}{conditional}{watching}"
