"""The session's state as a policy meets it, before a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import PgClient, query

POLICY = """
@id("everything")
permit (principal, action, resource);
@id("writes-in-transactions")
forbid (principal, action == Ostiary::Action::"write", resource) unless { context.session.contains("transaction") };
@id("dates-as-they-are")
forbid (principal, action == Ostiary::Action::"write", resource) when { context.session.contains("datestyle=german") };
"""


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    postgres.psql("CREATE DATABASE stateful")
    postgres.psql("CREATE TABLE t(id int)", "stateful")
    with gateway(connections={"db": target(postgres, database="stateful")}, policy=POLICY) as running:
        yield running
    postgres.psql("DROP DATABASE stateful WITH (FORCE)")


INSERT = "INSERT INTO t VALUES (1)"


def is_refused(client: PgClient, sql: str) -> bool:
    reply = client.query(sql)
    assert not reply.errors or reply.errors[0]["C"] == "42501", reply.errors
    return bool(reply.errors)


def test_policy_can_demand_a_transaction(gate: Gateway) -> None:
    with gate.connect("db") as client:
        assert is_refused(client, INSERT)
        assert not is_refused(client, "BEGIN")
        assert not is_refused(client, INSERT)
        assert not is_refused(client, "COMMIT")
        assert is_refused(client, INSERT)
        assert not is_refused(client, "BEGIN; SELECT 1; COMMIT")
        assert is_refused(client, INSERT)
        assert client.query("BEGIN; SELECT 1 / 0").status == "E"
        assert client.query(INSERT).status == "E"
        assert not is_refused(client, "ROLLBACK")
        assert is_refused(client, INSERT)
    seen = [e["op"].get("session") for e in gate.entries() if e["kind"] == "intent" and e["op"]["name"] == "INSERT"]
    assert seen == [["transaction"]]


def test_what_is_sent_behind_a_begin_is_in_its_transaction(gate: Gateway) -> None:
    with gate.connect("db") as client:
        client.send(query(b"SELECT 1") + query(b"BEGIN") + query(INSERT.encode()) + query(b"COMMIT") + query(INSERT.encode()))
        replies = [client.read_reply() for _ in range(5)]
        assert [bool(each.errors) for each in replies[:4]] == [False] * 4
        assert is_refused(client, INSERT)


def test_a_setting_chosen_at_startup_is_seen(gate: Gateway) -> None:
    with gate.connect("db", DateStyle="German") as client:
        assert not is_refused(client, "BEGIN")
        assert is_refused(client, INSERT)
