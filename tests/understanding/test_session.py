"""What a session remembers of its own statements, and that being wrong means asking for more."""

from __future__ import annotations

from collections.abc import Callable

from ostiary.model.catalogue import Snapshot
from ostiary.model.operations import Action, Facts
from ostiary.protocols.postgres.operations import FactsCache, ProtectedColumns, Understood, View, study

Run = Callable[[str], Understood]
Look = Callable[[str], Facts]


def actions(facts: Facts) -> set[str]:
    assert facts.objection is None, facts.objection
    return {f"{r.action} {r.name}" for r in facts.resources}


def test_a_prepared_statement_means_what_it_was_prepared_as(run: Run) -> None:
    run("PREPARE p AS DELETE FROM victim")
    assert "delete public.victim" in actions(run("EXECUTE p").facts)
    assert "delete public.victim" in actions(run("EXPLAIN ANALYZE EXECUTE p").facts)
    assert actions(run("EXPLAIN EXECUTE p").facts) == {"read public.victim"}


def test_until_the_server_answered_a_name_means_both(
    view: View, snapshot: Snapshot, protected: ProtectedColumns
) -> None:
    def look(sql: bytes) -> Understood:
        return study(sql, view, snapshot, protected)

    first = look(b"PREPARE p AS SELECT id FROM other")
    view.expect(first.effects)
    view.confirm(first.effects, 1)
    second = look(b"PREPARE p AS DELETE FROM victim")
    view.expect(second.effects)
    assert actions(look(b"EXECUTE p").facts) == {"read public.other", "delete public.victim"}
    view.confirm(second.effects, 0)  # it failed: the name exists
    assert "delete public.victim" in actions(look(b"EXECUTE p").facts)
    view.confirm(second.effects, 1)
    assert "read public.other" not in actions(look(b"EXECUTE p").facts)


def test_a_parsed_statement_can_be_executed_in_sql(view: View, snapshot: Snapshot, protected: ProtectedColumns) -> None:
    facts = study(b"DELETE FROM victim WHERE id = $1", view, snapshot, protected).facts
    view.parsing("s", facts)
    assert "delete public.victim" in actions(study(b"EXECUTE s(1)", view, snapshot, protected).facts)
    view.parsed("s", facts)
    assert "delete public.victim" in actions(study(b"EXECUTE s(1)", view, snapshot, protected).facts)


def test_redefining_a_name_without_end_becomes_opaque(
    view: View, snapshot: Snapshot, protected: ProtectedColumns
) -> None:
    for i in range(40):
        view.expect(
            study(f"PREPARE p AS SELECT {i} LIMIT {i}, x FROM victim x".encode(), view, snapshot, protected).effects
        )
        view.expect(study(f"PREPARE p AS SELECT id AS a{i} FROM victim".encode(), view, snapshot, protected).effects)
    assert len(view.prepared["p"]) <= 16


def test_a_cursor_reads_what_it_was_declared_for(run: Run) -> None:
    run("BEGIN; DECLARE c CURSOR FOR SELECT secret FROM victim")
    facts = run("FETCH ALL FROM c").facts
    assert "read public.victim" in actions(facts)
    assert facts.unmask == ()
    assert facts.touches_protected
    run("DECLARE d CURSOR FOR SELECT upper(secret) FROM victim")
    (shown,) = run("FETCH 1 FROM d").facts.shown
    assert shown is not None
    assert shown.columns is not None
    assert [column.classes for column in shown.columns] == [("ssn",)]
    run("DECLARE e CURSOR FOR SELECT id FROM victim WHERE secret > 'a'")
    assert run("MOVE 1 FROM e").facts.infer == ("ssn",)


def test_temporary_tables_are_known_from_their_own_statements(run: Run) -> None:
    run("CREATE TEMP TABLE tt (id int, secret text)")
    assert actions(run("SELECT secret FROM tt WHERE secret = 'x'").facts) == {"read pg_temp.tt"}
    assert actions(run("INSERT INTO tt VALUES (1)").facts) == {"write pg_temp.tt"}
    assert actions(run("DROP TABLE tt").facts) == {"define pg_temp.tt", "delete pg_temp.tt"}


def test_a_temporary_table_keeps_what_was_copied_into_it(run: Run) -> None:
    assert run("CREATE TEMP TABLE tt AS SELECT id, secret AS note FROM victim").facts.unmask == ("ssn",)
    assert run("SELECT note FROM tt").facts.unmask == ("ssn",)


