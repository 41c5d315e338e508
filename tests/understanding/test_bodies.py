"""Bodies of functions in SQL and PL/pgSQL: what their statements do, and that what cannot be read is opaque."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.catalogue import Function, Snapshot
from ostiary.model.operations import Facts
from ostiary.protocols.postgres.grammar import lib, scan
from ostiary.protocols.postgres.operations import ProtectedColumns, View, study
from ostiary.protocols.postgres.understand.bodies import EXPRESSION, Body, body_of
from ostiary.protocols.postgres.understand.unshown import Shown, unshown
from ostiary.testing.peers import Peer
from tests.understanding.conftest import snapshot_of

DATABASE = "bodies"
SCHEMA = r"""
create table victim(id int primary key, name text);
create table log(id int, what text);
create table watched(id int, name text);
create schema safe;
create table safe.victim(id int);
create type kind as enum ('a');
create function reads() returns int language plpgsql as 'declare n int; begin select count(*) into n from victim; return n; end';
create function reads_quietly() returns int language plpgsql as 'declare n int := (select count(*) from victim); begin return n; end';
create function deletes(a int) returns void language plpgsql as 'begin if a > 1 then delete from victim where id = a; end if; end';
create function empties() returns void language plpgsql as 'begin delete from victim; end';
create function loops() returns setof int language plpgsql as
  'declare r record; begin for r in select * from victim loop return next r.id; end loop; return query select 1; return; end';
create function in_a_cursor() returns refcursor language plpgsql as
  'declare c refcursor; d cursor for select 1 from log; begin open c for select * from victim; return c; end';
create function assigns(out a int, inout b victim, c int[]) language plpgsql as
  'begin a := 1; b.id := (select max(id) from victim); c[(select id from log)] = 2; end';
create type state as enum ('on', 'off');
create function is_short(t text) returns bool language plpgsql as 'begin return (select count(*) from victim) > length(t); end';
create domain short as text check (is_short(value));
create table shorts(s short);
create function lost_default() returns int language plpgsql as
  'declare r record := (select row(count(*)) from victim); s state default (select ''on'' from log limit 1); n state := ''off''; begin return 1; end';
create function lost_row() returns int language plpgsql as 'declare r victim not null = empties(); begin return 1; end';
create function indexes(a int[]) returns int language plpgsql as
  $$ begin a[reads()][empties_counted()] := 1; a[1:deletes_counted()] = 2; return 1; end $$;
