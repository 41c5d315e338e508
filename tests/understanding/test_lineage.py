"""Statement in, lineage out: a table. Each line is a promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ostiary.model.catalogue import Snapshot
from ostiary.model.operations import Facts, Shown
from ostiary.protocols.postgres.operations import FactsCache, ProtectedColumns, View

Look = Callable[[str], Facts]

CASES: list[tuple[str, str, str]] = [
    # (statement, flags: u unmask, i infer; of each output column how it is masked: `.` not at all)
    ("SELECT 1 FROM victim WHERE secret = 'x'", "i", ""),
    ("SELECT 1 FROM victim v WHERE v.secret LIKE '0%'", "i", ""),
    ("SELECT 1 FROM victim WHERE public.victim.secret = 'x'", "i", ""),
    ("SELECT id FROM victim ORDER BY secret", "i", ""),
    ("SELECT id FROM victim ORDER BY 1, secret DESC", "i", ""),
    ("SELECT id, secret FROM victim ORDER BY 2", "i", ". redact"),
    ("SELECT * FROM victim ORDER BY 3", "i", ". . redact"),
    ("SELECT o.*, secret FROM other o, victim ORDER BY 2", "i", ". redact"),
    ("SELECT secret AS s FROM victim ORDER BY s", "i", "redact"),
    ("SELECT count(*) FROM victim GROUP BY secret", "i", ""),
    ("SELECT secret, count(*) FROM victim GROUP BY 1", "i", "redact ."),
    ("SELECT DISTINCT secret FROM victim", "i", "redact"),
    ("SELECT DISTINCT ON (secret) id FROM victim", "i", ""),
    ("SELECT id FROM victim GROUP BY id, secret HAVING min(secret) > 'a'", "i", ""),
    ("SELECT upper(secret) FROM victim", "", "null"),
    ("SELECT secret::bytea FROM victim", "i", "null"),
    ("SELECT secret || '' FROM victim", "", "null"),
    ("SELECT (secret) IS NULL FROM victim", "i", "null"),
    ("SELECT CASE WHEN secret > 'a' THEN 1 END FROM victim", "i", "null"),
    ("SELECT ROW(secret) FROM victim", "", "null"),
    ("SELECT ARRAY[secret] FROM victim", "", "null"),
    ("SELECT v FROM victim v", "", "null"),
    ("SELECT victim FROM victim", "", "null"),
    ("SELECT (v).secret FROM victim v", "", "null"),
    ("SELECT (v.*)::text FROM victim v", "", "null"),
    ("SELECT count(v) FROM victim v", "", "null"),
    ("SELECT count(v.*) FROM victim v", "", "null"),
    ("SELECT row_to_json(v) FROM victim v", "", "null"),
    ("SELECT row_to_json(q) FROM (SELECT * FROM victim) q", "", "null"),
    ("SELECT v.row_to_json FROM victim v", "", "null"),
    ("SELECT secret(v) FROM victim v", "u", "null"),
    ("SELECT s FROM (SELECT secret AS s FROM victim) q", "", "redact"),
    ("WITH c AS (SELECT secret FROM victim) SELECT * FROM c", "", "redact"),
    ("WITH RECURSIVE c AS (SELECT secret FROM victim UNION SELECT secret FROM c) SELECT * FROM c", "i", "null"),
    ("SELECT (SELECT secret FROM victim LIMIT 1)", "", "redact"),
    ("SELECT ARRAY(SELECT secret FROM victim)", "", "null"),
    ("SELECT 1 WHERE 'x' IN (SELECT secret FROM victim)", "i", ""),
    ("SELECT 1 WHERE EXISTS (SELECT FROM victim WHERE secret = 'x')", "i", ""),
    ("SELECT secret FROM victim UNION ALL SELECT name FROM victim", "", "redact"),
    ("SELECT name FROM victim UNION ALL SELECT secret FROM victim", "", "redact"),
    ("VALUES ((SELECT secret FROM victim LIMIT 1))", "", "redact"),
    ("SELECT a.id FROM victim a JOIN victim b ON a.secret = b.secret", "i", ""),
    ("SELECT 1 FROM victim a JOIN victim b USING (secret)", "i", ""),
    ("SELECT 1 FROM victim NATURAL JOIN side.t", "i", ""),
    ("SELECT j.secret FROM (victim a CROSS JOIN other b) j", "", "redact"),
    ("SELECT y FROM (victim a CROSS JOIN other b) AS j(x, n, y)", "", "redact"),
    ("SELECT 1 FROM victim v(a, b, c) WHERE c = 'x'", "i", ""),
    ("SELECT 1 FROM other o, LATERAL (SELECT secret FROM victim) q", "", ""),
    ("SELECT 1 FROM victim v, LATERAL (SELECT v.secret) q", "", ""),
    ("SELECT g FROM victim, generate_series(1, length(secret)) g", "i", "null"),
    ("SELECT 1 FROM victim, ROWS FROM (unnest(ARRAY[secret])) u", "i", ""),
    ("SELECT rank() OVER (ORDER BY secret) FROM victim", "i", ""),
    ("SELECT rank() OVER w FROM victim WINDOW w AS (PARTITION BY secret)", "i", ""),
    ("SELECT count(*) FILTER (WHERE secret > 'a') FROM victim", "i", "null"),
    ("SELECT string_agg(name, '' ORDER BY secret) FROM victim", "i", "null"),
    ("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY secret) FROM victim", "i", "null"),
    ("SELECT 1 FROM other LIMIT (SELECT length(secret) FROM victim LIMIT 1)", "i", ""),
    ("SELECT * FROM xmltable('/a' PASSING xmlparse(content (SELECT secret FROM victim LIMIT 1)) COLUMNS a text) x", "i", "any"),
    ("SELECT json_object('a': secret) FROM victim", "i", "null"),
    ("SELECT xmlelement(name a, secret) FROM victim", "i", "null"),
    ("INSERT INTO victim(id) VALUES (1) ON CONFLICT (secret) DO NOTHING", "i", ""),
    ("INSERT INTO victim(id, secret) VALUES (1, 'x') ON CONFLICT DO NOTHING", "i", ""),
    ("INSERT INTO victim VALUES (1) ON CONFLICT DO NOTHING RETURNING id", "i", ""),
    ("INSERT INTO victim(id, name) VALUES (1, 'x') ON CONFLICT DO NOTHING", "", ""),
    ("INSERT INTO victim(id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 1 WHERE victim.secret > 'a'", "i", ""),
    ("UPDATE victim SET name = (SELECT victim.secret)", "u", ""),
    ("UPDATE other SET id = 1 WHERE EXISTS (SELECT FROM victim WHERE secret > 'a')", "i", ""),
    ("DELETE FROM victim WHERE secret > 'a'", "i", ""),
    ("DELETE FROM other USING victim WHERE victim.secret > 'a'", "i", ""),
    ("MERGE INTO other o USING victim v ON v.secret = 'x' WHEN MATCHED THEN DELETE", "i", ""),
    ("UPDATE victim SET secret = 'x' RETURNING old.secret", "", "redact"),
    ("UPDATE victim SET secret = 'x' RETURNING new.*", "", ". . redact"),
    ("CREATE TABLE c AS SELECT secret FROM victim", "u", ""),
    ("CREATE MATERIALIZED VIEW c AS SELECT secret FROM victim", "u", ""),
    ("CREATE TEMP VIEW c AS SELECT * FROM victim", "u", ""),
    ("CREATE INDEX ON victim (upper(secret))", "u", ""),
    ("ALTER TABLE victim ALTER secret TYPE int USING secret::int", "u", ""),
    ("ALTER TABLE victim ALTER secret TYPE int", "u", ""),
    ("ALTER TABLE victim ADD CHECK (secret > 'a')", "u", ""),
    ("CREATE UNIQUE INDEX ON victim (secret) WHERE id < 3", "u", ""),
    ("ALTER TABLE victim ADD EXCLUDE (secret WITH =) WHERE (id < 3)", "u", ""),
    ("ALTER TABLE victim ALTER secret SET NOT NULL", "u", ""),
    ("ALTER TABLE victim ALTER name SET NOT NULL", "", ""),
    ("CREATE UNIQUE INDEX ON victim (id)", "", ""),
    ("CREATE RULE r AS ON INSERT TO other DO ALSO INSERT INTO side.t SELECT 1, secret FROM victim", "u", ""),
    ("EXPLAIN ANALYZE SELECT 1 FROM victim WHERE secret = 'x'", "i", ""),
    ("DECLARE c CURSOR FOR SELECT upper(secret) FROM victim", "", ""),
    ("PREPARE p AS SELECT upper(secret) FROM victim", "", ""),
    ("SELECT * FROM secret_view WHERE note = 'x'", "i", ". redact"),
    ("SELECT upper(note) FROM view_on_view", "", "null"),
    ("SELECT pg_notify('x', secret) FROM victim", "u", "null"),
    ("COPY (SELECT c FROM victim v(a, b, c)) TO STDOUT", "", "redact"),
    ("SELECT (SELECT q.s FROM (VALUES (1)) AS x(secret), (SELECT secret AS s) q) FROM victim", "", "redact"),
    ("SELECT (SELECT 1 FROM (VALUES (1)) x(secret), other a JOIN other b ON secret = 'x') FROM victim", "i", ""),
    ("SELECT (SELECT a.secret FROM (side.t a CROSS JOIN other b) AS j LIMIT 1) FROM victim a", "", "redact"),
    ("SELECT (SELECT secret FROM other LIMIT 1) FROM victim", "", "redact"),
    ("WITH victim AS (SELECT * FROM public.victim WHERE secret > 'a') SELECT 1 FROM victim", "i", ""),
    ("SELECT secret FROM victim", "", "redact"),
    ("SELECT secret AS x, id FROM victim ORDER BY id", "", "redact ."),
    ("SELECT * FROM victim ORDER BY 1", "", ". . redact"),
    ("SELECT * FROM victim ORDER BY 2 DESC LIMIT 5", "", ". . redact"),
    ("SELECT v.secret FROM victim AS v, other o WHERE v.id = o.id", "", "redact"),
    ("SELECT v.* FROM victim v(a, b, c)", "", ". . redact"),
    ("SELECT c FROM victim v(a, b, c)", "", "redact"),
    ("SELECT note FROM secret_view", "", "redact"),
    ("SELECT id FROM victim WHERE name = 'x'", "", ""),
    ("WITH victim AS (SELECT 1 AS secret) SELECT upper(secret::text) FROM victim", "", ""),
    ("SELECT upper(secret) FROM (VALUES ('x')) AS victim(secret)", "", ""),
    ("SELECT a.secret FROM side.t a WHERE a.secret = 'x'", "", ""),
    ("DELETE FROM victim WHERE id = 1 RETURNING secret", "", "redact"),
    ("INSERT INTO victim VALUES (1, 'a', 'b') RETURNING *", "", ". . redact"),
    ("DECLARE c CURSOR FOR SELECT secret FROM victim", "", ""),
    ("PREPARE p AS SELECT secret FROM victim WHERE id = $1", "", ""),
    ("COPY victim TO STDOUT (FORMAT binary)", "", ". . redact"),
    ("COPY (SELECT secret AS x FROM victim) TO STDOUT", "", "redact"),
    # a value that is shown must not tell by whether it fails, by how many rows it gives, or by what else is done with it
    ("SELECT 1 / (length(secret) - 11) FROM victim", "i", "null"),
    ("SELECT secret::int FROM victim", "i", "null"),
    ("SELECT substr(secret, 1, 3), substr(secret, id, 3) FROM victim", "i", "null null"),
    ("SELECT substr(secret, 1, 3) FROM victim", "", "null"),
    ("SELECT unnest(string_to_array(secret, '-')) FROM victim", "i", "null"),
    ("SELECT CASE WHEN true THEN secret END FROM victim", "", "null"),
    ("SELECT s || y FROM (SELECT secret s, (1 / id)::text y FROM victim) q", "i", "null"),
    ("SELECT concat(secret, pg_sleep(1)) FROM victim", "u", "null"),
    ("SELECT concat(secret, (SELECT touchy(1))) FROM victim", "u", "null"),
    ("SELECT set_config('a.b', secret, false) FROM victim", "u", "null"),
    ("SELECT nullif(secret, 'x') FROM victim", "i", "null"),
    ("SELECT repeat(split_part(secret, '078', 1), '2000000000') FROM victim", "i", "null"),
    ("SELECT repeat(repeat(repeat(secret, 1000), 1000), 1000) FROM victim", "i", "null"),
    ("SELECT substring(secret, 1, '-1') FROM victim", "i", "null"),
    ("SELECT split_part(secret, '-', ' 0') FROM victim", "i", "null"),
    ("SELECT lpad(secret, '0x7fffffff', 'x') FROM victim", "i", "null"),
    ("SELECT split_part(secret, '2024-', 1), substring(secret, '[0-9]+'), lpad(secret, '9') FROM victim", "", "null null null"),
    ("SELECT pg_catalog.varchar(secret::varchar, 9, false) FROM victim", "i", "null"),
    ("SELECT pg_catalog.bpchar(secret::bpchar, 9, false) FROM victim", "i", "null"),
    ("SELECT count(DISTINCT secret) FROM victim", "i", "null"),
    ("SELECT json_build_object('s', secret) FROM victim", "", "null"),
    ("SELECT json_build_object(secret, 1) FROM victim", "i", "null"),
    ("SELECT uuid(secret) FROM victim", "i", "null"),
    ("SELECT text(secret), secret || '!' || id FROM victim", "", "null null"),
    ("SELECT sum(length(secret)), avg(length(secret)) FROM victim", "", "null null"),
    ("SELECT sum(secret::interval) FROM victim", "i", "null"),
    ("SELECT ARRAY[secret] || ARRAY[name] FROM victim", "i", "null"),
    ("EXPLAIN ANALYZE SELECT upper(secret) FROM victim", "i", ""),
    ("EXPLAIN ANALYZE SELECT id, secret FROM victim", "", ""),
    ("CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT note FROM secret_view); END'", "u", ""),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", "", ""),
    ("CREATE TRIGGER t AFTER UPDATE ON victim EXECUTE FUNCTION audit()", "u", ""),
    ("CREATE TRIGGER t AFTER UPDATE ON other EXECUTE FUNCTION audit()", "", ""),
    # a value that is the column's own keeps how the column is masked, unless it is cut
    ("SELECT secret::text, secret::varchar FROM victim", "", "redact redact"),
    ("SELECT secret::varchar(4), secret::char(4), secret::name FROM victim", "", "null null null"),
    ('SELECT secret COLLATE "C" FROM victim', "", "redact"),
    ("SELECT coalesce(secret, '') FROM victim", "", "null"),
    ("SELECT max(secret), secret FROM victim GROUP BY secret", "i", "null redact"),
    # what decides
    ("SELECT id FROM victim UNION SELECT id FROM other", "", ""),
    ("SELECT id, secret FROM victim EXCEPT ALL SELECT 1, 'x'", "i", ". redact"),
    ("SELECT id FROM victim v, LATERAL (SELECT v.secret INTERSECT SELECT 'x') q", "i", ""),
    ("SELECT id FROM victim v WHERE EXISTS (SELECT 1 FROM other o WHERE o.id = length(v.secret))", "i", ""),
    ("SELECT id FROM victim v WHERE EXISTS (SELECT v.secret)", "", ""),
    ("VALUES (1, (SELECT secret FROM victim LIMIT 1)), (2, 'x') ORDER BY 2", "i", ". redact"),
    # recursion
    ("WITH RECURSIVE c AS (SELECT 1 i, secret s FROM victim UNION ALL SELECT i + 1, s FROM c WHERE i < 3) SELECT i, s FROM c",
     "i", "null null"),
    ("WITH RECURSIVE c AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM c WHERE i < 3) SELECT i, secret FROM c, victim",
     "", ". redact"),
    # functions of somebody's own that read what is protected, or may
    ("SELECT peek()", "", "null"),
    ("SELECT peek_too(), 1", "", "null ."),
    ("SELECT (SELECT peek()), (SELECT (SELECT peek())) FROM other", "", "null null"),
    ("SELECT (SELECT secret) FROM victim", "", "redact"),
    ("SELECT (SELECT upper(secret)), (SELECT v.secret) FROM victim v", "", "null redact"),
    ("SELECT (SELECT upped(secret)) FROM victim", "u", "null"),
    ("SELECT (SELECT count(secret)) FROM victim", "", "null"),
    ("SELECT 1 WHERE (SELECT peek()) = 'x'", "u", ""),
    ("SELECT made_up('x')", "", "null"),
    ("SELECT upped('x')", "", ""),
    ("SELECT standard()", "", "null"),
    ("SELECT upped(secret) FROM victim", "u", "null"),
    ("SELECT p FROM peeking", "", "null"),
    ("SELECT 1 WHERE peek() = 'x'", "u", ""),
    ("SELECT nosuch(1)", "", "null"),
    # results of unknown width
    ("SELECT * FROM victim, generate_series(1, 2) g", "", "any"),
    ("SELECT * FROM victim JOIN other USING (id)", "", "any"),
    ("SELECT secret FROM victim; SELECT 1; SELECT id, secret FROM victim", "", "redact | - | . redact"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "flags", "shown"), CASES, ids=[case[0][:70] for case in CASES])
def test_where_values_go(look: Look, sql: str, flags: str, shown: str) -> None:
    facts = look(sql)
    assert facts.objection is None, facts.objection
    assert ("u" in flags) == bool(facts.unmask)
    assert ("i" in flags) == bool(facts.infer)
    assert " | ".join(map(_said, facts.shown)) == shown


def test_what_hangs_on_a_constant_is_judged_for_each(snapshot: Snapshot, protected: ProtectedColumns, view: View) -> None:
    cache = FactsCache()
    texts = (b"SELECT substr(secret, 1, 3) FROM victim", b"SELECT substr(secret, 1, -3) FROM victim")
    assert [cache.facts_for(text, view, snapshot, protected).infer for text in texts] == [(), ("ssn",)]


def _said(shown: Shown | None) -> str:
    if shown is None:
        return "-"
    if shown.columns is None:
        return "any"
    return " ".join(column.strategy.value if column.classes else "." for column in shown.columns)
