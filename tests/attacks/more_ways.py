"""Ways in which a value could be told that are no plain column: each is tried in two databases that differ in that value alone."""

from __future__ import annotations

MORE_SCHEMA = """
CREATE SEQUENCE counted;
CREATE TABLE coded(ssn text PRIMARY KEY, note text); INSERT INTO coded VALUES ('@ssn@', 'x');
CREATE TABLE coding(id int, ssn text REFERENCES coded ON UPDATE CASCADE); INSERT INTO coding VALUES (1, '@ssn@');
CREATE TABLE made(id int, ssn text, g text GENERATED ALWAYS AS (upper(ssn)) STORED, n int GENERATED ALWAYS AS (ascii(ssn)) STORED);
INSERT INTO made VALUES (1, '@ssn@');
CREATE VIEW plainly AS SELECT id, ssn AS s, upper(ssn) AS u, name FROM people;
CREATE VIEW barred WITH (security_barrier) AS SELECT id, ssn AS s FROM people WHERE id < 3;
CREATE MATERIALIZED VIEW kept AS SELECT id, ssn AS s FROM people;
CREATE TABLE above(id int, ssn text); CREATE TABLE below(more int) INHERITS (above); INSERT INTO below VALUES (1, '@ssn@', 2);
CREATE VIEW filtered AS SELECT id, name FROM people WHERE ssn LIKE 'v%'; CREATE VIEW over_filtered AS SELECT f.name FROM filtered f;
CREATE VIEW matched AS SELECT o.id FROM other o JOIN people p ON p.ssn = 'violetharbor'; CREATE VIEW grouped AS SELECT count(*) AS n FROM people GROUP BY ssn;
CREATE STATISTICS both_of (mcv) ON name, ssn FROM people;
ANALYZE;
CREATE MATERIALIZED VIEW kept_filtered AS SELECT id FROM people WHERE ssn > 'd';
"""

