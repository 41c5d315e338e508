"""Two databases that differ in what is protected alone look the same to a caller, whatever it asks and whatever code they hold.

The policy here is wider than the corpus's: the caller may define things and call functions of somebody's own, only not see
what is protected. So what the gateway says, down to the number of values that it masked, is all that could tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.peers import postgres_cluster
from ostiary.testing.pgclient import Message, Reply
from tests.attacks.lab import LOGGED, PASSWORD, connections
from tests.attacks.more_ways import MORE, MORE_SCHEMA, REFUSED

pytestmark = pytest.mark.timeout(120)

WORLDS: dict[str, dict[str, str]] = {
    "violet": {
        "ssn": "violetharbor",
        "j": '{"k": "violetharbor"}',
        "list": "{violet,harbor}",
        "paid": "1",
        "away": "1 day",
    },
    "crimson": {
        "ssn": "crimsontiger",
        "j": '["crimsontigers"]    ',
        "list": "{crimsontiger}",
        "paid": "-92233720368547758.07",
        "away": "178000000 years",
    },
}
"""What is protected in each."""
POLICY = """
@id("nearly-everything")
permit (
  principal,
  action in [
    Ostiary::Action::"connect", Ostiary::Action::"read", Ostiary::Action::"write", Ostiary::Action::"define",
    Ostiary::Action::"execute", Ostiary::Action::"transfer"
  ],
  resource
);
"""
SCHEMA = """
CREATE TABLE people(id int PRIMARY KEY, name text, ssn text, note text, words tsvector, j jsonb, list text[], paid money, away interval);
INSERT INTO people SELECT i, 'n' || i, '@ssn@', 'x', NULL, '@j@', '@list@', '@paid@', '@away@' FROM generate_series(1, 3) i;
CREATE TABLE other(id int);
CREATE DOMAIN starts_v AS text CHECK (VALUE ~ '^v');
CREATE DOMAIN there AS text NOT NULL;
CREATE TYPE colour AS ENUM ('violetharbor', 'red');
CREATE FUNCTION one() RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM people LIMIT 1';

