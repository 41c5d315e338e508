"""Statement in, facts out: a table. Each line is a promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ostiary.model.operations import Action, Facts

Look = Callable[[str], Facts]

CASES: list[tuple[str, str, str]] = [
    # (statement, resources as `action name`, flags: u unmask, i infer, o opaque, h harmless)
    ("SELECT 1", "connect ", "h"),
    ("", "connect ", "h"),
    (";;; ;", "connect ", "h"),
    ("SELECT id, secret FROM victim", "read public.victim", "h"),
    ("TABLE victim", "read public.victim", "h"),
    ('SELECT * FROM "victim"', "read public.victim", "h"),
    ("SELECT * FROM public.victim AS v", "read public.victim", "h"),
    ("SELECT v.* FROM victim v JOIN other o ON o.id = v.id", "read public.other, read public.victim", "h"),
    ("SELECT o.id, secret FROM other o LEFT JOIN victim v USING (id)", "read public.other, read public.victim", "h"),
    ("SELECT secret FROM victim WHERE id = 5 ORDER BY id LIMIT 1", "read public.victim", "h"),
    ("SELECT secret FROM victim FOR UPDATE", "read public.victim, write public.victim", ""),
    ("SELECT count(*) FROM victim", "read public.victim", "h"),
    ("SELECT random(), clock_timestamp(), now()", "connect ", "h"),
    # --- side doors ---
    ("SELECT 1; DELETE FROM victim", "delete public.victim", ""),
    ("WITH d AS (DELETE FROM victim RETURNING 1) SELECT 1 FROM d", "delete public.victim, read public.victim", ""),
    ("WITH d AS MATERIALIZED (UPDATE other SET id = 1) SELECT 1", "write public.other", ""),
    ("EXPLAIN DELETE FROM victim", "read public.victim", "h"),
    ("EXPLAIN ANALYZE DELETE FROM victim", "delete public.victim", ""),
    ('EXPLAIN ("analyze") DELETE FROM victim', "delete public.victim", ""),
    ("EXPLAIN (ANALYSE 1) DELETE FROM victim", "delete public.victim", ""),
    ("EXPLAIN (ANALYZE off, VERBOSE) SELECT id FROM victim", "read public.victim", "h"),
    ("EXPLAIN (ANALYZE 'no') DELETE FROM victim", "delete public.victim", ""),  # the server errors; careful is right
    ("EXPLAIN SELECT * FROM victim WHERE secret = 'x'", "read public.victim", "ih"),
    ("COPY (DELETE FROM victim RETURNING *) TO STDOUT", "delete public.victim, read public.victim, transfer ", ""),
    ("COPY victim TO STDOUT", "read public.victim, transfer ", ""),
    ("COPY victim (id, secret) TO STDOUT (FORMAT csv)", "read public.victim, transfer ", ""),
    ("COPY (SELECT secret FROM victim) TO STDOUT", "read public.victim, transfer ", ""),
    ("COPY (SELECT upper(secret) FROM victim) TO STDOUT", "read public.victim, transfer ", ""),
    ("COPY other FROM STDIN", "transfer , write public.other", ""),
    ("COPY other FROM '/etc/passwd'", "administer /etc/passwd, transfer , write public.other", ""),
    ("COPY other TO PROGRAM 'x'", "administer *, read public.other, transfer ", ""),
    ("SELECT * INTO copied FROM victim", "define public.copied, read public.victim", "u"),
    ("SELECT id INTO TEMP copied FROM victim", "define pg_temp.copied, read public.victim", ""),
    ("SELECT id INTO copied FROM other UNION SELECT 1", "define public.copied, read public.other", ""),
    ("CREATE TABLE c AS SELECT id FROM victim", "define public.c, read public.victim", ""),
    ("CREATE VIEW c AS SELECT secret FROM victim", "define public.c, read public.victim", "u"),
    # --- what touching something touches ---
    ("SELECT * FROM plain_view", "read public.plain_view, read public.victim", "h"),
    ("SELECT note FROM secret_view", "read public.secret_view, read public.victim", "h"),
    ("SELECT note FROM view_on_view", "read public.secret_view, read public.victim, read public.view_on_view", "h"),
    ("SELECT id FROM secret_view WHERE note = 'x'", "read public.secret_view, read public.victim", "ih"),
    ("SELECT * FROM calling_view", "delete public.victim, execute public.wipe, read public.calling_view", ""),
    ("SELECT * FROM matted", "read public.matted", "h"),
    ("REFRESH MATERIALIZED VIEW matted", "read public.victim, write public.matted", ""),
    ("DELETE FROM plain_view WHERE id = 1",
     "delete public.plain_view, delete public.victim, read public.plain_view, read public.victim", ""),
    ("INSERT INTO watched VALUES (1, 2)", "execute public.audit, write public.watched", ""),
    ("SELECT * FROM watched", "read public.watched", "h"),
    ("INSERT INTO ruled VALUES (1)", "opaque public.ruled, write public.ruled", "o"),
    ("INSERT INTO defaulted(id) VALUES (1)", "delete public.victim, execute public.wipe, write public.defaulted", ""),
    ("SELECT * FROM defaulted", "read public.defaulted", "h"),
    ("UPDATE checked SET id = 2 WHERE id = 1", "execute public.touchy, read public.checked, write public.checked", ""),
    ("SELECT * FROM guarded", "execute public.touchy, read public.guarded", ""),
    ("DELETE FROM parent WHERE id = 1",
     "delete public.child, delete public.grandchild, delete public.parent, read public.parent, write public.child, write public.grandchild", ""),
    ("UPDATE parent SET id = 1", "write public.child, write public.grandchild, write public.parent", ""),
    ("INSERT INTO parent VALUES (1)", "write public.parent", ""),
    ("TRUNCATE parent CASCADE",
     "delete public.child, delete public.grandchild, delete public.loose, delete public.parent", ""),
    ("TRUNCATE other, victim", "delete public.other, delete public.victim", ""),
    ("SELECT * FROM parts", "read public.parts, read public.parts_1, read public.parts_2", "h"),
    ("SELECT * FROM ONLY base", "read public.base", "h"),
    ("SELECT * FROM base", "read public.base, read public.derived", "h"),
    ("DELETE FROM parts_1", "delete public.parts, delete public.parts_1", ""),
    ("INSERT INTO base VALUES (1)", "write public.base", ""),
    ("INSERT INTO parts VALUES (1, 1)", "write public.parts, write public.parts_1, write public.parts_2", ""),
    # --- functions, operators, types, casts ---
    ("SELECT wipe()", "delete public.victim, execute public.wipe", ""),
    ("SELECT public.wipe()", "delete public.victim, execute public.wipe", ""),
    ("SELECT touchy(1)", "execute public.touchy", ""),
    ("SELECT side.f()", "execute side.f", ""),
    ("SELECT lower('X')", "connect ", "h"),
    ("SELECT lower(name) FROM victim", "read public.victim", "h"),
    ("SELECT lower(id) FROM victim", "execute public.lower, read public.victim", ""),
    ("SELECT variadic_one(1, 2, 3)", "execute public.variadic_one", ""),
    ("SELECT defaulted_two(1)", "execute public.defaulted_two", ""),
    ("SELECT v.touchy FROM other v", "execute public.touchy, read public.other", ""),
    ("SELECT (v).touchy FROM other v", "execute public.touchy, read public.other", ""),
    ("SELECT pg_sleep(1)", "execute pg_catalog.pg_sleep", ""),
    ("SELECT nosuch(1)", "execute nosuch", ""),
    ("SELECT 1 ### 2", "execute public.opf", ""),
    ("SELECT 1 OPERATOR(public.###) 2", "execute public.opf", ""),
    ("SELECT 1 OPERATOR(pg_catalog.+) 2", "connect ", "h"),
    ("SELECT 'sad'::mood", "connect ", "h"),
    ("SELECT * FROM moody WHERE m = 'sad'", "read public.moody", "h"),
    ("SELECT 1::checked_int", "execute public.touchy", ""),
    ("SELECT d FROM domained", "execute public.touchy, read public.domained", ""),
    ("SELECT ROW(1, 2)::pair::int", "execute public.pair_int", ""),
    ("SELECT p FROM paired", "execute public.pair_int, read public.paired", ""),
    ("SELECT nextval('counter')", "write public.counter", ""),
    ("SELECT setval('public.counter', 5)", "write public.counter", ""),
    ("SELECT currval('counter')", "read public.counter", ""),
    ("SELECT nextval($1)", "write *", ""),
    ("SELECT pg_notify('c', 'x')", "write c", ""),
    ("CALL proc()", "delete public.victim, execute public.proc, opaque CALL", "o"),
    ("DO $$ BEGIN END $$", "opaque DO", "uo"),
    # --- the host and the server ---
    ("SELECT pg_read_file('/etc/passwd')", "administer pg_catalog.pg_read_file", ""),
    ("SELECT pg_terminate_backend(1)", "administer pg_catalog.pg_terminate_backend", ""),
    ("SELECT pg_ls_dir('.')", "administer pg_catalog.pg_ls_dir", ""),
    ("SELECT lo_export(1, '/tmp/x')", "administer pg_catalog.lo_export", ""),
    ("SELECT lo_get(1)", "read *", ""),
    ("SELECT lo_unlink(1)", "delete *, read *", ""),
    ("SELECT query_to_xml('delete from victim', true, true, '')", "opaque query_to_xml", "uo"),
    ("SELECT table_to_xml('victim', true, true, '')", "opaque table_to_xml", "uo"),
    ("SELECT word FROM ts_stat('select 1')", "opaque ts_stat", "uo"),
    ("SELECT domain_in('1', 16500, -1)", "execute pg_catalog.domain_in", ""),
    ("UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'",
     "administer pg_catalog.pg_settings, opaque pg_catalog.pg_settings, read pg_catalog.pg_settings, write pg_catalog.pg_settings", "o"),
    ("DELETE FROM pg_proc", "administer pg_catalog.pg_proc, delete pg_catalog.pg_proc", ""),
    ("SELECT rolpassword FROM pg_authid", "administer pg_catalog.pg_authid, read pg_catalog.pg_authid", ""),
    ("SELECT * FROM pg_stats", "read pg_catalog.pg_stats", "h"),
    # --- views and defaults over the server's own, which pg_depend says nothing of ---
    ("SELECT rolname FROM authid_view",
     "administer pg_catalog.pg_authid, read pg_catalog.pg_authid, read public.authid_view", ""),
    ("SELECT rolname FROM over_authid_view",
     "administer pg_catalog.pg_authid, read pg_catalog.pg_authid, read public.authid_view, read public.over_authid_view", ""),
    ("SELECT count(*) FROM stats_view", "read pg_catalog.pg_stats, read public.stats_view", "h"),
    ("SELECT content FROM file_view", "administer pg_catalog.pg_read_file, read public.file_view", ""),
    ("SELECT content FROM text_view", "opaque public.text_view, read public.text_view", "uo"),
    ("SELECT n FROM clock_view", "read pg_catalog.pg_class, read public.clock_view", "h"),
    ("SELECT content FROM reading", "read public.reading", "h"),
    ("INSERT INTO reading DEFAULT VALUES", "administer pg_catalog.pg_read_file, write public.reading", ""),
    ("SELECT query FROM pg_stat_activity", "read pg_catalog.pg_stat_activity", "h"),
    # --- the session ---
    ("BEGIN", "connect ", "h"),
    ("START TRANSACTION READ ONLY", "connect ", "h"),
    ("COMMIT", "connect ", ""),
    ("ROLLBACK TO SAVEPOINT a", "connect ", ""),
    ("PREPARE TRANSACTION 'x'", "administer understanding, connect ", ""),
    ("SHOW search_path", "connect ", "h"),
    ("SET application_name = 'x'", "connect ", ""),
    ("SET TIME ZONE 'UTC'", "connect ", ""),
    ("SET TIME ZONE LOCAL", "connect ", ""),
    ("SET statement_timeout = '5s'", "connect ", ""),
    ("SET statement_timeout = 5000", "connect ", ""),
    ("SET statement_timeout = 0", "administer statement_timeout", ""),
    ("SET statement_timeout = '0 min'", "administer statement_timeout", ""),
    ("SET statement_timeout = '0x0'", "administer statement_timeout", ""),
    ("SET standard_conforming_strings = on", "connect ", ""),
    ("SET NAMES 'UTF8'", "connect ", ""),
    ("SET row_security = off", "administer row_security", ""),
    ("SET session_replication_role = replica", "administer session_replication_role", ""),
    ("SET ROLE postgres", "administer role", ""),
    ("SET LOCAL ROLE postgres", "administer role", ""),
    ("SET SESSION AUTHORIZATION postgres", "administer session_authorization", ""),
    ("RESET ROLE", "administer role", ""),
    ("SELECT set_config('role', 'x', false)", "administer role", ""),
    ("SELECT set_config('app' || 'x', 'y', false)", "administer *", ""),
    ("SELECT set_config('application_name', (SELECT secret FROM victim LIMIT 1), false)",
     "administer *, read public.victim", "u"),
    ("SELECT set_config('search_path', '', false)", "connect ", ""),
    ("SELECT set_config('search_path', 'side', false)", "administer search_path", ""),
    ("SET search_path = public", "connect ", ""),
    ('SET search_path = "$user", public', "connect ", ""),
    ("SET search_path = side, public", "administer search_path", ""),
    ("SET search_path = public, pg_catalog", "administer search_path", ""),
    ("RESET ALL", "connect ", ""),
    ("DISCARD ALL", "connect ", ""),
    ("LISTEN x", "connect , read x", ""),
    ("NOTIFY x, 'y'", "write x", ""),
    ("LOCK TABLE victim IN ACCESS EXCLUSIVE MODE", "administer public.victim", ""),
    # --- DDL ---
    ("DROP TABLE victim", "define public.victim, delete public.victim", ""),
    ("DROP TABLE IF EXISTS gone", "define public.gone, delete public.gone", ""),
    ("DROP VIEW plain_view", "define public.plain_view", ""),
    ("DROP TABLE victim CASCADE",
     "define public.matted, define public.plain_view, define public.secret_view, define public.victim, define public.view_on_view, delete public.matted, delete public.victim", ""),
    ("DROP SCHEMA side CASCADE", "define side, define side.t, delete side, delete side.t, opaque CASCADE", "o"),
    ("DROP SEQUENCE counter", "define public.counter, delete public.counter", ""),
    ("DROP DATABASE x", "administer x, delete x", ""),
    ("DROP FUNCTION wipe()", "define wipe", ""),
    ("ALTER TABLE victim DROP COLUMN secret", "define public.victim, delete public.victim", ""),
    ("ALTER TABLE other ADD COLUMN x int", "define public.other", ""),
    ("ALTER TABLE other ADD COLUMN x int DEFAULT wipe()", "define public.other, delete public.victim, execute public.wipe", "u"),
    ("ALTER TABLE victim OWNER TO x", "administer public.victim, define public.victim", ""),
    ("ALTER TABLE victim DISABLE ROW LEVEL SECURITY", "administer public.victim, define public.victim", ""),
    ("ALTER TABLE other RENAME TO x", "define public.other, define public.x", ""),
    ("ALTER TABLE victim RENAME TO x", "define public.victim, define public.x", "u"),
    ("ALTER TABLE victim RENAME secret TO x", "define public.victim", "u"),
    ("ALTER TABLE victim SET SCHEMA side", "define public.victim, define side.victim", "u"),
    ("ALTER DOMAIN checked_int ADD CHECK (wipe() = 1)", "define public.checked_int, delete public.victim, execute public.wipe", "u"),
    ("CREATE TABLE x (a int, b text)", "define public.x", ""),
    ("CREATE TEMP TABLE x (a int)", "define pg_temp.x", ""),
    ("CREATE TABLE x (a int DEFAULT wipe())", "define public.x, delete public.victim, execute public.wipe", "u"),
    ("CREATE INDEX ON other (touchy(id))", "define public.other, execute public.touchy", ""),
    ("CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'select 1'", "define public.x", ""),
    ("CREATE FUNCTION x() RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM victim; SELECT 1; END",
     "define public.x, delete public.victim", ""),
    ("CREATE FUNCTION x() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'select 1'",
     "administer public.x, define public.x", ""),
    ("CREATE DOMAIN x AS int CHECK (wipe() = 1)", "define public.x, delete public.victim, execute public.wipe", "u"),
    ("CREATE RULE r AS ON INSERT TO other DO ALSO DELETE FROM victim",
     "administer public.other, define public.other, delete public.victim", ""),
    ("GRANT SELECT ON victim TO x", "administer *, administer public.victim", ""),
    ("CREATE ROLE x PASSWORD 'hunter2'", "administer x", ""),
    ("ALTER SYSTEM SET archive_command = 'x'", "administer archive_command, administer understanding", ""),
    ("CREATE EXTENSION x", "administer x", ""),
    ("CREATE PUBLICATION x FOR TABLE victim", "administer x", ""),
    ("VACUUM victim", "administer public.victim, administer understanding", ""),
    ("COMMENT ON TABLE victim IS 'x'", "define public.victim", ""),
    # --- DML ---
    ("INSERT INTO victim(secret) VALUES ('x')", "write public.victim", ""),
    ("UPDATE victim SET secret = 'x' WHERE id = 1 RETURNING secret", "read public.victim, write public.victim", ""),
    ("UPDATE victim SET name = secret", "read public.victim, write public.victim", "u"),
    ("UPDATE other SET id = 1 FROM victim WHERE secret = 'x'",
     "read public.other, read public.victim, write public.other", "i"),
    ("INSERT INTO other SELECT id FROM victim", "read public.victim, write public.other", ""),
    ("INSERT INTO side.t SELECT id, secret FROM victim", "read public.victim, write side.t", "u"),
    ("INSERT INTO victim VALUES (1) ON CONFLICT (id) DO UPDATE SET secret = excluded.secret",
     "read public.victim, write public.victim", ""),
    ("INSERT INTO victim VALUES (1) RETURNING upper(secret)", "read public.victim, write public.victim", ""),
    ("MERGE INTO other o USING victim v ON o.id = v.id WHEN MATCHED THEN DELETE",
     "delete public.other, read public.other, read public.victim", ""),
    ("MERGE INTO other o USING victim v ON o.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id)",
     "read public.other, read public.victim, write public.other", ""),
    ("DELETE FROM victim USING other WHERE victim.id = other.id",
     "delete public.victim, read public.other, read public.victim", ""),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "resources", "flags"), CASES, ids=[c[0][:60] for c in CASES])
def test_what_a_statement_does(look: Look, sql: str, resources: str, flags: str) -> None:
    facts = look(sql)
    assert facts.objection is None, facts.objection
    assert sorted(f"{r.action} {r.name}" for r in facts.resources) == sorted(_split(resources))
    assert ("u" in flags) == bool(facts.unmask)
    assert ("i" in flags) == bool(facts.infer)
    assert ("o" in flags) == bool(facts.opaque)
    assert ("h" in flags) == facts.harmless


def _split(resources: str) -> list[str]:
    return [part if " " in part else part + " " for part in (p.strip() for p in resources.split(","))]


OBJECTIONS = [
    ("SELECT frm frm frm", "UNPARSABLE", "42601", 'syntax error at or near "frm"', 16),
    ("SELECT 'é' frm frm frm", "UNPARSABLE", "42601", 'syntax error at or near "frm"', 16),
    ("SELECT 'abc", "UNPARSABLE", "42601", "unterminated quoted string", 8),
    ("SELECT 1 FROM nosuch", "UNKNOWN_OBJECT", "42P01", 'relation "nosuch" does not exist', 15),
    ("SELECT 'é', 1 FROM a.b", "UNKNOWN_OBJECT", "42P01", 'relation "a.b" does not exist', 20),
    ("SELECT 1::nosuch", "UNKNOWN_OBJECT", "42704", 'type "nosuch" does not exist', 11),
    ("EXECUTE nosuch", "UNKNOWN_OBJECT", "26000", 'prepared statement "nosuch" does not exist', None),
    ("FETCH 1 FROM nosuch", "UNKNOWN_OBJECT", "34000", 'cursor "nosuch" does not exist', None),
    ("SELECT 1 FROM x.public.victim", "UNKNOWN_OBJECT", "0A000", "cross-database", 15),
    ("SET standard_conforming_strings = off", "UNSAFE_SETTING", "42501", "standard_conforming_strings", None),
    ("SET client_encoding = 'GBK'", "UNSAFE_SETTING", "42501", "client_encoding", None),
    ("SET NAMES 'SJIS'", "UNSAFE_SETTING", "42501", "client_encoding", None),
    ("SELECT set_config('client_encoding', 'GBK', true)", "UNSAFE_SETTING", "42501", "client_encoding", None),
    ("SELECT 1; SET standard_conforming_strings TO false; SELECT 2", "UNSAFE_SETTING", "42501", "strings", None),
    ("ALTER ROLE postgres SET standard_conforming_strings = off", "UNSAFE_SETTING", "42501", "strings", None),
    ("COPY other TO STDOUT (ENCODING 'GBK')", "UNSUPPORTED", "0A000", "COPY", None),
]


@pytest.mark.parametrize(("sql", "reason", "sqlstate", "message", "position"), OBJECTIONS)
def test_what_cannot_be_judged_is_an_objection(
    look: Look, sql: str, reason: str, sqlstate: str, message: str, position: int | None
) -> None:
    facts = look(sql)
    assert facts.objection is not None
    assert facts.objection.reason.name == reason
    assert facts.objection.code == sqlstate
    assert message in facts.objection.message
    assert facts.objection.position == position
    assert (facts.action, facts.resources, facts.harmless) == (Action.OPAQUE, (), False)


def test_missing_where_is_told(look: Look) -> None:
    assert not look("DELETE FROM victim").has_where
    assert not look("WITH d AS (DELETE FROM other) SELECT 1").has_where
    assert look("DELETE FROM victim WHERE id = 1").has_where
    assert look("SELECT 1").has_where
    assert not look("UPDATE other SET id = 1; DELETE FROM victim WHERE id = 1").has_where


def test_columns_and_classes_stand_on_the_resource(look: Look) -> None:
    (resource,) = look("SELECT name, secret FROM victim v WHERE v.id = 5").resources
    assert resource.columns == ("id", "name", "secret")
    assert resource.classes == ("ssn",)
    (resource,) = look("SELECT name FROM victim").resources
    assert resource.classes == ()


def test_the_gravest_action_names_the_operation(look: Look) -> None:
    assert look("SELECT id FROM victim").action is Action.READ
    assert look("WITH d AS (DELETE FROM victim RETURNING id) INSERT INTO other SELECT * FROM d").action is Action.DELETE
    assert look("SELECT 1; SELECT 2; DELETE FROM victim").name == "SELECT; DELETE"


HEADS = [
    ("SELECT 'x', 5, 1.5e3, $1, E'a\\'b', $$q$$, $t$ $$ $t$ FROM t", "SELECT ?, ?, ?, $1, ?, ?, ? FROM t"),
    ("SELECT /* a /* b */ 'c' */ 1 -- x 'y\n + 2", "SELECT ? + ?"),
    ("ALTER ROLE x PASSWORD 'hunter2'", "ALTER ROLE x PASSWORD ?"),
    ("CREATE USER MAPPING FOR x SERVER s OPTIONS (password 'hunter2')",
     "CREATE USER MAPPING FOR x SERVER s OPTIONS (password ?)"),
    ('SELECT "Name", "4111 1111 1111 1111" FROM "t"', 'SELECT "Name", "?" FROM "t"'),
    ("SELECT 'unterminated", "SELECT"),
    ("SELECT U&'d\\0061ta', B'01', X'ff', n'x'", "SELECT ?, ?, ?, ?"),
    ("DO $code$ secret $code$ LANGUAGE plpgsql", "DO ? LANGUAGE plpgsql"),
    ("SELECT $unfinished$ secret", "SELECT ?"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "head"), HEADS)
def test_heads_hold_no_literals(look: Look, sql: str, head: str) -> None:
    assert look(sql).head == head


def test_heads_are_cut_at_a_character(look: Look) -> None:
    head = look("SELECT " + "é" * 2000).head
    assert len(head.encode()) <= 512
    assert "�" not in head
