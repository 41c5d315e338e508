"""Why a policy did not say yes: for `ostiary policy explain`, never for deciding.

A default deny names no policy, so a person is left to guess. This reads the heads of the permits (whom, what, where) and says of
each that is about the action at hand what keeps it from applying. Only heads are compared here; a condition is Cedar's business, so
of it is said only that it did not hold.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ostiary.model.connections import Connection
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.operations import Resource
from ostiary.policy.entities import entities, principal_uid, resource_uid
from ostiary.policy.policies import Policies
from ostiary.policy.source import BY_NAME, Policy

MAX_NEAR: Final = 10


class Near(msgspec.Struct, frozen=True):
    """A permit that did not apply, and why."""

    id: str
    place: str
    why: str


def near(policies: Policies, who: VerifiedIdentity, connection: Connection, resource: Resource) -> list[Near]:
    """Return the permits about this action that did not apply, those with least in their way first."""
    parents: dict[tuple[str, str], list[tuple[str, str]]] = {
        (each["uid"]["type"], each["uid"]["id"]): [(p["type"], p["id"]) for p in each["parents"]]
        for each in entities(who, connection, [resource])
    }
    found: list[tuple[int, Near]] = []
    for policy in policies.by_id.values():
        named = policy.names
        if not policy.permits or (named and resource.action.value not in named):
            continue
        if not named and resource.action in BY_NAME:
            missing = [f"it does not name the action {resource.action.value}, which must be permitted by name"]
        else:
            missing = _in_the_way(policy, who, connection, resource, parents)
        found.append((len(missing), Near(policy.id, policy.place, "; ".join(missing) or "its condition does not hold")))
    return [each for _, each in sorted(found, key=lambda pair: (pair[0], pair[1].id))[:MAX_NEAR]]


def _in_the_way(
    policy: Policy,
    who: VerifiedIdentity,
    connection: Connection,
    resource: Resource,
    parents: dict[tuple[str, str], list[tuple[str, str]]],
) -> list[str]:
    principal, at = principal_uid(who), resource_uid(connection, resource)
    missing = []
    for scope, own, what in (("principal", principal, "the identity"), ("resource", at, "the resource")):
        wanted = _wanted(policy.est[scope], (own["type"], own["id"]), parents)
        if wanted:
            missing.append(f"{what} would have to be {wanted}")
    return missing


def _wanted(scope: dict[str, Any], own: tuple[str, str], parents: dict[tuple[str, str], list[tuple[str, str]]]) -> str:
    """Return what a head demands and `own` is not, in words; empty if it fits."""
    entity = scope.get("entity")
    demanded = (entity["type"], entity["id"]) if isinstance(entity, dict) and "type" in entity else None
    match scope.get("op"):
        case "==" if demanded is not None and demanded != own:
            return _written(demanded)
        case "in" if demanded is not None and demanded not in _above(own, parents):
            return f"in {_written(demanded)}"
        case "is":
            if scope.get("entity_type") != own[0]:
                return f"of type {scope.get('entity_type')}"
            inner = scope.get("in", {}).get("entity")
            if inner is not None and (inner["type"], inner["id"]) not in _above(own, parents):
                return f"in {_written((inner['type'], inner['id']))}"
    return ""


def _above(own: tuple[str, str], parents: dict[tuple[str, str], list[tuple[str, str]]]) -> set[tuple[str, str]]:
    reached, todo = {own}, [own]
    while todo:
        for parent in parents.get(todo.pop(), ()):
            if parent not in reached:
                reached.add(parent)
                todo.append(parent)
    return reached


def _written(entity: tuple[str, str]) -> str:
    return f"{entity[0]}::{msgspec.json.encode(entity[1]).decode()}"
