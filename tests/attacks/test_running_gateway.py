"""What an operator sets, met by real clients: row limits, policies loaded anew, sessions that end for idleness."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import SYNC, bind, execute, parse
from tests.attacks.logs import closes_every_intent, verifies
from tests.attacks.test_faults import patiently

pytestmark = pytest.mark.timeout(120)

LIMITED = """
@id("sessions") permit (principal, action == Ostiary::Action::"connect", resource);
@id("some") @limit("10") permit (principal, action == Ostiary::Action::"read", resource);
@id("transfers") permit (principal, action == Ostiary::Action::"transfer", resource);
"""
OPEN = LIMITED.replace('@limit("10") ', "")
CLOSED = '@id("sessions") permit (principal, action == Ostiary::Action::"connect", resource);'
DATABASE = "running"
BUSY = "SELECT count(*) FROM (SELECT DISTINCT a.n FROM numbers a, numbers b, numbers c WHERE c.n <= 30) each"
"""A statement of some seconds."""


@pytest.fixture(scope="module")
def database(postgres: Peer) -> Iterator[str]:
    with postgres.own_database(DATABASE, "CREATE TABLE numbers(n int); INSERT INTO numbers SELECT generate_series(1, 1000)") as name:
        yield name


@pytest.fixture
def started(postgres: Peer, database: str) -> Iterator[Callable[..., Gateway]]:
    with contextlib.ExitStack() as stack:

        def start(policy: str, **sections: Any) -> Gateway:
            connection = {DATABASE: target(postgres, database=database)}
            return stack.enter_context(gateway(connections=connection, policy=policy, sections=sections))

        yield start


@pytest.fixture(scope="module")
def limited(postgres: Peer, database: str) -> Iterator[Gateway]:
    with gateway(connections={DATABASE: target(postgres, database=database)}, policy=LIMITED) as gate:
        yield gate


def connect(gate: Gateway, **more: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=gate.host, port=gate.port, dbname=DATABASE, user="me", password=gate.token(), autocommit=True, **more
    )


Ask = Callable[[psycopg.Connection[Any], int], int]


def plainly(connection: psycopg.Connection[Any], wanted: int) -> int:
    return len(connection.execute(f"SELECT n FROM numbers LIMIT {wanted}").fetchall())


def prepared(connection: psycopg.Connection[Any], wanted: int) -> int:
    return len(connection.execute("SELECT n FROM numbers LIMIT %s", (wanted,), prepare=True).fetchall())


def in_binary(connection: psycopg.Connection[Any], wanted: int) -> int:
    return len(connection.execute("SELECT n FROM numbers LIMIT %s", (wanted,), binary=True).fetchall())


def by_cursor(connection: psycopg.Connection[Any], wanted: int) -> int:
    with connection.transaction(), connection.cursor("c") as cursor:
        cursor.itersize = 3
        cursor.execute(f"SELECT n FROM numbers LIMIT {wanted}")
        return sum(1 for _ in cursor)


def by_copy(connection: psycopg.Connection[Any], wanted: int) -> int:
    with connection.cursor() as cursor, cursor.copy(f"COPY (SELECT n FROM numbers LIMIT {wanted}) TO STDOUT") as copy:
        return sum(1 for _ in copy.rows())


def by_copy_with_header(connection: psycopg.Connection[Any], wanted: int) -> int:
    statement = f"COPY (SELECT n FROM numbers LIMIT {wanted}) TO STDOUT (FORMAT csv, HEADER)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return sum(1 for _ in copy) - 1


def by_binary_copy(connection: psycopg.Connection[Any], wanted: int) -> int:
    statement = f"COPY (SELECT n FROM numbers LIMIT {wanted}) TO STDOUT (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["int4"])
        return sum(1 for _ in copy.rows())


def in_a_pipeline(connection: psycopg.Connection[Any], wanted: int) -> int:
    with connection.pipeline():
        cursors = [connection.execute(f"SELECT n FROM numbers LIMIT {wanted}") for _ in range(2)]
    return len(cursors[1].fetchall())


@pytest.mark.parametrize("ask", [plainly, prepared, in_binary, in_a_pipeline, by_copy, by_copy_with_header, by_binary_copy])
def test_no_more_rows_come_back_than_the_limit_whichever_way_they_are_asked_for(
    limited: Gateway, ask: Ask
) -> None:
    with connect(limited) as connection:
        assert ask(connection, 10) == 10
        with pytest.raises(psycopg.Error):
            ask(connection, 11)
    with connect(limited) as connection:
        assert ask(connection, 10) == 10
    closes_every_intent(limited)


def test_each_fetch_of_a_cursor_is_held_to_the_limit(limited: Gateway) -> None:
    with connect(limited) as connection, connection.transaction():
        connection.execute("DECLARE c CURSOR FOR SELECT n FROM numbers")
        assert len(connection.execute("FETCH 10 FROM c").fetchall()) == 10
        with pytest.raises(psycopg.Error):
            connection.execute("FETCH ALL FROM c")


def test_what_a_copy_gave_is_on_record(limited: Gateway) -> None:
    def outcomes() -> list[int]:
        return [e["result"]["rows"] for e in limited.entries() if e["kind"] == "outcome"]

    closes_every_intent(limited)
    before = len(outcomes())
    with connect(limited) as connection:
        assert by_copy_with_header(connection, 7) == by_binary_copy(connection, 7) == 7
    closes_every_intent(limited)
    assert outcomes()[before:] == [7, 7]


def test_a_portal_read_in_pieces_gives_no_more_than_the_limit(limited: Gateway) -> None:
    with limited.connect(DATABASE) as client:
        client.query("BEGIN")
        client.ask(parse(b"", b"SELECT n FROM numbers") + bind(b"p", b"") + SYNC)
        rows = 0
        for _ in range(10):
            reply = client.ask(execute(b"p", 4) + SYNC)
            rows += len(reply.rows)
            if reply.closed or reply.errors:
                break
        assert rows <= 10


def test_policies_loaded_anew_count_for_open_sessions_and_a_bad_one_changes_nothing(started: Callable[..., Gateway]) -> None:
    gate = started(OPEN)
    policy = gate.home / "policy.cedar"
    with connect(gate) as connection:

        def reads() -> bool:
            try:
                return plainly(connection, 1) == 1
            except psycopg.errors.InsufficientPrivilege:
                return False

        def reload(text: str) -> None:
            policy.write_text(text)
            os.kill(gate.process.pid, signal.SIGHUP)

        def reloads() -> list[dict[str, Any]]:
            configs = [e["config"] for e in gate.entries() if e["kind"] == "config"]
            return [each for each in configs if each["action"] == "reload"]

        assert reads()
        reload(CLOSED)
        assert patiently(lambda: not reads())
        reload(OPEN)
        assert patiently(reads)
        before = len(reloads())
        reload("permit (principal, action, resource) when { nonsense };")
        assert patiently(lambda: len(reloads()) > before)
        assert "refused" in reloads()[-1]
        assert reads()
    verifies(gate)


def test_an_idle_session_ends_with_a_reason_and_a_busy_one_does_not(started: Callable[..., Gateway]) -> None:
    gate = started(OPEN, **{"listen.postgresql": {"idle_seconds": 1}})
    with connect(gate) as busy:
        assert busy.execute(BUSY).fetchone() == (1000,)
    idle = connect(gate)
    ended = [None]

    def is_over() -> bool:
        ended[:] = [e for e in gate.entries() if e["kind"] == "session.end"]
        return len(ended) >= 2

    assert patiently(is_over)
    with pytest.raises(psycopg.OperationalError):
        idle.execute("SELECT 1")
    idle.close()
    assert "IDLE" in str(ended[-1])
