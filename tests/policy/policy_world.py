"""An identity, a connection and operations to ask policy about."""

from __future__ import annotations

from typing import Any

from ostiary.model.connections import Durability, PostgresConnection, PostgresUpstream, Protected, Recording, Strategy
from ostiary.model.identity import Authentication, Kind, VerifiedIdentity, identity_digest
from ostiary.model.operations import Action, Facts, Operation, Resource, facts_digest

SAMPLE = """
@id("agents-read-orders")
permit (principal in Ostiary::Group::"support", action in [Ostiary::Action::"read"],
        resource in Ostiary::Connection::"orders-db");

@id("deletes-need-a-dba") @approval("dba") @message("Deletes in production need a DBA.")
forbid (principal, action == Ostiary::Action::"delete", resource in Ostiary::Label::"env=prod")
unless { context.approved_by.contains("dba") };
"""


def identity(*groups: str, **changes: Any) -> VerifiedIdentity:
    fields: dict[str, Any] = {
        "issuer": "https://idp.example.com",
        "subject": "ana",
        "kind": Kind.HUMAN,
        "name": "Ana",
        "email": "ana@example.com",
        "groups": frozenset(groups),
        "acting": (),
        "initiator": None,
        "task": None,
        "mandate": None,
        "audience": frozenset(),
    } | changes
    digest = identity_digest(
        {name: sorted(value) if isinstance(value, frozenset) else value for name, value in fields.items()}
    )
    auth = Authentication("oidc", "0" * 64, None, 0)
    return VerifiedIdentity(**fields, auth=auth, expires=2_000_000_000, digest=digest)


def connection(**changes: Any) -> PostgresConnection:
    upstream = PostgresUpstream(
        host="127.0.0.1",
        port=5432,
        database="shop",
        user="svc",
        password=None,
        tls="disable",
        ca_file=None,
        cert_file=None,
        key_file=None,
        connect_timeout=5,
    )
    fields: dict[str, Any] = {
        "name": "orders-db",
        "upstream": upstream,
        "labels": ("env=prod", "team=shop"),
        "durability": Durability.STRICT,
        "recording": Recording.FULL,
        "protect": (
            Protected("public", "customers", "card", "pci", Strategy.LAST4),
            Protected("public", "customers", "email", "pii", Strategy.REDACT),
        ),
        "detect": frozenset({"card"}),
        "catalogue_seconds": 30,
        "max_sessions": 10,
    }
    return PostgresConnection(**(fields | changes))


def touch(action: Action, name: str = "public.orders", kind: str = "relation", **more: Any) -> Resource:
    return Resource(kind, name, action, more.get("columns", ()), more.get("classes", ()))


def operation(*resources: Resource, **changes: Any) -> Operation:
    fields: dict[str, Any] = {
        "action": resources[0].action if resources else Action.READ,
        "name": "SELECT",
        "resources": resources,
        "has_where": True,
        "functions": (),
        "opaque": (),
        "unmask": (),
        "infer": (),
    } | changes
    seen = tuple(fields[name] for name in ("has_where", "functions", "opaque", "unmask", "infer"))
    digest = facts_digest(fields["action"], fields["name"], fields["resources"], seen)
    facts = Facts(
        **{"harmless": False, "touches_protected": False, "head": "", "objection": None, "invalidates_catalogue": False}
        | fields,
        digest=digest,
    )
    return Operation(facts, b"select", None, b"wire")
