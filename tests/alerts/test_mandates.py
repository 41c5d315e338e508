"""A mandate that bounds effects: counted over all its sessions, and never exceeded. The ledger, and then on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostiary.alerts.mandates import KEEP_SECONDS, Ledger
from ostiary.model.commands import Count
from ostiary.model.errors import NotAdmitted
from ostiary.model.identity import Budget
from ostiary.model.restraints import Missing
from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer, postgres_cluster
from ostiary.testing.pgclient import PgClient, Reply

POLICY_FOR_ALL = """permit (principal, action, resource);
permit (principal, action in [Ostiary::Action::"opaque", Ostiary::Action::"transfer"], resource);"""
CALLS = (Budget("m", calls=2),)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    held = Ledger(tmp_path / "mandates.db")
    yield held
    held.close()


def test_all_budgets_have_room_or_none_is_spent(ledger: Ledger) -> None:
    both = (Budget("wide", calls=5), Budget("narrow", calls=1))
    assert ledger.count(Count(both, calls=1)) is None
    assert [ledger.count(Count(both, calls=1)) for _ in range(9)] == [Missing("narrow", "calls", 1)] * 9
    wide = both[:1]
    assert [ledger.count(Count(wide, calls=1)) for _ in range(5)] == [None] * 4 + [Missing("wide", "calls", 5)]


def test_what_was_touched_once_costs_nothing_more(ledger: Ledger) -> None:
    two = (Budget("m", objects=2),)
    asked = [(b"a",), (b"a", b"b"), (b"b",), (b"c",), (b"a", b"c"), (b"a",)]
    over = Missing("m", "objects", 2)
    assert [ledger.count(Count(two, calls=1, objects=each)) for each in asked] == [None, None, None, over, over, None]


def test_what_came_is_counted_even_where_it_is_too_much(ledger: Ledger) -> None:
    rows = (Budget("m", rows=10, bytes=100),)
    assert ledger.count(Count(rows, rows=9, bytes=1, came=True)) is None
    assert ledger.count(Count(rows, calls=1)) is None
    assert ledger.count(Count(rows, rows=2, came=True)) == Missing("m", "rows", 10)
    assert ledger.count(Count(rows, calls=1)) == Missing("m", "rows", 10)
    assert ledger.count(Count(rows, rows=0, came=True)) == Missing("m", "rows", 10)


def test_what_was_spent_outlives_the_worker_and_is_one_count_for_all_of_them(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "m.db"), Ledger(tmp_path / "m.db")
    assert one.count(Count(CALLS, calls=1)) is None
    assert other.count(Count(CALLS, calls=1)) is None
    one.close()
    again = Ledger(tmp_path / "m.db", clock=lambda: 2e9)
    assert again.count(Count(CALLS, calls=1)) is None  # 2033: what no token can speak of any more was dropped
    again.close()
    assert other.count(Count(CALLS, calls=1)) is None
    assert other.count(Count(CALLS, calls=1)) == Missing("m", "calls", 2)
    other.close()
    assert KEEP_SECONDS > 31 * 24 * 3600
    assert (tmp_path / "m.db").stat().st_mode & 0o077 == 0


def test_sessions_that_race_spend_it_once(tmp_path: Path) -> None:
    budgets, granted = (Budget("m", calls=100),), []

    def spend() -> None:
        mine = Ledger(tmp_path / "m.db")
        granted.extend(mine.count(Count(budgets, calls=1)) is None for _ in range(60))
        mine.close()

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert granted.count(True) == 100


def test_what_cannot_be_counted_is_not_done(ledger: Ledger) -> None:
    ledger._connection.execute("DROP TABLE spent")
    with pytest.raises(NotAdmitted, match="is not known now"):
        ledger.count(Count(CALLS, calls=1))


# --- on a real PostgreSQL ---


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Gateway, Peer]]:
    with postgres_cluster() as peer:
        peer.psql(
            "CREATE TABLE a (id int); INSERT INTO a SELECT generate_series(1, 100); CREATE TABLE b (id int); CREATE TABLE c (id int);"
            "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE);"
            "CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON DELETE CASCADE ON UPDATE CASCADE)"
        )
        with gateway(connections={"db": target(peer)}, policy=POLICY_FOR_ALL) as gate:
            yield gate, peer


def mandate(gate: Gateway, name: str, **effects: int) -> str:
    """A token of Ana's agent under a mandate with these bounds."""
    details = [{"type": "ostiary", "id": name, "effects": effects}]
    return gate.token("ana", act={"sub": "coder"}, authorization_details=details)


def missing(reply: Reply) -> str:
    assert reply.is_refused, reply
    return reply.errors[0]["M"]


def has_ended(client: PgClient, statement: str) -> bool:
    try:
        return bool(client.query(statement).closed)
    except (pg.Closed, OSError):
        return True


