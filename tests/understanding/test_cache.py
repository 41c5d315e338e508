"""The cache may never answer with facts that a fresh look would not give."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.kernel.literals import STRING, plain_key
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


def assert_fresh(snapshot: Snapshot, protected: ProtectedColumns, frame: str, *filled: list[str]) -> None:
    """The cache says of a frame, filled one way after another, what a fresh look says."""
    view, cache = View(snapshot.search_path), FactsCache()
    for values in filled:
        sql = frame.format(*values).encode()
        assert cache.facts_for(sql, view, snapshot, protected) == study(sql, view, snapshot, protected).facts


@given(st.sampled_from(FRAMES), st.lists(NUMBERS, min_size=3, max_size=3), st.lists(NUMBERS, min_size=3, max_size=3))
def test_what_the_cache_says_is_what_a_fresh_look_says(
    snapshot: Snapshot, protected: ProtectedColumns, frame: str, some: list[str], others: list[str]
) -> None:
    assert_fresh(snapshot, protected, frame, some, others)


STRING_FRAMES = [
    "SELECT id FROM victim WHERE name = {}",
    "SELECT id FROM victim WHERE secret = {}",
    "SELECT id FROM victim WHERE name IN ({}, {}) AND id = 7",
    "INSERT INTO other VALUES (1, {}), (2, {})",
    "INSERT INTO other VALUES (1, {}) ON CONFLICT DO NOTHING",
    "UPDATE victim SET name = {} WHERE name = {}",
    "DELETE FROM victim WHERE {} = {}",
    "DELETE FROM victim WHERE {}",
    "DELETE FROM victim WHERE name LIKE {}",
    "DELETE FROM victim WHERE name SIMILAR TO {}",
    "DELETE FROM victim WHERE name || {} = {}",
    "DELETE FROM victim WHERE name = {} OR name <> {}",
    "DELETE FROM victim WHERE id = 1 AND name ~ {}",
    "SELECT set_config({}, {}, false)",
    "SELECT set_config('role', {}, {})",
    "SELECT {}::regclass",
    "SELECT nextval({})",
    "SELECT pg_notify({}, {})",
    "SELECT pg_read_file({})",
    "SELECT lo_import({})",
    "SELECT query_to_xml({}, true, true, '')",
    "SELECT date_trunc({}, now()) FROM victim GROUP BY date_trunc({}, now())",
    "SELECT left(secret, {}) FROM victim",
    "SELECT json_build_object({}, secret) FROM victim",
    "SELECT name FROM victim ORDER BY {}",
    "SELECT name FROM victim LIMIT {}",
    "SELECT extract({} FROM now())",
    "SELECT {} {}",
    "SELECT {}\n{}",
    "SELECT E{}",
    "SELECT X{}",
    "SELECT date {}, interval {} day, bit {}",
    "SELECT \"a'b\" FROM victim WHERE name = {}",
    "SELECT id AS \"it's\" FROM victim WHERE name = {}",
    'SELECT U&"d!0061ta" UESCAPE {}',
    "SELECT CASE WHEN {} THEN secret ELSE {} END FROM victim",
    "SELECT 1; DELETE FROM victim WHERE name = {}",
    "WITH w AS (DELETE FROM victim WHERE name = {} RETURNING *) SELECT * FROM w",
    "COPY other TO {}",
    "COPY victim TO STDOUT (DELIMITER {})",
    "EXPLAIN (FORMAT {}) SELECT 1",
    "NOTIFY a, {}",
    "SET ROLE {}",
    "SET search_path = {}",
    "PREPARE p AS SELECT {}",
    "DO {}",
    "COMMENT ON TABLE victim IS {}",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS {}",
]
STRINGS = st.one_of(
    st.sampled_from([
        "''", "'a'", "'true'", "'f'", "' ON '", "'1'", "'0'", "'-1'", "'%'", "'_%'", "'.*'", "'it''s'", "''''", "'role'", "'search_path'", "'public'",
        "'victim'", "'public.victim'", "'SELECT secret FROM victim'", "'DELETE FROM victim'", "'--'", "'/*'", "'\"'", "'$1'", "'ü'", "'\\'", "E'x'",
        "'/etc/passwd'", "'sql'", "'year'", "'!'", "' '", "'a' 'b'", "'a'\n'b'", "NULL", "true", "$1", "7", "x",
    ]),
    st.text(alphabet="ab'\"%_ \n;-/*$\\é", max_size=6).map(lambda text: f"'{text}'"),
)  # fmt: skip


@settings(max_examples=1500)
@given(st.sampled_from(STRING_FRAMES), st.lists(STRINGS, min_size=3, max_size=3), st.lists(STRINGS, min_size=3, max_size=3))
def test_what_the_cache_says_of_another_string_is_what_a_fresh_look_says(
    snapshot: Snapshot, protected: ProtectedColumns, frame: str, some: list[str], others: list[str]
) -> None:
    assert_fresh(snapshot, protected, frame, some, others)


@pytest.mark.parametrize("frame", [
    "SELECT id FROM victim WHERE name = {}", "INSERT INTO other VALUES (1, {})", "UPDATE victim SET name = {} WHERE id = 1",
    'SELECT "id" FROM "victim" WHERE "name" = {} AND id = 7', "SELECT id FROM victim WHERE name = {} AND name > date {}",
])  # fmt: skip
def test_statements_that_differ_in_strings_share_facts(snapshot: Snapshot, protected: ProtectedColumns, frame: str) -> None:
    view, cache = View(snapshot.search_path), FactsCache()
    first = cache.facts_for(frame.format("'a'", "'b'").encode(), view, snapshot, protected)
    assert cache.facts_for(frame.format("'it''s; DROP TABLE victim'", "''").encode(), view, snapshot, protected) is first


@pytest.mark.parametrize("frame", [
    "SELECT set_config('role', {}, false)", "SELECT nextval({})", "DELETE FROM victim WHERE {} = 'a'", "DELETE FROM victim WHERE name LIKE {}",
    "SET ROLE {}", "COPY other TO {}", "PREPARE p AS SELECT {}", "SELECT id FROM victim LIMIT {}",
])  # fmt: skip
def test_what_hangs_on_a_string_is_kept_for_that_string_alone(snapshot: Snapshot, protected: ProtectedColumns, frame: str) -> None:
    view, cache = View(snapshot.search_path), FactsCache()
    sql = frame.format("'a'").encode()
    cache.facts_for(sql, view, snapshot, protected)
    key = plain_key(sql)
    assert key is not None
    assert key not in {text for text, _ in cache._young}


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
        cache.facts_for(f"SELECT 1 AS name_{i}".encode(), view, snapshot, protected)
    assert cache._size <= 100_000
    assert 10 < len(cache._young) + len(cache._old) < 100


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_key_is_no_other_statement(one: bytes, other: bytes) -> None:
    key = plain_key(one)
    if key is not None:
        assert key != other or other == one or b"\0" in other
        assert not set(key) & set(b"\\")
        assert key.replace(STRING, b"").count(b"'") == 0 or b'"' in key, "an apostrophe of the text stands in quoted names alone"


def test_plain_numbers_only() -> None:
    assert plain_key(b"select 1, a1, 1.5, 12345678901, $1") is None
    assert plain_key(b"select 1, a1, 1.5, 12345678901, (22)") == b"select \0, a1, 1.5, 12345678901, (\0)"
    assert plain_key(b"select 1 -- 2") is None
    assert plain_key(b"select 1 /* 2 */") is None
    assert plain_key("select é1".encode()) == "select é1".encode()
    assert plain_key(b"select \0") is None


def test_plain_strings_only() -> None:
    assert plain_key(b"select 'a''b', 1 where b = ''") == b"select \0'\0, \0 where b = \0'\0"
    assert plain_key(b"select \"a'1\" where b = '$1 -- /*'") == b"select \"a'1\" where b = \0'\0"
    for text in (b"select E'a'", b"select _'a'", b"select 1'a'", b"select U&'a'", b'select U&"a"', b"select 'a", b'select "a', b"select '\\'", b"select 'a\0'"):
        assert plain_key(text) is None
    assert plain_key("select 'é'".encode()) == b"select \0'\0"
    assert plain_key("select 'é'".encode("latin-1")) is None
