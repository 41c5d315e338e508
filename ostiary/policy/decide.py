"""May this identity do this? The one place where permits, refusals and questions for humans are minted.

`decide` is pure, and always answers. In order:

1. A statement that could not be judged (`facts.objection`) is refused with the judge's own words.
2. The identity's own bounds: the token's audience, then the mandate. Policy never grants more than these.
3. Every resource, with its own action, is put to Cedar. One that is not permitted refuses the whole operation; a
   `forbid` wins over any permit; an evaluation error anywhere is a no, because Cedar skips a policy that errors, and a
   skipped `forbid` would be a yes.
4. A statement that computes with protected columns needs `unmask` on their classes.
5. Obligations of all satisfied permits apply, and the strictest wins.
6. Where this says no, or less than all, and permits that only observe (`@observe`) cover the whole operation, it is let
   through, and the grounds note what would have been said. Steps 1 and 2 hold even so.

What comes out hangs on the identity's digest, the facts' digest and the connection alone (and on the minute, or on the
client's address and claims, if a policy reads them), so it is remembered by these.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import cedarpy
import msgspec

from ostiary.model.connections import Connection
from ostiary.model.decisions import Decision, Grounds, NeedsApproval, Noted, Permit, Refusal
from ostiary.model.duties import Duties
from ostiary.model.identity import Mandate, Said, VerifiedIdentity
from ostiary.model.operations import Action, Facts, Operation, Resource, plain_facts
from ostiary.policy.entities import (
    NOTHING_SAID,
    UnknownKind,
    circumstances,
    entities,
    principal_uid,
    questions,
    resource_uid,
    written,
)
from ostiary.policy.obliged import duties_of, lessened
from ostiary.policy.policies import SCHEMA, Key, Policies, Verdict
from ostiary.policy.slicing import about

MAX_RESOURCES: Final = 2_000
"""Resources of one operation that policy looks at; more is refused. A statement that names more is no query of a person."""
MAX_SHOWN: Final = 256
"""Characters of a resource's name in a message: two identifiers of 63 and room for an argument list."""
NOBODY: Final[frozenset[str]] = frozenset()
_READING: Final = frozenset({Action.CONNECT, Action.READ, Action.UNMASK})


class _Case(msgspec.Struct, frozen=True):
    """What is being decided, and under which policies."""

    policies: Policies
    who: VerifiedIdentity
    facts: Facts
    connection: Connection
    approved_by: frozenset[str]
    now: int
    said: Said
    granted: frozenset[str]
    approval: str


class Opinion(msgspec.Struct, frozen=True):
    """What Cedar said about one resource."""

    resource: Resource
    permitted: bool
    policies: tuple[str, ...]
    """Ids of the policies that decided, sorted: satisfied forbids if any, else satisfied permits."""
    errors: tuple[str, ...]
    """Evaluation errors, in Cedar's words; any is a no."""


def decide(
    policies: Policies,
    who: VerifiedIdentity,
    operation: Operation,
    connection: Connection,
    *,
    approved_by: frozenset[str] = NOBODY,
    now: int = 0,
    said: Said = NOTHING_SAID,
    granted: frozenset[str] = NOBODY,
    approval: str = "",
) -> Decision:
    """Decide one operation.

    `approved_by` holds the groups whose approvals of exactly this operation were proved, by the approval of that id; `granted`
    those that granted this identity the connection for a time, which counts as their approval of being connected; `now` is in seconds since 1970
    and matters only where `policies.reads_clock`, `said` only where `policies.reads_client`.
    """
    if not approved_by:
        return decide_unasked(policies, who, operation, connection, now, said, granted)
    facts = operation.facts
    if facts.objection is not None:
        return Refusal(who, operation, _objected(policies, facts))
    # An approval is used once, so what it led to is never remembered.
    return _decided(
        who, operation, _judge(_Case(policies, who, facts, connection, approved_by, now, said, granted, approval))
    )


def decide_unasked(
    policies: Policies,
    who: VerifiedIdentity,
    operation: Operation,
    connection: Connection,
    now: int,
    said: Said,
    granted: frozenset[str],
) -> Decision:
    """Decide one operation that nobody was asked about: what `decide` does for all but a few, and the line for each message."""
    facts = operation.facts
    if facts.objection is not None:
        return Refusal(who, operation, _objected(policies, facts))
    minute = now // 60 if policies.reads_clock else 0
    key: Key = (who.digest, facts.digest, connection.name, minute, said if policies.reads_client else None, granted)
    verdict = policies.lookup(key)
    if verdict is None:
        verdict = _judge(_Case(policies, who, facts, connection, NOBODY, now, said, granted, ""))
        policies.remember(key, verdict)
    return _decided(who, operation, verdict)


