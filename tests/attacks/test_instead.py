"""Another relation or function in the place of one that a statement names, against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import SYNC, PgClient, Reply, bind, execute, parse
from tests.attacks.logs import closes_every_intent, verifies

pytestmark = pytest.mark.timeout(180)

DATABASE = "instead"
SCHEMA = """
CREATE TABLE customers(id int PRIMARY KEY, name text, card text, region text);
INSERT INTO customers SELECT i, 'name ' || i, 'HIDDEN-' || i, CASE WHEN i <= 4 THEN 'eu' ELSE 'us' END FROM generate_series(1, 9) i;
CREATE VIEW customers_safe AS SELECT id, name, 'safe'::text AS card, region FROM customers;
CREATE VIEW other_view AS SELECT * FROM customers;
CREATE MATERIALIZED VIEW stored AS SELECT count(*) AS n FROM customers;
CREATE TABLE lines(id int, customer int REFERENCES customers);
INSERT INTO lines VALUES (1, 1), (2, 9);
CREATE TABLE stock(id int PRIMARY KEY, what text);
INSERT INTO stock VALUES (1, 'HIDDEN-stock');
CREATE TABLE stock_public(id int PRIMARY KEY, what text);
INSERT INTO stock_public VALUES (1, 'safe');
CREATE TABLE parts(id int, what text) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
INSERT INTO parts VALUES (1, 'HIDDEN-part');
CREATE TABLE parts_public(id int, what text);
CREATE FUNCTION now_secret() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN ''HIDDEN-now''; END';
CREATE FUNCTION now_public() RETURNS text LANGUAGE sql AS 'SELECT lower(left(now_secret(), 0)) || ''safe''';
CREATE FUNCTION peek() RETURNS SETOF text LANGUAGE sql AS 'SELECT card FROM customers';
CREATE FUNCTION secret_plus(int, int) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN ''HIDDEN-plus''; END';
CREATE FUNCTION safe_plus(int, int) RETURNS text LANGUAGE sql AS 'SELECT ''safe''::text';
CREATE OPERATOR #+# (leftarg = int, rightarg = int, function = secret_plus);
CREATE TABLE defaulted(id int, at text DEFAULT now_secret());
CREATE SCHEMA evil;
CREATE TABLE evil.customers(id int, card text);
CREATE FUNCTION evil.now_secret() RETURNS text LANGUAGE sql AS 'SELECT ''evil''::text';
CREATE TABLE first(id int); CREATE TABLE second(id int);
ANALYZE customers;
"""
ACTIONS = ", ".join(
    f'Ostiary::Action::"{each}"'
    for each in ("connect", "read", "write", "delete", "define", "execute", "transfer", "administer")
)


def instead(name: str, kind: str, actions: str, thing: str, other: str) -> str:
    listed = ", ".join(f'Ostiary::Action::"{each}"' for each in actions.split())
    return (
        f'@id("{name}") @instead("{other}") permit (principal, action in [{listed}], '
        f'resource == Ostiary::{kind}::"{DATABASE}/public.{thing}");\n'
    )


POLICY = (
    f"""
