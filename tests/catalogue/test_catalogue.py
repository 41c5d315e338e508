"""What is read of a real PostgreSQL, and how fresh it is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from ostiary.catalogue import Catalogue, read_snapshot
from ostiary.catalogue.queries import STAMPS
from ostiary.catalogue.read import look
from ostiary.driver.side import QueryFailed, Side
from ostiary.model.catalogue import Snapshot
from ostiary.model.connections import Durability, PostgresConnection, PostgresUpstream, Protected, Recording, Strategy
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.protocols.postgres.operations import ProtectedColumns
from ostiary.testing.peers import Peer

DATABASE = "catalogue"
SCHEMA = """
create table t(a int, b text, c text);
alter table t drop column b;
create view v as select a, c from t;
create view vv as select a from v where c is null;
create function f(int) returns int language sql volatile as 'select $1';
create function tr() returns trigger language plpgsql as 'begin return new; end';
create trigger t_tr before insert on t for each row execute function tr();
create table p(k int, s text) partition by list (k);
create table p1 partition of p for values in (1);
create table pk(id int primary key);
create table fk(id int references pk on delete cascade, also int references pk on update set null);
create domain d as int check (f(value) = 1);
create type pair as (a int, b d);
create function castf(pair) returns int language sql as 'select 1';
create cast (pair as int) with function castf(pair) as implicit;

