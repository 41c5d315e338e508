"""Recorded operations against other policies: `ostiary policy simulate`, and what `tighten` proves its proposal with.

An entry holds what policy saw of an operation: who, with groups and chain; where; the objects and what is done to each; the
statement's facts. So it can be put to any policies without the target and without the payload. What an entry does not hold is
said: an e-mail address, and resources of an operation too large for its entry (`omitted`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ostiary.model.connections import Connection
from ostiary.model.decisions import Grounds, NeedsApproval, Permit
from ostiary.model.duties import Duties
from ostiary.model.errors import ConfigError
from ostiary.model.identity import Initiator, Kind, Mandate, Said
from ostiary.model.operations import Action, Operation, Resource
from ostiary.policy import demands
from ostiary.policy.decide import decide
from ostiary.policy.obliged import demanded
from ostiary.policy.policies import Policies
from ostiary.policy.suppose import Believe, Supposed, SupposedActor, SupposedFacts, supposed_operation

KINDS_REPLAYED: Final = frozenset({"intent", "deny"})


class Recalled(msgspec.Struct, frozen=True):
    """An operation as an entry tells of it."""

    id: str
    who: Supposed
    connection: str
    touched: tuple[Resource, ...]
    facts: SupposedFacts
    verdict: str
    """`permit` or `deny`, as it was."""
    because: tuple[str, ...]
    limit: int | None
    demands: Duties | None
    """What was demanded of it; None: nothing."""
    approvers: tuple[tuple[str, int], ...]
    """Of a question that nobody answered with yes: who was to be asked."""
    would: str
    """Under an observing policy: what the others would have said; else empty."""
    approved_by: tuple[str, ...]
    at: int
    """Seconds since 1970."""
    said: Said


class Unrecallable(Exception):
    """An entry does not hold enough to be judged again. The sentence says what is missing."""


def text_of(value: Any) -> str:
    """Return a text member of an entry; one that is kept as bytes (`{"b64": …}`) is not one that policy compared."""
    if not isinstance(value, str):
        raise Unrecallable("a name in it is not plain text")
    return value


def recall(entry: Mapping[str, Any]) -> Recalled:
    """Read an `intent` or a `deny`; `Unrecallable` says why it cannot be."""
    op, decision, who = entry.get("op", {}), entry.get("decision", {}), entry.get("who", {})
    if "objection" in decision:
        raise Unrecallable("it was refused before policy was asked, and would be under any policy")
    if "omitted" in op:
        raise Unrecallable("it touched more than its entry holds")
    try:
        said = entry.get("client", {}).get("said", {})
        words = {name: text_of(value) for name, value in said.items()} if "omitted" not in said else {}
        return Recalled(
            id=entry["id"],
            who=_who(who, entry.get("task")),
            connection=text_of(entry["target"]["connection"]),
            touched=tuple(
                Resource(
                    each["kind"], text_of(each["name"]), Action(each["action"]),
                    tuple(text_of(column) for column in each.get("columns", ())), tuple(each.get("classes", ())),
                )
                for each in op["objects"]
            ),
            facts=SupposedFacts(
                name=text_of(op["name"]),
                has_where=op.get("where", True),
                functions=tuple(text_of(each) for each in op.get("functions", ())),
                opaque=tuple(text_of(each) for each in op.get("opaque", ())),
                session=tuple(text_of(each) for each in op.get("session", ())),
                unmask=tuple(text_of(each) for each in op.get("unmask", ())),
                infer=tuple(text_of(each) for each in op.get("infer", ())),
                arguments={
                    text_of(name): tuple(text_of(value) for value in values) for name, values in op.get("arguments", ())
                },
            ),
            verdict=decision["verdict"],
            because=tuple(decision.get("policies", ())),
            limit=decision.get("limit"),
            demands=_demands(decision.get("duties")),
            approvers=tuple(sorted((text_of(group), int(count)) for group, count in decision.get("approvers", ()))),
            would=decision.get("would", {}).get("verdict", ""),
            approved_by=tuple(decision.get("approved_by", ())),
            at=int(dt.datetime.fromisoformat(entry["t"]).timestamp()),
            said=Said(address=entry.get("client", {}).get("address", "local"), **words),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, ConfigError) as exc:
        raise Unrecallable(f"its shape is not one that this version writes ({type(exc).__name__})") from None


def _demands(said: Mapping[str, Any] | None) -> Duties | None:
    if said is None:
        return None
    return Duties(
        said.get("rows"),
        tuple((text_of(relation), text_of(condition)) for relation, condition in said.get("filters", ())),
        tuple((text_of(kind), text_of(name), text_of(other)) for kind, name, other in said.get("instead", ())),
        read_only=said.get("read_only", False),
        timeout=said.get("timeout"),
        parameters=demands.read("an entry", "; ".join(text_of(each) for each in said.get("parameters", ())) or None),
    )


def _who(who: Mapping[str, Any], task: str | None) -> Supposed:
    mandate: Mapping[str, Any] | None = who.get("mandate")
    initiator = who.get("initiator")

    def bound(name: str) -> tuple[str, ...] | None:
        return tuple(mandate[name]) if mandate is not None and name in mandate else None

    return Supposed(
        subject=text_of(who["sub"]),
        issuer=text_of(who["iss"]),
        kind=Kind(who["kind"]),
        name=text_of(who["name"]),
        groups=tuple(text_of(each) for each in who.get("groups", ())),
        acting=tuple(
            SupposedActor(text_of(each["name"]), Kind(each["kind"]), text_of(each["iss"]), text_of(each["sub"]))
            for each in who.get("act", ())
        ),
        initiator=None if initiator is None else Initiator(initiator["sub"], initiator["name"], initiator["proved"]),
        task=task,
        mandate=None
        if mandate is None
        else Mandate(mandate["id"], bound("connections"), bound("actions"), bound("resources")),
    )


class Difference(msgspec.Struct, frozen=True):
    """An operation that would come out otherwise."""

    recalled: Recalled
    was: str
    """`permit`, `deny`, `needs approval by 1 of dba`, or `permit (at most 100 rows; cut at 10 rows)`, with what is demanded; `approved by dba`
    where people were asked."""
    now: str
    """The same; or `gone`: there is no such connection any more."""
    grounds: Grounds | None


class Simulation(msgspec.Struct):
    """What a replay came to."""

    replayed: int = 0
    same: int = 0
    differences: list[Difference] = msgspec.field(default_factory=list)
    left_out: dict[str, int] = msgspec.field(default_factory=dict)
    """Why an entry was not replayed, and how many."""


def recall_all(entries: Iterable[Mapping[str, Any]], left_out: dict[str, int]) -> Iterator[Recalled]:
    """Recall what can be; count in `left_out`, by reason, what cannot."""
    for entry in entries:
        if entry.get("kind") not in KINDS_REPLAYED:
            continue
        try:
            yield recall(entry)
        except Unrecallable as exc:
            left_out[str(exc)] = left_out.get(str(exc), 0) + 1


def operation_of(recalled: Recalled, connection: Connection) -> Operation:
    """Return the recalled operation, to be put to policy again."""
    return supposed_operation(connection, recalled.touched, recalled.facts)


def simulate(
    entries: Iterable[Mapping[str, Any]], policies: Policies, connections: Mapping[str, Connection], believe: Believe
) -> Simulation:
    """Put recorded operations to `policies`, at the time and from the place where they were asked."""
    result = Simulation()
    for recalled in recall_all(entries, result.left_out):
        result.replayed += 1
        difference = _differs(recalled, policies, connections, believe)
        if difference is None:
            result.same += 1
        else:
            result.differences.append(difference)
    return result


def _differs(
    recalled: Recalled, policies: Policies, connections: Mapping[str, Connection], believe: Believe
) -> Difference | None:
    demands = _of_operation(recalled.demands, recalled)
    was = _outcome(recalled.verdict, recalled.limit, demands, recalled.approvers, recalled.approved_by)
    connection = connections.get(recalled.connection)
    if connection is None:
        return Difference(recalled, was, "gone", None)
    who, operation = believe(recalled.who), operation_of(recalled, connection)
    decision = decide(
        policies, who, operation, connection, approved_by=frozenset(recalled.approved_by), now=recalled.at, said=recalled.said
    )
    approved_by = recalled.approved_by
    if approved_by:
        # Whether it would be asked of people at all, and of the same ones.
        unasked = decide(policies, who, operation, connection, now=recalled.at, said=recalled.said)
        if isinstance(unasked, Permit):
            decision, approved_by = unasked, ()
        elif isinstance(unasked, NeedsApproval) and {group for group, _ in unasked.approvers} != set(approved_by):
            decision = unasked
    grounds = decision.grounds
    approvers = decision.approvers if isinstance(decision, NeedsApproval) else ()
    verdict = "permit" if isinstance(decision, Permit) else "deny"
    now = _outcome(verdict, grounds.row_limit, _of_operation(_remaining(grounds.duties, demands), recalled), approvers, approved_by)
    return None if now == was else Difference(recalled, was, now, grounds)


def _of_operation(duties: Duties | None, recalled: Recalled) -> Duties | None:
    """Less what holds for the session, where the operation is not about that."""
    if duties is None or any(each.action is Action.CONNECT for each in recalled.touched):
        return duties
    left = msgspec.structs.replace(duties, read_only=False, timeout=None)
    return None if left == NO_DUTIES else left


NO_DUTIES: Final = Duties(None, (), (), read_only=False, timeout=None, parameters=())


def _remaining(now: Duties | None, was: Duties | None) -> Duties | None:
    """What is demanded. An entry holds an operation as it was sent: of what something took the place of there is nothing to replace any more."""
    if was is None or not was.instead:
        return now
    now = now or NO_DUTIES
    return msgspec.structs.replace(now, instead=tuple(sorted({*now.instead, *was.instead})))


def _outcome(
    verdict: str,
    limit: int | None,
    demands: Duties | None,
    approvers: tuple[tuple[str, int], ...],
    approved_by: tuple[str, ...],
) -> str:
    if verdict != "permit":
        asked = ", ".join(f"{count} of {group}" for group, count in approvers)
        return f"needs approval by {asked}" if asked else verdict
    words = [] if limit is None else [f"at most {limit} rows"]
    words += [demanded(demands)] if demands is not None else []
    words += [f"approved by {', '.join(approved_by)}"] if approved_by else []
    return f"permit ({'; '.join(words)})" if words else "permit"
