"""The comment behind each statement names who acts, and is nothing else: no name breaks out of it, and nothing else changes by it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.identity import Actor, Kind, VerifiedIdentity
from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.grammar import parse
from ostiary.protocols.postgres.naming import comment_for, commented
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer

POLICY = """
@id("all") permit (principal, action, resource);
@id("few") @rows("2") permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"db/public.comment_many");
"""
NAME = "x'*/; drop table comment_orders; --\\ O'Hara %27 \u202e\u00e9"


def who(subject: str, *acting: str, task: str | None = None) -> VerifiedIdentity:
    actors = tuple(Actor("https://idp", each, Kind.AGENT, each) for each in acting)
    return cast("Any", SimpleNamespace(subject=subject, acting=actors, task=task))


texts = st.text(max_size=200)


@given(texts, st.lists(texts, max_size=3), st.none() | texts, texts)
def test_no_name_breaks_out_of_it(subject: str, acting: list[str], task: str | None, session: str) -> None:
    comment = comment_for(who(subject, *acting, task=task), session)
    assert re.fullmatch(rb" /\*[A-Za-z0-9_.~%='-]+(?:,[A-Za-z0-9_.~%='-]+)*\*/", comment)
    assert re.fullmatch(rb"(?:ostiary_[a-z]+='[A-Za-z0-9_.~%-]*'(?:,|$))+", comment[3:-2])
    assert len(comment) < 6000


def test_it_says_who_is_at_the_keyboard_for_whom_and_for_what() -> None:
    said = comment_for(who("ana", "agent:coder", "agent:boss", task="OPS-42"), "01a2")
    assert said == b" /*ostiary_actor='agent%3Acoder',ostiary_for='ana',ostiary_session='01a2',ostiary_task='OPS-42'*/"
    assert comment_for(who("ana"), "01a2") == b" /*ostiary_actor='ana',ostiary_session='01a2'*/"


@given(st.binary(max_size=64).map(lambda raw: raw.replace(b"\0", b"")), st.binary(max_size=8).map(lambda raw: raw.replace(b"\0", b"")))
def test_nothing_but_the_text_of_a_message_changes(sql: bytes, name: bytes) -> None:
    comment = b" /*x='y'*/"
    for message in (m.Query(sql), m.Parse(name, sql, (23, 25))):
        wire = encode.encode(message)
        made = decode.frontend(commented(wire, comment))
        assert isinstance(made, m.Query | m.Parse)
        assert (type(made), made.statement) == (type(message), sql + comment)
        if isinstance(made, m.Parse):
            assert (made.name, made.parameter_types) == (name, (23, 25))
        assert commented(wire, b"") is wire


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1", "SELECT 1;", "SELECT 1; SELECT 2", "SELECT 1 -- to the end", "SELECT 'a'", "SELECT $$a$$", "SELECT E'a\\''",
        'SELECT 1 AS "a"', "SELECT U&'a'", "SELECT 1 /* a /* nested */ */", "", "  ", "--", "SELECT 2 ^ 3", "SELECT '/*'", "SELECT '--'",
    ],
)  # fmt: skip
def test_a_text_means_the_same_with_it(sql: str) -> None:
    comment = comment_for(who(NAME), "s").decode()
    assert len(parse((sql + comment).encode())) == len(parse(sql.encode()))


@pytest.fixture(scope="module")
def world(postgres: Peer) -> Iterator[tuple[Gateway, Peer]]:
    for setting in ("log_min_messages = log", "log_line_prefix = '%a | '", "log_statement = 'all'"):
        postgres.psql(f"alter system set {setting}")
    postgres.psql("select pg_reload_conf()")
    postgres.psql("drop table if exists comment_orders, comment_many")
    postgres.psql("create table comment_orders (id int); insert into comment_orders values (7)")
    postgres.psql("create table comment_many (id int); insert into comment_many values (1), (2), (3)")
    try:
        with gateway(connections={"db": target(postgres, sql_comment=True), "plain": target(postgres)}, policy=POLICY) as gate:
            yield gate, postgres
    finally:
        postgres.psql("drop table comment_orders, comment_many")
        postgres.psql("alter system reset all")
        postgres.psql("select pg_reload_conf()")


def logged(postgres: Peer, text: str) -> list[str]:
    return [line for line in (postgres.data.parent / "log").read_text().splitlines() if text in line]


def test_the_databases_own_log_names_the_actor_in_it(world: tuple[Gateway, Peer]) -> None:
    gate, postgres = world
    token = gate.token("ana", act={"sub": "agent:coder"})
    with gate.connect("db", token=token) as session:
        assert session.query("select id as in_simple from comment_orders").rows == [(b"7",)]
    with gate.connect("plain", token=token) as session:
        assert session.query("select id as in_plain from comment_orders").rows == [(b"7",)]
    (line,) = logged(postgres, "in_simple")
    assert "/*ostiary_actor='agent%3Acoder',ostiary_for='ana',ostiary_session='" in line
    (line,) = logged(postgres, "in_plain")
    assert "/*" not in line


def test_a_name_that_is_sql_stays_a_name(world: tuple[Gateway, Peer]) -> None:
    gate, postgres = world
    name = NAME.replace("\u202e", "")
    with gate.connect("db", token=gate.token(name)) as session:
        assert session.query("select id as hostile from comment_orders").rows == [(b"7",)]
    (line,) = logged(postgres, "hostile")
    assert "ostiary_actor='x%27%2A%2F%3B%20drop" in line


def test_the_record_is_of_what_was_asked_and_judged(world: tuple[Gateway, Peer]) -> None:
    gate, _ = world
    with gate.connect("db") as session:
        session.query("select id as on_record from comment_orders")
    texts = [str(entry) for entry in gate.entries() if entry["kind"] == "intent"]
    assert any("on_record from comment_orders" in text for text in texts)
    assert not any("ostiary_actor" in text for text in texts)


def test_a_statement_that_was_rewritten_carries_it_too(world: tuple[Gateway, Peer]) -> None:
    gate, postgres = world
    with gate.connect("db") as session:
        assert len(session.query("select id as rewritten_one from comment_many").rows) <= 3
    (line,) = logged(postgres, "rewritten_one")
    assert line.rstrip().endswith("*/")


def test_errors_point_where_the_client_wrote(world: tuple[Gateway, Peer]) -> None:
    gate, _ = world
    found = []
    for connection in ("db", "plain"):
        with gate.connect(connection) as session:
            found.append(session.query("select 1, 2, 1 / 0 from comment_orders, (select 1) as x(id) where y.id = 1").errors[0])
    assert found[0] == found[1]
    with gate.connect("db") as session:
        assert session.query("").messages[0].tag == b"I"


def test_prepared_statements_are_parsed_once_and_run_often(world: tuple[Gateway, Peer]) -> None:
    gate, postgres = world
    with psycopg.connect(
        host="127.0.0.1", port=gate.port, dbname="db", user="me", password=gate.token(), sslmode="disable", prepare_threshold=1
    ) as connection:
        for number in range(5):
            row = connection.execute("select id + %s as by_psycopg from comment_orders -- why", (number,)).fetchone()
            assert row == (7 + number,)
        with connection.pipeline():
            cursors = [connection.execute("select %s + 1 as piped", (n,), prepare=True) for n in range(3)]
        assert [each.fetchone() for each in cursors] == [(1,), (2,), (3,)]
        with connection.cursor().copy("copy comment_orders from stdin") as copy:
            copy.write_row((8,))
        connection.rollback()
    assert all("ostiary_actor='ana'" in line for line in logged(postgres, "by_psycopg"))

    async def by_asyncpg() -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=gate.port, database="db", user="me", password=gate.token(), ssl=False)
        prepared = await connection.prepare("select id + $1 as by_asyncpg from comment_orders")
        assert [await prepared.fetchval(n) for n in range(3)] == [7, 8, 9]
        await connection.close()

    asyncio.run(by_asyncpg())
    assert logged(postgres, "by_asyncpg")
