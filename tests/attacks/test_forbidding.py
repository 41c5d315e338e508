"""The policy under which false positives are counted (`conformance/forbidding.cedar`) does forbid what it names, and the count sees it."""

from __future__ import annotations

from conformance.forbidding import POLICY, SUITES, count, forbids, kept, merged, section
from ostiary.testing.gateway import gateway, target
from ostiary.testing.peers import postgres_cluster

FORBIDDEN = [
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "COPY (SELECT 1) TO '/tmp/x'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/x')",
    "DROP DATABASE postgres",
    "ALTER SYSTEM SET work_mem = '1MB'",
    "SELECT rolpassword FROM pg_authid",
    "TABLE pg_shadow",
    "DROP OWNED BY CURRENT_USER",
    "REINDEX TABLE pg_class",
    "DROP SCHEMA public CASCADE",
    "DELETE FROM pg_class",
    "LOCK TABLE pg_class",
    "LOAD 'x'",
]
PERMITTED = ["SELECT 1", "CREATE TEMP TABLE t(a int)", "DROP DATABASE IF EXISTS nowhere", "DELETE FROM t", "SET client_encoding = 'BIG5'"]


def test_what_is_forbidden_is_refused_and_counted() -> None:
    named = forbids(POLICY.read_text())
    with postgres_cluster(auth="trust") as peer:
        targets = {"shop": target(peer, database="postgres", recording="events")}
        with gateway(connections=targets, policy=POLICY.read_text()) as gate:
            with gate.connect("shop") as client:
                for sql in [*FORBIDDEN, *PERMITTED]:
                    client.query(sql)
            found = count(gate.entries(), named)
    assert len(found.refused) == len(FORBIDDEN)
    assert {policy for policy, _ in found.refused} == named
    assert found.judged >= len(FORBIDDEN) + len(PERMITTED) - 1
    assert found.others == 1
    page = merged("# Conformance\n", section({SUITES[0]: (3, 2, found)}))
    assert f"| {SUITES[0]} | 3 | 2 | {found.judged} | {len(FORBIDDEN)} | 1 |" in page
    assert merged(page, kept(page)) == page
