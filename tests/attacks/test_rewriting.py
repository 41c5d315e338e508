"""What policy demands of statements, against a real PostgreSQL: rows that may not be seen, and how many may come back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import SYNC, PgClient, Reply, bind, describe, execute, parse
from tests.attacks.logs import closes_every_intent, verifies
from tests.attacks.test_faults import patiently

pytestmark = pytest.mark.timeout(180)

DATABASE = "rewriting"
SCHEMA = """
CREATE TABLE orders(id int PRIMARY KEY, region text, owner text, note text);
INSERT INTO orders SELECT i, CASE WHEN i <= 40 THEN 'eu' ELSE 'us' END, 'ana@example.com',
    CASE WHEN i <= 40 THEN 'plain ' ELSE 'HIDDEN-' END || i FROM generate_series(1, 90) i;
CREATE TABLE lines(id int, order_id int REFERENCES orders, what text);
INSERT INTO lines SELECT i, i, 'line ' || i FROM generate_series(1, 90) i;
CREATE TABLE mine(id int, owner text, team text);
INSERT INTO mine VALUES (1, 'ana@example.com', 'staff'), (2, 'bob@example.com', 'staff'), (3, 'ana@example.com', 'HIDDEN-team');
CREATE TABLE parts(id int, region text, note text) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
INSERT INTO parts VALUES (1, 'eu', 'plain'), (1, 'us', 'HIDDEN-part');
CREATE VIEW all_orders AS SELECT * FROM orders;
CREATE VIEW renamed AS SELECT id, 'eu'::text AS region, owner, note FROM orders;
CREATE MATERIALIZED VIEW stored AS SELECT count(*) FROM orders;
CREATE TABLE plain(id int, region text, note text);
INSERT INTO plain VALUES (1, 'eu', 'plain');
CREATE FUNCTION peek() RETURNS SETOF text LANGUAGE sql AS 'SELECT note FROM orders';
CREATE FUNCTION spy(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN RAISE NOTICE ''saw %'', $1; RETURN true; END';
CREATE TABLE counted AS SELECT n, n * n AS square FROM generate_series(1, 30) n;
CREATE AGGREGATE chained(text) (sfunc = textcat, stype = text);
CREATE SCHEMA evil;
CREATE FUNCTION evil.always(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR evil.= (leftarg = text, rightarg = text, function = evil.always);
CREATE TABLE evil.orders(id int, region text, note text);
ANALYZE orders;
"""
ACTIONS = ", ".join(
    f'Ostiary::Action::"{each}"'
    for each in ("connect", "read", "write", "delete", "define", "execute", "transfer", "administer", "unmask")
)
POLICY = f"""
@id("code") permit (principal, action == Ostiary::Action::"opaque", resource);
@id("anything") permit (principal, action in [{ACTIONS}], resource);
@id("eu-orders") @filter("region = 'eu'")
permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"rewriting/public.orders");
@id("own") @filter("owner = ostiary.email() AND team = ANY (ostiary.groups())")
permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"rewriting/public.mine");
@id("eu-parts") @filter("region LIKE 'e%'")
permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"rewriting/public.parts");
@id("twenty") @limit("20")
permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"rewriting/public.counted");
@id("ten") @rows("10")
permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"rewriting/public.lines");
"""


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    connection = {DATABASE: target(postgres, database=DATABASE)}
    with postgres.own_database(DATABASE, SCHEMA), gateway(connections=connection, policy=POLICY) as started:
        yield started


@pytest.fixture
def client(gate: Gateway) -> Iterator[PgClient]:
    with gate.connect(DATABASE) as session:
        yield session


def connect(gate: Gateway, **more: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=gate.host, port=gate.port, dbname=DATABASE, user="me", password=gate.token(), autocommit=True, **more
    )


def said(reply: Reply) -> bytes:
    return b"\n".join(message.body for message in reply.messages)


# --- which rows ---------------------------------------------------------------------------------------------------------

BY_HAND = "(SELECT * FROM public.orders ostiary_row WHERE ostiary_row.region OPERATOR(pg_catalog.=) 'eu' OFFSET 0)"
NONE_GONE = "DELETE FROM plain WHERE false RETURNING *"
SEEN = {
    "plainly": ("SELECT count(*) FROM orders", 40),
    "by its full name": ("SELECT count(*) FROM public.orders WHERE public.orders.id > 0", 40),
    "under an alias": ("SELECT count(o.note) FROM orders AS o", 40),
    "with columns renamed": ("SELECT count(d) FROM orders AS o(a, b, c, d)", 40),
    "under an alias that shadows another table": ("SELECT count(*) FROM plain AS orders, orders AS plain", 40),
    "behind a comment": ("SELECT count(*) FROM /* all */ orders -- WHERE true", 40),
    "in a common table expression": ("WITH o AS (SELECT * FROM orders) SELECT count(*) FROM o", 40),
    "under an expression of its own name": ("WITH orders AS (SELECT * FROM orders) SELECT count(*) FROM orders", 40),
    "in a recursive expression": (
        "WITH RECURSIVE r AS (SELECT id FROM orders UNION SELECT id FROM orders) SELECT count(*) FROM r", 40,
    ),
    "in UNION": ("SELECT count(*) FROM (SELECT id FROM orders UNION ALL SELECT id FROM orders) u", 80),
    "in EXCEPT": ("SELECT count(*) FROM (SELECT id FROM orders EXCEPT SELECT id FROM plain) u", 39),
    "in a subquery": ("SELECT (SELECT count(*) FROM orders)", 40),
    "in EXISTS": ("SELECT count(*) FROM lines l WHERE EXISTS (SELECT 1 FROM orders o WHERE o.id = l.order_id) LIMIT 10", 40),
    "in a join": ("SELECT count(*) FROM lines JOIN orders ON orders.id = order_id LIMIT 1", 40),
    "in an outer join": ("SELECT count(note) FROM lines LEFT JOIN orders ON orders.id = order_id LIMIT 1", 40),
    "in LATERAL": ("SELECT count(*) FROM plain p, LATERAL (SELECT * FROM orders o WHERE o.id > p.id) l", 39),
    "with its rows locked": ("WITH o AS (SELECT * FROM orders FOR UPDATE) SELECT count(*) FROM o", 40),
    "with ONLY": ("SELECT count(*) FROM ONLY orders", 40),
    "as TABLE": ("SELECT count(*) FROM (TABLE orders) t", 40),
    "twice": ("SELECT count(*) FROM orders a JOIN orders b ON a.id = b.id", 40),
    "with an outer column of the filter's name": (
        "SELECT (SELECT count(*) FROM orders) FROM (SELECT 'us'::text AS region, 'us' AS ostiary_row) x", 40,
    ),
    "as a whole row": ("SELECT count(*) FROM (SELECT orders FROM orders) x", 40),
    "through a condition of the caller's": (
        "SELECT count(*) FROM (SELECT * FROM public.orders AS ostiary_row WHERE ostiary_row.region = 'us' OFFSET 0) x", 0,
    ),
    "through the operator's condition, written by the caller": (
        f"SELECT count(*) FROM {BY_HAND} x", 40,
    ),
    "a partition alone": ("SELECT count(*) FROM parts_1", 1),
    "a partitioned table": ("SELECT count(*) FROM parts", 1),
    "as samples": ("SELECT count(*) FROM pg_stats WHERE tablename = 'orders'", 0),
    "as samples in the table behind": ("SELECT count(*) FROM pg_statistic", 0),
    "what is the caller's own": ("SELECT count(*) FROM mine", 1),
}  # fmt: skip


@pytest.mark.parametrize("way", SEEN)
def test_only_the_rows_that_policy_shows_are_seen(client: PgClient, way: str) -> None:
    statement, count = SEEN[way]
    reply = client.query(statement)
    assert not reply.errors
    assert reply.rows == [(str(count).encode(),)]


REFUSED = {
    "a view": "SELECT * FROM all_orders",
    "a view that renames": "SELECT * FROM renamed WHERE region = 'eu'",
    "a view, dressed as the filter": (
        "SELECT * FROM (SELECT * FROM public.renamed ostiary_row"
        " WHERE ostiary_row.region OPERATOR(pg_catalog.=) 'eu' OFFSET 0) x"
    ),
    "a function": "SELECT * FROM peek()",
    "COPY of the table": "COPY orders TO STDOUT",
    "EXPLAIN": "EXPLAIN SELECT * FROM orders WHERE note LIKE 'H%'",
    "EXPLAIN ANALYZE": "EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM orders",
    "a sample": "SELECT * FROM orders TABLESAMPLE SYSTEM (100)",
    "UPDATE": "UPDATE orders SET owner = 'x' RETURNING *",
    "UPDATE without RETURNING, by a condition": "UPDATE orders SET owner = 'x' WHERE note LIKE 'HIDDEN%'",
    "DELETE": "DELETE FROM orders WHERE note LIKE 'HIDDEN%' RETURNING *",
    "MERGE": "MERGE INTO orders o USING plain p ON o.id = p.id WHEN MATCHED THEN DO NOTHING",
    "INSERT that reads what is there": (
        "INSERT INTO orders(id) VALUES (41) ON CONFLICT (id) DO UPDATE SET owner = orders.note RETURNING *"
    ),
    "a view over it": "CREATE VIEW mine_too AS SELECT * FROM orders",
    "a materialized view refreshed": "CREATE RULE r AS ON INSERT TO plain DO ALSO SELECT * FROM orders",
    "a function over it": "CREATE FUNCTION f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM orders; END",
    "samples of its rows by COPY": "COPY pg_statistic TO STDOUT",
    "a statement in a value": "SELECT query_to_xml('SELECT * FROM orders', true, true, '')",
    "a block of code": "DO $$ BEGIN RAISE NOTICE '%', (SELECT max(note) FROM orders); END $$",
    "its name for something of two": "SELECT public.orders.id FROM public.orders, (SELECT 1 AS id) o(id), lines orders",
}


@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_be_filtered_with_certainty_is_refused(client: PgClient, way: str) -> None:
    reply = client.query(REFUSED[way])
    assert reply.errors
    assert b"HIDDEN" not in said(reply)
    assert not reply.rows
    assert not reply.copied


def test_nothing_of_the_callers_runs_on_a_row_that_is_not_for_them(client: PgClient) -> None:
    for statement in (
        "SELECT count(*) FROM orders WHERE spy(note)",
        "SELECT count(*) FROM orders o JOIN plain p ON spy(o.note)",
        "SELECT spy(note) FROM orders ORDER BY spy(note)",
        "SELECT count(*) FROM (SELECT * FROM orders) o WHERE spy(note) AND id = 41",
        "WITH o AS NOT MATERIALIZED (SELECT * FROM orders) SELECT 1 FROM o WHERE spy(note)",
        "SELECT 1 FROM orders WHERE id = 50 AND 1 / (id - 50) > 0",
        "SELECT id::text::int / (id - 50) FROM orders",
    ):
        reply = client.query(statement)
        assert b"HIDDEN" not in said(reply)
        assert not any(error["C"] == "22012" for error in reply.errors), statement
    assert b"plain 1" in said(client.query("SELECT count(*) FROM orders WHERE spy(note)"))


def test_what_the_session_makes_of_names_does_not_change_the_condition(client: PgClient) -> None:
    for statement in ("SET search_path = evil, pg_catalog, public", "SET search_path = evil, public"):
        client.query(statement)
        for name in ("public.orders", "orders"):
            reply = client.query(f"SELECT * FROM {name} WHERE id > 0")
            assert b"HIDDEN" not in said(reply)
    client.query("SET search_path = public")
    client.query("CREATE TEMP TABLE orders AS SELECT 1 AS id, 'eu' AS region")
    assert client.query("SELECT * FROM orders").errors  # which of the two is meant is not certain
    assert client.query("SELECT count(*) FROM public.orders").rows == [(b"40",)]
    client.query("BEGIN")
    client.query("ALTER TABLE public.orders RENAME TO others")
    client.query("CREATE TABLE public.orders(id int, region text)")
    for name in ("public.orders", "public.others"):
        assert b"HIDDEN" not in said(client.query(f"SELECT * FROM {name}"))
    client.query("ROLLBACK")


def test_cursors_and_prepared_statements_show_what_a_select_would(client: PgClient) -> None:
    client.query("BEGIN; DECLARE c SCROLL CURSOR FOR SELECT note FROM orders")
    reply = client.query("FETCH ALL FROM c")
    assert len(reply.rows) == 40
    client.query("COMMIT")
    client.query("PREPARE p(int) AS SELECT note FROM orders WHERE id > $1")
    assert len(client.query("EXECUTE p(0)").rows) == 40
    assert client.query("SELECT 1; SELECT count(*) FROM orders; SELECT 2").rows == [(b"1",), (b"40",), (b"2",)]
    copied = client.query("COPY (SELECT note FROM orders) TO STDOUT")
    assert copied.copied.count(b"\n") == 40
    assert b"HIDDEN" not in copied.copied
    assert client.query("CREATE TEMP TABLE kept AS SELECT * FROM orders").tags == ["SELECT 40"]
    assert client.query("SELECT note INTO TEMP kept_too FROM orders").tags == ["SELECT 40"]


def test_the_extended_protocol_sends_what_was_judged(gate: Gateway, client: PgClient) -> None:
    reply = client.ask(
        parse(b"s", b"SELECT note FROM orders WHERE id >= $1 AND region = $2", (23,))
        + describe(b"S", b"s") + bind(b"", b"s", [b"0", b"eu"]) + execute(b"", 0) + SYNC
    )  # fmt: skip
    assert len(reply.rows) == 40
    assert {b"t", b"T"} <= {message.tag for message in reply.messages}
    again = client.ask(bind(b"", b"s", [b"0", b"us"]) + execute(b"", 0) + SYNC)
    assert (again.rows, again.errors) == ([], [])
    with connect(gate) as connection:
        for prepare in (False, True):
            cursor = connection.execute("SELECT id, note FROM orders WHERE id > %s ORDER BY id", (38,), prepare=prepare)
            assert cursor.fetchall() == [(39, "plain 39"), (40, "plain 40")]
            found = connection.execute("SELECT what FROM lines WHERE id > %s LIMIT %s", (0, 50), prepare=prepare)
            assert len(found.fetchall()) == 10


def test_both_texts_are_on_record(gate: Gateway, client: PgClient) -> None:
    client.query("SELECT count(*) FROM orders /* both */")
    closes_every_intent(gate)
    verifies(gate)
    entry = next(e for e in reversed(gate.entries()) if e["kind"] == "intent")
    assert entry["decision"]["duties"] == {"filters": [["public.orders", "region = 'eu'"]]}
    assert entry["decision"]["policies"] == ["anything", "eu-orders"]
    assert entry["stmt"]["asked"]["len"] == len("SELECT count(*) FROM orders /* both */")
    assert entry["stmt"]["len"] > entry["stmt"]["asked"]["len"]
    assert entry["stmt"]["asked"]["blob"]


def test_an_error_says_no_place_in_a_text_that_the_client_did_not_write(client: PgClient) -> None:
    (error,) = client.query("SELECT id, no_such_column FROM orders").errors
    assert "P" not in error
    assert client.query("SELECT count(*) FROM orders").rows == [(b"40",)]


# --- how many -----------------------------------------------------------------------------------------------------------

LIMITED = {
    "nothing said": ("SELECT * FROM lines", 10),
    "a smaller LIMIT": ("SELECT * FROM lines LIMIT 3", 3),
    "a larger LIMIT": ("SELECT * FROM lines LIMIT 30", 10),
    "LIMIT ALL": ("SELECT * FROM lines LIMIT ALL", 10),
    "LIMIT NULL": ("SELECT * FROM lines LIMIT NULL::int", 10),
    "an expression": ("SELECT * FROM lines LIMIT (SELECT 20)", 10),
    "a small expression": ("SELECT * FROM lines LIMIT 1 + 1", 2),
    "LIMIT in a comment": ("SELECT * FROM lines -- LIMIT 5", 10),
    "FETCH FIRST": ("SELECT * FROM lines FETCH FIRST 20 ROWS ONLY", 10),
    "WITH TIES": ("SELECT 1 FROM lines ORDER BY 1 FETCH FIRST 2 ROWS WITH TIES", 10),
    "WITH TIES of data that changes": (
        f"WITH d AS ({NONE_GONE}) SELECT 1 AS a, 2 AS a FROM lines ORDER BY 1 FETCH FIRST 2 ROWS WITH TIES", 10,
    ),
    "OFFSET": ("SELECT * FROM lines OFFSET 85", 5),
    "UNION": ("SELECT id FROM lines UNION ALL SELECT id FROM lines", 10),
    "an arm with a LIMIT": ("(SELECT id FROM lines LIMIT 5) UNION ALL SELECT id FROM lines", 10),
    "VALUES beside it": ("SELECT * FROM lines WHERE id IN (VALUES (1), (2))", 2),
    "TABLE": ("TABLE lines", 10),
    "a set of functions": ("SELECT generate_series(1, 5) FROM lines", 10),
    "PREPARE": ("PREPARE held AS SELECT * FROM lines; EXECUTE held", 10),
    "a cursor": ("BEGIN; DECLARE c SCROLL CURSOR FOR SELECT * FROM lines; FETCH ALL FROM c; COMMIT", 10),
    "a cursor, backwards": (
        "BEGIN; DECLARE c SCROLL CURSOR FOR SELECT * FROM lines; MOVE ALL FROM c; FETCH BACKWARD ALL FROM c; COMMIT", 10,
    ),
    "COPY": ("COPY (SELECT * FROM lines) TO STDOUT", 10),
}  # fmt: skip


@pytest.mark.parametrize("way", LIMITED)
def test_no_statement_returns_more_rows_than_policy_lets_it(client: PgClient, way: str) -> None:
    statement, count = LIMITED[way]
    reply = client.query(statement)
    assert not reply.errors
    assert len(reply.rows) + reply.copied.count(b"\n") == count
    cut = any("cut the result at 10 rows" in notice["M"] for notice in reply.notices)
    assert cut == (count == 10)


UNLIMITED = {
    "COPY of the table": "COPY lines TO STDOUT",
    "RETURNING": "UPDATE lines SET what = what RETURNING *",
    "json_agg": "SELECT json_agg(l) FROM lines l",
    "an aggregate in a subquery": "SELECT (SELECT string_agg(what, ',') FROM lines) LIMIT 1",
    "an aggregate in a derived table": "SELECT a[1] FROM (SELECT array_agg(what) AS a FROM lines) q LIMIT 1",
    "an aggregate in a WITH": "WITH q AS (SELECT jsonb_agg(what) AS j FROM lines) SELECT j::text FROM q LIMIT 1",
    "an aggregate by group": "SELECT order_id, array_agg(what) FROM lines GROUP BY order_id LIMIT 5",
    "a window": "SELECT json_agg(what) OVER () FROM lines LIMIT 1",
    "ARRAY of a subquery": "SELECT ARRAY(SELECT what FROM lines)",
    "JSON_ARRAYAGG, an expression": "SELECT length(json_object_agg(id, what)::text), json_object_agg(id, what) FROM lines",
    "an array that is unnested": "SELECT unnest(array_agg(what)) FROM lines",
    "more than ten in all": "SELECT (SELECT json_agg(q) FROM (SELECT * FROM lines LIMIT 10) q) FROM lines LIMIT 10",
    "a function that is told a name": "SELECT table_to_xml('lines', true, true, '')",
    "an aggregate of its own": "SELECT chained(what) FROM lines",
    "large objects": "SELECT id, ARRAY(SELECT data FROM pg_catalog.pg_largeobject) FROM lines",
    "a cursor": "BEGIN; DECLARE c CURSOR FOR SELECT json_agg(l) FROM lines l; FETCH 1 FROM c",
    "RETURNING of INSERT": "INSERT INTO lines SELECT id + 1000, order_id, what FROM lines RETURNING *",
}


@pytest.mark.parametrize("way", UNLIMITED)
def test_what_cannot_be_limited_is_refused_and_has_no_effect(client: PgClient, way: str) -> None:
    reply = client.query(UNLIMITED[way])
    assert reply.errors
    assert not reply.rows
    assert not reply.copied
    assert client.query("SELECT count(*) FROM lines").rows == [(b"90",)]


GATHERED = {
    "few rows": "SELECT json_agg(q), count(*) FROM (SELECT * FROM lines LIMIT 10) q",
    "few rows of VALUES": "SELECT cardinality(array_agg(x)) FROM (VALUES (1), (2)) v(x)",
    "few in each of few": "SELECT ARRAY(SELECT what FROM lines l WHERE l.order_id = o.id LIMIT 2) FROM lines o LIMIT 5",
    "out of one value": "SELECT (SELECT jsonb_agg(e) FROM jsonb_array_elements('[1,2]') e), ARRAY(SELECT unnest(ARRAY[1, 2])) FROM lines",
    "what decides": "SELECT id FROM lines WHERE id = ANY (ARRAY(SELECT id FROM lines)) AND 'x' <> (SELECT string_agg(what, '') FROM lines)",
    "the catalogue": "SELECT relname, ARRAY(SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = c.oid) FROM pg_catalog.pg_class c, lines",
    "a number of them": "SELECT count(*), max(what), sum(id) FROM lines",
}


@pytest.mark.parametrize("way", GATHERED)
def test_values_that_are_put_together_count_as_rows(client: PgClient, way: str) -> None:
    reply = client.query(GATHERED[way])
    assert not reply.errors, reply.errors
    assert 1 <= len(reply.rows) <= 10


def test_a_limit_counts_rows_that_are_put_together(gate: Gateway) -> None:
    with gate.connect(DATABASE) as client:
        for statement in (
            "SELECT json_agg(c) FROM counted c", "SELECT ARRAY(SELECT square FROM counted)", "SELECT json_agg(q) FROM (SELECT * FROM counted LIMIT 21) q",
            "COPY (SELECT string_agg(n::text, ',') FROM counted) TO STDOUT",
        ):  # fmt: skip
            reply = client.query(statement)
            assert reply.errors[0]["C"] == "42501", statement
            assert not reply.rows
            assert not reply.copied
        assert client.extended("SELECT array_agg(n) FROM counted").errors
        assert client.query("SELECT array_agg(q) FROM (SELECT n FROM counted LIMIT 20) q").rows
        assert client.query("SELECT count(*), sum(n) FROM counted WHERE n = ANY (ARRAY(SELECT n FROM counted))").rows == [(b"30", b"465")]
        assert client.query("CREATE TEMP TABLE gathered AS SELECT array_agg(n) FROM counted").tags == ["SELECT 1"]


def test_what_returns_no_rows_is_left_as_it_is(client: PgClient) -> None:
    assert client.query("UPDATE lines SET what = what WHERE id = 1").tags == ["UPDATE 1"]
    assert client.query("CREATE TEMP TABLE copied AS SELECT * FROM lines").tags == ["SELECT 90"]
    assert client.query("CREATE TEMP TABLE gathered AS SELECT array_agg(what) FROM lines").tags == ["SELECT 1"]
    assert len(client.query("EXPLAIN SELECT * FROM lines").rows) == 1


def test_what_was_prepared_under_other_policies_is_prepared_again(postgres: Peer, gate: Gateway) -> None:
    del gate  # its database
    unfiltered = POLICY.replace("""@filter("region = 'eu'")""", "")
    with (
        gateway(connections={DATABASE: target(postgres, database=DATABASE)}, policy=unfiltered) as other,
        other.connect(DATABASE) as client,
    ):
        prepared = parse(b"s", b"SELECT note FROM orders") + bind(b"", b"s") + execute(b"", 0) + SYNC
        assert len(client.ask(prepared).rows) == 90
        client.query("PREPARE p AS SELECT note FROM orders")
        (other.home / "policy.cedar").write_text(POLICY)
        os.kill(other.process.pid, signal.SIGHUP)
        assert patiently(lambda: any(e["kind"] == "config" and e["config"]["action"] == "reload" for e in other.entries()))
        for again in (client.ask(bind(b"", b"s") + execute(b"", 0) + SYNC), client.query("EXECUTE p")):
            assert again.errors
            assert b"HIDDEN" not in said(again)
        fresh = parse(b"t", b"SELECT note FROM orders") + bind(b"", b"t") + execute(b"", 0) + SYNC
        assert len(client.ask(fresh).rows) == 40


# --- what holds for a session -------------------------------------------------------------------------------------------

HELD = POLICY.replace(
    '@id("anything") permit',
    """@id("held") @transactions("read only") @timeout("300ms")
    permit (principal, action == Ostiary::Action::"connect", resource);
    @id("anything") permit""",
)
LIFTING = (
    "SET default_transaction_read_only = off",
    "SET LOCAL transaction_read_only TO 'no'",
    "BEGIN READ WRITE",
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SELECT set_config('default_transaction_read_only', 'off', false)",
    "SELECT set_config('statement_' || 'timeout', '1h', false)",
    "SET statement_timeout = 100000",
    "SET statement_timeout = 0",
    "DO $$ BEGIN PERFORM set_config('statement_timeout', '0', false); END $$",
    "PREPARE lift AS SELECT set_config('statement_timeout', '0', false)",
    "WITH a AS (SELECT set_config('statement_timeout', '0', false)) SELECT * FROM a",
    "UPDATE pg_settings SET setting = '0' WHERE name = 'statement_timeout'",
)


def test_a_session_stays_as_it_was_opened_whatever_is_sent(postgres: Peer, gate: Gateway) -> None:
    del gate  # its database
    connection = {DATABASE: target(postgres, database=DATABASE)}
    with gateway(connections=connection, policy=HELD) as held, held.connect(DATABASE) as client:

        def holds() -> None:
            assert client.query("SHOW default_transaction_read_only").rows == [(b"on",)]
            assert client.query("SHOW statement_timeout").rows == [(b"300ms",)]

        holds()
        for statement in LIFTING:
            assert client.query(statement).errors, statement
            client.query("ROLLBACK")
            holds()
        for statement in ("RESET ALL", "RESET statement_timeout", "DISCARD ALL", "SET default_transaction_read_only = on"):
            assert not client.query(statement).errors, statement
            holds()
        assert [e["C"] for e in client.query("INSERT INTO plain VALUES (2, 'eu', 'x')").errors] == ["25006"]
        assert not client.query("BEGIN READ ONLY; SELECT 1; COMMIT").errors
        assert [e["C"] for e in client.query("SELECT count(*) FROM generate_series(1, 1000000000)").errors] == ["57014"]