def test_a_temporary_view_reads_its_query(run: Run) -> None:
    assert run("CREATE TEMP VIEW tv AS SELECT secret AS note FROM victim").facts.unmask == ("ssn",)
    facts = run("SELECT note FROM tv").facts
    assert facts.unmask == ("ssn",)
    assert "read public.victim" in actions(facts)


def test_a_temporary_table_with_a_default_runs_its_function(run: Run) -> None:
    run("CREATE TEMP TABLE tt (id int DEFAULT wipe())")
    assert "execute public.wipe" in actions(run("INSERT INTO tt DEFAULT VALUES").facts)


def test_a_temporary_table_hides_one_of_the_same_name(run: Run) -> None:
    run("CREATE TEMP TABLE other (id int)")
    # Which one it is hangs on whether that was rolled back, so it is both.
    assert actions(run("DELETE FROM other").facts) >= {"delete pg_temp.other"}
    assert actions(run("DELETE FROM public.other").facts) == {"delete public.other"}


def test_a_relation_changed_in_this_transaction_is_opaque(run: Run) -> None:
    run("BEGIN")
    run("CREATE TRIGGER t AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION audit()")
    assert "execute public.audit" in actions(run("INSERT INTO other VALUES (1)").facts)
    run("CREATE RULE r AS ON INSERT TO other DO ALSO NOTIFY x")
    assert run("INSERT INTO other VALUES (1)").facts.opaque


def test_a_temporary_table_that_was_rolled_back_hides_nothing(run: Run) -> None:
    run("BEGIN; CREATE TEMP TABLE victim (id int)")
    run("ROLLBACK")
    assert "delete public.victim" in actions(run("DELETE FROM victim").facts)
    assert run("SELECT 1 FROM victim WHERE secret = 'x'").facts.infer == ("ssn",)


def test_temporary_tables_may_be_indexed_altered_and_made_again(run: Run) -> None:
    for _ in range(3):
        run("CREATE TEMP TABLE tt (id int)")
        run("CREATE INDEX ON tt (id)")
        run("ALTER TABLE tt ADD COLUMN x text DEFAULT 'a'")
        assert actions(run("SELECT x FROM tt").facts) == {"read pg_temp.tt"}
        run("DROP TABLE tt")
    run("CREATE INDEX ON tt (touchy(id))")
    assert "execute public.touchy" in actions(run("INSERT INTO tt VALUES (1)").facts)


def test_a_new_cascade_makes_its_parent_opaque(run: Run) -> None:
    run("BEGIN; ALTER TABLE victim ADD FOREIGN KEY (id) REFERENCES parent(id) ON DELETE CASCADE")
    assert run("DELETE FROM parent").facts.opaque


def test_a_prepared_statement_means_what_its_text_means_now(run: Run) -> None:
    run("SET search_path = side, public")
    run("PREPARE f AS SELECT f()")
    assert "execute side.f" in actions(run("EXECUTE f").facts)
    run("PREPARE t AS SELECT * FROM victim")
    run("CREATE TEMP VIEW victim AS SELECT wipe() AS id")
    assert "execute public.wipe" in actions(run("EXECUTE t").facts)


def test_functions_and_operators_made_in_this_session_are_known(run: Run) -> None:
    run("CREATE FUNCTION upper(text) RETURNS text LANGUAGE sql AS 'select $1'")
    assert "execute public.upper" in actions(run("SELECT upper('x')").facts)
    run("CREATE OPERATOR + (leftarg = text, rightarg = text, function = wipe)")
    facts = run("SELECT 'a'::text + 'b'::text").facts
    assert "execute wipe" in actions(facts)
    assert not facts.harmless


def test_after_code_that_nobody_saw_unknown_names_are_opaque(run: Run) -> None:
    assert run("SELECT * FROM made_by_code").facts.objection is not None
    run("SELECT wipe()")
    facts = run("SELECT * FROM made_by_code").facts
    assert facts.objection is None
    assert facts.opaque
    assert run("EXECUTE made_by_code").facts.opaque