create function empties_counted() returns int language sql as 'delete from victim; select 1';
create function deletes_counted() returns int language sql as 'delete from log; select 1';
create function added(int, int) returns int language sql as 'delete from victim; select 1';
create function with_default(a int default empties_counted()) returns int language sql as 'select 1';
create function with_plain_default(a timestamptz default now() + interval '1 day') returns int language sql as 'select 1';
create operator ## (leftarg = int, rightarg = int, function = added);
create function with_operator(a int default 1 ## 2) returns int language sql as 'select 1';
create function with_file(a text default pg_read_file('x')) returns int language sql as 'select 1';
create function assigns_behind_a_sign(t text) returns text language plpgsql as
  $$ declare a text; begin a = /* := */ empties_counted(); t = ':=' || deletes_counted(); return t; end $$;
create function is_short_here(t text) returns int language plpgsql as 'declare s short; begin s := t; return 1; end';
create function is_short_there(t text) returns int language plpgsql as 'declare s shorts.s%type; begin s := t; return 1; end';
create function is_short_in_a_row(t text) returns int language plpgsql as 'declare s public.shorts%rowtype; begin s := row(t); return 1; end';
create function reads_otherwise() returns void language plpgsql set standard_conforming_strings = off as
  $$ begin perform '\''; delete from victim; --';
  end $$;
create function reads_sql_otherwise() returns void language sql set standard_conforming_strings = off as $$ select '\''; delete from victim; --' $$;
create function begins_with_a_table() returns int language sql as
  $$CREATE TEMP TABLE mine(t text default '
RETURN 1 --'); delete from victim; select 1$$;
create function drops() returns void language plpgsql as 'begin drop table log; end';
create function truncates() returns void language plpgsql as 'begin truncate log; exception when others then null; end';
create function makes_up(t text) returns void language plpgsql as 'begin execute ''delete from '' || t; end';
create function makes_up_rows(t text) returns setof int language plpgsql as 'begin return query execute t; end';
create function makes_up_a_loop(t text) returns int language plpgsql as 'declare r record; begin for r in execute t loop null; end loop; return 1; end';
create function makes_up_a_cursor(t text) returns refcursor language plpgsql as 'declare c refcursor; begin open c for execute t; return c; end';
create function calls() returns int language plpgsql as 'begin perform deletes(2); return reads(); end';
create function itself(n int) returns int language plpgsql as 'begin return itself(n - 1); end';
create function elsewhere() returns int language plpgsql set search_path = safe, pg_catalog as 'begin return (select count(*) from victim); end';
create function elsewhere_in_sql() returns bigint language sql set search_path = safe as 'select count(*) from victim';
create function lost() returns int language plpgsql as 'begin return (select n from no_such_table); end';
create function lost_in_sql() returns int language sql as 'select 1; select 2';
create function its_own() returns int language plpgsql as
  'begin create temp table mine(id int); insert into mine values (1); return (select id from mine); end';
create function sets_path() returns void language plpgsql as 'begin set search_path = safe; end';
create function lifts() returns void language plpgsql as 'begin set local statement_timeout = 0; end';
create function quotes() returns text language plpgsql as
  $$ begin /* delete from victim */ return 'delete from victim; "PLpgSQL_stmt_dynexecute": ' || $x$ drop table log $x$; end $$;
create function on_row() returns trigger language plpgsql as
  'begin if tg_op = ''DELETE'' then new.id := 1; end if; insert into log values (old.id, new.name); return new; end';
create trigger t after insert or update on watched for each row execute function on_row();
create view shows as select reads() as n;
create procedure proc(a int) language plpgsql as 'begin delete from victim where id = a; commit; end';
create aggregate adds(int) (sfunc = added, stype = int, initcond = '0');
create function "odd name"("a b" int, int) returns int language plpgsql as 'begin "a b" := $2; return "a b"; end';
"""


@pytest.fixture(scope="module")
def snapshot(postgres: Peer) -> Iterator[Snapshot]:
    postgres.psql(f"create database {DATABASE}")
    postgres.psql(SCHEMA, DATABASE)
    yield asyncio.run(snapshot_of(postgres, DATABASE))
    postgres.psql(f"drop database {DATABASE} with (force)")


@pytest.fixture
def look(snapshot: Snapshot) -> Callable[[str], Facts]:
    return lambda sql: study(sql.encode(), View(snapshot.search_path), snapshot, ProtectedColumns((), snapshot)).facts


DOES = {
    "reads()": "read public.victim",
    "reads_quietly()": "read public.victim",
    "deletes(3)": "delete public.victim, read public.victim",
    "empties()": "delete public.victim",
    "loops()": "read public.victim",
    "in_a_cursor()": "read public.log, read public.victim",
    "assigns(null, null)": "read public.log, read public.victim",
    "drops()": "define public.log, delete public.log",
    "truncates()": "delete public.log",
    "calls()": "delete public.victim, execute public.deletes, execute public.reads, read public.victim",
    "itself(3)": "",
    "lost_default()": "read public.log, read public.victim",
    "lost_row()": "delete public.victim, execute public.empties",
    "indexes(null)": (
        "delete public.victim, delete public.log, read public.victim, execute public.reads, execute public.empties_counted,"
        " execute public.deletes_counted"
    ),
    "with_default()": "delete public.victim, execute public.empties_counted",
    "with_plain_default()": "",
    "with_operator()": "delete public.victim, execute public.added",
    "with_file()": "administer pg_catalog.pg_read_file",
    "assigns_behind_a_sign('')": "delete public.victim, delete public.log, execute public.empties_counted, execute public.deletes_counted",
    "is_short_here('')": "read public.victim, execute public.is_short",
    "is_short_there('')": "read public.victim, execute public.is_short",
    "is_short_in_a_row('')": "read public.victim, execute public.is_short",
    "reads_otherwise()": "opaque public.reads_otherwise",
    "reads_sql_otherwise()": "opaque public.reads_sql_otherwise",
    "begins_with_a_table()": "define pg_temp.mine, delete public.victim",
    "elsewhere()": "read safe.victim",
    "elsewhere_in_sql()": "read safe.victim",
    "quotes()": "",
    '"odd name"(1, 2)': "",
    "makes_up('x')": "opaque public.makes_up",
    "makes_up_rows('x')": "opaque public.makes_up_rows",
    "makes_up_a_loop('x')": "opaque public.makes_up_a_loop",
    "makes_up_a_cursor('x')": "opaque public.makes_up_a_cursor",
    "lost()": "opaque public.lost",
    "sets_path()": "administer search_path",
}


@pytest.mark.parametrize("call", DOES)
def test_calling_a_function_is_doing_what_its_statements_do(look: Callable[[str], Facts], call: str) -> None:
    facts = look(f"SELECT {call}")
    assert facts.objection is None
    name = call.partition("(")[0].strip('"')
    expected = {each for each in DOES[call].split(", ") if each} | {f"execute public.{name}"}
    assert {f"{each.action} {each.name}" for each in facts.resources} == expected
    assert bool(facts.opaque) == ("opaque" in DOES[call])


def test_what_a_body_says_counts_as_if_it_were_said(look: Callable[[str], Facts]) -> None:
    assert not look("SELECT empties()").has_where
    assert look("SELECT deletes(1)").has_where
    assert look("SELECT lifts()").lifts == ("timeout",)
    assert look("SELECT drops()").invalidates_catalogue
    assert not look("SELECT its_own()").opaque


def test_bodies_behind_triggers_views_and_calls_are_read(look: Callable[[str], Facts]) -> None:
    for statement, expected in (
        ("INSERT INTO watched VALUES (1)", {"write public.watched", "write public.log", "execute public.on_row"}),
        ("SELECT * FROM shows", {"read public.shows", "read public.victim", "execute public.reads"}),
        ("SELECT adds(id) FROM log", {"read public.log", "delete public.victim", "execute public.adds", "execute public.added"}),
        ("CALL proc(1)", {"opaque CALL", "execute public.proc", "delete public.victim", "read public.victim"}),
    ):
        assert {f"{each.action} {each.name}" for each in look(statement).resources} == expected, statement


def test_the_same_text_calls_it_again_and_says_it_again(look: Callable[[str], Facts]) -> None:
    facts = look("SELECT reads(); DECLARE c CURSOR FOR SELECT reads()")
    assert facts.objection is None
    assert dict(facts.reached)["relation public.victim"] == ("function public.reads",)


EVERYTHING = r"""
#variable_conflict use_column
<<outer>>
declare
  n numeric(10, 2) not null := f1(); o constant int = 1; t text collate "C" default f2(); a int[3]; other alias for $1; v log.id%type = f3();
  c cursor (k int, m varchar(3)) for select k, f4(m); d no scroll cursor is (select f5()); u refcursor; r record; "odd; := (" int := f6();
begin
  select f7(), 1 into strict n, r.a from log where id = f8();
  insert into log values (f9()) returning id into n;
  perform f10(), 2;  -- f()
  if f11() then delete from log where f12(); elsif (f13()) then a[f14()][1:f15()] = f16(); else r.x := f17(); end if;
  case f18() when 1, f19() then null; when f20() then null; else raise notice 'a % %', f21(), (f22()) using hint = f23(), errcode := '22012'; end case;
  case when f24() then null; end case;
  for i in reverse f25() .. f26() by f27() loop exit outer when f28(); end loop;
  for r in select f29() loop continue; end loop;
  <<inner>> for r in c(f30(), m := f31()) loop return next f32(); end loop inner;
  foreach n slice 1 in array f33() loop null; end loop;
  while f34() loop assert f35(), f36(); end loop;
  open outer.c(m => f37(), k => 2); open u no scroll for select f38(); fetch relative f39() from c into n; move forward f40() in c; close c;
  get diagnostics n = row_count, t := pg_context;
  call f41(f42()); commit and chain;
  return query select f43() union all (select f44());
  begin null; exception when division_by_zero or sqlstate '22012' then get stacked diagnostics t = message_text; raise; end;
  return;
end
"""


def shown_of(body: str) -> list[Shown]:
    """What the compiler shows of a body."""
    result = lib.pg_query_parse_plpgsql(f"CREATE FUNCTION f(text) RETURNS SETOF record LANGUAGE plpgsql AS $_${body}$_$".encode())
    try:
        assert not result.error, result.error.contents.message
        found = EXPRESSION.findall(result.plpgsql_funcs)
    finally:
        lib.pg_query_free_plpgsql_parse_result(result)
    return [Shown(scan(json.loads(b'"' + text + b'"').encode()), int(mode), bool(kind)) for kind, text, mode in found]


def test_what_the_compiler_would_not_show_is_found_or_makes_the_body_opaque() -> None:
    body, shown = scan(EVERYTHING.encode()), shown_of(EVERYTHING)
    whole = unshown(body, shown)
    assert whole.is_all
    assert not whole.values
    for each in shown:
        calls = {word.said for word in each.tokens if re.fullmatch(r"f\d+", word.said)}
        rest = unshown(body, [other for other in shown if other is not each])
        values = "".join(EVERYTHING[start:end] for start, end in rest.values)
        assert not calls or not rest.is_all or all(call in values for call in calls), calls


def test_a_plain_body_is_seen_whole() -> None:
    function = Function(20000, "public", "f", (), 0, "v", "f", "plpgsql", EVERYTHING, names=("x",))
    body = body_of(function)
    assert body is not None
    assert body.is_all
    assert not body.makes_up
    said = b" ".join(body.texts)
    assert [n for n in range(1, 45) if f"f{n}(" not in said.decode()] == []


@pytest.mark.parametrize(
    "body",
    ["", "begin", "begin end", "this is no code", "begin \\ end", "$$ $ostiary$ begin end", "begin return '\u2028\"\\'; end", "x" * 300_000],
)
def test_whatever_a_body_holds_it_is_read_or_it_is_not(body: str) -> None:
    def made(**more: Any) -> Function:
        return Function(20000, "public", "f", (), 23, "v", "f", "plpgsql", body, **more)

    for function in (made(), made(names=('a"b', "", "a"))):
        found = body_of(function)
        assert found is None or found.texts is not None


WORDS = [
    "begin", "end", ";", "declare", "a", "b", ":=", "=", "=>", "(", ")", "[", "]", ",", ".", "..", "%", "type", "rowtype",
    "cursor", "for", "is", "in", "open", "loop", "if", "then", "into", "strict", "select", "perform", "f", "1", "'x'", "<<",
    ">>", "#", "$1", '"q"', "default", "not", "alias", "using", "execute", "return", "query", "next", "case", "when", "else",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=14), st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14), st.sampled_from((0, 2, 3)))))
def test_whatever_stands_in_a_body_what_is_not_shown_is_told(words: list[str], parts: list[tuple[int, int, int]]) -> None:
    body = scan(" ".join(words).encode())
    rest = unshown(body, [Shown(body[start:end], mode, mode == 3) for start, end, mode in parts])
    assert rest.is_all in {True, False}
    function = Function(20000, "public", "f", (), 23, "v", "f", "plpgsql", f"begin {' '.join(words)} end")
    assert body_of(function) is None or isinstance(body_of(function), Body)


MAKES = "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE plpgsql AS 'begin delete from victim; return 1; end'"
ADDS = "CREATE FUNCTION mine(int, int) RETURNS int LANGUAGE sql AS 'delete from victim; select 1'"
FIRES = "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'begin delete from victim; return new; end'"
LATER = {
    "called": (MAKES, "SELECT pg_temp.mine()"),
    "called in the same text": (f"{MAKES}; SELECT pg_temp.mine()",),
    "behind an operator": (ADDS, "CREATE OPERATOR ## (leftarg = int, rightarg = int, function = mine)", "SELECT 1 ## 2"),
    "behind an aggregate": (ADDS, "CREATE AGGREGATE sums(int) (sfunc = mine, stype = int)", "SELECT sums(1)"),
    "as a trigger": (FIRES, "CREATE TRIGGER t AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION mine()", "INSERT INTO log VALUES (1)"),
    "in a default": (MAKES, "CREATE TEMP TABLE d(id int DEFAULT pg_temp.mine())", "INSERT INTO d DEFAULT VALUES"),
    "an aggregate of a function that was there": ("CREATE AGGREGATE sums(int) (sfunc = added, stype = int)", "SELECT sums(1)"),
}


@pytest.mark.parametrize("way", LATER)
def test_a_function_that_the_session_made_is_read_as_well(snapshot: Snapshot, way: str) -> None:
    view, protected = View(snapshot.search_path), ProtectedColumns((), snapshot)
    for statement in LATER[way]:
        understood = study(statement.encode(), view, snapshot, protected)
        assert understood.facts.objection is None
        view.expect(understood.effects)
        view.confirm(understood.effects, 99)
    assert "delete public.victim" in {f"{each.action} {each.name}" for each in understood.facts.resources}
    assert not understood.facts.has_where


def test_a_new_function_whose_text_is_read_in_another_way_is_opaque(snapshot: Snapshot) -> None:
    view, protected = View(snapshot.search_path), ProtectedColumns((), snapshot)
    made = (
        r"CREATE FUNCTION other() RETURNS void LANGUAGE plpgsql SET Standard_Conforming_Strings = off AS"
        r" $$ begin perform '\''; delete from victim; --'; end $$"
    )
    for statement in (made, "SELECT other()"):
        understood = study(statement.encode(), view, snapshot, protected)
        assert understood.facts.objection is None
        view.expect(understood.effects)
        view.confirm(understood.effects, 99)
    assert understood.facts.opaque
