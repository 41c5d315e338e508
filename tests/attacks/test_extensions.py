"""Types and operators of extensions are read like PostgreSQL's own; what of extensions does more than compute is refused like code of anybody's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import pytest

from ostiary.testing.gateway import gateway
from ostiary.testing.peers import postgres_cluster
from tests.attacks.lab import LOGGED, PASSWORD, PROTECTED, connections
from tests.attacks.more import Case, Table, allow, deny
from tests.attacks.runner import HERE, SCHEMA, SENTINEL

pytestmark = pytest.mark.timeout(180)

EXTENSIONS: Final = (
    "btree_gist", "citext", "cube", "dblink", "fuzzystrmatch", "hstore", "intarray", "isn", "ltree", "pageinspect", "pg_trgm", "pgcrypto",
    "pgrowlocks", "pgstattuple", "seg", "tablefunc", "unaccent", "uuid-ossp",
)  # fmt: skip
OWN: Final = """
CREATE TABLE pristine AS SELECT * FROM victim;
CREATE TABLE things(id int, tags hstore, path ltree, at cube, email citext, days int[], span int4range);
INSERT INTO things VALUES (1, 'a=>1', 'x.y', '(1,2)', 'Ana@Example', '{1,2}', '[1,5)'), (2, 'b=>2', 'x.z', '(3,4)', 'bo@example', '{3}', NULL);
CREATE TYPE mood AS ENUM ('sad', 'glad');
-- Other names of PostgreSQL's own, which say of themselves that they are immutable.
CREATE FUNCTION harmless(text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'pg_read_file_all';
CREATE FUNCTION also_harmless(text, bool) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'pg_terminate_backend';
CREATE FUNCTION low(text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'lower';
-- What aggregates are made of.
CREATE AGGREGATE reads(bigint, bigint) (SFUNC = pg_read_file, STYPE = text, INITCOND = '/etc/hostname');
CREATE FUNCTION wipes(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.wipe()';
CREATE AGGREGATE wiping(int) (SFUNC = wipes, STYPE = int, INITCOND = '0');
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE AGGREGATE joined(hstore) (SFUNC = hs_concat, STYPE = hstore, INITCOND = '');
CREATE FUNCTION wipe_imm(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM public.wipe(); RETURN 1; END';
"""

COMPUTED: Final = (
    "SELECT * FROM things ORDER BY id",
    "SELECT tags -> 'a', tags ? 'b', path ~ '*.y'::lquery, path <@ 'x', email = 'ANA@example' FROM things ORDER BY id",
    "SELECT id FROM things ORDER BY at <-> cube(ARRAY[3, 3]::float8[]) LIMIT 1",
    "SELECT email, count(*) FROM things GROUP BY email ORDER BY email",
    "SELECT id FROM things WHERE days && ARRAY[3] OR span @> 2 ORDER BY id",
    "SELECT hstore_to_json(tags), akeys(tags), (tags || 'c=>3')::text FROM things ORDER BY id",
    "SELECT joined(tags ORDER BY id), total(id) FROM things",
    "SELECT similarity('word', 'two words') > 0, 'word' % 'words', unaccent('x'), levenshtein('a', 'b'), soundex('Anne'), low('X')",
    "SELECT encode(digest('a', 'sha256'), 'hex'), uuid_generate_v4() IS NOT NULL, length(gen_random_bytes(4))",
    "SELECT 'sad'::mood < 'glad'::mood, enum_range(NULL::mood), isbn('978-0-393-04002-9'), '1 .. 2'::seg",
    # What no extension has to do with, and what theirs could be meant by.
    ("SELECT array_agg(attname ORDER BY arridx) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY koi(key, arridx)"
    " JOIN pg_attribute a ON a.attnum = koi.key WHERE a.attrelid = i.indrelid AND i.indrelid = 'victim'::regclass"),
    ("SELECT c.conname, ARRAY(SELECT attname FROM pg_attribute a WHERE a.attnum = ANY (c.conkey) AND a.attrelid = c.conrelid)"
    " FROM pg_constraint c WHERE c.conrelid = 'victim'::regclass"),
    "SELECT indoption[0] & 1, '[1,5)'::int4range && '[3,9)'::int4range FROM pg_index WHERE indrelid = 'victim'::regclass",
    "SELECT usename, usesuper, passwd FROM pg_user",
    "SELECT count(*) FROM information_schema.user_mappings",
)
DOING: Final = (
    "SELECT dblink_connect('c', 'dbname=ext')",
    "SELECT * FROM dblink('dbname=ext', 'DELETE FROM victim RETURNING id') AS t(id int)",
    "SELECT * FROM crosstab('DELETE FROM victim RETURNING id, id, id') AS c(a int, b int)",
    "SELECT * FROM connectby('victim', 'id', 'id', '1', 0) AS t(a text, b text, c int)",
    "SELECT get_raw_page('victim', 0)",
    "SELECT * FROM heap_page_items(get_raw_page('victim', 0))",
    "SELECT * FROM pgstattuple('victim')",
    "SELECT pgrowlocks('victim')",
    "SELECT normal_rand(1, 1, 1)",
    "SELECT set_limit(0.1)",
    "SELECT harmless('/etc/hostname')",
    "SELECT also_harmless('1', true)",
    "SELECT reads(0, 10)",
    "SELECT wiping(id) FROM victim",
    "SELECT wipe_imm(1)",
    "SELECT passwd FROM pg_shadow",
    "SELECT umoptions FROM pg_user_mappings",
    "SELECT option_value FROM information_schema.user_mapping_options",
    # Who computes with a protected column's value might keep it.
    "SELECT hstore('a', secret) FROM victim",
    "SELECT similarity(secret, 'x') FROM victim",
    "SELECT id FROM victim WHERE secret % '078'",
    "SELECT digest(secret, 'sha256') FROM victim",
    "SELECT secret::citext < 'x' FROM victim",
)
CASES: Final = [
    *(allow(sql[:60], sql, database="ext") for sql in COMPUTED),
    *(allow(f"extended {sql[:60]}", ("", sql), database="ext") for sql in COMPUTED),
    *(deny(sql[:60], sql, database="ext") for sql in DOING),
]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with postgres_cluster(auth="scram-sha-256", password=PASSWORD, settings=LOGGED) as peer:
        peer.psql("CREATE DATABASE ext")
        peer.psql(SCHEMA + "".join(f'CREATE EXTENSION "{name}";' for name in EXTENSIONS) + OWN, "ext")
        policy = (HERE / "profiles" / "pg-readonly.cedar").read_text()
        with (
            gateway(connections=connections(peer, ["ext"], **PROTECTED), policy=policy, secrets_by_name={"pg": PASSWORD}) as gate,
            contextlib.closing(Table(peer, gate, {"ext": SENTINEL})) as made,
        ):
            yield made


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_computes_is_permitted_with_reading_and_what_does_more_is_not(case: Case, table: Table) -> None:
    start = table.log_position()
    seen = table.play(case)
    table.judge(case, seen, table.heard_since(start))