@id("code") permit (principal, action == Ostiary::Action::"opaque", resource);
@id("anything") permit (principal, action in [{ACTIONS}], resource);
@id("safe-ones") @filter("region = 'eu'") @rows("3")
permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"{DATABASE}/public.customers_safe");
"""
    + instead("safe-customers", "Relation", "read", "customers", "public.customers_safe")
    + instead("public-stock", "Relation", "read write delete", "stock", "public.stock_public")
    + instead("public-parts", "Relation", "read", "parts", "public.parts_public")
    + instead("public-now", "Function", "execute", "now_secret", "public.now_public")
    + instead("safe-plus", "Function", "execute", "secret_plus", "public.safe_plus")
    + instead("to-second", "Relation", "read", "first", "public.second")
    + instead("to-first", "Relation", "read", "second", "public.first")
)


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    connection = {DATABASE: target(postgres, database=DATABASE)}
    with postgres.own_database(DATABASE, SCHEMA), gateway(connections=connection, policy=POLICY) as started:
        yield started


@pytest.fixture
def client(gate: Gateway) -> Iterator[PgClient]:
    with gate.connect(DATABASE) as session:
        yield session


def said(reply: Reply) -> bytes:
    return b"\n".join(message.body for message in reply.messages)


GIVEN = {
    "plainly": "SELECT max(card) FROM customers",
    "by its full name": "SELECT max(public.customers.card) FROM public.customers",
    "under an alias": "SELECT max(c.card) FROM customers AS c",
    "as a whole row": "SELECT (customers).card FROM customers LIMIT 1",
    "behind a comment": "SELECT max(card) FROM /* x */ customers -- customers_safe",
    "in another case": 'SELECT max(card) FROM "public".CUSTOMERS',
    "in a common table expression": "WITH c AS (SELECT * FROM customers) SELECT max(card) FROM c",
    "in an expression of its own name": "WITH customers AS (SELECT * FROM customers) SELECT max(card) FROM customers",
    "in a subquery": "SELECT (SELECT max(card) FROM customers)",
    "in UNION": "SELECT card FROM customers UNION SELECT card FROM customers",
    "in a join": "SELECT max(card) FROM lines JOIN customers ON customers.id = customer",
    "in LATERAL": "SELECT max(card) FROM lines, LATERAL (SELECT * FROM customers c WHERE c.id = customer) l",
    "with ONLY": "SELECT max(card) FROM ONLY customers",
    "as TABLE": "SELECT max(card) FROM (TABLE customers) t",
    "in a cursor": "BEGIN; DECLARE k CURSOR FOR SELECT card FROM customers; FETCH 1 FROM k; COMMIT",
    "in PREPARE": "PREPARE k AS SELECT card FROM customers LIMIT 1; EXECUTE k",
    "where it is the source of MERGE": (
        "MERGE INTO lines l USING customers c ON l.customer = c.id WHEN MATCHED THEN DO NOTHING; SELECT max(card) FROM customers"
    ),
    "another table": "SELECT what FROM stock",
    "a function": "SELECT now_secret()",
    "a function by its full name": "SELECT public.now_secret()",
    "a function in FROM": "SELECT * FROM now_secret() AS n",
    "a function in a condition": "SELECT 'safe' FROM lines WHERE now_secret() = 'safe' LIMIT 1",
    "a function in a common table expression": "WITH n AS (SELECT now_secret()) SELECT * FROM n",
    "a function with arguments": "SELECT secret_plus(1, 2)",
}


@pytest.mark.parametrize("way", GIVEN)
def test_what_takes_the_place_of_another_is_what_the_caller_gets(client: PgClient, way: str) -> None:
    reply = client.query(GIVEN[way])
    assert not reply.errors
    assert b"HIDDEN" not in said(reply)
    assert {b"safe"} == {value for row in reply.rows for value in row}


REFUSED = {
    "a view over it": "SELECT * FROM other_view",
    "a view over it, besides": "SELECT o.card FROM customers c, other_view o",
    "a function over it": "SELECT * FROM peek()",
    "EXPLAIN": "EXPLAIN SELECT * FROM customers WHERE card LIKE 'H%'",
    "a change that reads it": "UPDATE customers SET region = card WHERE id = 1 RETURNING *",
    "a partition": "SELECT * FROM parts_1",
    "a block of code": "DO $$ BEGIN RAISE NOTICE '%', (SELECT max(card) FROM customers); END $$",
    "a text that is run": "SELECT query_to_xml('SELECT card FROM customers', true, true, '')",
    "a refresh": "REFRESH MATERIALIZED VIEW stored",
    "a view made over it": "CREATE VIEW mine AS SELECT * FROM customers",
    "a function made over it": "CREATE FUNCTION mine() RETURNS SETOF text BEGIN ATOMIC SELECT card FROM customers; END",
    "a sample": "SELECT * FROM customers TABLESAMPLE SYSTEM (100)",
    "an operator": "SELECT 1 #+# 2",
    "a default": "INSERT INTO defaulted(id) VALUES (1) RETURNING at",
    "one that takes the place of the other": "SELECT * FROM first",
    "TRUNCATE": "TRUNCATE stock",
    "LOCK and read": "BEGIN; LOCK TABLE stock; SELECT * FROM other_view",
}


@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_be_replaced_with_certainty_is_refused(client: PgClient, way: str) -> None:
    reply = client.query(REFUSED[way])
    assert reply.errors
    assert b"HIDDEN" not in said(reply)


def test_what_is_written_goes_to_what_takes_its_place(postgres: Peer, client: PgClient) -> None:
    for statement in (
        "INSERT INTO stock VALUES (2, 'new') ON CONFLICT (id) DO UPDATE SET what = stock.what",
        "INSERT INTO public.stock AS s (id, what) VALUES (2, 'newer') ON CONFLICT (id) DO UPDATE SET what = excluded.what",
        "UPDATE public.stock SET what = public.stock.what || '!' WHERE stock.id = 2",
        "MERGE INTO stock USING (SELECT 3 AS n) s ON stock.id = n WHEN NOT MATCHED THEN INSERT VALUES (3, 'merged')",
        "DELETE FROM ONLY stock WHERE id = 1",
    ):
        assert not client.query(statement).errors, statement
    kept = "select string_agg(id || ' ' || what, ', ' order by id) from {}"
    assert postgres.psql(kept.format("stock_public"), DATABASE).strip() == "2 newer!, 3 merged"
    assert postgres.psql(kept.format("stock"), DATABASE).strip() == "1 HIDDEN-stock"
    assert client.query("COPY stock (what) TO STDOUT").copied == b"newer!\nmerged\n"
    client.query("UPDATE stock SET what = 'safe'; DELETE FROM stock WHERE id <> 2; UPDATE stock SET id = 1 WHERE id = 2")


def test_copy_shows_what_takes_its_place(client: PgClient) -> None:
    reply = client.query("COPY (SELECT id, card FROM customers ORDER BY id) TO STDOUT")
    assert reply.copied == b"1\tsafe\n2\tsafe\n3\tsafe\n"
    assert client.query("COPY customers (card) TO STDOUT").copied == b"safe\n" * 3


def test_demands_on_what_takes_its_place_hold_as_well(client: PgClient) -> None:
    assert client.query("SELECT count(*) FROM customers").rows == [(b"4",)]
    reply = client.query("SELECT id FROM customers ORDER BY id")
    assert reply.rows == [(b"1",), (b"2",), (b"3",)]
    assert any("cut the result at 3 rows" in notice["M"] for notice in reply.notices)


def test_names_are_looked_up_as_the_target_does(client: PgClient) -> None:
    client.query("SET search_path = evil, public")
    assert client.query("SELECT count(*) FROM customers").rows == [(b"0",)]
    assert client.query("SELECT now_secret()").rows in ([(b"evil",)], [])
    assert client.query("SELECT max(card) FROM public.customers").rows == [(b"safe",)]
    client.query("SET search_path = public")
    client.query("CREATE TEMP TABLE customers AS SELECT 'mine'::text AS card")
    assert b"HIDDEN" not in said(client.query("SELECT card FROM customers"))
    assert client.query("SELECT max(card) FROM public.customers").rows == [(b"safe",)]
    client.query("CREATE TEMP TABLE customers_safe AS SELECT 'HIDDEN' AS card")
    assert client.query("SELECT max(card) FROM public.customers").rows == [(b"safe",)]


def test_the_extended_protocol_gets_what_was_judged(client: PgClient) -> None:
    reply = client.ask(
        parse(b"s", b"SELECT card FROM customers WHERE id = $1 AND now_secret() = $2", (23,))
        + bind(b"", b"s", [b"1", b"safe"]) + execute(b"", 0) + SYNC
    )  # fmt: skip
    assert reply.rows == [(b"safe",)]
    again = client.ask(bind(b"", b"s", [b"2", b"safe"]) + execute(b"", 0) + SYNC)
    assert again.rows == [(b"safe",)]


def test_both_texts_and_what_was_demanded_are_on_record(gate: Gateway, client: PgClient) -> None:
    client.query("SELECT what, now_secret() FROM stock /* both */")
    closes_every_intent(gate)
    verifies(gate)
    entry = next(e for e in reversed(gate.entries()) if e["kind"] == "intent")
    assert entry["decision"]["duties"] == {
        "instead": [["function", "public.now_secret", "public.now_public"], ["relation", "public.stock", "public.stock_public"]]
    }
    names = {each["name"] for each in entry["op"]["objects"]}
    assert "public.stock_public" in names
    assert "public.stock" not in names
    assert entry["stmt"]["asked"]["len"] == len("SELECT what, now_secret() FROM stock /* both */")
