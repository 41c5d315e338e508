"""The ready policies against a real PostgreSQL, with everything else permitted beside them: what tries to get past them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ostiary.policy
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer

pytestmark = pytest.mark.timeout(180)

DATABASE = "ready"
SCHEMA = """
CREATE TABLE victim(id int PRIMARY KEY, name text);
INSERT INTO victim SELECT i, 'n' || i FROM generate_series(1, 5) i;
CREATE TABLE other(id int); INSERT INTO other VALUES (1);
CREATE FUNCTION wipe() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM victim; SELECT 1';
CREATE FUNCTION wipe_in_code() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM victim; RETURN 1; END';
CREATE FUNCTION wipe_made_up() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE 'DEL' || 'ETE FROM victim'; RETURN 1; END$$;
CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS 'BEGIN CREATE TABLE made(id int); RETURN 1; END';
CREATE FUNCTION added(int, int) RETURNS int LANGUAGE sql AS 'DELETE FROM victim; SELECT 1';
CREATE AGGREGATE adds(int) (sfunc = added, stype = int, initcond = '0');
CREATE OPERATOR ## (leftarg = int, rightarg = int, function = added);
CREATE PROCEDURE proc() LANGUAGE plpgsql AS 'BEGIN DELETE FROM victim; COMMIT; END';
CREATE TABLE ruled(id int); CREATE RULE r AS ON INSERT TO ruled DO INSTEAD DELETE FROM victim;
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM victim; RETURN NEW; END';
CREATE TABLE watched(id int); CREATE TRIGGER t AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION fires();
"""
LIBRARY = Path(ostiary.policy.__file__).parent / "library"
EVERYTHING = (LIBRARY.parent / "examples" / "everything.cedar").read_text()
MAKES = "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM victim; RETURN 1; END'"
UNNAMED = (
    "DO $$ BEGIN DELETE FROM victim; END $$",
    "SELECT wipe()", "SELECT wipe_in_code()", "SELECT wipe_made_up()", "SELECT adds(id) FROM other", "SELECT 1 ## 2", "CALL proc()",
    "INSERT INTO ruled VALUES (1)", "INSERT INTO watched VALUES (1)", "COPY watched FROM STDIN", f"{MAKES}; SELECT pg_temp.mine()",
    "MERGE INTO victim USING other ON true WHEN MATCHED THEN DELETE", "DELETE FROM victim WHERE true", "DELETE FROM victim WHERE id = id",
    "DELETE FROM victim v USING victim w WHERE v.id = w.id", "WITH d AS (DELETE FROM victim RETURNING 1) SELECT * FROM d",
    "PREPARE p(bool) AS DELETE FROM victim WHERE $1", "EXPLAIN ANALYZE DELETE FROM victim", "COPY (DELETE FROM victim RETURNING 1) TO STDOUT",
    "TRUNCATE victim", "DROP TABLE victim CASCADE", "ALTER TABLE victim DROP COLUMN name",
    "SELECT query_to_xml('delete from victim returning 1', true, true, '')", "UPDATE victim SET name = 'x' WHERE 1 = 1",
)  # fmt: skip
DDL = (
    "CREATE TABLE made(id int)", "SELECT 1 AS id INTO made", "CREATE TABLE made AS SELECT 1", "SELECT makes()", "DO $$ BEGIN CREATE TABLE made(); END $$",
    "CREATE SCHEMA s CREATE TABLE made(id int)", "PREPARE p AS SELECT 1; CREATE TABLE made AS EXECUTE p", "EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1",
    "SET ROLE pg_monitor", "COMMENT ON TABLE victim IS 'x'", "SELECT wipe_made_up()", "LOCK TABLE victim", "UPDATE pg_class SET relname = 'x' WHERE false",
)  # fmt: skip


@pytest.fixture(scope="module")
def gates(postgres: Peer) -> Iterator[dict[str, Gateway]]:
    texts = {name: (LIBRARY / f"{name}.cedar").read_text() + EVERYTHING for name in ("no-delete-without-where", "no-ddl")}
    at = {DATABASE: target(postgres, database=DATABASE)}
    with (
        postgres.own_database(DATABASE, SCHEMA),
        gateway(connections=at, policy=texts["no-delete-without-where"]) as rows,
        gateway(connections=at, policy=texts["no-ddl"]) as schema,
    ):
        yield {"rows": rows, "schema": schema}


def test_no_way_around_naming_the_rows(postgres: Peer, gates: dict[str, Gateway]) -> None:
    for statement in UNNAMED:
        with gates["rows"].connect(DATABASE) as client:
            (error,) = client.query(statement).errors
            assert error["C"] == "42501", statement
            assert "policy no-" in error["M"], statement
    assert postgres.psql("SELECT count(*) FROM victim WHERE name <> 'x'", DATABASE).strip() == "5"
    with gates["rows"].connect(DATABASE) as client:
        for statement in ("DELETE FROM victim WHERE id = 99", "UPDATE victim SET name = name WHERE id IN (1, 2)", "INSERT INTO other VALUES (2)",
                          "CREATE TEMP TABLE mine(id int); DROP TABLE mine", "SELECT lower(name) FROM victim"):  # fmt: skip
            assert not client.query(statement).errors, statement


def test_no_way_around_a_schema_that_stays(postgres: Peer, gates: dict[str, Gateway]) -> None:
    for statement in DDL:
        with gates["schema"].connect(DATABASE) as client:
            (error,) = client.query(statement).errors
            assert error["C"] == "42501", statement
            assert "policy no-ddl" in error["M"], statement
    assert postgres.psql("SELECT count(*) FROM pg_class WHERE relname = 'made'", DATABASE).strip() == "0"
    with gates["schema"].connect(DATABASE) as client:
        assert not client.query("UPDATE victim SET name = name WHERE id = 1; SELECT * FROM other").errors
