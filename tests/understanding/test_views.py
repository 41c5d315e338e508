"""Views, column by column: which of them show what is protected, by the rule that PostgreSQL itself keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.connections import Protected, Strategy
from ostiary.protocols.postgres.operations import ProtectedColumns
from ostiary.protocols.postgres.understand.seen_through import seen_through
from ostiary.testing.peers import Peer
from tests.understanding.conftest import snapshot_of

VIEWS: list[tuple[str, str]] = [
    # (what the view is; of each column how it is masked: `.` not at all, then class and strategy)
    ("SELECT id, name, secret FROM victim", ". . ssn/redact"),
    ("SELECT v.* FROM victim v JOIN other o USING (id)", ". . ssn/redact pci/last4"),
    ("SELECT * FROM other JOIN victim USING (id)", ". . . ssn/redact pci/last4"),
    ("SELECT secret::text AS s, secret::varchar(3) AS t, upper(secret), length(secret) FROM victim", "ssn/redact ssn/null ssn/null ssn/null"),
    ("SELECT id, s FROM (SELECT id, secret AS s, name FROM victim) q", ". ssn/redact"),
    ("SELECT id, name FROM (SELECT id, secret AS s, name FROM victim) q", ". ."),
    ("WITH c AS (SELECT secret AS s, id FROM victim), d AS (SELECT * FROM c) SELECT id, s FROM d", ". ssn/redact"),
    ("SELECT id, (SELECT secret FROM victim LIMIT 1) FROM other", ". ssn/null"),
    ("SELECT id, (SELECT max(v.name) FROM victim v WHERE v.id = o.id) FROM other o", ". ."),
    ("SELECT o.id, q.s FROM other o, LATERAL (SELECT v.secret || o.id AS s FROM victim v) q", ". ssn/null"),
    ("SELECT v.id, q.x FROM victim v, LATERAL (SELECT v.secret AS x) q", ". ssn/redact"),
    ("SELECT id, secret FROM victim UNION ALL SELECT id, 'x' FROM other", ". ssn/redact"),
    ("SELECT id, name FROM victim UNION ALL SELECT id, card FROM victim", ". pci/last4"),
    ("SELECT secret AS a, name AS b FROM victim UNION ALL SELECT card, name FROM victim", "pci+ssn/null ."),
    ("SELECT id, count(*), max(secret), sum(length(card)) FROM victim GROUP BY id", ". . ssn/null pci/null"),
    ("SELECT o.id, v FROM other o, victim v", ". pci+ssn/null"),
    ("SELECT row_to_json(v), id FROM victim v", "pci+ssn/null ."),
    ("SELECT id, ROW(id, secret) = ROW(1, secret) AS r, ARRAY[card] AS a FROM victim", ". ssn/null pci/null"),
    ("SELECT * FROM (VALUES (1, 'x')) v(a, b)", ". ."),
    ("SELECT id, row_number() OVER (ORDER BY id), first_value(secret) OVER (PARTITION BY id) FROM victim", ". . ssn/null"),
    ("SELECT coalesce(a.secret, 'x') AS s, a.id FROM victim a LEFT JOIN other USING (id)", "ssn/null ."),
    ("SELECT id, CASE WHEN id > 1 THEN secret END AS s FROM victim", ". ssn/null"),
    ('SELECT id AS ":expr", secret AS ":resjunk false", name AS "x {VAR :varno 1} ) (" FROM victim', ". ssn/redact ."),
    ("SELECT g, id FROM victim, generate_series(1, 3) g", ". ."),
    ("SELECT id FROM victim WHERE name = 'x' ORDER BY id LIMIT 3", "."),
    # what it protects decides: nothing of it can be told from the rest
    ("SELECT id FROM victim WHERE secret LIKE '0%'", "ssn/redact"),
    ("SELECT id, name FROM victim ORDER BY secret", "ssn/redact ssn/redact"),
    ("SELECT count(*) FROM victim GROUP BY secret", "ssn/redact"),
    ("SELECT id, max(name) FROM victim GROUP BY id HAVING min(secret) > 'a'", "ssn/redact ssn/redact"),
    ("SELECT DISTINCT id, secret FROM victim", "ssn/redact ssn/redact"),
    ("SELECT id, secret FROM victim UNION SELECT id, 'x' FROM other", "ssn/redact ssn/redact"),
    ("SELECT id FROM victim WHERE id IN (SELECT id FROM victim WHERE card = 'x')", "pci/last4"),
    ("SELECT id, EXISTS (SELECT FROM victim WHERE secret = 'x') FROM other", "ssn/redact ssn/redact"),
    ("SELECT a.id FROM victim a JOIN victim b ON a.secret = b.name", "ssn/redact"),
    ("SELECT o.id FROM other o, generate_series(1, (SELECT length(secret) FROM victim LIMIT 1)) g", "ssn/redact"),
    ("WITH c AS (SELECT id FROM victim WHERE secret = 'x') SELECT count(*) FROM c", "ssn/redact"),
    ("WITH c AS (SELECT id FROM victim WHERE secret = 'x') SELECT count(*) FROM (SELECT 1 FROM c) q", "ssn/redact"),
    ("WITH c AS MATERIALIZED (SELECT id FROM victim ORDER BY secret LIMIT 1) SELECT o.id FROM other o, c", "ssn/redact"),
    ("WITH c AS (SELECT id FROM victim WHERE secret = 'x') SELECT id FROM other WHERE EXISTS (SELECT FROM c)", "ssn/redact"),
    ("WITH c AS (SELECT id FROM victim WHERE secret = 'x') SELECT id FROM other", "."),
    ("WITH c AS (SELECT id FROM victim WHERE secret = 'x'), d AS (SELECT 1 AS one FROM c) SELECT count(*) FROM d", "ssn/redact"),
    ("SELECT count(*) FROM (SELECT FROM victim WHERE secret = 'x') q", "ssn/redact"),
    ("SELECT count(*) FROM (SELECT id FROM victim WHERE secret = 'x' UNION ALL SELECT 1) q", "ssn/redact"),
    ("SELECT count(*) FROM other o LEFT JOIN (SELECT id FROM victim WHERE secret = 'x') q ON true", "ssn/redact"),
    ("SELECT count(*) FROM other o, LATERAL (VALUES ((SELECT count(*) FROM victim WHERE secret = 'x'))) q", "ssn/redact"),
    ("SELECT id, rank() OVER (ORDER BY secret) FROM victim", "ssn/redact ssn/redact"),
    ("SELECT id, generate_series(1, length(secret)) AS g FROM victim", "ssn/redact ssn/redact"),
    ("SELECT id, regexp_split_to_table(secret, '') AS r FROM victim", "ssn/redact ssn/redact"),
    ("SELECT id, generate_series(1, 3) AS g FROM victim", ". ."),
    # what is not understood
    ("WITH RECURSIVE c AS (SELECT id, secret FROM victim UNION ALL SELECT c.id, c.secret FROM c WHERE c.id < 0) SELECT id FROM c", "ssn/redact"),
    ("SELECT id, tells() FROM other", "code+pci+ssn/null code+pci+ssn/null"),
]  # fmt: skip
DATABASE = "understanding_views"
SCHEMA = """
create table victim(id int primary key, name text, secret varchar, card text);
create table other(id int, note text);
create table coding_unique(c text primary key);
create function tells() returns text language sql stable as 'select secret::text from victim limit 1';
"""
PROTECT = (
    Protected("public", "victim", "secret", "ssn", Strategy.REDACT),
    Protected("public", "victim", "card", "pci", Strategy.LAST4),
    Protected("public", "made", "secret", "ssn", Strategy.REDACT),
    Protected("public", "coded", "code", "code", Strategy.LAST4),
    Protected("public", "coding", "kept", "code", Strategy.NULL),
)
MORE = """
create view over_one as select note, s, id from (select id, secret as s, name as note from v0) q;
create view over_two as select id, note, upper(s) as u from over_one;
create view over_decided as select v25.id from v25;
create view beside_decided as select o.id from other o, v25;
create view if_decided as select o.id from other o where exists (select from v25);
create view over_beside as select 1 as one from beside_decided;
create view barred with (security_barrier) as select id, secret from victim;
create materialized view kept as select id, secret, upper(card) as c from victim;
create view over_kept as select id, c from kept;
create view replaced as select id from victim;
create or replace view replaced as select id, secret as later from victim;
alter view replaced rename column later to afterwards;
create table made(id int, secret text, u text generated always as (upper(secret)) stored, n int generated always as (id + 1) stored);
create table coded(id int unique, code text unique, other text);
create table coding(a int, c text references coded(code), i int references coded(id), kept text references coded(code));
create table again(c text references coding_unique(c));
create table parted(id int, code text references coded(code)) partition by list (id);
create table parted_1 partition of parted for values in (1);
create view over_made as select u, n from made;
"""


@pytest.fixture(scope="module")
def protected(postgres: Peer) -> Iterator[ProtectedColumns]:
    postgres.psql(f"create database {DATABASE}")
    made = "".join(f"create view v{number} as {query};\n" for number, (query, _) in enumerate(VIEWS))
    postgres.psql(SCHEMA + made + MORE, DATABASE)
    yield ProtectedColumns(PROTECT, asyncio.run(snapshot_of(postgres, DATABASE)))
    postgres.psql(f"drop database {DATABASE} with (force)")


def masks(protected: ProtectedColumns, name: str) -> str:
    relation = protected.snapshot.relations[protected.snapshot.relation_oids["public", name]]
    found = [protected.by_column.get((relation.oid, column.number)) for column in relation.columns]
    return " ".join("." if each is None else f"{each[0]}/{each[1].value}" for each in found)


@pytest.mark.parametrize(("number", "query", "expected"), [(n, *each) for n, each in enumerate(VIEWS)], ids=lambda each: str(each)[:50])
def test_each_column_is_masked_as_what_it_shows(number: int, query: str, expected: str, protected: ProtectedColumns) -> None:
    del query
    assert masks(protected, f"v{number}") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("over_one", ". ssn/redact ."),
        ("over_two", ". . ssn/null"),
        ("over_decided", "ssn/redact"),
        ("beside_decided", "ssn/redact"),
        ("if_decided", "ssn/redact"),
        ("over_beside", "ssn/redact"),
        ("barred", ". ssn/redact"),
        ("kept", ". ssn/redact pci/null"),
        ("over_kept", ". pci/null"),
        ("replaced", ". ssn/redact"),
        ("over_made", "ssn/null ."),
        ("made", ". ssn/redact ssn/null ."),
        ("coding", ". code/last4 . code/null"),
        ("again", "."),
        ("parted", ". code/last4"),
        ("parted_1", ". code/last4"),
    ],
)
def test_what_shows_it_or_holds_the_same_is_followed(name: str, expected: str, protected: ProtectedColumns) -> None:
    assert masks(protected, name) == expected


def test_a_rule_that_is_cut_short_or_strange_says_nothing(protected: ProtectedColumns) -> None:
    rule = next(each.rule for each in protected.snapshot.relations.values() if each.name == "v6")
    assert seen_through(rule) is not None
    for at in range(0, len(rule) - 1, 97):
        assert seen_through(rule[:at]) is None
    assert seen_through(rule.replace("RANGETBLENTRY", "X").replace(":rtekind 6", ":rtekind 7")) is None
    assert seen_through(rule.replace(":commandType 1", ":commandType 2", 1)) is None
    assert seen_through("{" * 100_000) is None


@given(st.text(alphabet="{}()[]: <>\\QUERYVAR1\n", max_size=60))
def test_whatever_is_read_nothing_is_raised(text: str) -> None:
    seen_through(text)