-- Code of the target's own that reads what is protected, or is given it, and speaks of it in passing.
CREATE FUNCTION says() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'the first is %', one(); RETURN NEW; END$$;
CREATE TABLE t_says(id int); CREATE TRIGGER a BEFORE INSERT ON t_says FOR EACH ROW EXECUTE FUNCTION says();
CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'the first is %', one() USING ERRCODE = '23514', HINT = one(), COLUMN = one(); END$$;
CREATE TABLE t_fails(id int); CREATE TRIGGER a BEFORE INSERT ON t_fails FOR EACH ROW EXECUTE FUNCTION fails();
CREATE FUNCTION is_fine(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$BEGIN RAISE WARNING '%', one(); RETURN true; END$$;
CREATE TABLE t_checked(id int CHECK (is_fine(id)));
CREATE FUNCTION complains() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'not % again', NEW.ssn USING ERRCODE = 'unique_violation'; END$$;
CREATE TABLE strict(ssn text, note text); INSERT INTO strict VALUES ('@ssn@', 'x');
CREATE TRIGGER a BEFORE UPDATE ON strict FOR EACH ROW EXECUTE FUNCTION complains();
CREATE FUNCTION tells_all() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_notify('changes', row_to_json(NEW)::text); RETURN NEW; END$$;
CREATE TRIGGER n AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION tells_all();
"""
PROTECTED = [f"public.people.{c}" for c in ("ssn", "j", "list", "paid", "away")] + [f"public.{table}.ssn" for table in ("strict", "coded", "made", "above")]
ANALYZE = "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off)"
BEFORE = "BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION"
WIDE = ", ".join(["lpad(substring(ssn FROM '^v.*'), 1000, 'x')"] * 40)

ASKED: list[tuple[str, ...]] = [
    # how many values were masked says nothing of whether there were any
    ("SELECT substring(ssn FROM '^v.*') FROM people",),
    ("SELECT (ARRAY['a', 'b'])[length(ssn) - 11] FROM people", "SELECT j ->> 'k', j -> 'z', list[1] FROM people"),
    ("COPY (SELECT substring(ssn FROM '^v.*') FROM people) TO STDOUT",),
    ("COPY (SELECT substring(ssn FROM '^v.*') FROM people) TO STDOUT (FORMAT csv, FORCE_QUOTE *)",),
    ("COPY (SELECT substring(ssn FROM '^v.*') FROM people) TO STDOUT (FORMAT csv, NULL 'none')",),
    ("COPY (SELECT substring(ssn FROM '^v.*') FROM people) TO STDOUT (FORMAT binary)",),
    ("BEGIN", "DECLARE c CURSOR FOR SELECT substring(ssn FROM '^v.*') FROM people", "FETCH 2 FROM c", "COMMIT"),
    # a cast written as a call is a cast: it may fail
    ("SELECT starts_v(ssn) FROM people",),
    ("SELECT there(substring(ssn FROM '^v.*')) FROM people",),
    ("SELECT colour(ssn) FROM people",),
    ("SELECT public.colour(ssn), pg_catalog.uuid(ssn), int2vector(ssn), regtype(ssn), aclitem(ssn) FROM people",),
    ("SELECT (SELECT information_schema.yes_or_no(ssn)) FROM people",),
    # sums that overflow, arrays and documents that do not fit together
    ("SELECT sum(paid), count(*) FROM people",),
    ("SELECT sum(away), avg(away) FROM people",),
    ("SELECT list || ARRAY[ARRAY['x']] FROM people",),
    ("SELECT list || string_to_array('x', NULL) FROM people",),
    ("SELECT j || '1' FROM people",),
    # how much memory it took
    (f"{ANALYZE} SELECT concat({WIDE}) FROM people ORDER BY id",),
    (
        f"PREPARE p AS SELECT concat({WIDE}) FROM people ORDER BY id",
        f"{ANALYZE} EXECUTE p",
    ),
    (f"{ANALYZE} DECLARE c CURSOR FOR SELECT concat({WIDE}) FROM people ORDER BY id",),
    # what code says in passing
    ("INSERT INTO t_says VALUES (1)", "INSERT INTO t_fails VALUES (1)", "INSERT INTO t_checked VALUES (1)"),
    ("UPDATE strict SET note = 'y'",),
    ("SELECT is_fine(1)",),
    ("LISTEN changes", "UPDATE people SET note = 'y'", "SELECT 1"),
    # code that the caller brings along
    ("CREATE FUNCTION f1() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM people LIMIT 1'", "SELECT f1()"),
    ("CREATE FUNCTION f2() RETURNS text BEGIN ATOMIC SELECT ssn FROM people LIMIT 1; END", "SELECT f2()"),
    ("CREATE FUNCTION f3() RETURNS text RETURN (SELECT ssn FROM people LIMIT 1)", "SELECT f3()"),
    (
        "CREATE FUNCTION f4() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO other SELECT ascii(one()); RETURN 1; END'",
        "SELECT f4()",
        "TABLE other",
    ),
    (
        "CREATE FUNCTION f5(q text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE q; END'",
        "SELECT f5('INSERT INTO other SELECT ascii(ssn) FROM people')",
        "TABLE other",
    ),
    (
        "CREATE PROCEDURE f6() LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE '%', (SELECT ssn FROM public.people LIMIT 1); END$$",
        "CALL f6()",
    ),
    (
        f"CREATE TRIGGER t {BEFORE} tsvector_update_trigger(words, 'pg_catalog.simple', ssn)",
        "UPDATE people SET note = 'z'",
        "SELECT words FROM people",
    ),
    (
        f"CREATE TRIGGER s {BEFORE} suppress_redundant_updates_trigger()",
        "UPDATE people SET ssn = ssn WHERE id = 1",
    ),
    ("CREATE DOMAIN mine AS text CHECK (VALUE ~ '^v')", "SELECT mine(ssn) FROM people", "SELECT ssn::mine FROM people"),
]

FREE = [
    "SELECT id, name, ssn FROM people ORDER BY id",
    "SELECT upper(ssn), ssn || '!', 'a' || ssn || 1, name || '-' || id FROM people",
    "SELECT sum(id), avg(id), sum(length(ssn)) FROM people",
    f"{ANALYZE} SELECT id, ssn FROM people",
    "CREATE FUNCTION fine(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1 + 1; END'",
    "CREATE TRIGGER fine BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
]
"""What the same caller may ask, and is answered."""


@pytest.fixture(scope="module")
def gate() -> Iterator[Gateway]:
    with postgres_cluster(auth="scram-sha-256", password=PASSWORD, settings=LOGGED) as peer:
        for world, values in WORLDS.items():
            peer.psql(f"CREATE DATABASE {world}")
            schema = SCHEMA + MORE_SCHEMA
            for name, value in values.items():
                schema = schema.replace(f"@{name}@", value)
            peer.psql(schema, world)
        protect = {name: {"class": "ssn", "mask": "redact"} for name in PROTECTED}
        targets = connections(peer, WORLDS, detect=[], protect=protect)
        with gateway(connections=targets, policy=POLICY, secrets_by_name={"pg": PASSWORD}) as running:
            yield running


def answers(gate: Gateway, world: str, steps: tuple[str, ...]) -> list[Reply]:
    """What one of them answers, on a connection of its own."""
    with gate.connect(world, token=gate.token("vera")) as client:
        return [client.query(step) for step in steps]


def seen(message: Message, world: str) -> tuple[bytes, bytes]:
    """A message without what may differ: OIDs of tables, processes, the connection's name."""
    body = message.body.replace(world.encode(), b"world")
    if message.tag == b"T":
        body = b",".join(re.findall(rb"([^\0]*)\0.{18}", body[2:], flags=re.DOTALL))
    return message.tag, body[4:] if message.tag == b"A" else body


@pytest.mark.parametrize("steps", [*ASKED, *MORE], ids=lambda steps: steps[0][:60])
def test_the_answers_are_the_same(steps: tuple[str, ...], gate: Gateway) -> None:
    told = {
        world: [[seen(message, world) for message in reply.messages] for reply in answers(gate, world, steps)]
        for world in WORLDS
    }
    assert told["violet"] == told["crimson"]
    typed = " ".join(steps)
    for world, values in WORLDS.items():
        assert values["ssn"] in typed or values["ssn"] not in str(told[world])


@pytest.mark.parametrize("sql", FREE, ids=lambda sql: sql[:60])
def test_what_tells_nothing_is_answered(sql: str, gate: Gateway) -> None:
    for world in WORLDS:
        (reply,) = answers(gate, world, (sql,))
        assert not reply.errors


@pytest.mark.parametrize("sql", REFUSED, ids=lambda sql: sql[:60])
def test_what_leaves_a_trace_is_refused(sql: str, gate: Gateway) -> None:
    (reply,) = answers(gate, "violet", (sql,))
    assert reply.is_refused
