"""An operator's own detectors and national ids before a real PostgreSQL: every way out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer, postgres_cluster

POLICY = """
@id("everything")
permit (principal, action, resource);
@id("guests-read-nothing")
forbid (principal in Ostiary::Group::"guests", action == Ostiary::Action::"read", resource);
@id("some-see-some")
@filter("id = 1")
permit (principal in Ostiary::Group::"some", action == Ostiary::Action::"read", resource is Ostiary::Relation);
@id("others-see-others")
@instead("public.named")
permit (principal in Ostiary::Group::"others", action == Ostiary::Action::"read", resource == Ostiary::Relation::"shown/public.people");
@id("few-see-few")
@rows("1")
permit (principal in Ostiary::Group::"few", action == Ostiary::Action::"read", resource is Ostiary::Relation);
@id("staff-see-staff")
permit (principal in Ostiary::Group::"hr", action == Ostiary::Action::"unmask", resource == Ostiary::DataClass::"people");
"""
DETECTORS = {"staff": {"pattern": r"\bEMP-[0-9]{4}\b", "class": "people"}, "number": {"pattern": r"\b77[0-9]{5}\b"}}
BADGE, NUMBER, BSN, SECRET = "EMP-4711", "7712345", "111222333", "the-hidden"
SHOWN = {
    "detect": ["nl_bsn"],
    "detectors": DETECTORS,
    "protect": {f"public.{table}.secret": {"class": "pii", "mask": "last4"} for table in ("people", "parts")},
    "protect_rules": [{"columns": r"public\..*\.mail", "class": "mail"}],
}
PEOPLE = f"""
CREATE TABLE people(id int PRIMARY KEY, secret text, mail text, note text);
INSERT INTO people VALUES (1, '{SECRET}-1-one'), (2, '{SECRET}-2-two');
UPDATE people SET mail = 'ana@example.com', note = 'is {BADGE} and {BSN}' WHERE id = 1;
CREATE TABLE parts(LIKE people, of text GENERATED ALWAYS AS (upper(secret)) STORED, head text GENERATED ALWAYS AS (left(note, 1)) STORED);
ALTER TABLE people ADD UNIQUE (secret);
CREATE TABLE referring(id int, who text REFERENCES people(secret));
CREATE TABLE heirs(more int) INHERITS (people);
CREATE VIEW named AS SELECT id, secret AS s FROM people;
CREATE VIEW failing AS SELECT 1 / (id - id) AS x FROM people;
"""
ASKED = [
    f"SELECT 'is {BADGE}', {NUMBER}::int8, ARRAY['{BADGE}'], '{BADGE}'::bytea, '{NUMBER}'::numeric, '{{\"a\": \"{BADGE} {BSN}\"}}'::json",
    f"COPY (SELECT 'is {BADGE}', {NUMBER}::int8, '{BSN}'::text) TO STDOUT",
    f"COPY (SELECT 'is {BADGE}', {NUMBER}::int8, '{BSN}'::text) TO STDOUT (FORMAT csv, FORCE_QUOTE *)",
    f"COPY (SELECT 'is {BADGE}', {NUMBER}::int8, '{BSN}'::text, ARRAY[{NUMBER}::int8]) TO STDOUT (FORMAT binary)",
    f"DO $$BEGIN RAISE NOTICE 'is {BADGE} {BSN}' USING DETAIL = '{NUMBER}'; END$$",
    f"SELECT 'is {BADGE} {BSN} {NUMBER}'::int",
    f"SET application_name = 'is {BADGE}'",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Peer]:
    with postgres_cluster(auth="trust") as peer:
        yield peer


@pytest.fixture(scope="module")
def gate(cluster: Peer) -> Iterator[Gateway]:
    cluster.psql("CREATE DATABASE shown")
    cluster.psql(PEOPLE, "shown")
    targets = {
        "shop": target(cluster, database="postgres", detect=["nl_bsn"], detectors=DETECTORS),
        "shown": target(cluster, database="shown", **SHOWN),
    }
    policy = POLICY + '@id("opaque") permit (principal, action == Ostiary::Action::"opaque", resource);'
    with gateway(connections=targets, policy=policy) as running:
        yield running


@pytest.mark.parametrize("sql", ASKED, ids=lambda sql: sql[:30])
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_nothing_that_is_looked_for_comes_through(sql: str, *, binary: bool, gate: Gateway) -> None:
    with gate.connect("shop") as client:
        if binary and not sql.startswith(("COPY", "DO")):
            reply = client.extended(sql, mode="binary")
        else:
            reply = client.query(sql)
    said = b"".join(message.body for message in reply.messages)
    assert b"is " in said or b"\xff\xff\xff\xff" in said
    for value in (BADGE, NUMBER, BSN):
        assert value.encode() not in said
        assert value.encode().hex().encode() not in said
    assert int(NUMBER).to_bytes(8, "big") not in said


def test_whoever_may_see_the_class_sees_it_and_the_record_counts_it(gate: Gateway) -> None:
    sql = f"SELECT '{BADGE}', '{BSN}'"
    with gate.connect("shop", token=gate.token("hanna", groups=["hr"])) as client:
        assert client.query(sql).rows == [(BADGE.encode(), b"*" * 9)]
    with gate.connect("shop") as client:
        assert client.query(sql).rows == [(b"*" * 8, b"*" * 9)]
    entries = gate.entries()
    clear = [e["decision"]["clear"] for e in entries if e["kind"] == "intent" and e["who"]["sub"] == "hanna"]
    assert clear == [["people"]]
    masked = [e["result"]["masked"] for e in entries if e["kind"] == "outcome" and "masked" in e["result"]]
    assert masked[-2:] == [{"nl_bsn": 1}, {"nl_bsn": 1, "people": 1}]


# --- what would be masked ------------------------------------------------------------------------------------------


def preview(gate: Gateway, *arguments: str, code: int = 0, clear: str = "") -> dict[str, Any]:
    done = gate.run("masking", "preview", "shown", "-c", str(gate.config), "-o", "json", *arguments)
    assert done.returncode == code, done.stderr
    for value in {BADGE, NUMBER, BSN, SECRET} - {clear}:
        assert value not in done.stdout + done.stderr
    return json.loads(done.stdout)


def columns(found: dict[str, Any], relation: str) -> dict[str, tuple[str | None, str, dict[str, int]]]:
    (one,) = [each for each in found["relations"] if each["relation"] == relation]
    return {each["column"]: (each["mask"], each["because"], each["detected"]) for each in one["columns"]}


def test_a_preview_says_what_is_masked_and_why_and_shows_it_masked(gate: Gateway) -> None:
    found = preview(gate)
    assert columns(found, "public.people") == {
        "id": (None, "", {}),
        "secret": ("last4", 'protect."public.people.secret"', {}),
        "mail": ("redact", r"protect_rules[0]: public\..*\.mail", {}),
        "note": (None, "", {"people": 1, "nl_bsn": 1}),
    }
    assert columns(found, "public.named")["s"] == ("last4", "the view shows what is protected", {})
    assert columns(found, "public.named")["id"][0] is None
    (people,) = [each for each in found["relations"] if each["relation"] == "public.people"]
    assert min(people["sample"], key=lambda row: row["id"]) == {"id": "1", "secret": "************-one", "mail": "*" * 15, "note": "is ******** and *********"}
    configs = [each["config"] for each in gate.entries() if each["kind"] == "config" and each["config"]["action"] == "preview"]
    assert configs[-1]["for"]["sub"] == "someone"
    assert "public.people" in configs[-1]["relations"]


def test_a_preview_says_why_a_column_is_masked_that_nobody_named(gate: Gateway) -> None:
    found = preview(gate, "--rows", "0")
    assert columns(found, "public.parts")["of"][:2] == ("null", "it is computed from secret, which is protected")
    assert columns(found, "public.parts")["head"][0] is None
    assert columns(found, "public.referring")["who"][:2] == ("last4", "it refers to public.people.secret, which is protected")
    assert "inheritance" in columns(found, "public.heirs")["secret"][1]


def test_the_record_of_a_preview_names_every_relation_and_whoever_it_is_for(gate: Gateway, cluster: Peer) -> None:
    many = {f"public.\"{'ü' * 20}{n}\"": f"public.{'ü' * 20}{n}" for n in range(150)}
    cluster.psql("".join(f"CREATE TABLE {each}(id int);" for each in many), "shown")
    try:
        found = preview(gate, "--most", "1000", "--rows", "1", "--group", "hr", "--actor", "agent:bot", "--kind", "workload", clear=BADGE)
        configs = [each["config"] for each in gate.entries() if each["id"] in found["entries"]]
    finally:
        cluster.psql("".join(f"DROP TABLE {each};" for each in many), "shown")
    assert len(configs) == len(found["entries"]) > 1
    named = [name for each in configs for name in each["relations"]]
    assert named == [each["relation"] for each in found["relations"]]
    assert set(many.values()) <= set(named)
    for each in configs:
        assert (each["for"]["groups"], each["for"]["kind"], each["for"]["act"][0]["name"]) == (["hr"], "workload", "bot")


def test_a_preview_shows_no_rows_that_somebody_would_not_get(gate: Gateway) -> None:
    others = preview(gate, "--group", "others", "--table", "public.people")["relations"][0]
    assert others["sample"] == []
    assert "public.named" in others["problem"]
    assert len(preview(gate, "--group", "few", "--table", "public.people")["relations"][0]["sample"]) == 1


def test_a_preview_is_for_somebody(gate: Gateway) -> None:
    shown = preview(gate, "--group", "hr", "--table", "public.people", clear=BADGE)["relations"][0]
    assert {each["column"]: each["clear"] for each in shown["columns"]}["secret"] is False
    assert "people" not in str(shown["columns"][3]["detected"])
    refused = preview(gate, "--group", "guests", "--table", "public.people")["relations"][0]
    assert (refused["sample"], refused["problem"]) == ([], "this identity may not read it")
    filtered = preview(gate, "--group", "some", "--table", "public.people")["relations"][0]
    assert (filtered["sample"], filtered["readable"]) == ([], True)


def test_a_preview_without_rows_reads_none_and_records_none(gate: Gateway) -> None:
    before = len([each for each in gate.entries() if each["kind"] == "config"])
    found = preview(gate, "--rows", "0", "--most", "1")
    assert found["entries"] == []
    assert found["left_out"] == 5
    assert all(each["sample"] == [] for each in found["relations"])
    assert len([each for each in gate.entries() if each["kind"] == "config"]) == before
    assert preview(gate, "--rows", "0", "--table", "public.nowhere", code=1)["unknown"] == ["public.nowhere"]
