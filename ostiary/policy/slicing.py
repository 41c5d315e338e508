"""Of many policies, those that can have a say in a decision.

Cedar looks at every policy of a set, and with ten thousand of them a decision takes tens of milliseconds. A policy whose head is about
somebody else, another connection or another action is not satisfied, whatever its conditions are, and these are not evaluated, so it cannot
fail either: without it the answer is the same (Cedar calls this a sound slice). Only heads are looked at here, and where one is not
plain, the policy stays in.

A slice is compiled once for each combination of action, connection and the groups that policies name, and kept while it is used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import cedarpy
import msgspec

from ostiary.model.connections import Connection
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.operations import Action
from ostiary.policy.entities import principal_uid
from ostiary.policy.source import BY_NAME, Policy

MAX_SLICES: Final = 256
"""Compiled at a time."""
EVERYBODY: Final = ("", "")


class About(msgspec.Struct, frozen=True):
    """Whom and what a decision is about."""

    principals: tuple[tuple[str, str], ...]
    """(type, id) of the identity and of everything that it is in, sorted."""
    connection: str
    labels: tuple[str, ...]


def about(who: VerifiedIdentity, connection: Connection) -> About:
    """Of a decision on a connection."""
    own = principal_uid(who)
    within = {("Ostiary::Group", group) for group in who.groups} | {("Ostiary::Issuer", who.issuer), (own["type"], own["id"])}
    return About(tuple(sorted(within)), connection.name, connection.labels)


class Slicer:
    """Finds and keeps slices of one set of policies."""

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._order = {name: at for at, name in enumerate(policies)}
        self._for: dict[tuple[str, str], list[Policy]] = {}
        for policy in policies.values():
            self._for.setdefault(_named(policy.est["principal"]), []).append(policy)
        self._slices: OrderedDict[tuple[object, ...], cedarpy.PolicySet] = OrderedDict()

    def compiled(self, action: Action, about: About) -> cedarpy.PolicySet:
        """The policies that can have a say."""
        named = tuple(each for each in about.principals if each in self._for)
        key = (action, named, about.connection, about.labels)
        found = self._slices.get(key)
        if found is None:
            found = compiled({each.id: each for each in self.chosen(action, named, about)})
            self._slices[key] = found
            if len(self._slices) > MAX_SLICES:
                self._slices.popitem(last=False)
        else:
            self._slices.move_to_end(key)
        return found

    def chosen(self, action: Action, named: tuple[tuple[str, str], ...], about: About) -> list[Policy]:
        """Of these principals' and of everybody's, those about the action and the connection, in the order they were written."""
        candidates = [policy for each in (EVERYBODY, *named) for policy in self._for.get(each, ())]
        kept = [policy for policy in candidates if _is_about(policy, action) and _reaches(policy.est["resource"], about)]
        return sorted(kept, key=lambda policy: self._order[policy.id])


def compiled(policies: Mapping[str, Policy]) -> cedarpy.PolicySet:
    """Compile policies for Cedar."""
    whole: dict[str, Any] = {
        "staticPolicies": {each.id: each.est for each in policies.values()},
        "templates": {},
        "templateLinks": [],
    }
    return cedarpy.PolicySet.from_json_str(msgspec.json.encode(whole).decode())


def _named(scope: Mapping[str, Any]) -> tuple[str, str]:
    """The entity that the principal must be, or be in; `EVERYBODY` where the head names none."""
    inner = scope.get("in", {}) if scope.get("op") == "is" else scope
    entity = inner.get("entity")
    return (entity["type"], entity["id"]) if isinstance(entity, dict) and "type" in entity else EVERYBODY


def _is_about(policy: Policy, action: Action) -> bool:
    if action in BY_NAME and policy.permits and action not in policy.names:
        return False
    return not policy.names or action in policy.names


def _reaches(scope: Mapping[str, Any], about: About) -> bool:
    """Whether what a head says of the resource can be of this connection. Classes have bare names, and may be of any."""
    inner = scope.get("in", {}) if scope.get("op") == "is" else scope
    entity = inner.get("entity")
    if not isinstance(entity, dict) or "type" not in entity or entity["type"] == "Ostiary::DataClass":
        return True
    if entity["type"] == "Ostiary::Label":
        return entity["id"] in about.labels
    name = str(entity["id"])
    return name == about.connection or name.startswith(about.connection + "/")
