"""Mutants of the corpus: a bounded sample, the same at each run; `make mutate COUNT=5000 SEED=1` runs as many others."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from itertools import islice

import pytest

from ostiary.testing.gateway import gateway
from ostiary.testing.peers import postgres_cluster
from tests.attacks.lab import LOGGED, PASSWORD, connections
from tests.attacks.more import Case, Table
from tests.attacks.mutator import DATABASE, OURS, mutants, respelt, tokens
from tests.attacks.runner import HERE, SCHEMA, SENTINEL, items

pytestmark = pytest.mark.timeout(180)

COUNT = int(os.environ.get("OSTIARY_MUTANTS", "150"))
SEED = int(os.environ.get("OSTIARY_MUTANTS_SEED", "20261125"))
MUTANTS = list(islice(mutants(items("postgresql"), random.Random(SEED)), COUNT))
FOUND: list[Case] = []
"""What once came through."""


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with postgres_cluster(auth="scram-sha-256", password=PASSWORD, settings=LOGGED) as peer:
        peer.psql(f"CREATE DATABASE {DATABASE}")
        peer.psql(SCHEMA + "CREATE TABLE pristine AS SELECT * FROM victim;", DATABASE)
        policy = (HERE / "profiles" / "pg-base.cedar").read_text()
        with (
            gateway(connections=connections(peer, [DATABASE]), policy=policy, secrets_by_name={"pg": PASSWORD}) as gate,
            contextlib.closing(Table(peer, gate, {DATABASE: SENTINEL})) as made,
        ):
            yield made


@pytest.mark.parametrize("case", [*FOUND, *MUTANTS], ids=str)
def test_a_mutant_fares_no_better(case: Case, table: Table) -> None:
    start = table.log_position()
    seen = table.play(case)
    table.judge(case, seen, table.heard_since(start))


def test_a_respelt_statement_has_the_same_tokens() -> None:
    sql = "DELETE FROM victim WHERE secret = 'it''s' AND id > 1"
    changed = respelt(sql, random.Random(1), "all")
    assert changed != sql
    words = [text.lower() for kind, text in tokens(changed) if kind == "word"]
    assert words == [text.lower() for kind, text in tokens(sql) if kind == "word" and text not in OURS]


def test_a_comment_of_one_line_ends_where_it_did() -> None:
    sql = "SELECT 5 +-- '\n5; DELETE FROM victim -- '"
    for seed in range(50):
        for how in ("space", "comment", "all"):
            words = [text.lower() for kind, text in tokens(respelt(sql, random.Random(seed), how)) if kind in ("word", "number")]
            assert words[:4] == ["select", "5", "5", "delete"]


def test_a_nested_comment_is_one_token() -> None:
    sql = "/* outer /* inner */ DELETE FROM victim */ SELECT 1 /* open /* to the end */"
    assert [text for kind, text in tokens(sql) if kind == "comment"] == [
        "/* outer /* inner */ DELETE FROM victim */",
        "/* open /* to the end */",
    ]
    assert [text for kind, text in tokens(sql) if kind == "word"] == ["SELECT"]
    assert "".join(text for _, text in tokens(sql)) == sql