def _decided(who: VerifiedIdentity, operation: Operation, verdict: Verdict) -> Decision:
    if verdict.permitted:
        return Permit(who, operation, verdict.grounds)
    if verdict.approvers:
        return NeedsApproval(who, operation, verdict.grounds, verdict.approvers)
    return Refusal(who, operation, verdict.grounds)


def explain(
    policies: Policies,
    who: VerifiedIdentity,
    operation: Operation,
    connection: Connection,
    *,
    approved_by: frozenset[str] = NOBODY,
    now: int = 0,
    said: Said = NOTHING_SAID,
    granted: frozenset[str] = NOBODY,
) -> list[Opinion]:
    """Say what Cedar thinks of every resource of an operation, and of `unmask` for each class that it needs."""
    facts = operation.facts
    asked = questions(facts, connection) + _classes(facts.unmask) + _classes(facts.infer, Action.INFER)
    return _ask(_Case(policies, who, facts, connection, approved_by, now, said, granted, ""), asked)


def connect_operation(connection: Connection) -> Operation:
    """Return the operation that opening a session on `connection` is."""
    return Operation(_connecting(connection.name), b"", None, b"")


@lru_cache(maxsize=1024)
def _connecting(name: str) -> Facts:
    return plain_facts(action=Action.CONNECT, name="connect", resources=(Resource("connection", name, Action.CONNECT, (), ()),))


# --- the verdict ------------------------------------------------------------------------------------------------------


def _judge(case: _Case) -> Verdict:
    asked = questions(case.facts, case.connection)
    if len(asked) > MAX_RESOURCES:
        return _no(case, (), f"the statement touches more than {MAX_RESOURCES} things", "Split the statement.")
    outside = _outside_bounds(case.who, case.connection, [*asked, *_classes(case.facts.unmask)])
    if outside is not None:
        return _no(case, (), *outside)
    try:
        return _watched(case, asked, _put_to_cedar(case, asked))
    except UnknownKind as exc:
        return _no(
            case, (), f"policy has no word for a resource of kind {exc}", "Report this: it is a fault of Ostiary."
        )


def _put_to_cedar(case: _Case, asked: list[Resource]) -> Verdict:
    opinions = _ask(case, asked)
    unmasking = _unmasking(case)
    missing = [each for each in unmasking if each.resource.name in case.facts.unmask and not each.permitted]
    inferring = _inferring(case, unmasking)
    missing += [each for each in inferring if not each.permitted]
    denied = [each for each in opinions if not each.permitted]
    if not denied and not missing:
        touched = {name for resource in asked for name in resource.classes} | set(case.facts.unmask)
        shown = [each for each in unmasking if each.permitted and each.resource.name in touched] + inferring
        return _yes(
            case, asked, opinions + shown, frozenset(each.resource.name for each in unmasking if each.permitted)
        )
    approvers = _approvers(case, denied + missing)
    if approvers and not case.approved_by:
        trial = msgspec.structs.replace(case, approved_by=frozenset(group for group, _ in approvers))
        allowed = _put_to_cedar(trial, asked)
        if allowed.permitted:
            return _question(case, denied + missing, approvers, allowed.grounds.duties)
    failed = [each for each in denied + missing if each.errors]
    if failed:
        return _failed(case, failed[0])
    return _refused(case, denied) if denied else _protected(case, missing)


def _watched(case: _Case, asked: list[Resource], verdict: Verdict) -> Verdict:
    """Let through what observing permits cover whole, and note what `verdict` would have been."""
    grounds = verdict.grounds
    unhindered = verdict.permitted and grounds.row_limit is None and grounds.duties is None
    if unhindered or not case.policies.observes:
        return verdict
    uses = [*_classes(case.facts.unmask), *_classes(case.facts.infer, Action.INFER)]
    opinions = _ask(case, [*asked, *uses], watching=True)
    if not all(each.permitted for each in opinions):
        return verdict
    if verdict.permitted:
        would, message = "permit", lessened(grounds)
    else:
        would, message = ("needs approval" if verdict.approvers else "deny"), verdict.grounds.message
    because = sorted({name for each in opinions for name in each.policies})
    # What is masked stays masked: an observer sees no more in clear than the policies show.
    clear = frozenset(each.resource.name for each in _unmasking(case) if each.permitted)
    noted = Noted(would, verdict.grounds.because, message)
    grounds = Grounds(tuple(because), case.policies.digest, clear, None, "", "", noted=noted)
    return Verdict(permitted=True, grounds=grounds, approvers=())