def test_calls_are_counted_over_all_sessions_of_the_mandate_and_a_restart(world) -> None:
    gate, _ = world
    token = mandate(gate, "calls", calls=3)
    with gate.connect("db", token=token) as one, gate.connect("db", token=token) as other:
        assert not one.query("SELECT 1").is_refused
        assert not other.extended("SELECT id FROM a WHERE id = 1").errors
        assert not one.query("SELECT 1").is_refused
        assert "allows 3 calls in all" in missing(other.query("SELECT 1"))
        assert "allows 3 calls in all" in missing(one.query("DELETE FROM a"))
    gate.kill()
    gate.start()
    with gate.connect("db", token=token) as again:
        assert not again.query("BEGIN").errors
        assert "allows 3 calls in all" in missing(again.query("SELECT 1"))
        assert not again.query("ROLLBACK").errors
    with gate.connect("db", token=mandate(gate, "other", calls=1)) as unhindered:
        assert not unhindered.query("SELECT 1").is_refused


def test_one_object_too_many_is_refused_before_it_is_touched(world) -> None:
    gate, peer = world
    token = mandate(gate, "objects", objects=2)
    with gate.connect("db", token=token) as client:
        assert not client.query("SELECT count(*) FROM a").is_refused
        assert not client.query("INSERT INTO b SELECT id FROM a WHERE id = 1").is_refused
        assert "allows 2 objects in all" in missing(client.query("INSERT INTO c VALUES (1)"))
        assert "what this touches cannot be seen" in missing(client.query("DO $$ BEGIN END $$"))
        assert not client.query("SELECT count(*) FROM a, b").is_refused
    assert peer.psql("SELECT count(*) FROM c").strip().endswith("0")


@pytest.mark.parametrize("form", ["query", "copy", "portal"])
def test_a_result_ends_before_the_row_that_is_too_many_leaves(world, form: str) -> None:
    gate, _ = world
    token = mandate(gate, f"rows-{form}", rows=150)
    client = gate.connect("db", token=token)
    assert len(client.query("SELECT id FROM a").rows) == 100
    came: list[Any] = []
    try:
        if form == "query":
            came = client.query("SELECT id FROM a").rows
        elif form == "copy":
            came = client.query("COPY a TO STDOUT").copied.splitlines()
        else:
            for _ in range(10):
                came += client.extended("SELECT id FROM a LIMIT 7").rows
    except (pg.Closed, OSError):
        pass
    assert len(came) == {"query": 0, "copy": 0, "portal": 49}[form]
    assert has_ended(client, "SELECT 1")
    client.close()
    with gate.connect("db", token=token) as again:
        assert "allows 150 rows in all" in missing(again.query("SELECT id FROM a LIMIT 1"))


def test_two_sessions_that_stream_at_once_get_no_more_than_the_mandate_has(world) -> None:
    gate, _ = world
    token, came = mandate(gate, "race", rows=30_000), []

    def stream() -> None:
        rows = 0
        with gate.connect("db", token=token) as client:
            try:
                while True:
                    reply = client.query("SELECT generate_series(1, 5000)")
                    rows += len(reply.rows)
                    if reply.closed or reply.errors:
                        break
            except (pg.Closed, OSError):
                pass
        came.append(rows)

    threads = [threading.Thread(target=stream) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert 0 < sum(came) <= 30_000


def test_bytes_of_a_result_are_counted_and_end_it(world) -> None:
    gate, _ = world
    token = mandate(gate, "bytes", bytes=50_000)
    client = gate.connect("db", token=token)
    assert len(client.query("SELECT repeat('x', 20000)").rows) == 1
    assert has_ended(client, "SELECT repeat('x', 200000)")
    client.close()
    with gate.connect("db", token=token) as again:
        assert "allows 50000 bytes in all" in missing(again.query("SELECT 1"))


CHANGES = ["DELETE FROM a", "UPDATE a SET id = id", "INSERT INTO b SELECT id FROM a", "DELETE FROM a RETURNING id"]


@pytest.mark.parametrize("statement", CHANGES)
def test_a_change_of_too_many_rows_never_holds(world, statement: str) -> None:
    gate, peer = world
    before = peer.psql("SELECT count(*), sum(id), sum(xmin::text::bigint) FROM a") + peer.psql("SELECT count(*) FROM b")
    token = mandate(gate, f"change {statement}", rows=99)
    client = gate.connect("db", token=token)
    assert "could not be undone" in missing(client.query(statement))
    assert not client.query("BEGIN").errors
    assert has_ended(client, statement) or has_ended(client, "COMMIT")
    client.close()
    after = peer.psql("SELECT count(*), sum(id), sum(xmin::text::bigint) FROM a") + peer.psql("SELECT count(*) FROM b")
    assert before == after


def test_a_change_within_the_bound_holds_and_is_counted(world) -> None:
    gate, peer = world
    with gate.connect("db", token=mandate(gate, "within", rows=3)) as client:
        for statement in ("BEGIN", "INSERT INTO c VALUES (1), (2)", "COMMIT"):
            assert not client.query(statement).errors
        assert not client.query("BEGIN").errors
        assert not client.extended("INSERT INTO c VALUES (3)").errors
        assert not client.query("COMMIT").errors
        assert "allows 3 rows in all" in missing(client.query("SELECT 1 FROM a"))
    assert peer.psql("SELECT count(*) FROM c").strip().endswith("3")
    peer.psql("TRUNCATE c")


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE a", "DROP TABLE a", "WITH x AS (DELETE FROM a RETURNING id) SELECT 1", "DELETE FROM parent",
        "WITH x AS (DELETE FROM a RETURNING id) DELETE FROM a WHERE false", "EXPLAIN ANALYZE DELETE FROM a", "DELETE FROM a; SELECT 1",
        "DELETE FROM tree WHERE up IS NULL", "UPDATE tree SET id = id + 1",
        "COPY (WITH x AS (INSERT INTO b SELECT generate_series(1, 999) RETURNING 1) SELECT 1) TO STDOUT", "SELECT nextval('c')",
        "PREPARE p AS DELETE FROM a", "DELETE FROM a; COMMIT", "LOCK TABLE a", "DO $$ BEGIN END $$",
    ],
)  # fmt: skip
def test_what_changes_rows_without_saying_how_many_is_refused(world, statement: str) -> None:
    gate, peer = world
    with gate.connect("db", token=mandate(gate, "uncounted", rows=1000)) as client:
        assert not client.query("BEGIN").errors
        assert client.query(statement).is_refused
    assert peer.psql("SELECT count(*) FROM a").strip().endswith("100")