def test_search_path_decides_what_a_name_means(run: Run, view: View) -> None:
    assert run("SELECT * FROM t").facts.objection is not None
    run("SET search_path = side")
    assert "read side.t" in actions(run("SELECT * FROM t").facts)
    assert "read public.victim" in actions(run("SELECT * FROM victim").facts)  # the SET may have been rolled back
    view.settle()
    assert actions(run("SELECT * FROM t").facts) == {"read side.t"}
    assert run("SELECT * FROM victim").facts.objection is not None


def test_a_local_search_path_may_be_gone_again(run: Run) -> None:
    run("BEGIN")
    run("SET LOCAL search_path = side, public")
    run("CREATE TEMP TABLE x (a int)")
    assert "read side.t" in actions(run("SELECT * FROM side.t").facts)
    facts = run("SELECT f() FROM other").facts
    assert "execute side.f" in actions(facts)


def test_later_statements_of_a_text_see_earlier_ones(run: Run) -> None:
    facts = run("CREATE TABLE fresh (a int); INSERT INTO fresh VALUES (1); SELECT * FROM fresh").facts
    assert actions(facts) == {"define public.fresh", "read public.fresh", "write public.fresh"}
    assert "delete public.victim" in actions(run("PREPARE q AS DELETE FROM victim; EXECUTE q").facts)


def test_parameter_types_can_run_code(view: View, snapshot: Snapshot, protected: ProtectedColumns) -> None:
    oid = snapshot.type_oids["public", "checked_int"]
    facts = study(b"SELECT $1", view, snapshot, protected, (oid,)).facts
    assert "execute public.touchy" in actions(facts)
    assert study(b"SELECT $1", view, snapshot, protected, (23,)).facts.harmless
    assert study(b"SELECT $1", view, snapshot, protected, (4_000_000,)).facts.opaque


def test_a_new_snapshot_knows_what_was_made(run: Run, view: View) -> None:
    run("CREATE TABLE fresh (a int)")
    run("CREATE TEMP TABLE mine (a int)")
    view.reread()
    assert run("SELECT * FROM fresh").facts.objection is not None
    assert run("SELECT * FROM mine").facts.objection is None


def test_two_paths_mean_both_meanings(view: View, snapshot: Snapshot, protected: ProtectedColumns) -> None:
    view.paths = (("public",), ("side", "public"))
    facts = study(b"SELECT f()", view, snapshot, protected).facts
    assert "execute side.f" in actions(facts)
    assert facts.action is Action.EXECUTE


def test_an_index_is_known_from_when_it_is_made(run: Run) -> None:
    run("CREATE TEMP TABLE scratch (id int)")
    run("CREATE INDEX by_id ON scratch (id)")
    assert "define pg_temp.by_id" in actions(run("ALTER INDEX by_id SET (fillfactor = 50)").facts)
    assert "define pg_temp.by_id" in actions(run("DROP INDEX by_id").facts)
    run("CREATE INDEX fresh ON victim (id)")  # it is in no snapshot before it is committed
    assert "define public.fresh" in actions(run("DROP INDEX fresh").facts)


def test_a_function_in_c_may_return_a_type_that_is_still_to_be_made(run: Run) -> None:
    facts = run("CREATE FUNCTION widget_in(cstring) RETURNS widget AS 'widget' LANGUAGE C").facts
    assert {"define public.widget", "administer public.widget_in"} <= actions(facts)
    assert "define public.widget_out" in actions(
        run("CREATE FUNCTION widget_out(widget) RETURNS cstring AS 'widget' LANGUAGE C").facts
    )
    assert run("CREATE FUNCTION other_in() RETURNS gadget AS 'SELECT 1' LANGUAGE sql").facts.objection is not None


def test_elements_of_a_new_schema_find_one_another(run: Run) -> None:
    facts = run(
        "CREATE SCHEMA fresh CREATE UNIQUE INDEX abc_a ON abc (a) CREATE VIEW seen AS SELECT a FROM abc"
        " CREATE TABLE abc (a serial)"
    ).facts
    assert {"define fresh.abc", "define fresh.seen"} <= actions(facts)
    assert "read public.victim" in actions(run("CREATE SCHEMA more CREATE VIEW seen AS SELECT id FROM victim").facts)


def test_what_commits_a_prepared_transaction_outdates_the_catalogue(run: Run) -> None:
    assert run("COMMIT PREPARED 'x'").facts.invalidates_catalogue
    assert not run("COMMIT").facts.invalidates_catalogue