def _ask(case: _Case, asked: list[Resource], *, watching: bool = False) -> list[Opinion]:
    """Put every resource to Cedar, those with the same policy set in one batch; the answers in the order asked.

    `watching`: only the permits that observe are asked; otherwise all the others.
    """
    if not asked:
        return []
    held = msgspec.json.encode(entities(case.who, case.connection, asked, case.facts.arguments)).decode()
    parsed = cedarpy.Entities.from_json_str(held)
    shared = circumstances(case.who, case.connection, case.facts, case.approved_by, case.now, case.said, case.granted)
    principal = principal_uid(case.who)
    subject = about(case.who, case.connection)
    answers: dict[int, Opinion] = {}
    batches: dict[int, tuple[cedarpy.PolicySet, list[int]]] = {}
    for index, resource in enumerate(asked):
        compiled = case.policies.watching(resource.action) if watching else case.policies.compiled(resource.action, subject)
        batches.setdefault(id(compiled), (compiled, []))[1].append(index)
    for compiled, indexes in batches.values():
        requests = []
        for index in indexes:
            resource = asked[index]
            context = {**shared, "columns": resource.columns, "classes": resource.classes}
            if resource.action is Action.CONNECT and case.granted:
                context["approved_by"] = sorted(case.approved_by | case.granted)
            requests.append(
                {
                    "principal": principal,
                    "action": {"type": "Ostiary::Action", "id": resource.action.value},
                    "resource": resource_uid(case.connection, resource),
                    "context": msgspec.json.encode(context).decode(),
                }
            )
        results = cedarpy.is_authorized_batch(requests, compiled, parsed, SCHEMA)
        for index, result in zip(indexes, results, strict=True):
            answers[index] = _opinion(asked[index], result)
    return [answers[index] for index in range(len(asked))]


def _opinion(resource: Resource, result: cedarpy.AuthzResult) -> Opinion:
    errors = tuple(result.diagnostics.errors)
    permitted = bool(result.allowed) and not errors
    return Opinion(resource, permitted, tuple(sorted(result.diagnostics.reasons)), errors)


def _classes(names: tuple[str, ...] | list[str], action: Action = Action.UNMASK) -> list[Resource]:
    return [Resource("class", name, action, (), (name,)) for name in names]


def _inferring(case: _Case, unmasking: list[Opinion]) -> list[Opinion]:
    """What Cedar says of inferring each class that the facts infer, unless the class permits it, or it is shown in clear."""
    if not case.facts.infer:
        return []
    clear = {each.resource.name for each in unmasking if each.permitted}
    needed = [name for name in case.facts.infer if name not in clear and name not in case.connection.inferable]
    asked = _classes(needed, Action.INFER)
    inside = [resource for resource in asked if _outside_bounds(case.who, case.connection, [resource]) is None]
    outside = [resource for resource in asked if resource not in inside]
    return [*_ask(case, inside), *(Opinion(each, permitted=False, policies=(), errors=()) for each in outside)]


def _unmasking(case: _Case) -> list[Opinion]:
    """What Cedar says of seeing each data class in clear: those of the connection, and those that the facts need."""
    known = case.connection.classes | case.connection.detected | set(case.facts.unmask) | set(case.facts.infer)
    asked = _classes(sorted(known))
    if not case.policies.unmasks:
        return [Opinion(resource, permitted=False, policies=(), errors=()) for resource in asked]
    inside = [resource for resource in asked if _outside_bounds(case.who, case.connection, [resource]) is None]
    return _ask(case, inside)


# --- an identity's own bounds -----------------------------------------------------------------------------------------


