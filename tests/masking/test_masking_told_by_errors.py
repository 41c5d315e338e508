"""Protected values that the target's errors and statistics would tell of, against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import PgClient

pytestmark = pytest.mark.timeout(180)

DATABASE = "told"
SCHEMA = """
CREATE TABLE people(id int PRIMARY KEY, ssn text UNIQUE, name text, note text);
INSERT INTO people VALUES (1, '078-05-1120', 'Ana', 'a'), (2, '219-09-9999', 'Bob', 'b');
CREATE TABLE pairs(id int PRIMARY KEY, ssn text, place text, UNIQUE (ssn, place));
INSERT INTO pairs VALUES (1, '078-05-1120', 'x'), (2, '078-05-1120', 'y');
CREATE TABLE lowered(id int, ssn text);
CREATE UNIQUE INDEX ON lowered (lower(ssn));
CREATE TABLE marked(id int, ssn text, mark text);
CREATE UNIQUE INDEX ON marked (mark) WHERE ssn = '078-05-1120';
CREATE TABLE slots(ssn text, at int4range, EXCLUDE USING gist (at WITH &&, int4range(length(ssn), length(ssn) + 1) WITH &&));
CREATE TABLE checked(id int, ssn text, guess text, CHECK (ssn <> guess));
INSERT INTO checked VALUES (1, '078-05-1120', ''), (2, '219-09-9999', '');
CREATE TABLE whole(id int, ssn text, guess text);
ALTER TABLE whole ADD CHECK (whole::text NOT LIKE '%!%');
CREATE TABLE refers(id int, of text REFERENCES people(ssn) ON UPDATE CASCADE);
CREATE TABLE known(of text PRIMARY KEY);
INSERT INTO known VALUES ('078-05-1120'), ('219-09-9999');
CREATE TABLE holds(id int, ssn text REFERENCES known);
INSERT INTO holds VALUES (1, '078-05-1120');
CREATE TABLE gone(of text PRIMARY KEY);
CREATE TABLE goes(id int, ssn text REFERENCES gone ON DELETE CASCADE);
CREATE TABLE split(id int, ssn text) PARTITION BY LIST (id);
CREATE TABLE split_1 PARTITION OF split FOR VALUES IN (1);
CREATE UNIQUE INDEX ON split_1 (ssn);
CREATE VIEW faces AS SELECT id, ssn AS face, name FROM people;
CREATE TABLE free(id int PRIMARY KEY, ssn text, note text CHECK (note <> 'bad'));
INSERT INTO free VALUES (1, '078-05-1120', 'n');
CREATE VIEW watching AS SELECT pid, query FROM pg_stat_activity;
ANALYZE people;
"""
EVERYTHING = ", ".join(
    f'Ostiary::Action::"{each}"'
    for each in ("connect", "read", "write", "delete", "define", "execute", "transfer", "administer", "opaque")
)
POLICY = f"""
@id("all") permit (principal, action in [{EVERYTHING}], resource);
@id("inferring") permit (principal in Ostiary::Group::"dba", action == Ostiary::Action::"infer", resource);
"""


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    protect = {
        f"public.{table}.ssn": {"class": "pii", "mask": "redact"}
        for table in ("people", "pairs", "lowered", "marked", "slots", "checked", "whole", "holds", "goes", "split", "free")
    }
    connection = {DATABASE: target(postgres, database=DATABASE, protect=protect)}
    with postgres.own_database(DATABASE, SCHEMA), gateway(connections=connection, policy=POLICY) as started:
        yield started


@pytest.fixture
def client(gate: Gateway) -> Iterator[PgClient]:
    with gate.connect(DATABASE) as session:
        yield session


ASKING = {
    "a unique column": "INSERT INTO people VALUES (9, '078-05-1120', '', '')",
    "a unique column, copied into": "COPY people FROM STDIN",
    "a unique column, changed": "UPDATE people SET ssn = '078-05-1120' WHERE id = 2",
    "a unique column, by MERGE": (
        "MERGE INTO people USING (VALUES (9)) v(n) ON id = n WHEN NOT MATCHED THEN INSERT VALUES (9, '078-05-1120', '', '')"
    ),
    "a unique column, on conflict": "INSERT INTO people VALUES (1, '', '', '') ON CONFLICT (id) DO UPDATE SET ssn = '078-05-1120'",
    "a unique column, in an expression": "INSERT INTO lowered VALUES (1, '078-05-1120')",
    "a unique column, in WITH": "WITH i AS (INSERT INTO people VALUES (9, '078-05-1120', '', '') RETURNING 1) SELECT * FROM i",
    "a unique column, prepared": "PREPARE p AS INSERT INTO people VALUES (9, $1, '', '')",
    "a unique column, explained": "EXPLAIN ANALYZE INSERT INTO people VALUES (9, '078-05-1120', '', '')",
    "a unique column, behind a view": "INSERT INTO faces VALUES (9, '078-05-1120', '')",
    "a unique column, changed behind a view": "UPDATE faces SET face = '078-05-1120' WHERE id = 2",
    "a unique pair": "UPDATE pairs SET place = 'y' WHERE id = 1",
    "an index with a condition": "UPDATE marked SET mark = 'x' WHERE id = 1",
    "an exclusion": "INSERT INTO slots VALUES ('078-05-1120', '[1,2)')",
    "a check": "UPDATE checked SET guess = '078-05-1120' WHERE id = 1",
    "a check of the whole row": "UPDATE whole SET guess = 'x' WHERE id = 1",
    "a foreign key": "INSERT INTO refers VALUES (1, '078-05-1120')",
    "a foreign key, changed": "UPDATE refers SET of = '078-05-1120' WHERE id = 1",
    "a row that is referred to": "DELETE FROM known WHERE of = '078-05-1120'",
    "a value that is referred to": "UPDATE known SET of = 'x' WHERE of = '078-05-1120'",
    "a partition": "INSERT INTO split VALUES (1, '078-05-1120')",
}


@pytest.mark.parametrize("way", ASKING)
def test_a_change_that_asks_whether_a_protected_value_is_there_needs_infer(client: PgClient, way: str) -> None:
    (error,) = client.query(ASKING[way]).errors
    assert error["C"] == "42501"
    assert "class pii decides" in error["M"]


def test_who_may_infer_may_make_such_changes(gate: Gateway) -> None:
    with gate.connect(DATABASE, token=gate.token(groups=["dba"])) as client:
        for statement in (
            "UPDATE pairs SET place = 'z' WHERE id = 1",
            "INSERT INTO people VALUES (10, '457-55-5462', '', ''); DELETE FROM people WHERE id = 10",
        ):
            assert not client.query(statement).errors
        assert [e["C"] for e in client.query("INSERT INTO people VALUES (9, '078-05-1120', '', '')").errors] == ["23505"]


NOT_ASKING = (
    "INSERT INTO free VALUES (2, '078-05-1120', 'x'); DELETE FROM free WHERE id = 2",
    "UPDATE free SET note = 'x' WHERE id = 1",
    "UPDATE people SET name = 'Ana' WHERE id = 1",
    "INSERT INTO checked VALUES (3, 'a', 'b')",
    "UPDATE checked SET id = 3 WHERE id = 3",
    "DELETE FROM gone WHERE of = 'x'",
    "INSERT INTO known VALUES ('new'); DELETE FROM refers WHERE id = 7",
)


@pytest.mark.parametrize("statement", NOT_ASKING)
def test_a_change_that_compares_with_nothing_protected_needs_nothing_more(client: PgClient, statement: str) -> None:
    assert not client.query(statement).errors


def test_what_others_run_is_masked_and_the_rest_of_the_statistics_is_not(client: PgClient) -> None:
    shown = client.query("SELECT pid = pg_backend_pid() AS own, state, query FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    assert shown.rows == [(b"t", b"active", None)]
    assert len(client.query("SELECT count(*), max(query) FROM pg_stat_activity GROUP BY state").rows) > 0
    assert {row[1] for row in client.query("SELECT * FROM watching").rows} == {None}
    stats = client.query("SELECT tablename, attname, most_common_vals, histogram_bounds, null_frac FROM pg_stats WHERE tablename = 'people'")
    assert (b"people", b"ssn", None, None, None) in stats.rows
    for statement in (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%078%'",
        "SELECT pid FROM pg_stat_activity ORDER BY query",
        "SELECT attname FROM pg_stats WHERE n_distinct < 0",
        "CREATE TABLE kept AS SELECT query FROM pg_stat_activity",
        "SELECT query FROM pg_stat_get_activity(NULL)",
    ):
        assert client.query(statement).errors, statement
