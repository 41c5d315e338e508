"""What is read of a catalogue after a change is what reading everything gives."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from ostiary.catalogue import read as reading
from ostiary.catalogue import read_snapshot
from ostiary.catalogue.read import Rows
from ostiary.driver.side import Side
from ostiary.model.catalogue import Snapshot
from ostiary.testing.peers import Peer
from tests.catalogue.test_catalogue import connection

pytestmark = pytest.mark.timeout(300)

DATABASE = "changes"
CHANGES = """
create table a(id serial primary key, t text)
create table b(id int references a on delete cascade, also int)
alter table b add constraint fk foreign key (also) references a on update set null
alter table b drop constraint fk
alter table a rename column t to u
alter table a drop column u
alter table a add column v int default 7
alter table a rename to c
alter table b rename to a
alter table c set schema s
alter schema s rename to s2
create view v as select id from a
create view vv as select * from v where id > 1
create or replace view v as select also as id from a
drop view vv
create materialized view m as select id from a
create view secret as select rolname, rolpassword from pg_authid
create view files as select pg_read_file('x') as content
create or replace view files as select 'x'::text as content
create function f(int) returns int language sql volatile as 'select $1'
alter function f(int) immutable
create index on a (f(id))
drop index a_f_idx
create function f(text) returns int language sql as 'select 1'
drop function f(text)
alter function f(int) rename to g
create function tr() returns trigger language plpgsql as 'begin return new; end'
create trigger t1 before insert on a for each row execute function tr()
alter table a disable trigger t1
drop trigger t1 on a
create rule r as on insert to a do also notify x
drop rule r on a
create policy p on a using (g(id) = 1)
drop policy p on a
create domain d as int check (g(value) = 1)
alter domain d add constraint more check (value > 0)
create type pair as (a int, b d)
alter type pair add attribute c text
create type mood as enum ('a', 'b')
create type r1 as range (subtype = d)
create function cmp(pair, pair) returns int language sql as 'select 1'
create operator class by_pair default for type pair using btree as function 1 cmp(pair, pair)
create type r2 as range (subtype = pair)
create function isless(int, int) returns boolean language sql as 'select true'
create operator ### (leftarg = int, rightarg = int, function = isless)
create view with_operator as select id from a where id ### 1
create function castf(pair) returns int language sql as 'select 1'
create cast (pair as int) with function castf(pair) as implicit
drop cast (pair as int)
create table p(k int, s text) partition by list (k)
create table p1 partition of p for values in (1)
alter table p detach partition p1
alter table p attach partition p1 for values in (1)
create table child() inherits (a)
alter table child no inherit a
drop materialized view m
drop view v
drop view with_operator
alter table a alter column id type bigint
alter table a alter column id set default g(1)
alter table a alter column id drop default
begin; create table gone(x int); create function gone() returns int language sql as 'select 1'; rollback
vacuum full pg_catalog.pg_class
vacuum full pg_catalog.pg_attribute
create temp table mine(a int)
create schema more create table more.t(a int) create view more.w as select a from more.t
drop schema more cascade
drop operator ### (int, int) cascade
drop table a cascade
create extension hstore
drop extension hstore
alter function pg_catalog.lower(text) volatile
alter function pg_catalog.lower(text) immutable
"""


@pytest.fixture(scope="module")
def database(postgres: Peer) -> Iterator[str]:
    postgres.psql(f"create database {DATABASE}")
    postgres.psql("create schema s", DATABASE)
    yield DATABASE
    postgres.psql(f"drop database {DATABASE} with (force)")


class Counted:
    """A link that counts the rows that come over it."""

    def __init__(self, link: Side) -> None:
        self.link = link
        self.rows = 0

    @property
    def is_closed(self) -> bool:
        return self.link.is_closed

    async def fetch_all(self, statements: list[str]) -> list[Rows]:
        answers = await self.link.fetch_all(statements)
        self.rows += sum(map(len, answers))
        return answers

    def close(self) -> None:
        self.link.close()


def described(snapshot: Snapshot) -> dict[str, object]:
    """What it says, whatever the order that the server gave rows in."""
    plain = msgspec.to_builtins(msgspec.structs.replace(snapshot, version=0), str_keys=False, builtin_types=(frozenset,))
    operators = plain.pop("operators_named")
    return plain | {"operators": {name: sorted(map(str, each)) for name, each in operators.items()}}


def test_after_every_kind_of_ddl_what_changed_makes_the_same_whole(postgres: Peer, database: str) -> None:
    async def story() -> None:
        link = Counted(await Side.open(connection(postgres, database=database), None))
        try:
            await changes(link)
        finally:
            link.close()

    async def changes(link: Counted) -> None:
        known = await reading.look(link, None)
        all_rows = link.rows
        few = 0
        for ddl in filter(None, CHANGES.splitlines()):
            postgres.psql(ddl, database)
            before, link.rows = known, 0
            known = await reading.look(link, known)
            few += link.rows < all_rows / 2
            whole = await read_snapshot(link, known.snapshot.version)
            assert described(known.snapshot) == described(whole), ddl
            same = described(before.snapshot) == described(known.snapshot)
            assert (before.snapshot.version == known.snapshot.version) == same, ddl
        assert few > 50  # of 70: the others touch what PostgreSQL itself brings, or what an operator means

    asyncio.run(story())