def _outside_bounds(who: VerifiedIdentity, connection: Connection, asked: list[Resource]) -> tuple[str, str] | None:
    """Return (message, hint) if the token or the mandate does not reach this far."""
    if who.audience and connection.name not in who.audience:
        return (
            f"the token is not for the connection {connection.name}",
            f"Ask for a token with {connection.name} in its audience: ostiary token {connection.name}",
        )
    mandate = who.mandate
    if mandate is None:
        return None
    hint = "Declare what the task needs when the token is made; the mandate of this token cannot grow."
    if mandate.connections is not None and connection.name not in mandate.connections:
        return f"the mandate {mandate.id} does not name the connection {connection.name}", hint
    for resource in asked:
        if (why := _beyond(mandate, connection, resource)) is not None:
            return f"the mandate {mandate.id} does not allow {why}", hint
    return None


def _beyond(mandate: Mandate, connection: Connection, resource: Resource) -> str | None:
    """Return what of `resource` the mandate leaves out. A session that it allows at all may be opened and held."""
    if resource.action is Action.CONNECT:
        return None
    if mandate.actions is not None and resource.action.value not in mandate.actions:
        return f"the action {resource.action.value}"
    # A class is reached through its relations, and `SELECT 1` touches nothing: these have no names to compare.
    nameless = resource.kind == "class" or (resource.kind == "connection" and resource.action is Action.READ)
    if nameless or mandate.resources is None:
        return None
    name = connection.name if resource.kind == "connection" else resource.name
    if any(_pattern(pattern).fullmatch(name) for pattern in mandate.resources):
        return None
    return f"{resource.action.value} on {name}"


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    """Compile a mandate's pattern: `*` stands for any run of characters, all else for itself.

    Whoever narrows a mandate writes it, so it never tries one way after another: each part between two stars is taken where it comes first.
    """
    first, *others = [re.escape(part) for part in re.split(r"\*+", text)]
    between = "".join(f"(?>.*?{part})" for part in others[:-1])
    return re.compile(f"{first}{between}.*{others[-1]}" if others else first, re.DOTALL)


# --- saying it --------------------------------------------------------------------------------------------------------


def _yes(case: _Case, asked: list[Resource], opinions: list[Opinion], clear: frozenset[str]) -> Verdict:
    satisfied = sorted({name for opinion in opinions for name in opinion.policies})
    limits = [limit for name in satisfied if (limit := case.policies.by_id[name].limit) is not None]
    reading = [name for name in satisfied if case.policies.by_id[name].read_only]
    if reading and (more := [each for each in asked if each.action not in _READING]):
        return _no(
            case,
            tuple(reading),
            f"policy {_list(reading)} permits reading only, and this would {more[0].action.value} {more[0].name}",
            "Leave out what changes something, or ask for a policy that permits it.",
        )
    return Verdict(
        permitted=True,
        grounds=Grounds(
            tuple(satisfied), case.policies.digest, clear, min(limits, default=None), "", "", case.approval, case.approved_by,
            duties=duties_of(
                case.policies, satisfied, [(o.resource.kind, o.resource.name, o.policies) for o in opinions],
                (case.who, case.connection.name, bool(case.facts.opaque)),
            ),
        ),
        approvers=(),
    )  # fmt: skip


def _no(case: _Case, because: tuple[str, ...], message: str, hint: str) -> Verdict:
    return Verdict(
        permitted=False, grounds=Grounds(because, case.policies.digest, NOBODY, None, message, hint), approvers=()
    )


def _objected(policies: Policies, facts: Facts) -> Grounds:
    objection = facts.objection
    if objection is None:
        raise ValueError("nothing was objected to")
    return Grounds((), policies.digest, NOBODY, None, objection.message, objection.hint)


def _list(names: list[str]) -> str:
    return ", ".join(names)


def _what(case: _Case, resource: Resource) -> str:
    why = f" ({case.facts.opaque[0][:MAX_SHOWN]})" if resource.action is Action.OPAQUE and case.facts.opaque else ""
    return _named(case, resource) + why


def _named(case: _Case, resource: Resource) -> str:
    if resource.kind == "connection":
        return f"{resource.action.value} on connection {case.connection.name}"
    if resource.kind == "command":  # its words may hold what no log should: only the program is named
        return f"{resource.action.value} on command {resource.name.partition(' ')[0][:MAX_SHOWN]} …"
    name = resource.name if len(resource.name) <= MAX_SHOWN else resource.name[: MAX_SHOWN - 1] + "…"
    return f"{resource.action.value} on {resource.kind.replace('_', ' ')} {name}"


