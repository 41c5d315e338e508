"""One database with everything that statements can hide behind, and its catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from ostiary.catalogue import read_snapshot
from ostiary.driver.side import Side
from ostiary.model.catalogue import Snapshot
from ostiary.model.connections import Durability, PostgresConnection, PostgresUpstream, Protected, Recording, Strategy
from ostiary.model.operations import Facts
from ostiary.protocols.postgres.operations import ProtectedColumns, Understood, View, study
from ostiary.testing.peers import Peer

DATABASE = "understanding"

SCHEMA = """
create table victim(id int primary key, name text, secret text);
insert into victim select i, 'n' || i, '078-05-1120' from generate_series(1, 5) i;
create table other(id int);
create function wipe() returns int language sql as 'delete from victim; select 1';
create function audit() returns trigger language plpgsql as 'begin return new; end';
create function touchy(int) returns int language sql immutable as 'select $1';

create view plain_view as select id, name from victim;
create view secret_view as select id, secret as note from victim;
create view view_on_view as select note from secret_view;
create view calling_view as select wipe() as n;
create view authid_view as select rolname, rolpassword from pg_authid;
create view over_authid_view as select rolname from authid_view;
create view stats_view as select attname, most_common_vals::text from pg_stats where tablename = 'x';
create view file_view as select pg_read_file('x') as content;
create view text_view as select query_to_xml('select 1', true, true, '') as content;
create view clock_view as select now() as n, random() as r, relname from pg_class;
create table reading(id serial, content text default pg_read_file('x'), at timestamptz default now());
create materialized view matted as select id from victim;

create table watched(id int primary key, v int);
create trigger watched_tr after insert or update or delete on watched for each row execute function audit();
create table ruled(id int);
create rule ruled_r as on insert to ruled do also delete from victim;
create table defaulted(id int, n int default wipe());
create table checked(id int check (touchy(id) > 0));

create table parent(id int primary key, v text);
create table child(id int references parent on delete cascade on update cascade);
create table grandchild(id int);
alter table child add unique (id);
alter table grandchild add foreign key (id) references child(id) on delete set null on update cascade;
create table loose(id int references parent);

create table parts(id int, k int) partition by list (k);
create table parts_1 partition of parts for values in (1);
create table parts_2 partition of parts for values in (2);
create table base(id int);
create table derived(extra int) inherits (base);

create sequence counter;
create type mood as enum ('sad', 'glad');
create table moody(m mood);
create domain checked_int as int check (touchy(value) > 0);
create table domained(d checked_int);
create function opf(int, int) returns int language sql as 'select 1';
create operator ### (leftarg = int, rightarg = int, function = opf);
create type pair as (a int, b int);
create function pair_int(pair) returns int language sql as 'select 1';
create cast (pair as int) with function pair_int(pair);
create table paired(p pair);
create function lower(int) returns text language sql as 'select ''x''::text';
create function variadic_one(variadic int[]) returns int language sql as 'select 1';
create function defaulted_two(a int, b int default 1) returns int language sql as 'select 1';

create schema side;
create table side.t(a int, secret text);
create function side.f() returns int language sql as 'select 1';
create function peek() returns text language sql as 'select secret from victim';
create function peek_too() returns text language plpgsql as 'begin return (select peek()); end';
create function made_up(text) returns text language plpgsql as 'declare r text; begin execute $1 into r; return r; end';
create function upped(text) returns text language plpgsql as 'begin return upper($1); end';
create function standard() returns text return (select v.secret from public.victim v limit 1);
create view peeking as select peek_too() as p, 1 as n;
create procedure proc() language sql as 'delete from victim';
create table guarded(id int);
alter table guarded enable row level security;
create policy p on guarded using (touchy(id) > 0);
"""


async def snapshot_of(peer: Peer, database: str, version: int = 1) -> Snapshot:
    upstream = PostgresUpstream(
        host=peer.host, port=peer.port, database=database, user=peer.user, password=None, tls="disable",
        ca_file=None, cert_file=None, key_file=None, connect_timeout=5.0,
    )  # fmt: skip
    link = await Side.open(connection_to(upstream), None)
    try:
        return await read_snapshot(link, version)
    finally:
        link.close()


def connection_to(upstream: PostgresUpstream) -> PostgresConnection:
    return PostgresConnection(
        name="c", upstream=upstream, labels=(), durability=Durability.BUFFERED,
        recording=Recording.EVENTS, protect=(), detect=frozenset(), catalogue_seconds=30.0, max_sessions=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def database(postgres: Peer) -> Iterator[str]:
    postgres.psql(f"create database {DATABASE}")
    postgres.psql(SCHEMA, DATABASE)
    yield DATABASE
    postgres.psql(f"drop database {DATABASE} with (force)")


@pytest.fixture(scope="session")
def snapshot(postgres: Peer, database: str) -> Snapshot:
    return asyncio.run(snapshot_of(postgres, database))


@pytest.fixture(scope="session")
def protected(snapshot: Snapshot) -> ProtectedColumns:
    return ProtectedColumns((Protected("public", "victim", "secret", "ssn", Strategy.REDACT),), snapshot)


@pytest.fixture
def view(snapshot: Snapshot) -> View:
    return View(snapshot.search_path)


@pytest.fixture
def look(view: View, snapshot: Snapshot, protected: ProtectedColumns) -> Callable[[str], Facts]:
    """Judge, as the first statement of a session."""
    return lambda sql: study(sql.encode(), view, snapshot, protected).facts


@pytest.fixture
def run(view: View, snapshot: Snapshot, protected: ProtectedColumns) -> Callable[[str | bytes], Understood]:
    """Judge, and behave as if the server had run it."""

    def go(sql: str | bytes) -> Understood:
        understood = study(sql if isinstance(sql, bytes) else sql.encode(), view, snapshot, protected)
        if understood.facts.objection is None:
            view.expect(understood.effects)
            view.confirm(understood.effects, 1_000_000)
        return understood

    return go