create rule r as on insert to pk do also notify x;
create function opf(int, int) returns boolean language sql as 'select true';
create operator ### (leftarg = int, rightarg = int, function = opf);
create view with_operator as select a from t where a ### 1;
create role limited login;
create schema closed;
"""


@pytest.fixture(scope="module")
def database(postgres: Peer) -> Iterator[str]:
    postgres.psql(f"create database {DATABASE}")
    postgres.psql(SCHEMA, DATABASE)
    yield DATABASE
    postgres.psql(f"drop database {DATABASE} with (force)")
    postgres.psql("drop role limited")


async def _read(peer: Peer, user: str) -> Snapshot:
    link = await Side.open(connection(peer, user=user), None)
    try:
        await link.fetch("set default_transaction_read_only = off")
        await link.fetch("create temp table mine (a int)")
        return await read_snapshot(link, 7)
    finally:
        link.close()


@pytest.fixture(scope="module")
def snapshot(postgres: Peer, database: str) -> Snapshot:
    return asyncio.run(_read(postgres, postgres.user))


def names(snapshot: Snapshot, oids: tuple[int, ...]) -> set[str]:
    return {snapshot.functions[oid].name for oid in oids}


def relation(snapshot: Snapshot, name: str) -> Any:
    return snapshot.relations[snapshot.relation_oids["public", name]]


def test_who_and_where(snapshot: Snapshot, postgres: Peer) -> None:
    assert (snapshot.version, snapshot.database, snapshot.role, snapshot.superuser) == (
        7,
        DATABASE,
        postgres.user,
        True,
    )
    assert snapshot.search_path == ("public",)
    assert snapshot.writable_schemas == {"closed"}
    assert snapshot.server_version >= 130_000


def test_dropped_columns_are_gone_and_numbers_stay(snapshot: Snapshot) -> None:
    assert [(c.name, c.number) for c in relation(snapshot, "t").columns] == [("a", 1), ("c", 3)]


def test_views_read_their_bases(snapshot: Snapshot) -> None:
    t, v = relation(snapshot, "t"), relation(snapshot, "v")
    assert v.reads == ((t.oid, (1, 3)),)
    assert [base for base, _ in relation(snapshot, "vv").reads] == [v.oid]
    assert names(snapshot, relation(snapshot, "with_operator").read_calls) == {"opf"}


def test_triggers_keys_partitions_and_rules(snapshot: Snapshot) -> None:
    assert names(snapshot, relation(snapshot, "t").calls) == {"tr"}
    assert relation(snapshot, "t").read_calls == ()
    pk, fk = relation(snapshot, "pk"), relation(snapshot, "fk")
    assert pk.delete_cascades == pk.update_cascades == pk.referenced_by == (fk.oid,)
    assert pk.rules
    assert not fk.rules
    assert relation(snapshot, "p").children == (relation(snapshot, "p1").oid,)


def test_types_know_what_using_them_runs(snapshot: Snapshot) -> None:
    domain = snapshot.types[snapshot.type_oids["public", "d"]]
    assert names(snapshot, domain.calls) == {"f"}
    assert domain.base == 23
    pair = snapshot.type_oids["public", "pair"]
    assert snapshot.functions[snapshot.user_casts[pair, 23]].name == "castf"
    assert (pair, 23) in snapshot.implicit_casts


def test_built_in_functions_are_there_with_their_volatility(snapshot: Snapshot) -> None:
    (oid,) = snapshot.functions_named["pg_catalog", "pg_sleep"]
    assert snapshot.functions[oid].volatility == "v"
    assert oid < 16_384


def test_temporary_objects_of_sessions_are_not(snapshot: Snapshot) -> None:
    assert not any(name == "mine" for _, name in snapshot.relation_oids)
    assert not any(schema.startswith("pg_temp") for schema, _ in snapshot.relation_oids)


def test_a_limited_role_can_read_it_as_well(postgres: Peer, database: str) -> None:
    snapshot = asyncio.run(_read(postgres, "limited"))
    assert not snapshot.superuser
    assert snapshot.writable_schemas == frozenset()
    assert ("public", "t") in snapshot.relation_oids


def test_protection_spreads_over_views_and_partitions(snapshot: Snapshot) -> None:
    def entry(table: str, column: str) -> Protected:
        return Protected("public", table, column, f"{table}-class", Strategy.LAST4)

    protected = ProtectedColumns((entry("t", "c"), entry("p1", "s"), entry("t", "gone")), snapshot)
    named = {(snapshot.relations[oid], number) for oid, number in protected.by_column}
    where = {(relation.name, number) for relation, number in named if relation.schema != "pg_catalog"}
    assert where == {("t", 3), ("v", 2), ("vv", 1), ("p", 2), ("p1", 2)}
    assert [each.column for each in protected.missing] == ["gone"]
    others = {column.name for relation, number in named for column in relation.columns if column.number == number} & {"query", "pid"}
    assert others == {"query"}  # of pg_stat_activity: what others wrote


# --- keeping it ---


def connection(
    peer: Peer, *, seconds: float = 30.0, port: int | None = None, user: str = "", database: str = DATABASE
) -> PostgresConnection:
    upstream = PostgresUpstream(
        host=peer.host, port=port or peer.port, database=database, user=user or peer.user, password=None, tls="disable",
        ca_file=None, cert_file=None, key_file=None, connect_timeout=5.0,
    )  # fmt: skip
    return PostgresConnection(
        name="c", upstream=upstream, labels=(), durability=Durability.BUFFERED,
        recording=Recording.EVENTS, protect=(), detect=frozenset(), catalogue_seconds=seconds, max_sessions=1,
    )  # fmt: skip


def with_catalogue(connection: PostgresConnection, story: Any, spawn: Any = None) -> None:
    async def go() -> None:
        catalogue = Catalogue(connection, lambda: Side.open(connection, None), spawn)
        try:
            await story(catalogue)
        finally:
            await catalogue.close()

    asyncio.run(go())


def test_after_ddl_nothing_old_is_given_out(postgres: Peer, database: str) -> None:
    async def story(catalogue: Catalogue) -> None:
        assert catalogue.current() is None
        first = await catalogue.refresh()
        assert catalogue.current() is first
        postgres.psql("create table later(a int)", DATABASE)
        assert catalogue.current() is first  # made elsewhere: within catalogue_seconds
        catalogue.invalidate()
        assert catalogue.current() is None
        second = await catalogue.refresh()
        assert ("public", "later") in second.relation_oids
        assert second.version > first.version
        assert catalogue.current() is second
        postgres.psql("drop table later", DATABASE)

    with_catalogue(connection(postgres), story)


def test_nothing_is_read_again_when_nothing_changed(postgres: Peer, database: str) -> None:
    async def story(catalogue: Catalogue) -> None:
        first = await catalogue.refresh()
        catalogue.invalidate()
        assert await catalogue.refresh() is first
        assert catalogue.current() is first

    with_catalogue(connection(postgres), story)


def test_whoever_asks_what_is_now_is_told_of_what_was_made_elsewhere_and_shares_the_look(postgres: Peer, database: str) -> None:
    async def story(catalogue: Catalogue) -> None:
        first = await catalogue.refresh()
        postgres.psql("create table elsewhere(a int)", DATABASE)
        assert await catalogue.refresh() is first
        now = time.monotonic()
        second, third = await asyncio.gather(catalogue.refresh(since=now), catalogue.refresh(since=now))
        assert ("public", "elsewhere") in second.relation_oids
        assert third is second
        assert catalogue.current() is second
        postgres.psql("drop table elsewhere", DATABASE)

    with_catalogue(connection(postgres), story)


def test_a_look_where_nothing_was_committed_asks_for_no_stamps(postgres: Peer, database: str) -> None:
    async def story() -> None:
        heard: list[str] = []
        side = await Side.open(connection(postgres), None)
        fetch_all = side.fetch_all

        async def listen(statements: list[str]) -> Any:
            heard.extend(statements)
            return await fetch_all(statements)

        side.fetch_all = listen  # type: ignore[method-assign]
        try:
            known = await look(side, None)
            for done in ("create table z(a int)", "insert into z values (1)", "drop table z"):
                postgres.psql(done, DATABASE)
                heard.clear()
                known = await look(side, known)
                assert STAMPS in heard, done
            # Whatever else the cluster does (autovacuum, say) counts as well, so one of many looks has to do.
            for _ in range(50):
                heard.clear()
                known = await look(side, known)
                if STAMPS not in heard:
                    break
            assert STAMPS not in heard
        finally:
            side.close()

    asyncio.run(story())


def test_age_makes_it_stale(postgres: Peer, database: str) -> None:
    async def story(catalogue: Catalogue) -> None:
        await catalogue.refresh()
        assert catalogue.current() is None

    with_catalogue(connection(postgres, seconds=0.0), story)


def test_it_looks_ahead_before_it_is_stale(postgres: Peer, database: str) -> None:
    async def story(catalogue: Catalogue) -> None:
        tasks: list[asyncio.Task[Any]] = []

        def spawn(coroutine: Coroutine[Any, Any, Any], _name: str) -> None:
            tasks.append(asyncio.get_running_loop().create_task(coroutine))

        catalogue._spawn = spawn
        first = await catalogue.refresh()
        catalogue._looked -= 20.0
        assert catalogue.current() is first
        assert catalogue.current() is first
        assert len(tasks) == 1
        await tasks[0]
        catalogue._looked -= 5.0
        assert catalogue.current() is first
        assert len(tasks) == 1

    with_catalogue(connection(postgres), story)


def test_the_side_connection_says_who_it_is_and_cannot_write(postgres: Peer, database: str) -> None:
    async def story(catalogue: Catalogue) -> None:
        await catalogue.refresh()
        query = "select count(*) from pg_stat_activity where application_name = 'ostiary-catalogue'"
        assert postgres.psql(query) == "1"
        assert catalogue._link is not None
        with pytest.raises(QueryFailed, match="25006"):
            await catalogue._link.fetch("create table no(a int)")

    with_catalogue(connection(postgres), story)


def test_a_target_that_is_not_there_is_a_clear_error(postgres: Peer, database: str) -> None:
    async def story(catalogue: Catalogue) -> None:
        with pytest.raises(NotAdmitted) as refused:
            await catalogue.refresh()
        assert refused.value.reason is Reason.CATALOGUE_UNAVAILABLE
        assert catalogue.current() is None

    with_catalogue(connection(postgres, port=1), story)


def test_it_comes_back_when_the_target_does(postgres: Peer, database: str) -> None:
    async def story(catalogue: Catalogue) -> None:
        await catalogue.refresh()
        postgres.psql(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ostiary-catalogue'"
        )
        await asyncio.sleep(0.1)
        catalogue.invalidate()
        await catalogue.refresh()
        assert catalogue.current() is not None

    with_catalogue(connection(postgres), story)