def test_an_index_whose_name_the_server_made_is_as_its_table(run: Run) -> None:
    run("CREATE TEMP TABLE scratch(a int PRIMARY KEY, b int UNIQUE, c serial)")
    assert run("DROP INDEX other_pkey").facts.objection is not None
    assert run("SELECT * FROM scratch_nothing").facts.objection is not None
    for statement in (
        "ALTER INDEX scratch_pkey RENAME TO x", "DROP INDEX scratch_b_key", "ALTER SEQUENCE scratch_c_seq RESTART",
        "ALTER INDEX scratch_b_key1 SET (fillfactor = 70)",
    ):  # fmt: skip
        assert "define pg_temp.scratch" in actions(run(statement).facts), statement


def test_a_range_brings_its_multirange(run: Run) -> None:
    run('CREATE TYPE "a-b" AS RANGE (subtype = text)')
    run("CREATE TYPE intrange AS RANGE (subtype = int)")
    run("CREATE TYPE odd AS RANGE (subtype = int, multirange_type_name = more)")
    for name in ('"a-b_multirange"', "intmultirange", "more", '"a-b"'):
        assert run(f"SELECT NULL::{name}").facts.objection is None, name
    assert run("SELECT NULL::odd_multirange").facts.objection is not None


def test_the_state_of_the_session_is_a_fact(run: Run, look: Look) -> None:
    assert look("SELECT * FROM victim").session == ()
    before = look("SELECT * FROM victim").digest
    run("SET search_path = side, public")
    run("SET ROLE postgres")
    run("CREATE TEMP TABLE mine(id int)")
    state = ("role=postgres", "search_path=side,public", "temporary objects")
    assert look("SELECT * FROM public.victim").session == state
    assert look("SELECT * FROM public.victim").digest != before
    run("SELECT set_config('role', 'none', false)")
    run("DO $$ BEGIN END $$")
    assert look("SELECT 1").session == ("role=none", *state, "unseen work")


def test_a_transaction_and_how_it_was_begun_are_facts(view: View, run: Run, look: Look) -> None:
    plain = look("DELETE FROM victim WHERE id = 1")
    assert plain.session == ()
    run("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY")
    inside = look("DELETE FROM victim WHERE id = 1")
    assert inside.session == ("isolation=serializable", "read only", "transaction")
    assert inside.digest != plain.digest
    view.block(is_open=True, has_failed=True)
    assert look("SELECT 1").session == ("failed transaction", "isolation=serializable", "read only")
    view.block(is_open=False)
    assert look("DELETE FROM victim WHERE id = 1") == plain
    run("BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET LOCAL DateStyle = 'SQL, DMY'")
    assert look("SELECT 1").session == ("datestyle=sql, dmy", "isolation=repeatable read", "transaction")
    view.block(is_open=False)
    run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    run("SET default_transaction_read_only = on")
    assert look("SELECT 1").session == ("isolation=serializable", "read only")


def test_settings_by_which_literals_are_read_are_facts(run: Run, look: Look) -> None:
    for statement in (
        "SET DateStyle = 'German'", "SET datestyle TO SQL, DMY", "SELECT set_config('TimeZone', 'Europe/Berlin', false)",
        "SET backslash_quote = on", "SET extra_float_digits = 3", "SET work_mem = '4MB'", "RESET DateStyle", "SET TimeZone = 'Ünlü'",
        "SET client_encoding = 'UTF8'", "SET standard_conforming_strings = on",
    ):  # fmt: skip
        assert run(statement).facts.objection is None, statement
    assert look("SELECT 1").session == ("backslash_quote=on", "datestyle=german", "datestyle=sql, dmy", "timezone=?", "timezone=europe/berlin")
    for number in range(50):
        run(f"SET TimeZone = 'UTC+{number}'")
    assert "more settings" in look("SELECT 1").session
    assert len(look("SELECT 1").session) <= 34


def test_what_is_remembered_outside_of_a_transaction_is_not_said_inside(view: View, run: Run, snapshot: Snapshot, protected: ProtectedColumns) -> None:
    cache = FactsCache()
    sql = b"SELECT * FROM other"
    assert cache.look(sql, view, snapshot, protected).facts.session == ()
    run("BEGIN")
    assert cache.look(sql, view, snapshot, protected).facts.session == ("transaction",)
    view.block(is_open=False)
    assert cache.look(sql, view, snapshot, protected).facts.session == ()
