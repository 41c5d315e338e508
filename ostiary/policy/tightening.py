"""The narrower policy that would have done: what each permit was used for, and nothing else. For `ostiary policy tighten`.

Each recorded operation that was let through is put to the policies again, resource by resource, so it is known which permit let it
through. A permit that was never used is left out; one that was used is cut down to the actions and the things that it was used for, with
its own annotations and conditions; what only an observing permit let through becomes a permit for whoever did it. Every `forbid` stays.

A proposal is for people to read. It knows what has happened, not what should have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import cedarpy
import msgspec

from ostiary.model.connections import Connection
from ostiary.model.operations import Action
from ostiary.policy.decide import Opinion, explain
from ostiary.policy.entities import principal_uid, resource_uid
from ostiary.policy.policies import Policies
from ostiary.policy.replaying import Recalled, operation_of
from ostiary.policy.source import Policy
from ostiary.policy.suppose import Believe

MAX_THINGS: Final = 200
"""Things that a proposed permit names one by one; where there were more, it names their connection."""

Uid = tuple[str, str]
Things = dict[str, set[Uid]]
"""Action to the things that it was done to."""


class Usage(msgspec.Struct):
    """What the permits were used for."""

    operations: int = 0
    by_policy: dict[str, Things] = msgspec.field(default_factory=dict)
    observed: dict[Uid, Things] = msgspec.field(default_factory=dict)
    """By principal: what only an observing permit let through."""
    connections: dict[Uid, Uid] = msgspec.field(default_factory=dict)
    """A thing's connection."""

    def note(self, things: dict[Any, Things], key: Any, action: Action, thing: Uid, connection: Connection) -> None:
        """Note that something was done."""
        things.setdefault(key, {}).setdefault(action.value, set()).add(thing)
        self.connections[thing] = ("Ostiary::Connection", connection.name)


def used(
    recalled: Iterable[Recalled], policies: Policies, connections: Mapping[str, Connection], believe: Believe
) -> Usage:
    """Find which permit let each resource of each recorded operation through."""
    usage = Usage()
    seen: set[bytes] = set()
    for each in recalled:
        connection = connections.get(each.connection)
        if connection is None or each.verdict != "permit":
            continue
        usage.operations += 1
        alike = msgspec.json.encode((each.who, each.connection, each.touched, each.facts, each.approved_by, each.at // 60, each.said))
        if alike in seen:
            continue
        seen.add(alike)
        who = believe(each.who)
        opinions = explain(
            policies, who, operation_of(each, connection), connection,
            approved_by=frozenset(each.approved_by), now=each.at, said=each.said,
        )  # fmt: skip
        for opinion in opinions:
            _note(usage, opinion, connection, principal_uid(who))
    return usage


def _note(usage: Usage, opinion: Opinion, connection: Connection, principal: dict[str, str]) -> None:
    uid = resource_uid(connection, opinion.resource)
    thing, action = (uid["type"], uid["id"]), opinion.resource.action
    if opinion.permitted:
        for name in opinion.policies:
            usage.note(usage.by_policy, name, action, thing, connection)
    else:
        usage.note(usage.observed, (principal["type"], principal["id"]), action, thing, connection)


def propose(policies: Policies, usage: Usage) -> str:
    """Return the narrower policies as Cedar, each with what it is made of."""
    pieces = []
    for policy in policies.by_id.values():
        if not policy.permits:
            pieces.append(policy.text)
        elif policy.observes:
            continue
        elif policy.instead is not None:
            # What it was used for is on record under the name of what took the place.
            pieces.append(policy.text)
        elif policy.id in usage.by_policy:
            pieces += _narrowed(policy, usage)
    for number, (principal, things) in enumerate(sorted(usage.observed.items()), 1):
        scope = {"op": "==", "entity": {"type": principal[0], "id": principal[1]}}
        base = {"effect": "permit", "principal": scope, "conditions": [], "annotations": {}}
        pieces += _permits(base, f"observed-{number}", _opened(things, usage), usage)
    return "\n\n".join(pieces) + "\n"


def _opened(things: Things, usage: Usage) -> Things:
    """With connecting: that a session was opened is no operation on record, and without it there would have been none."""
    opened = {usage.connections[thing] for every in things.values() for thing in every}
    return things | {Action.CONNECT.value: things.get(Action.CONNECT.value, set()) | opened}


def _narrowed(policy: Policy, usage: Usage) -> list[str]:
    things = usage.by_policy[policy.id]
    if not policy.names or Action.CONNECT in policy.names:
        things = _opened(things, usage)
    annotations = {key: value for key, value in policy.est.get("annotations", {}).items() if key != "id"}
    base = {
        "effect": "permit",
        "principal": policy.est["principal"],
        "conditions": policy.est.get("conditions", []),
        "annotations": annotations,
    }
    return _permits(base, policy.id, things, usage)


def _permits(base: dict[str, Any], name: str, things: Things, usage: Usage) -> list[str]:
    """Write one permit for each kind of thing and each set of actions that was done to the same things."""
    by_things: dict[tuple[str, frozenset[Uid]], list[str]] = {}
    for action, all_things in sorted(things.items()):
        for kind in sorted({kind for kind, _ in all_things}):
            same = frozenset(thing for thing in all_things if thing[0] == kind)
            if len(same) > MAX_THINGS:
                kind, same = "Ostiary::Connection", frozenset(usage.connections[thing] for thing in same)  # noqa: PLW2901
            by_things.setdefault((kind, same), []).append(action)
    texts = []
    for number, ((_, same), actions) in enumerate(sorted(by_things.items(), key=lambda item: (item[1], item[0][0])), 1):
        est = {
            **base,
            "action": {"op": "in", "entities": [{"type": "Ostiary::Action", "id": action} for action in sorted(set(actions))]},
            "resource": {"op": "All"},
            "conditions": [{"kind": "when", "body": _among(same)}, *base["conditions"]],
            "annotations": {"id": name if len(by_things) == 1 else f"{name}-{number}"} | _fitting(base["annotations"], actions),
        }
        texts.append(_text(est))
    return texts


def _fitting(annotations: dict[str, Any], actions: list[str]) -> dict[str, Any]:
    """Less what can only be demanded where a session is opened."""
    left_out = set() if "connect" in actions else {"transactions", "timeout"}
    return {name: value for name, value in annotations.items() if name not in left_out}


def _among(things: frozenset[Uid]) -> dict[str, Any]:
    values = [{"Value": {"__entity": {"type": kind, "id": name}}} for kind, name in sorted(things)]
    return {"in": {"left": {"Var": "resource"}, "right": {"Set": values}}}


def _text(est: dict[str, Any]) -> str:
    whole = {"staticPolicies": {"policy0": est}, "templates": {}, "templateLinks": []}
    return str(cedarpy.format_policies(cedarpy.policies_from_json_str(msgspec.json.encode(whole).decode()))).strip()
