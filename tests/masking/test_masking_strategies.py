"""Strategies, rules and classes as an operator writes them, through the gateway and in both wire formats."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer, postgres_cluster
from ostiary.testing.pgclient import PgClient, Reply

pytestmark = pytest.mark.timeout(120)

SCHEMA = """
CREATE TABLE people(id int PRIMARY KEY, name text, email text, phone varchar, ref uuid, salary int, points bigint, born date);
INSERT INTO people VALUES (1, 'Ana', 'ana@example.org', '+49 151 234567', '01234567-89ab-cdef-0123-456789abcdef', 51000, 7, '1990-01-02'),
                          (2, '', NULL, '', NULL, NULL, NULL, NULL);
CREATE TABLE orders(id int, person_email text);
INSERT INTO orders VALUES (10, 'ana@example.org');
"""
CONNECTION = {
    "detect": [],
    "mask_key": "file:@HOME@/secrets/mask",
    "protect": {
        "public.people.name": {"class": "name", "mask": "partial"},
        "public.people.ref": {"class": "ref", "mask": "hash"},
        "public.people.salary": {"class": "pay", "mask": "token"},
        "public.people.points": {"class": "pay", "mask": "hash"},
        "public.people.born": {"class": "name", "mask": "null"},
        "public.people.phone": {"class": "phone", "mask": "token"},
    },
    "protect_rules": [{"class": "mail", "mask": "hash", "columns": r"public\..*\.(\w+_)?email"}],
    "classes": {"name": {"first": 1, "last": 0}, "mail": {"infer": True}},
}
POLICY = "permit (principal, action, resource);"


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with postgres_cluster() as made:
        made.psql("CREATE DATABASE people")
        made.psql(SCHEMA, "people")
        yield made


@pytest.fixture(scope="module")
def gate(peer: Peer) -> Iterator[Gateway]:
    connections = {"people": target(peer, database="people", **CONNECTION)}
    with gateway(connections=connections, policy=POLICY, secrets_by_name={"mask": "0123456789abcdef-key"}) as made:
        yield made


def ask(gate: Gateway, sql: str, mode: str = "") -> Reply:
    with contextlib.closing(gate.connect("people", token=gate.token("ana"))) as client:
        assert isinstance(client, PgClient)
        reply = client.extended(sql, mode=mode) if mode else client.query(sql)
        assert not reply.errors or "42501" in {e.get("C") for e in reply.errors}, reply.errors
        return reply


def test_each_strategy_leaves_what_it_says(gate: Gateway) -> None:
    ((name, email, phone, ref, salary, points, born),) = ask(
        gate, "SELECT name, email, phone, ref, salary, points, born FROM people WHERE id = 1"
    ).rows
    assert name == b"A**"
    assert email is not None
    assert re.fullmatch(rb"h_[0-9a-f]{20}", email)
    assert phone is not None
    assert re.fullmatch(rb"\+\d\d \d{3} \d{6}", phone)
    assert phone != b"+49 151 234567"
    assert ref is not None
    assert re.fullmatch(rb"[0-9a-f-]{36}", ref)
    assert ref != b"01234567-89ab-cdef-0123-456789abcdef"
    assert salary is not None
    assert salary.isdigit()
    assert salary != b"51000"
    assert points is not None
    assert points.isdigit()
    assert born is None


def test_text_and_binary_agree(gate: Gateway) -> None:
    sql = "SELECT email, salary, points FROM people WHERE id = 1"
    ((email, salary, points),) = ask(gate, sql).rows
    ((raw_email, raw_salary, raw_points),) = ask(gate, sql, "binary").rows
    assert raw_email == email
    assert salary is not None
    assert points is not None
    assert raw_salary is not None
    assert raw_points is not None
    assert int.from_bytes(raw_salary, "big") == int(salary)
    assert int.from_bytes(raw_points, "big") == int(points)


def test_one_value_of_a_class_is_one_everywhere_so_that_results_still_join(gate: Gateway) -> None:
    ((here,),) = ask(gate, "SELECT email FROM people WHERE id = 1").rows
    ((there,),) = ask(gate, "SELECT person_email FROM orders").rows
    assert here == there
    (copied,) = ask(gate, "COPY (SELECT person_email FROM orders) TO STDOUT").copied.splitlines()
    assert copied == here


def test_null_and_the_empty_text_stay_what_they_are(gate: Gateway) -> None:
    rows = ask(gate, "SELECT name, email, phone, ref, salary FROM people WHERE id = 2").rows
    assert rows == [(b"", None, b"", None, None)]


def test_a_class_that_may_be_inferred_filters_and_others_do_not(gate: Gateway) -> None:
    assert ask(gate, "SELECT id FROM people WHERE email = 'ana@example.org'").rows == [(b"1",)]
    refused = ask(gate, "SELECT id FROM people WHERE phone = ''")
    assert [e["C"] for e in refused.errors] == ["42501"]


def test_the_outcome_counts_by_class(gate: Gateway) -> None:
    ask(gate, "SELECT name, email, upper(phone) FROM people WHERE id = 1")
    masked = [entry["result"].get("masked") for entry in gate.entries() if entry["kind"] == "outcome"]
    assert {"mail": 1, "name": 1, "phone": 1} in masked