MORE: list[tuple[str, ...]] = [
    # the row as a whole, and out of it again
    ("SELECT to_jsonb(people), people::text, people FROM people",),
    ("SELECT p.to_jsonb, p.row_to_json FROM people p",),
    ("SELECT (jsonb_populate_record(p, '{}')).ssn FROM people p",),
    ("SELECT r.ssn FROM json_populate_record(NULL::people, (SELECT row_to_json(p) FROM people p LIMIT 1)) r",),
    ("SELECT (SELECT p FROM people p LIMIT 1)", "SELECT (p.*).ssn FROM people p"),
    ("SELECT (ROW(p.*)::people).ssn FROM people p", "SELECT (q.p).ssn FROM (SELECT p FROM people p) q"),
    ("SELECT x FROM people, jsonb_each_text(to_jsonb(people)) x",),
    ("SELECT x.ssn FROM people CROSS JOIN LATERAL jsonb_to_record(to_jsonb(people)) AS x(ssn text)",),
    ("SELECT p IS NOT NULL, p IS NULL, p = p FROM people p", "SELECT id FROM people p WHERE p IS NOT NULL"),
    ("SELECT array_agg(p), json_agg(p), string_agg(p::text, ',') FROM people p",),
    # names that mean another column, or the same
    ("SELECT name FROM people AS f(id, ssn, name)", 'SELECT U&"s\\0073n" FROM "people"', "SELECT ssn FROM ONLY people"),
    ("SELECT * FROM people p JOIN LATERAL (SELECT p.ssn AS name) q USING (name)",),
    ('SELECT ssn COLLATE "C", (ssn), ssn::text, ssn::varchar, ssn::name, ssn::bpchar(3) FROM people',),
    # rows that there are as many of as the value says
    ("SELECT id, generate_series(1, length(ssn)) FROM people",),
    ("SELECT id, unnest(list) FROM people",),
    ("SELECT id, regexp_split_to_table(ssn, '') FROM people", "SELECT id, string_to_table(ssn, 'i') FROM people"),
    ("SELECT id, jsonb_object_keys(j) FROM people",),
    ("SELECT id, (regexp_matches(ssn, 'v', 'g'))[1] FROM people",),
    ("SELECT unnest(ARRAY[ssn, NULL]) FROM people", "SELECT x FROM ROWS FROM (unnest((SELECT array_agg(ssn) FROM people))) x"),
    ("SELECT count(DISTINCT ssn), count(ssn), mode() WITHIN GROUP (ORDER BY ssn) FROM people",),
    ("SELECT rank('violet') WITHIN GROUP (ORDER BY ssn) FROM people",),
    # order, groups, windows, sets
    ('SELECT id FROM people ORDER BY ssn COLLATE "C", id', "SELECT id FROM people ORDER BY people", "SELECT id FROM people ORDER BY people.*"),
    ("SELECT id FROM people ORDER BY (ssn, id)", "SELECT id FROM people ORDER BY md5(ssn)"),
    ("SELECT string_agg(id::text, ',' ORDER BY ssn) FROM people", "SELECT array_agg(id) FILTER (WHERE ssn LIKE 'v%') FROM people"),
    ("SELECT lag(ssn) OVER (ORDER BY id), first_value(ssn) OVER (), nth_value(ssn, 2) OVER () FROM people",),
    ("SELECT row_number() OVER (PARTITION BY ssn) FROM people", "SELECT ntile(2) OVER (ORDER BY ascii(ssn)) FROM people"),
    ("SELECT id FROM people INTERSECT SELECT ascii(ssn) FROM people", "SELECT ascii(ssn) FROM people EXCEPT SELECT 118"),
    ("SELECT id FROM people a WHERE (a.id, a.ssn) IN (SELECT id, ssn FROM people WHERE ssn > 'd')",),
    ("SELECT a.ssn = b.ssn, a.ssn IN ('violetharbor'), a.ssn = ANY (ARRAY['x']), a.ssn BETWEEN 'a' AND 'd' FROM people a, people b",),
    ("SELECT COALESCE(NULLIF(ssn, 'violetharbor'), 'hit'), greatest(ssn, 'm'), CASE ssn WHEN 'x' THEN 1 END FROM people",),
    ("WITH RECURSIVE r AS (SELECT id, ssn FROM people UNION ALL SELECT id + 100, ssn FROM r WHERE id < 50) SELECT ssn FROM r",),
    ("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT ascii(ssn) FROM people LIMIT 1)) SELECT n FROM r",),
    # what fails by the value, or takes its time by it
    ("SELECT 1 / (CASE WHEN ssn LIKE 'v%' THEN 0 ELSE 1 END) FROM people", "SELECT 1 / (ascii(ssn) - 118) FROM people"),
    ("SELECT CASE WHEN ssn LIKE 'v%' THEN pg_sleep(0.01) END FROM people",),
    ("SELECT ssn::regclass FROM people", "SELECT ssn::int FROM people", "SELECT to_date(ssn, 'YYYY') FROM people", "SELECT ssn::xml FROM people"),
    ("SELECT repeat('x', ascii(ssn) * 10000000) FROM people", "SELECT chr(ascii(ssn) - 118) FROM people", "SELECT substr('x', 1, 100 - ascii(ssn)) FROM people"),
    ("SELECT paid * 2, paid::numeric, away * 2, justify_interval(away), date '2020-01-01' + away FROM people",),
    ("SELECT list[1:2], array_to_string(list, ','), list || list, cardinality(list), array_position(list, 'x') FROM people",),
    ("SELECT j['k'], j #>> '{k}', j - 'k', jsonb_pretty(j), jsonb_path_query(j, '$.k') FROM people",),
    ("SELECT xmlelement(name a, ssn), xmlforest(ssn), xmlparse(content ssn) FROM people", "SELECT query_to_xml('SELECT ssn FROM people', true, true, '')"),
    ("SELECT table_to_xml('people', true, true, '')", "SELECT to_tsvector(ssn), ts_headline(ssn, to_tsquery('v')) FROM people"),
    ("SELECT numrange(0, ascii(ssn)), int4range(ascii(ssn), 5) FROM people",),
    ("SELECT pg_column_size(ssn), octet_length(ssn), md5(ssn), hashtext(ssn), encode(ssn::bytea, 'hex') FROM people",),
    ("SELECT format('%s', ssn), concat_ws(',', ssn, id), left(ssn, 1), ssn ^@ 'v', ssn ~ '^v', starts_with(ssn, 'v') FROM people",),
    # where it could be kept: settings, sequences, seeds, locks, large objects, cursors
    ("SELECT set_config('application_name', ssn, false) FROM people"),
    ("SELECT setval('counted', ascii(ssn)) FROM people", "SELECT last_value FROM counted", "SELECT currval('counted')"),
    ("SELECT nextval('counted') FROM people, generate_series(1, ascii(ssn))", "SELECT last_value FROM counted"),
    ("SELECT setseed(ascii(ssn) / 1000.0) FROM people LIMIT 1",),
    ("SELECT pg_advisory_lock(hashtext(ssn)) FROM people", "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory'"),
    ("SELECT pg_try_advisory_lock(ascii(ssn)) FROM people LIMIT 1", "SELECT objid FROM pg_locks WHERE locktype = 'advisory'"),
    ("SELECT lo_from_bytea(0, convert_to(ssn, 'UTF8')) FROM people", "SELECT data FROM pg_largeobject"),
    ("BEGIN", "DECLARE c BINARY SCROLL CURSOR FOR SELECT ssn, upper(ssn), people FROM people", "FETCH ALL c", "FETCH BACKWARD 1 FROM c", "COMMIT"),
    ("PREPARE q(text) AS SELECT $1 = ssn FROM people", "EXECUTE q('violetharbor')", "PREPARE w(text) AS SELECT id FROM people WHERE ssn = $1"),
    ("SELECT ssn INTO taken FROM people", "CREATE TEMP TABLE taken AS SELECT upper(ssn) AS u FROM people", "INSERT INTO other SELECT ascii(ssn) FROM people"),
    ("INSERT INTO people(id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = people.ssn RETURNING note",),
    ("INSERT INTO people(id) VALUES (1) ON CONFLICT (id) DO UPDATE SET note = 'y' WHERE people.ssn LIKE 'v%'",),
    ("BEGIN", "INSERT INTO people(id) VALUES (1) ON CONFLICT (id) DO UPDATE SET note = 'y' RETURNING ssn, upper(ssn), people", "ROLLBACK"),
    ("BEGIN", "UPDATE people SET note = 'y' RETURNING ssn, upper(ssn), to_json(people)", "ROLLBACK"),
    ("BEGIN", "DELETE FROM people RETURNING row_to_json(people), ssn", "ROLLBACK"),
    ("BEGIN", "UPDATE people p SET note = q.ssn FROM people q WHERE p.id = q.id RETURNING p.note", "ROLLBACK"),
    ("BEGIN", "WITH d AS (DELETE FROM people RETURNING *) SELECT ssn, upper(ssn) FROM d", "ROLLBACK"),
    # copies
    ("COPY people (ssn) TO STDOUT", "COPY people (ssn, list) TO STDOUT (DELIMITER 'v')", "COPY people (ssn) TO STDOUT (FORMAT csv, QUOTE 'v', ESCAPE 'i')"),
    ("COPY people (id, ssn) TO STDOUT (FORMAT binary)", "COPY (SELECT ssn, upper(ssn) FROM people) TO STDOUT (NULL 'none')", "COPY strict TO STDOUT (FORMAT csv, HEADER)"),
    # what the catalogue knows
    ("SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'people'", "SELECT stavalues1 FROM pg_statistic"),
    ("SELECT most_common_vals FROM pg_stats_ext", "SELECT stxdmcv FROM pg_statistic_ext_data", "SELECT query FROM pg_stat_activity LIMIT 1"),
    ("EXPLAIN SELECT * FROM people WHERE ssn = 'violetharbor'", "EXPLAIN SELECT id FROM people WHERE ssn > 'd'"),
    ("EXPLAIN (VERBOSE) SELECT upper(ssn) FROM people", "EXPLAIN (ANALYZE, TIMING off, SUMMARY off) SELECT string_agg(ssn, '') FROM people"),
    # other tables that hold the same, or are made of it
    ("INSERT INTO coding VALUES (1, 'violetharbor')",),
    ("UPDATE coding SET ssn = 'violetharbor'", "INSERT INTO coding SELECT 1, 'crimsontiger'", "DELETE FROM coded"),
    ("SELECT * FROM coding", "SELECT ssn, upper(ssn) FROM coding", "SELECT id FROM coding ORDER BY ssn", "COPY coding TO STDOUT"),
    ("SELECT g, n FROM made", "SELECT * FROM made", "COPY made TO STDOUT", "SELECT id FROM made ORDER BY g", "SELECT id FROM made WHERE n > 110"),
    ("SELECT * FROM plainly", "SELECT s, u FROM barred, plainly", "SELECT * FROM kept", "SELECT id FROM plainly WHERE s LIKE 'v%'"),
    ("SELECT id FROM kept ORDER BY s", "SELECT plainly FROM plainly", "SELECT max(u) FROM plainly"),
    # how many rows a view has, where that hangs on it
    ("SELECT * FROM filtered", "SELECT count(*) FROM filtered", "SELECT EXISTS (TABLE filtered)", "COPY (SELECT 1 FROM filtered) TO STDOUT"),
    ("SELECT 1 FROM over_filtered", "SELECT count(*) FROM people NATURAL JOIN filtered", "SELECT FROM kept_filtered", "SELECT count(*) FROM grouped"),
    ("INSERT INTO other VALUES (1)", "SELECT count(*) FROM matched", "INSERT INTO other SELECT 1 FROM filtered", "EXPLAIN ANALYZE SELECT 1 FROM filtered"),
    ("BEGIN", "DECLARE c CURSOR FOR SELECT 1 FROM filtered", "MOVE ALL c", "ROLLBACK"),
    ("SELECT ssn FROM below", "SELECT * FROM above", "SELECT id FROM above WHERE ssn > 'd'", "COPY below TO STDOUT"),
]  # fmt: skip
"""Each tuple is asked on one connection, step by step."""

REFUSED = [
    "SELECT setseed(ascii(ssn) / 1000.0) FROM people",
    "SELECT set_config('application_name', ssn, false) FROM people",
    "SELECT pg_advisory_lock(ascii(ssn)) FROM people",
    "SELECT setval('counted', ascii(ssn)) FROM people",
    "SELECT lo_from_bytea(0, convert_to(ssn, 'UTF8')) FROM people",
    "SELECT nextval('counted') FROM people WHERE ssn LIKE 'v%'",
    "SELECT pg_sleep(ascii(ssn) / 1000.0) FROM people",
    "SELECT CASE WHEN ssn LIKE 'v%' THEN nextval('counted') END FROM people",
]
"""What would leave a trace that is read later, or takes its time by the value: policy must permit `unmask`, or `infer`."""