def _failed(case: _Case, opinion: Opinion) -> Verdict:
    broken = sorted(name for name in case.policies.by_id if any(f"`{name}`" in text for text in opinion.errors))
    return _no(
        case,
        tuple(broken),
        f"policy {_list(broken) or 'evaluation'} failed while deciding {_what(case, opinion.resource)}, and a failure is a no",
        "Ask whoever keeps the policies to look: `ostiary policy explain` shows the error.",
    )


def _refused(case: _Case, denied: list[Opinion]) -> Verdict:
    first = denied[0]
    forbidding = sorted({name for opinion in denied for name in opinion.policies})
    if forbidding:
        decided = next(opinion for opinion in denied if opinion.policies)
        said = " ".join(text for name in forbidding if (text := case.policies.by_id[name].message))
        return _no(
            case,
            tuple(forbidding),
            f"policy {_list(forbidding)} forbids {_what(case, decided.resource)}" + (f": {said}" if said else ""),
            _forbidden_hint(case, forbidding),
        )
    return _no(
        case,
        (),
        f"no policy permits {_what(case, first.resource)}",
        f"{_person(case.who)} would need a policy that permits action"
        f' Ostiary::Action::"{first.resource.action.value}" on {written(case.connection, first.resource)}'
        + (" by name." if first.resource.action is Action.OPAQUE else "."),
    )


def _forbidden_hint(case: _Case, forbidding: list[str]) -> str:
    if all(case.policies.by_id[name].approval for name in forbidding):
        return "Even with the approvals that it asks for, no policy would permit this."
    return f"Ask whoever keeps policy {forbidding[0]}, or do without."


def _person(who: VerifiedIdentity) -> str:
    through = f" (through {', '.join(actor.name or actor.sub for actor in who.acting)})" if who.acting else ""
    groups = f", in {', '.join(sorted(who.groups)[:8])}" if who.groups else ", in no group"
    return f"{who.name or who.subject}{through}{groups},"


def _protected(case: _Case, missing: list[Opinion]) -> Verdict:
    """Say what a statement does with protected columns that it may not; keeping what it must not keep is said first."""
    kept = [each for each in missing if each.resource.action is Action.UNMASK]
    used = kept or missing
    classes = [opinion.resource.name for opinion in used]
    word = "class" if len(classes) == 1 else "classes"
    forbidding = tuple(sorted({name for opinion in used for name in opinion.policies}))
    written_class = written(case.connection, used[0].resource)
    if kept:
        return _no(
            case,
            forbidding,
            f"the statement puts values of a protected column of {word} {_list(classes)} where nobody masks them",
            "Select them, and they come back masked; to store or pass them on, policy must"
            f' permit action Ostiary::Action::"unmask" on {written_class}.',
        )
    return _no(
        case,
        forbidding,
        f"a protected column of {word} {_list(classes)} decides what the statement returns, or whether it fails",
        "Select the column, or an expression of it, and it comes back masked; to filter, join, sort or group by it, policy must"
        f' permit action Ostiary::Action::"infer" on {written_class}.',
    )


def _approvers(case: _Case, denied: list[Opinion]) -> tuple[tuple[str, int], ...]:
    """Return whom to ask, if every policy that said no says whom; empty otherwise, and wherever something failed."""
    if any(opinion.errors for opinion in denied):
        return ()
    needed: dict[str, int] = {}
    for name in {name for opinion in denied for name in opinion.policies}:
        approval = case.policies.by_id[name].approval
        if not approval:
            return ()
        for group, count in approval:
            needed[group] = max(count, needed.get(group, 0))
    return tuple(sorted(needed.items()))


def _question(
    case: _Case, denied: list[Opinion], approvers: tuple[tuple[str, int], ...], duties: Duties | None
) -> Verdict:
    names = sorted({name for opinion in denied for name in opinion.policies})
    said = " ".join(text for name in names if (text := case.policies.by_id[name].message))
    people = ", ".join(f"{count} of {group}" for group, count in approvers)
    message = f"policy {_list(names)} asks for approval by {people} on {case.connection.name}" + (
        f": {said}" if said else ""
    )
    grounds = Grounds(
        tuple(names), case.policies.digest, NOBODY, None, message, f"Ask {people} to approve this operation.",
        approvers=approvers, duties=duties,
    )  # fmt: skip
    return Verdict(permitted=False, grounds=grounds, approvers=approvers)
