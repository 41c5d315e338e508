"""What questions to policy need of the world: an identity made up for this process, and the entries on record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ostiary.audit.search import Query, search
from ostiary.identity.tokens import prove
from ostiary.model.connections import Connection, Durability, PostgresConnection, PostgresUpstream, Recording
from ostiary.model.identity import Authentication, VerifiedIdentity
from ostiary.policy.suppose import Supposed


def believe(who: Supposed) -> VerifiedIdentity:
    """Make up an identity to ask about. It is shown to policy in this process alone, and opens nothing."""
    return prove(
        issuer=who.issuer,
        subject=who.subject,
        kind=who.kind,
        name=who.name or who.subject,
        email=who.email,
        groups=frozenset(who.groups),
        acting=who.actors(),
        initiator=who.initiator,
        task=who.task,
        mandate=who.mandate,
        auth=Authentication(method="supposed", token="", key=None, at=0),
        expires=0,
        audience=frozenset(),
    )


def template() -> Connection:
    """Return a connection to ask about, which leads nowhere."""
    return PostgresConnection(
        name="somewhere",
        upstream=PostgresUpstream(
            host="nowhere.invalid", port=5432, tls="verify-full", ca_file=None, cert_file=None, key_file=None,
            connect_timeout=1.0, database="", user="", password=None,
        ),
        labels=(),
        durability=Durability.STRICT,
        recording=Recording.FULL,
        detect=frozenset(),
        max_sessions=1,
        protect=(),
        catalogue_seconds=1.0,
    )  # fmt: skip


def recorded(
    state_dir: str | Path,
    *,
    since: str | None = None,
    until: str | None = None,
    person: str | None = None,
    connection: str | None = None,
    limit: int,
) -> Iterator[dict[str, Any]]:
    """Yield the intents on record and then the denials, at most `limit` of each, newest first."""
    for kind in ("intent", "deny"):
        query = Query(kind=kind, since=since, until=until, person=person, connection=connection, limit=limit)
        yield from search(state_dir, query)