def test_a_commit_cannot_overtake_the_count_of_what_it_commits(world) -> None:
    gate, peer = world
    token = mandate(gate, "pipelined", rows=10)
    pipeline = pg.parse(b"", b"DELETE FROM a") + pg.bind(b"", b"") + pg.execute(b"") + pg.parse(b"c", b"COMMIT") + pg.bind(b"", b"c")
    suspended = pg.parse(b"", b"DELETE FROM a RETURNING id") + pg.bind(b"p", b"") + pg.execute(b"p", 1)
    for sent in (
        pg.query(b"DELETE FROM a") + pg.query(b"COMMIT"),
        pipeline + pg.execute(b"") + pg.SYNC,
        suspended + pg.SYNC + pg.query(b"COMMIT"),
    ):
        with gate.connect("db", token=token) as client:
            client.query("BEGIN")
            try:
                client.send(sent)
                client.read_reply()
                client.query("COMMIT")
            except (pg.Closed, OSError, AssertionError):
                pass
        assert peer.psql("SELECT count(*) FROM a").strip().endswith("100")


def run(statement: bytes, *, name: bytes = b"", most: int = 0) -> bytes:
    return pg.parse(b"", statement) + pg.bind(name, b"") + pg.execute(name, most)


HALF_DONE: list[list[bytes]] = [
    # the end of the transaction is bound before the change, and both are executed in one go
    [
        pg.parse(b"", b"COMMIT") + pg.bind(b"end", b"") + pg.SYNC,
        pg.parse(b"", b"DELETE FROM a") + pg.bind(b"change", b"") + pg.SYNC,
        pg.execute(b"change") + pg.execute(b"end") + pg.SYNC,
    ],
    # it has ended already, and no ReadyForQuery has said so
    [run(b"COMMIT") + pg.FLUSH, run(b"DELETE FROM a") + pg.SYNC],
    [run(b"ROLLBACK") + pg.FLUSH, run(b"DELETE FROM a") + pg.SYNC],
    # a change that is fetched from in part, and closed
    [run(b"DELETE FROM a RETURNING id", name=b"part", most=1) + pg.SYNC, pg.close(b"P", b"part") + pg.SYNC, pg.query(b"COMMIT")],
]


@pytest.mark.parametrize("steps", HALF_DONE, ids=["bound ahead", "commit and flush", "rollback and flush", "closed in part"])
def test_what_is_half_done_is_counted_or_does_not_hold(world, steps: list[bytes]) -> None:
    gate, peer = world
    with gate.connect("db", token=mandate(gate, "half done", rows=10)) as client:
        client.query("BEGIN")
        try:
            for step in steps:
                client.send(step)
                if step.endswith(pg.FLUSH):
                    while client.read_message().tag != b"C":
                        pass
                else:
                    client.read_reply()
        except (pg.Closed, OSError):
            pass
    assert peer.psql("SELECT count(*) FROM a").strip().endswith("100")
