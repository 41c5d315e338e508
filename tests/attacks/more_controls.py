"""What must pass, and what is merely large."""

from __future__ import annotations

from typing import Final

from tests.attacks.more import allow, deny

D = "DELETE FROM victim"

# --- controls --------------------------------------------------------------------------------------------------------

CONTROLS: Final = [
    allow("allow-nothing", ""),
    allow("allow-semicolons", ";;"),
    allow("allow-comment", "-- nothing"),
    allow("allow-values", "VALUES (1, 'a'), (2, 'b')"),
    allow("allow-strings", r"SELECT 'a''b', E'\'', $$x$$, U&'\0061', B'101', X'1F'"),
    allow("allow-order-number", "SELECT id, name FROM v_some ORDER BY 2, 1 LIMIT 3 OFFSET 1"),
    allow("allow-star-order", "SELECT * FROM keyed ORDER BY 1 DESC"),
    allow("allow-group", "SELECT name, count(*) FROM victim GROUP BY name ORDER BY 2 DESC, name"),
    allow(
        "allow-window",
        "SELECT id, row_number() OVER (ORDER BY id), lag(name) OVER w FROM victim WINDOW w AS (ORDER BY id)",
    ),
    allow(
        "allow-cte",
        "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t",
    ),
    allow(
        "allow-in-subquery",
        "SELECT id FROM keyed WHERE id IN (SELECT id FROM v_some) ORDER BY 1",
        "SELECT q.a FROM (SELECT id AS a FROM keyed) q JOIN (SELECT id AS b FROM keyed) r ON q.a = r.b ORDER BY 1",
    ),
    allow(
        "allow-cte-join",
        "WITH a AS (SELECT id FROM keyed), b AS (SELECT id FROM keyed) SELECT count(*) FROM a JOIN b USING (id)",
        "WITH a AS (SELECT id FROM keyed) SELECT count(*) FROM a WHERE id NOT IN (SELECT id FROM a)",
    ),
    allow("allow-lateral", "SELECT k.id, l.x FROM keyed k, LATERAL (SELECT k.id * 2 AS x) l ORDER BY 1"),
    allow("allow-join-using", "SELECT id, v.name FROM keyed JOIN victim v USING (id) ORDER BY id"),
    allow("allow-natural", "SELECT id FROM keyed NATURAL JOIN v_some ORDER BY 1"),
    allow("allow-grouping-sets", "SELECT name, count(*) FROM victim GROUP BY ROLLUP (name) ORDER BY 1 NULLS LAST"),
    allow(
        "allow-subselect",
        "SELECT (SELECT max(id) FROM keyed), EXISTS (SELECT 1 FROM keyed), 3 IN (SELECT id FROM keyed)",
    ),
    allow(
        "allow-arrays",
        "SELECT ARRAY[1, 2, 3], (ARRAY[1, 2, 3])[2], ARRAY(SELECT id FROM keyed ORDER BY id), 1 = ANY ('{1,2}')",
    ),
    allow(
        "allow-json",
        "SELECT '{\"a\": [1, {\"b\": 2}]}'::jsonb #>> '{a,1,b}', jsonb_build_object('a', 1), to_json(ARRAY[1])",
    ),
    allow("allow-json-path", "SELECT jsonb_path_query('{\"a\": [1, 2]}', '$.a[*]')"),
    allow("allow-json-record", "SELECT * FROM jsonb_to_recordset('[{\"a\": 1}]') AS x(a int)"),
    allow("allow-xml", "SELECT xmlelement(name a, xmlattributes(1 AS b), 'c')"),
    allow("allow-text-search", "SELECT to_tsvector('english', 'a fat cat') @@ to_tsquery('english', 'cat')"),
    allow(
        "allow-regexp",
        "SELECT regexp_replace('abc', '(b)', '[\\1]'), 'abc' ~* 'B', 'abc' SIMILAR TO '%b%', 'a' LIKE 'A' ESCAPE '!'",
    ),
    allow(
        "allow-dates",
        "SELECT date_trunc('day', timestamp '2020-01-02 03:04'), interval '1 day' * 2, extract(year FROM date '2020-01-01')",
    ),
    allow(
        "allow-casts",
        "SELECT '1'::int, CAST(2 AS text), float8 '1.5', 1::numeric(5, 2), '{1,2}'::int[], 'a'::char(3), null::text",
    ),
    allow(
        "allow-case",
        "SELECT CASE id WHEN 1 THEN 'a' ELSE 'b' END, coalesce(null, 1), nullif(1, 2), greatest(1, 2) FROM keyed ORDER BY id",
    ),
    allow(
        "allow-aggregates",
        "SELECT count(*), sum(id), avg(id), string_agg(id::text, ',' ORDER BY id), bool_and(id > 0), array_agg(id ORDER BY id) FROM keyed",
    ),
    allow(
        "allow-within-group",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id), mode() WITHIN GROUP (ORDER BY id) FROM keyed",
    ),
    allow("allow-filter", "SELECT count(*) FILTER (WHERE id > 2), count(DISTINCT id) FROM keyed"),
    allow("allow-distinct-on", "SELECT DISTINCT ON (name) name, id FROM victim ORDER BY name, id"),
    allow("allow-union", "SELECT id FROM keyed UNION SELECT 9 EXCEPT SELECT 1 ORDER BY 1"),
    allow("allow-sample", "SELECT count(*) FROM keyed TABLESAMPLE bernoulli (100)"),
    allow("allow-series", "SELECT g, g * 2 FROM generate_series(1, 3) WITH ORDINALITY AS s(g, n)"),
    allow(
        "allow-functions",
        "SELECT lower('A'), upper('a'), length('abc'), substr('abc', 2), trim('  a '), position('b' IN 'abc'), concat(1, 'a'), format('%s', 1)",
    ),
    allow(
        "allow-math",
        "SELECT abs(-1), round(1.5), floor(1.5), ceil(1.5), sqrt(4), power(2, 3), mod(5, 3), 7 / 2, 7 % 3, 2 ^ 3",
    ),
    allow("allow-infos", "SELECT current_user, session_user, current_database(), current_schema(), pg_typeof(1)"),
    allow("allow-current-setting", "SELECT current_setting('server_version_num')::int / 10000"),
    allow("allow-oids", "SELECT 'victim'::regclass, 'int4'::regtype, to_regclass('nothing_here')"),
    allow("allow-descriptions", "SELECT obj_description('victim'::regclass), col_description('victim'::regclass, 1)"),
    allow(
        "allow-privileges", "SELECT has_table_privilege('victim', 'SELECT'), has_schema_privilege('public', 'USAGE')"
    ),
    allow("allow-columns-named", 'SELECT 1 AS "select", 2 AS "delete", 3 AS truncate'),
    allow("allow-explain", "EXPLAIN (COSTS off) SELECT id FROM keyed WHERE id = 1"),
    allow("allow-explain-insert", "EXPLAIN (COSTS off) INSERT INTO other VALUES (1)"),
    allow("allow-prepare", "PREPARE q(int) AS SELECT id FROM keyed WHERE id = $1", "EXECUTE q(2)", "DEALLOCATE q"),
    allow("allow-prepare-all", "PREPARE q AS SELECT 1", "DEALLOCATE ALL"),
    allow(
        "allow-cursor",
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id FROM keyed ORDER BY id",
        "FETCH 2 FROM c",
        "MOVE 1 IN c",
        "FETCH ALL c",
        "CLOSE c",
        "COMMIT",
    ),
    allow("allow-transaction", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT 1", "ROLLBACK"),
    allow("allow-savepoints", "BEGIN", "SAVEPOINT a", "SELECT 1 / 0", "ROLLBACK TO SAVEPOINT a", "RELEASE a", "COMMIT"),
    allow("allow-failed-transaction", "BEGIN", "SELECT nothing_here", "SELECT 1", "ROLLBACK"),
    allow("allow-batch", "SELECT 1; SELECT 2; SELECT 'a' WHERE false"),
    allow("allow-error", "SELECT 1 / 0"),
    allow("allow-error-in-batch", "SELECT 1; SELECT 1 / 0; SELECT 2"),
    allow("allow-set", "SET application_name = 'x'", "SHOW application_name"),
    allow(
        "allow-set-django",
        "SET TIME ZONE 'UTC'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
    ),
    allow("allow-set-jdbc", "SET extra_float_digits = 3", "SET datestyle = 'ISO'", "SHOW TRANSACTION ISOLATION LEVEL"),
    allow(
        "allow-set-rails",
        "SET client_min_messages TO 'warning'",
        "SET standard_conforming_strings = on",
        "SET SESSION timezone TO 'UTC'",
        "SET intervalstyle = iso_8601",
    ),
    allow(
        "allow-set-sqlalchemy",
        "select pg_catalog.version()",
        "select current_schema()",
        "show standard_conforming_strings",
    ),
    allow("allow-set-encoding", "SET client_encoding = 'UTF8'", "SET NAMES 'utf-8'"),
    allow("allow-set-path", "SET search_path = public", "SHOW search_path", "RESET search_path"),
    allow("allow-set-local", "BEGIN", "SET LOCAL statement_timeout = '5s'", "COMMIT"),
    allow("allow-discard", "DISCARD ALL"),
    allow("allow-close-all", "CLOSE ALL", "UNLISTEN *", "RESET ALL"),
    allow("allow-insert", "INSERT INTO other VALUES (100) RETURNING id"),
    allow("allow-insert-many", "INSERT INTO other SELECT g FROM generate_series(200, 210) g"),
    allow("allow-update", "UPDATE other SET id = id + 0 WHERE id = 100 RETURNING id"),
    allow("allow-upsert", "INSERT INTO keyed VALUES (1) ON CONFLICT (id) DO NOTHING"),
    allow(
        "allow-copy-out",
        "COPY keyed TO STDOUT",
        "COPY (SELECT id FROM keyed ORDER BY 1) TO STDOUT (FORMAT csv, HEADER)",
    ),
    allow("allow-copy-binary", "COPY keyed TO STDOUT (FORMAT binary)"),
    allow("allow-copy-in-fails", "COPY other FROM STDIN"),
    allow("allow-extended", ("", "SELECT id FROM keyed ORDER BY id")),
    allow("allow-extended-binary", ("binary", "SELECT id, name FROM victim ORDER BY id")),
    allow("allow-extended-described", ("describe_then_execute", "INSERT INTO other VALUES (7)")),
    allow("allow-extended-portal", ("portal_suspend", "SELECT id FROM keyed ORDER BY id")),
    allow("allow-extended-copy", ("", "COPY keyed TO STDOUT")),
    allow("allow-extended-error", ("", "SELECT 1 / 0")),
    allow(
        "allow-catalog-tables",
        "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2",
    ),
    allow(
        "allow-catalog-columns",
        "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_name = 'victim' ORDER BY ordinal_position",
    ),
    allow(
        "allow-catalog-keys",
        "SELECT tc.constraint_name, kcu.column_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu ON tc.constraint_name = kcu.constraint_name WHERE tc.table_name = 'victim' ORDER BY 1, 2",
    ),
    allow(
        "allow-catalog-dbeaver",
        "SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass WHERE c.relnamespace = 2200 AND c.relkind NOT IN ('i', 'I', 'c') ORDER BY c.oid",
    ),
    allow(
        "allow-catalog-sqlalchemy",
        "SELECT pg_catalog.pg_attribute.attname AS name, pg_catalog.format_type(pg_catalog.pg_attribute.atttypid, pg_catalog.pg_attribute.atttypmod) AS format_type, (SELECT pg_catalog.pg_get_expr(pg_catalog.pg_attrdef.adbin, pg_catalog.pg_attrdef.adrelid) AS pg_get_expr_1 FROM pg_catalog.pg_attrdef WHERE pg_catalog.pg_attrdef.adrelid = pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_attrdef.adnum = pg_catalog.pg_attribute.attnum AND pg_catalog.pg_attribute.atthasdef) AS \"default\", pg_catalog.pg_attribute.attnotnull AS not_null FROM pg_catalog.pg_class LEFT OUTER JOIN pg_catalog.pg_attribute ON pg_catalog.pg_class.oid = pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_attribute.attnum > 0 AND NOT pg_catalog.pg_attribute.attisdropped WHERE pg_catalog.pg_class.relname = ANY (ARRAY['victim']) ORDER BY pg_catalog.pg_attribute.attnum",
    ),
    allow(
        "allow-catalog-rails",
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity, attgenerated as attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '\"victim\"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    ),
    allow(
        "allow-catalog-indexes",
        "SELECT i.relname, ix.indisunique, pg_get_indexdef(ix.indexrelid), array_agg(a.attname ORDER BY a.attnum) FROM pg_index ix JOIN pg_class i ON i.oid = ix.indexrelid JOIN pg_attribute a ON a.attrelid = ix.indrelid AND a.attnum = ANY (ix.indkey) WHERE ix.indrelid = 'victim'::regclass GROUP BY 1, 2, 3",
    ),
    allow(
        "allow-catalog-types",
        "SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4', 'text', 'bool')",
    ),
    allow("allow-catalog-types-oid", "SELECT oid, typname FROM pg_type WHERE oid IN (23, 25, 1043) ORDER BY oid"),
    allow(
        "allow-catalog-functions",
        "SELECT p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public' ORDER BY 1, 2",
    ),
    allow("allow-catalog-views", "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1"),
    allow("allow-catalog-sizes", "SELECT pg_size_pretty(pg_relation_size('keyed'::regclass))"),
    allow("allow-catalog-roles", "SELECT rolname, rolsuper FROM pg_roles ORDER BY 1"),
    allow(
        "allow-catalog-settings",
        "SELECT name, setting FROM pg_settings WHERE name IN ('server_version', 'TimeZone') ORDER BY 1",
    ),
    allow("allow-catalog-enums", "SELECT enumlabel FROM pg_enum WHERE enumtypid = 'pair'::regtype"),
    allow("allow-catalog-locks", "SELECT count(*) >= 0 FROM pg_locks"),
    allow(
        "allow-catalog-databases",
        "SELECT datname, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()",
    ),
    allow(
        "allow-catalog-metabase",
        "SELECT n.nspname AS \"table-schema\", c.relname, d.description FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid LEFT JOIN pg_catalog.pg_description AS d ON c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = CAST('pg_class' AS REGCLASS) WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND n.nspname !~ '^information_schema|catalog_history|pg_' ORDER BY n.nspname ASC, c.relname ASC",
    ),
    allow(
        "allow-catalog-jdbc",
        "SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME, information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE true AND ct.relname = 'victim' AND i.indisprimary",
    ),
]

# --- size and depth --------------------------------------------------------------------------------------------------


def _nested_order(depth: int) -> str:
    text = "SELECT 1"
    for _ in range(depth):
        text = f"SELECT ({text} ORDER BY 1, 1, 1)"
    return text


def _nested_alias(depth: int) -> str:
    text = "SELECT 1 AS a"
    for _ in range(depth):
        text = f"SELECT ({text} ORDER BY a) AS a"
    return text


LARGE: Final = [
    deny("deep-parens", "SELECT " + "(" * 60000 + "1" + ")" * 60000 + f"; {D}"),
    deny("deep-brackets", "SELECT " + "ARRAY[" * 20000 + "1" + "]" * 20000 + f"; {D}"),
    deny("deep-not", "SELECT " + "NOT " * 100000 + f"true; {D}"),
    deny("deep-minus", "SELECT " + "- " * 100000 + f"1; {D}"),
    deny("deep-plus", "SELECT 1" + "+1" * 100000 + f"; {D}"),
    deny("deep-and", "SELECT true" + " AND true" * 50000 + f"; {D}"),
    deny("deep-concat", "SELECT ''" + "||''" * 50000 + f"; {D}"),
    deny("deep-case", "SELECT " + "CASE WHEN true THEN " * 5000 + "1" + " END" * 5000 + f"; {D}"),
    deny("deep-subselect", "SELECT " + "(SELECT " * 5000 + "1" + ")" * 5000 + f"; {D}"),
    deny("deep-from", "SELECT * FROM " + "(SELECT * FROM " * 3000 + "other" + ") q" * 3000 + f"; {D}"),
    deny("deep-union", "SELECT 1" + " UNION ALL SELECT 1" * 20000 + f"; {D}"),
    deny("deep-union-parens", "(" * 5000 + "SELECT 1" + ") UNION ALL (SELECT 1)" * 5000 + f"; {D}"),
    deny("deep-cte", "WITH a AS (" * 3000 + "SELECT 1" + ") SELECT * FROM a" * 3000 + f"; {D}"),
    deny("deep-casts", "SELECT 1" + "::int" * 50000 + f"; {D}"),
    deny("deep-indexes", "SELECT a" + "[1]" * 50000 + f" FROM (SELECT NULL::int[] AS a) q; {D}"),
    deny("deep-functions", "SELECT " + "abs(" * 20000 + "1" + ")" * 20000 + f"; {D}"),
    deny("deep-joins", "SELECT 1 FROM other" + " CROSS JOIN other o" * 5000 + f"; {D}"),
    deny("deep-comments", "/*" * 50000 + "*/" * 50000 + D),
    deny("deep-explain", "PREPARE p AS " + "WITH a AS (SELECT 1) " + f"SELECT 1; {D}"),
    deny("many-order-numbers", _nested_order(40) + f"; {D}"),
    deny("many-order-aliases", _nested_alias(40) + f"; {D}"),
    deny("many-statements", "SELECT id FROM other;" * 5000 + D),
    deny("many-columns", "SELECT " + ",".join(["id"] * 1600) + f" FROM other; {D}"),
    deny("many-in", "SELECT 1 WHERE 1 IN (" + ",".join(["1"] * 100000) + f"); {D}"),
    deny("many-values", "INSERT INTO other VALUES " + ",".join(["(1)"] * 50000) + f"; {D}"),
    deny("many-ctes", "WITH " + ",".join(f"a{i} AS (SELECT 1)" for i in range(2000)) + f" SELECT 1; {D}"),
    deny("many-orders", "SELECT * FROM other ORDER BY " + ",".join(["1"] * 5000) + f"; {D}"),
    deny(
        "many-lookups",
        "SELECT " + ",".join(["id"] * 20000) + " FROM " + ",".join(f"other o{i}" for i in range(5000)) + f"; {D}",
    ),
    deny(
        "many-stars",
        "SELECT " + ",".join(["*"] * 20000) + " FROM " + ",".join(f"pg_class o{i}" for i in range(2000)) + f"; {D}",
    ),
    deny(
        "many-orders-of-stars",
        "SELECT " + ",".join(["*"] * 200) + " FROM pg_class ORDER BY " + ",".join(map(str, range(1, 5000))) + f"; {D}",
    ),
    deny("large-string", "SELECT '" + "x" * 8_000_000 + f"'; {D}"),
    deny("large-comment", "/*" + "x" * 8_000_000 + "*/" + D),
    deny("large-name", f"SELECT 1 AS {'x' * 1_000_000}; {D}"),
    allow("allow-large", "SELECT length('" + "x" * 3_000_000 + "')"),
    allow("allow-many-in", "SELECT count(*) FROM keyed WHERE id IN (" + ",".join(map(str, range(5000))) + ")"),
    allow("allow-deep-enough", "SELECT " + "(" * 100 + "1" + ")" * 100 + ", 1" + " + 1" * 200),
]
