"""The cache may never answer with facts that a fresh look would not give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ostiary.kernel.literals import plain_key
from ostiary.model.catalogue import Snapshot
from ostiary.protocols.postgres.operations import FactsCache, ProtectedColumns, View, study

FRAMES = [
    "SELECT id FROM victim WHERE id = {}",
    "SELECT secret FROM victim ORDER BY {}",
    "SELECT id, secret FROM victim GROUP BY {}, {}",
    "SELECT id, secret FROM victim LIMIT {} OFFSET {}",
    "SELECT * FROM victim WHERE id IN ({}, {}, {})",
    "EXPLAIN (ANALYZE {}) DELETE FROM other",
    "SELECT DISTINCT ON ({}) id, secret FROM victim",
    "SET statement_timeout = {}",
    "INSERT INTO other VALUES ({}), ({})",
    "SELECT lower({}), touchy({})",
    "DELETE FROM victim WHERE id = {}",
    "SELECT pg_sleep({})",
    "SELECT secret FROM victim UNION SELECT name FROM victim ORDER BY {}",
    "SELECT a{} FROM victim",
    "SELECT {}.5",
    "SELECT t.{} FROM victim t",
]
NUMBERS = st.one_of(
    st.integers(0, 5).map(str),
    st.integers(0, 10**20).map(str),
    st.sampled_from(["0", "00", "1e3", "0x1F", "2147483648", "999999999", "1_0", ".5", "-1", "'1'", "$1", "a"]),
)


@given(st.sampled_from(FRAMES), st.lists(NUMBERS, min_size=3, max_size=3), st.lists(NUMBERS, min_size=3, max_size=3))
def test_what_the_cache_says_is_what_a_fresh_look_says(
    snapshot: Snapshot, protected: ProtectedColumns, frame: str, some: list[str], others: list[str]
) -> None:
    view, cache = View(snapshot.search_path), FactsCache()
    for numbers in (some, others):
        sql = frame.format(*numbers).encode()
        assert cache.facts_for(sql, view, snapshot, protected) == study(sql, view, snapshot, protected).facts


def test_statements_that_differ_in_numbers_share_facts(snapshot: Snapshot, protected: ProtectedColumns) -> None:
    view, cache = View(snapshot.search_path), FactsCache()
    first = cache.facts_for(b"SELECT id FROM victim WHERE id = 1", view, snapshot, protected)
    assert cache.facts_for(b"SELECT id FROM victim WHERE id = 22", view, snapshot, protected) is first


def test_another_snapshot_or_session_is_another_key(snapshot: Snapshot, protected: ProtectedColumns) -> None:
    view, cache = View(snapshot.search_path), FactsCache()
    sql = b"SELECT id FROM other"
    before = cache.facts_for(sql, view, snapshot, protected)
    made = study(b"CREATE TEMP VIEW other AS SELECT id FROM victim", view, snapshot, protected)
    view.expect(made.effects)
    after = cache.facts_for(sql, view, snapshot, protected)
    assert {r.name for r in before.resources} == {"public.other"}
    assert "public.victim" in {r.name for r in after.resources}


def test_what_hangs_on_the_session_is_not_kept(snapshot: Snapshot, protected: ProtectedColumns) -> None:
    view, cache = View(snapshot.search_path), FactsCache()
    facts = study(b"DELETE FROM victim", view, snapshot, protected).facts
    assert cache.facts_for(b"EXECUTE s", view, snapshot, protected).objection is not None
    view.parsed("s", facts)
    assert cache.facts_for(b"EXECUTE s", view, snapshot, protected).objection is None


def test_the_cache_is_bounded(snapshot: Snapshot, protected: ProtectedColumns) -> None:
    view, cache = View(snapshot.search_path), FactsCache(limit=100_000)
    for i in range(500):
        cache.facts_for(f"SELECT 'text {i}'".encode(), view, snapshot, protected)
    assert cache._size <= 100_000
    assert 10 < len(cache._young) + len(cache._old) < 100


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_key_is_no_other_statement(one: bytes, other: bytes) -> None:
    key = plain_key(one)
    if key is not None:
        assert key != other or other == one or b"\0" in other
        assert not set(key) & set(b"'\"$\\")


def test_plain_numbers_only() -> None:
    assert plain_key(b"select 1, a1, 1.5, 12345678901, $1") is None
    assert plain_key(b"select 1, a1, 1.5, 12345678901, (22)") == b"select \0, a1, 1.5, 12345678901, (\0)"
    assert plain_key(b"select '1'") is None
    assert plain_key(b"select 1 -- 2") is None
    assert plain_key(b"select 1 /* 2 */") is None
    assert plain_key("select é1".encode()) == "select é1".encode()
    assert plain_key(b"select \0") is None
