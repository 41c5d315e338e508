"""A message is judged as after those before it, also where all came in one read and none has been sent on yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import SYNC, PgClient, bind, describe, execute, parse, query
from tests.attacks.runner import HERE

pytestmark = pytest.mark.timeout(120)

SECRET = b"quartzlantern"
HIDDEN = """
@id("hidden-stays-hidden") forbid (principal, action in [Ostiary::Action::"read", Ostiary::Action::"write", Ostiary::Action::"delete"],
resource is Ostiary::Relation) when { resource.schema == "hidden" };
"""
SHOW = b"SELECT v FROM things"


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    schema = (
        f"CREATE TABLE things(v text); INSERT INTO things VALUES ('open'); CREATE SCHEMA hidden;"
        f"CREATE TABLE hidden.things(v text); INSERT INTO hidden.things VALUES ('{SECRET.decode()}')"
    )
    policy = (HERE / "profiles" / "permit-all.cedar").read_text() + HIDDEN
    connection = {"pipelined": target(postgres, database="pipelined")}
    with postgres.own_database("pipelined", schema), gateway(connections=connection, policy=policy) as running:
        yield running


@pytest.fixture
def client(gate: Gateway) -> Iterator[PgClient]:
    with gate.connect("pipelined") as logged_in:
        yield logged_in
        assert SECRET not in logged_in.received


def whole(sql: bytes) -> bytes:
    return parse(b"", sql) + bind(b"", b"") + describe(b"P", b"") + execute()


def answers(client: PgClient, data: bytes, count: int) -> list[bool]:
    """Whether each of so many answers is a refusal."""
    client.send(data)
    return [client.read_reply().is_refused for _ in range(count)]


def test_the_control_is_shown(client: PgClient) -> None:
    assert client.query(SHOW).rows == [(b"open",)]
    assert answers(client, query(SHOW) + query(SHOW), 2) == [False, False]


@pytest.mark.parametrize("move", [b"SET search_path = hidden", b"SELECT set_config('search_path', 'hidden', false)"])
def test_a_path_set_in_the_same_read_counts(client: PgClient, move: bytes) -> None:
    assert answers(client, query(move) + query(SHOW), 2)[1]


def test_it_counts_in_the_extended_protocol(client: PgClient) -> None:
    (refused,) = answers(client, whole(b"SET search_path = hidden") + whole(SHOW) + SYNC, 1)
    assert refused


def test_it_counts_across_syncs_and_both_protocols(client: PgClient) -> None:
    moved = whole(b"SET search_path = hidden") + SYNC
    assert answers(client, moved + whole(SHOW) + SYNC + query(SHOW), 3)[1:] == [True, True]


def test_it_counts_for_a_statement_that_was_parsed_before(client: PgClient) -> None:
    client.ask(parse(b"s", SHOW) + SYNC)
    (refused,) = answers(client, whole(b"SET search_path = hidden") + bind(b"", b"s") + execute() + SYNC, 1)
    assert refused


def test_a_statement_prepared_in_the_same_read_is_what_execute_runs(client: PgClient) -> None:
    client.query(b"PREPARE p AS SELECT 1")
    again = b"DEALLOCATE p; PREPARE p AS SELECT v FROM hidden.things"
    assert answers(client, query(again) + query(b"EXECUTE p"), 2)[0]


def test_a_portal_bound_in_the_same_read_is_what_fetch_reads(client: PgClient) -> None:
    client.query(b"BEGIN")
    data = parse(b"", b"SELECT v FROM things") + bind(b"c", b"") + SYNC + query(b"FETCH ALL FROM c")
    client.send(data)
    client.read_reply()
    assert client.read_reply().rows == [(b"open",)]


def test_a_table_made_in_the_same_read_can_be_read(client: PgClient) -> None:
    client.query(b"BEGIN")
    reply = client.ask(whole(b"CREATE TABLE fresh AS SELECT 7 AS n") + whole(b"SELECT n FROM fresh") + SYNC)
    assert not reply.errors
    assert reply.rows[-1] == (b"7",)


def test_somebody_elses_ddl_does_not_make_what_is_under_way_forgotten(client: PgClient, postgres: Peer, gate: Gateway) -> None:
    """A new reading of the catalogue comes while a BEGIN and a CREATE TABLE are out: it cannot hold what they make."""
    with gate.connect("pipelined") as other:
        client.send(query(b"BEGIN") + query(b"CREATE TABLE under_way(n int)") + query(b"SELECT pg_sleep(0.5)"))
        other.query("CREATE TABLE elsewhere(n int)")
        client.send(query(b"SELECT n FROM under_way") + query(b"ROLLBACK"))
        replies = [client.read_reply() for _ in range(5)]
        assert not any(reply.errors for reply in replies)
        other.query("DROP TABLE elsewhere")


def test_who_notified_is_named_by_the_number_that_its_client_was_told(client: PgClient, gate: Gateway) -> None:
    client.query("LISTEN news")
    with gate.connect("pipelined") as other:
        other.query("NOTIFY news, 'x'")
        message = client.read_message()
        assert (message.tag, message.body[:4]) == (b"A", other.cancel_key[:4])
