"""Laboratories: for each profile of the corpus one gateway, before one PostgreSQL with a database for each item."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer, postgres_cluster
from tests.attacks.runner import HERE, SCHEMA, Lab, database_of

PASSWORD = "upstream-sentinel-7f3a9c"
"""The target's credential: it must appear in nothing that the gateway says or writes."""

PROTECTED: Mapping[str, object] = {
    "protect": {"public.victim.secret": {"class": "ssn", "mask": "redact"}},
    "detect": ["ssn"],
}
LOGGED = {"log_statement": "all", "log_min_messages": "log", "log_line_prefix": "%d "}


@contextlib.contextmanager
def target_with(items: Iterable[Mapping[str, Any]]) -> Iterator[Peer]:
    """A PostgreSQL that asks for a password, logs every statement, and has a database for each item."""
    with postgres_cluster(auth="scram-sha-256", password=PASSWORD, settings=LOGGED) as peer:
        peer.psql("CREATE DATABASE profile")
        peer.psql(SCHEMA, "profile")
        names = [database_of(item["id"]) for item in items]
        peer.psql("\n".join(f'CREATE DATABASE "{name}" TEMPLATE profile;' for name in names))
        for item in items:
            if item.get("setup"):
                peer.psql(item["setup"], database_of(item["id"]))
        yield peer


def connections(peer: Peer, names: Iterable[str], **more: object) -> dict[str, dict[str, object]]:
    """A connection of the same name to each of these databases."""
    return {
        name: target(peer, database=name, password="file:@HOME@/secrets/pg", **(dict(PROTECTED) | more))
        for name in names
    }


@contextlib.contextmanager
def guarded(peer: Peer, names: Iterable[str], *, profile: str = "pg-base", **more: Any) -> Iterator[Gateway]:
    """A gateway under a profile's policy before these databases."""
    policy = (HERE / "profiles" / f"{profile}.cedar").read_text()
    settings = more.pop("connection", {})
    with gateway(
        connections=connections(peer, names, **settings), policy=policy, secrets_by_name={"pg": PASSWORD}, **more
    ) as gate:
        yield gate


@contextlib.contextmanager
def labs(items: list[dict[str, Any]]) -> Iterator[dict[str, Lab]]:
    """By profile: a lab with all of its items."""
    scratch = Path(tempfile.mkdtemp(prefix="ostiary-scratch-", dir="/tmp"))
    try:
        (scratch / "pg").mkdir()
        for folder in (scratch, scratch / "pg"):
            folder.chmod(0o777)
        with contextlib.ExitStack() as stack:
            peer = stack.enter_context(target_with(items))
            by_profile = {}
            for profile in sorted({item["profile"] for item in items}):
                names = [database_of(item["id"]) for item in items if item["profile"] == profile]
                gate = stack.enter_context(guarded(peer, names, profile=profile))
                by_profile[profile] = Lab(peer, gate, scratch)
            yield by_profile
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
