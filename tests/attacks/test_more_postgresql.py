"""Attacks and controls beside the corpus's: the table in `more_cases.py`, one test each, on shared databases."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from ostiary.testing.gateway import gateway
from ostiary.testing.peers import postgres_cluster
from tests.attacks.lab import LOGGED, PASSWORD, connections
from tests.attacks.more import Case, Table
from tests.attacks.more_cases import CASES
from tests.attacks.runner import HERE, SCHEMA, SENTINEL

pytestmark = pytest.mark.timeout(180)

VIOLET = "violetharbor"
PLAIN = f"""
UPDATE victim SET secret = '{VIOLET}';
CREATE TABLE pristine AS SELECT * FROM victim;
CREATE TABLE copied(s text PRIMARY KEY); INSERT INTO copied VALUES ('a');
CREATE TABLE above(id int NOT NULL, name text, secret text); ALTER TABLE victim INHERIT above;
CREATE VIEW v_note AS SELECT v.id, v.secret AS note FROM victim v;
CREATE VIEW v_deep AS SELECT note AS n2 FROM v_note;
CREATE VIEW v_barrier WITH (security_barrier) AS SELECT secret AS s FROM victim;
CREATE FUNCTION leak() RETURNS SETOF text LANGUAGE sql AS 'SELECT secret FROM public.victim';
CREATE VIEW v_leak AS SELECT * FROM leak() AS l;
CREATE MATERIALIZED VIEW m_note AS SELECT id, secret AS note FROM victim;
CREATE VIEW v_stats AS SELECT most_common_vals::text AS m FROM pg_stats WHERE tablename = 'victim';
CREATE VIEW v_activity AS SELECT query FROM pg_stat_activity;
CREATE TABLE gen(secret text, mirrored text GENERATED ALWAYS AS (upper(reverse(lower(secret))) || '!') STORED);
INSERT INTO gen VALUES ('{VIOLET[::-1]}');
CREATE TABLE early(a text, b text); INSERT INTO early VALUES ('{VIOLET}', 'x'), ('{VIOLET}', 'y');
CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."c.d"(secret text); INSERT INTO "a.b"."c.d" VALUES ('{VIOLET}');
ANALYZE victim;
"""
PROTECTED_IN_PLAIN = ("public.victim.secret", '"a.b"."c.d".secret', "public.early.a", "public.gen.secret")


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with postgres_cluster(auth="scram-sha-256", password=PASSWORD, settings=LOGGED) as peer:
        for name, extra in (("more", (HERE / "more.sql").read_text()), ("plain", PLAIN)):
            peer.psql(f"CREATE DATABASE {name}")
            peer.psql(SCHEMA + extra, name)
        protect = {name: {"class": "ssn", "mask": "redact"} for name in PROTECTED_IN_PLAIN}
        targets = connections(peer, ["more"]) | connections(peer, ["plain"], detect=[], protect=protect)
        policy = (HERE / "profiles" / "pg-base.cedar").read_text()
        with (
            gateway(connections=targets, policy=policy, secrets_by_name={"pg": PASSWORD}) as gate,
            contextlib.closing(Table(peer, gate, {"more": SENTINEL, "plain": VIOLET})) as made,
        ):
            yield made


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_outcome_holds(case: Case, table: Table) -> None:
    start = table.log_position()
    seen = table.play(case)
    table.judge(case, seen, table.heard_since(start))


def test_no_two_cases_have_one_name() -> None:
    names = [(case.database, case.outcome, case.name) for case in CASES]
    assert len(set(names)) == len(names)


# --- what people and tools type ---------------------------------------------------------------------------------------

# Not here: \deu and \dRs, which read relations that hold passwords.
BACKSLASHED = [r"\d", r"\d+", r"\dt", r"\dt+", r"\dv+", r"\dm", r"\di+", r"\ds", r"\df", r"\df+", r"\da", r"\dT+", r"\dn+", r"\do", r"\dO", r"\dC", r"\dc", r"\dD", r"\ddp", r"\dE", r"\des", r"\dew", r"\det", r"\dF", r"\dFd", r"\dFp", r"\dFt", r"\dg", r"\du+", r"\dl", r"\dL", r"\dp", r"\dP", r"\drds", r"\dRp", r"\dx", r"\dX", r"\dy", r"\db+", r"\l+", r"\z", r"\dA", r"\dAc", r"\dAf", r"\dAo", r"\dAp", r"\lo_list", r"\encoding"]  # fmt: skip
WITH_NAMES = (
    r"\d victim",
    r"\d+ victim",
    r"\d v_note",
    r"\d+ t_part",
    r"\d t_domain",
    r"\d victim_pkey",
    r"\d pg_class",
    r"\sf wipe",
    r"\sv v_note",
)
TYPED = [word for command in (*BACKSLASHED, *WITH_NAMES) for word in ("-c", command)]


def through(table: Table, subject: str, database: str) -> dict[str, str]:
    """Variables that point libpq's tools at the gateway."""
    gate = table.gate
    own = {
        "PGHOST": gate.host,
        "PGPORT": str(gate.port),
        "PGUSER": "me",
        "PGPASSWORD": gate.token(subject),
        "PGDATABASE": database,
    }
    return table.peer.environment(database) | own


def test_every_question_of_psql_is_answered_as_directly(table: Table) -> None:
    command = [str(table.peer.binaries / "psql"), "-X", *TYPED]
    straight, through_it = (
        subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        for env in (table.peer.environment("more"), through(table, "psql", "more"))
    )
    assert through_it.stderr == straight.stderr
    assert through_it.stdout == straight.stdout


def test_pg_dump_of_a_schema_needs_an_administrator_and_then_is_whole(table: Table) -> None:
    command = [str(table.peer.binaries / "pg_dump"), "--schema-only"]
    refused = subprocess.run(command, env=through(table, "dumper", "more"), capture_output=True, text=True, check=False)
    assert refused.returncode
    assert "statement_timeout" in refused.stderr
    policy = (HERE / "profiles" / "permit-all.cedar").read_text()
    with gateway(
        connections=connections(table.peer, ["more"]), policy=policy, secrets_by_name={"pg": PASSWORD}
    ) as gate:
        done = Table(table.peer, gate, {})
        straight, through_it = (
            subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
            for env in (table.peer.environment("more"), through(done, "dumper", "more"))
        )
    # Newer releases guard a dump with a random word of their own.
    assert re.sub(r"^\\(un)?restrict .*$", "", through_it, flags=re.MULTILINE) == re.sub(
        r"^\\(un)?restrict .*$", "", straight, flags=re.MULTILINE
    )
