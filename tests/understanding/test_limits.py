"""Whatever the bytes are: facts or a clear objection, never an exception, a crash, or minutes."""

# ruff: noqa: SIM905 -- words read better as words

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.catalogue import Snapshot
from ostiary.protocols.postgres.grammar import NotParsed, parse
from ostiary.protocols.postgres.operations import ProtectedColumns, View, study

WORDS = (
    "select insert update delete from where into values with as recursive union all order by group having limit victim other"
    " secret id name * , ( ) ; = < || :: text int . $1 1 'x' null case when then end explain analyze prepare p execute copy to"
    " stdout create temp table view function do set role declare c cursor for fetch merge using on matched do nothing conflict"
    " returning lateral cross join array [ ] row xmlelement json_object ( exists in any over partition window filter within"
).split()


@given(st.lists(st.sampled_from(WORDS), max_size=25))
def test_any_words_give_facts(snapshot: Snapshot, protected: ProtectedColumns, words: list[str]) -> None:
    facts = study(" ".join(words).encode(), View(snapshot.search_path), snapshot, protected).facts
    assert facts.objection is None or facts.objection.code != "XX000"


@given(st.binary(max_size=200))
def test_any_bytes_give_facts(snapshot: Snapshot, protected: ProtectedColumns, text: bytes) -> None:
    facts = study(text, View(snapshot.search_path), snapshot, protected).facts
    assert len(facts.head.encode()) <= 512
    assert facts.objection is None or facts.objection.code != "XX000"


LEGAL = {
    "20,000 statements": ("SELECT 1;" * 20_000, 20_000),
    "200,000 quotes": ("SELECT '" + "''" * 100_000 + "'", 1),
    "10,000 rows": ("INSERT INTO t VALUES " + ",".join(f"({i}, 'abc', {'x' * 60!r})" for i in range(10_000)), 1),
    "a literal of 15 MB": ("INSERT INTO t VALUES ('" + "word, " * 2_500_000 + "')", 1),
    "5,000 parentheses": ("SELECT " + "(" * 5_000 + "1" + ")" * 5_000, 1),
    "400 operators": ("SELECT 1" + "+1" * 400, 1),
    "1,000 times OR": ("SELECT 1 FROM t WHERE " + " OR ".join(f"id = {i}" for i in range(1_000)), 1),
}


@pytest.mark.parametrize(("sql", "statements"), LEGAL.values(), ids=LEGAL)
def test_large_but_legal_texts_parse(sql: str, statements: int) -> None:
    assert len(parse(sql.encode())) == statements


BOMBS = {
    "parentheses": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    "operators": "SELECT 1" + "+1" * 40_000,
    "casts": "SELECT 1" + "::int" * 100_000,
    "joins": "SELECT 1 FROM a" + " CROSS JOIN a" * 50_000,
    "unions": "SELECT 1,2" + " UNION SELECT 1,2" * 50_000,
    "not": "SELECT " + "NOT " * 100_000 + "true",
    "subqueries": "SELECT " + "(SELECT " * 3_000 + "1" + ")" * 3_000,
    "subqueries in FROM": "SELECT * FROM " + "(SELECT * FROM " * 3_000 + "a" + ") x" * 3_000,
    "collations": "SELECT 'a'" + ' COLLATE "C"' * 50_000,
    "tokens": "SELECT " + "1 " * 5_000_000,
    "commas": "SELECT " + "1," * 500_000 + "1",
    "arrays": "SELECT " + "ARRAY[" * 4_000 + "1" + "]" * 4_000,
    "size": "SELECT '" + "x" * (17 << 20) + "'",
    "nul": "SELECT 1\0; DELETE FROM victim",
    "open comments": "/*" * 100_000 + "*/" * 99_999,
    "empty comments": "/**/" * 100_000,
    "signs": "SELECT " + "+" * 200_000 + "1",
    "signs and minuses": "SELECT " + "+-" * 100_000 + "1",
}


@pytest.mark.parametrize("sql", BOMBS.values(), ids=BOMBS)
def test_bombs_are_objections(snapshot: Snapshot, protected: ProtectedColumns, sql: str) -> None:
    objection = study(sql.encode(), View(snapshot.search_path), snapshot, protected).facts.objection
    assert objection is not None
    assert objection.reason.name in {"TOO_COMPLEX", "OVERSIZE", "BAD_TEXT", "UNPARSABLE"}


@pytest.mark.parametrize("text", [b"SELECT '\xff'", b"SELECT E'\\xff'", b"SELECT '\xed\xa0\x80'", b"SELECT E'\x83\\'"])
def test_text_that_is_no_utf8_is_refused(text: bytes) -> None:
    with pytest.raises(NotParsed):
        parse(text)


SMALL_STACK = """
import sys, threading
from ostiary.protocols.postgres.grammar import NotParsed, SMALL, parse
shapes = ["SELECT 1" + "+1" * 4000, "SELECT 1" + "::a" * 2600, "SELECT " + "-a" * 2000, "SELECT " + "not " * 1990 + "a",
          "SELECT " + "(SELECT " * 800 + "1" + ")" * 800, "SELECT 1" + " union select" * 600, "SELECT * FROM a" + " natural join a" * 500,
          "SELECT " + "f(" * 2500 + ")" * 2500, "SELECT a" + "@b" * 4000, "SELECT 1" + " isnull" * 1000, "SELECT " + "@" .join("a" * 4000),
          "SELECT 1" + "+1" * 2900 + " " * 8192, "SELECT " + ",".join("1" + "+1" * 2900 for _ in range(3)),
          "SELECT 1,2" + " union select 1,2" * 1900, "SELECT * FROM a" + " cross join a" * 1900]
def run():
    for shape in shapes:
        try:
            parse(shape.encode())
        except NotParsed:
            pass
    print("survived")
threading.stack_size(2 << 20)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def test_two_mebibytes_of_stack_are_enough() -> None:
    done = subprocess.run([sys.executable, "-c", SMALL_STACK], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "survived", (done.returncode, done.stderr)


def test_threads_may_judge_side_by_side(snapshot: Snapshot, protected: ProtectedColumns) -> None:
    seen: list[bool] = []

    def work() -> None:
        for i in range(200):
            facts = study(
                f"SELECT {i} FROM victim WHERE id = {i}".encode(), View(("public",)), snapshot, protected
            ).facts
            seen.append(facts.harmless)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 800
