"""An identity, a connection and an operation, in Cedar's words: see `ostiary.cedarschema`.

Entities are built for one decision: what a policy can name is the identity with its groups and issuer, the connection
with its labels, and the resources at hand. Ids are given as `{"type", "id"}` pairs, never as Cedar text, so no name that
a caller chooses can be read as anything but a name.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import shlex
from typing import Any, Final

import msgspec

from ostiary.model.connections import Connection
from ostiary.model.identity import Actor, Said, VerifiedIdentity
from ostiary.model.operations import Action, Arguments, Facts, Resource

KINDS: Final = {
    "connection": "Connection",
    "relation": "Relation",
    "column": "Column",
    "function": "Function",
    "type": "Type",
    "schema": "Schema",
    "role": "Role",
    "setting": "Setting",
    "database": "Database",
    "channel": "Channel",
    "file": "File",
    "server": "Server",
    "large_object": "LargeObject",
    "extension": "Extension",
    "cursor": "Cursor",
    "command": "Command",
    "endpoint": "Endpoint",
    "path": "Path",
    "arn": "Arn",
    "other": "Other",
    "class": "DataClass",
}
"""`Resource.kind` to Cedar type. `class` is ours: a data class, for `unmask`."""

MAX_DEPTH: Final = 64
"""Segments of a path that policy can name as what something is under."""

_INSIDE: Final = frozenset({"relation", "column", "function", "type"})
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

NOTHING_SAID: Final = Said(address="local")
"""Of an operation whose client is not known, or said nothing."""

Uid = dict[str, str]
Entity = dict[str, Any]


_ARGUMENTS: Final[Uid] = {"type": "Ostiary::Arguments", "id": ""}


class UnknownKind(Exception):
    """A resource is of a kind that policy has no word for."""


def uid(kind: str, name: str) -> Uid:
    """Return Cedar's id of one entity."""
    return {"type": f"Ostiary::{kind}", "id": name}


def resource_uid(connection: Connection, resource: Resource) -> Uid:
    """Return the id of `resource` behind `connection`; `UnknownKind` if policy has no word for its kind."""
    kind = KINDS.get(resource.kind)
    if kind is None:
        raise UnknownKind(resource.kind)
    if kind == "Connection":
        return uid(kind, connection.name)
    if kind == "DataClass":
        return uid(kind, resource.name)
    if kind == "Path":
        return uid(kind, connection.name + resource.name.rstrip("/"))
    return uid(kind, f"{connection.name}/{resource.name}")


def written(connection: Connection, resource: Resource) -> str:
    """Return `resource` as a policy would write it: `Ostiary::Relation::"orders-db/public.orders"`."""
    found = resource_uid(connection, resource)
    return f"{found['type']}::{msgspec.json.encode(found['id']).decode()}"


def split_name(name: str) -> tuple[str, str]:
    """Split `schema.rest` at the first dot outside double quotes and parentheses; ("", name) where there is none."""
    quoted = False
    for at, char in enumerate(name):
        if char == '"':
            quoted = not quoted
        elif char == "(" and not quoted:
            break
        elif char == "." and not quoted:
            return name[:at], name[at + 1 :]
    return "", name


def service_of(arn: str) -> str:
    """The service that an ARN belongs to: its third part. Empty where it is no ARN."""
    parts = arn.split(":", 3)
    return parts[2] if len(parts) == 4 else ""


def _program(command: str) -> str:
    """The first word of a command as `shlex.join` writes it; empty where it is not written so."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    return words[0] if words and shlex.join(words) == command else ""


def _above(path: str) -> list[str]:
    """The paths that `path` is under, outermost first: of `/a/b/c`, the root (empty), `/a` and `/a/b`."""
    parts = path.rstrip("/").split("/")[:MAX_DEPTH]
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def entities(
    who: VerifiedIdentity, connection: Connection, resources: list[Resource], arguments: Arguments = ()
) -> list[Entity]:
    """Return the entities of one decision, each once."""
    found: dict[tuple[str, str], Entity] = {}

    def add(of: Uid, attrs: dict[str, Any], parents: list[Uid]) -> None:
        found[of["type"], of["id"]] = {"uid": of, "attrs": attrs, "parents": parents}

    at = uid("Connection", connection.name)
    labels = [uid("Label", label) for label in connection.labels]
    groups = [uid("Group", group) for group in sorted(who.groups)] + [uid("Issuer", who.issuer)]
    for bare in (*labels, *groups):
        add(bare, {}, [])
    add(at, {"name": connection.name, "type": connection.type}, labels)
    add(principal_uid(who), _identity(who), groups)
    tags = {name: list(values) for name, values in arguments}
    found["Ostiary::Arguments", ""] = {"uid": _ARGUMENTS, "attrs": {}, "parents": [], "tags": tags}
    for resource in resources:
        of = resource_uid(connection, resource)
        if resource.kind == "connection":
            continue
        parents = [at]
        if resource.kind == "command":
            program = _program(resource.name)
            inside = uid("Program", f"{connection.name}/{program}")
            add(inside, {"connection": connection.name, "name": program}, [at])
            add(of, {"connection": connection.name, "name": resource.name, "program": program}, [at, inside])
        elif resource.kind == "endpoint":
            host, _, port = resource.name.rpartition(":")
            attrs = {"connection": connection.name, "name": resource.name, "host": host}
            add(of, attrs | {"port": int(port) if port.isascii() and port.isdigit() else 0}, [at])
        elif resource.kind == "class":
            add(of, {"name": resource.name}, [at])
        elif resource.kind == "path":
            for name in _above(resource.name):
                above = uid("Path", connection.name + name)
                add(above, {"connection": connection.name, "name": name or "/"}, list(parents))
                parents.append(above)
            add(of, {"connection": connection.name, "name": resource.name}, [each for each in parents if each != of])
        elif resource.kind == "arn":
            service = uid("Service", f"{connection.name}/{service_of(resource.name)}")
            add(service, {"connection": connection.name, "name": service_of(resource.name)}, [at])
            add(of, {"connection": connection.name, "name": resource.name}, [at, service])
        elif resource.kind not in _INSIDE:
            add(of, {"connection": connection.name, "name": resource.name}, [at])
        else:
            schema, rest = split_name(resource.name)
            if schema:
                inside = uid("Schema", f"{connection.name}/{schema}")
                add(inside, {"connection": connection.name, "name": schema}, [at])
                parents.append(inside)
            if resource.kind == "column" and "." in rest:
                table = uid("Relation", f"{connection.name}/{schema}.{split_name(rest)[0]}")
                add(
                    table, {"connection": connection.name, "schema": schema, "name": split_name(rest)[0]}, list(parents)
                )
                parents.append(table)
            add(of, {"connection": connection.name, "schema": schema, "name": rest}, parents)
    return list(found.values())


def principal_uid(who: VerifiedIdentity) -> Uid:
    """Return the id of the subject."""
    return uid("Identity", f"{who.issuer}|{who.subject}")


def _identity(who: VerifiedIdentity) -> dict[str, Any]:
    attrs = {"issuer": who.issuer, "subject": who.subject, "kind": who.kind.value, "name": who.name}
    if who.email is not None:
        attrs["email"] = who.email
    return attrs


def _actor(actor: Actor) -> dict[str, str]:
    return {"issuer": actor.iss, "subject": actor.sub, "kind": actor.kind.value, "name": actor.name}


def peer_address(said: Said) -> str | None:
    """Return the address of the socket that the client is on, without its port; None where it has none (`local`)."""
    host = said.address.rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def circumstances(
    who: VerifiedIdentity,
    connection: Connection,
    facts: Facts,
    approved_by: frozenset[str],
    now: int,
    said: Said = NOTHING_SAID,
    granted: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Return the context of a decision, without what hangs on the single resource (`columns`, `classes`)."""
    subject = Actor(who.issuer, who.subject, who.kind, who.name)
    minute = _EPOCH + dt.timedelta(seconds=now - now % 60)
    found: dict[str, Any] = {
        "name": facts.name,
        "has_where": facts.has_where,
        "functions": facts.functions,
        "opaque": facts.opaque,
        "session": facts.session,
        "arguments": {"__entity": _ARGUMENTS},
        "connection": connection.name,
        "labels": connection.labels,
        "actor": _actor(who.acting[0] if who.acting else subject),
        "acting": [_actor(actor) for actor in who.acting],
        "kinds": sorted({who.kind.value, *(actor.kind.value for actor in who.acting)}),
        "approved_by": sorted(approved_by),
        "granted_by": sorted(granted),
        "bound": who.auth.key is not None,
        "now": {"__extn": {"fn": "datetime", "arg": minute.strftime("%Y-%m-%dT%H:%M:%SZ")}},
        "weekday": minute.isoweekday(),
        "said": {
            "user": said.user,
            "application": said.application,
            "purpose": said.purpose,
            "ticket": said.ticket,
        },
    }
    if (address := peer_address(said)) is not None:
        found["address"] = {"__extn": {"fn": "ip", "arg": address}}
    if who.initiator is not None:
        started = who.initiator
        found["initiator"] = {"subject": started.sub, "name": started.name, "proved": started.proved}
    if who.account is not None:
        found["account"] = who.account
    if who.task is not None:
        found["task"] = who.task
    if who.mandate is not None:
        found["mandate"] = who.mandate.id
    return found


def questions(facts: Facts, connection: Connection) -> list[Resource]:
    """Return everything that policy must permit for `facts` to run, each with its own action.

    The operation's resources; and the connection itself for the action as a whole where no resource carries it
    (`SELECT 1`), for `opaque` where something could not be seen through, and for anything at all where nothing is named.
    """
    asked = list(facts.resources)
    actions = {resource.action for resource in asked}
    if facts.action not in actions:
        asked.append(Resource("connection", connection.name, facts.action, (), ()))
    if facts.opaque and Action.OPAQUE not in actions and facts.action is not Action.OPAQUE:
        asked.append(Resource("connection", connection.name, Action.OPAQUE, (), ()))
    return asked
