"""Which conditions count as a WHERE: those that pick rows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest

from ostiary.model.catalogue import Snapshot
from ostiary.model.operations import Facts
from ostiary.protocols.postgres.operations import FactsCache, ProtectedColumns, View, study

Look = Callable[[str], Facts]

NONE = [
    "true", "1 = 1", "'a' = 'a'", "1 < 2", "NOT false", "'t'::boolean", "CAST('yes' AS bool)", "NOT (1 = 2)", "$1", "$1 = $1", "$1 = 1",
    "id = id", "victim.id = id OR true", "id >= id", "id::text = id::text", "id + 0 = id", "name || '' = name", "id IN (id)",
    "id IN (1, id)", "id = ANY (ARRAY[id])", "id BETWEEN id AND id", "id IS NOT DISTINCT FROM id", "name LIKE '%'", "name ILIKE '%%'",
    "name ~ ''", "name ~ '.*'", "id = 1 OR true", "id = 1 OR 1 = 1", "id = 1 OR id <> 1", "id = 1 OR NOT (id = 1)",
    "id IS NULL OR id IS NOT NULL", "id < 3 OR id >= 3", "(id = 1) IS NOT UNKNOWN", "(1 = 1) IS TRUE", "now() > '1999-01-01'",
    "random() < 2", "length('x') = 1", "EXISTS (SELECT 1)", "EXISTS (SELECT 1 FROM other)", "(SELECT true)", "id IN (SELECT id FROM victim)",
    "CASE WHEN id = 1 THEN true ELSE true END", "COALESCE(true, id = 1)", "true AND 1 = 1", "NOT (id = 1 AND false)", "id = id AND true",
    "id - id = 0", "id * 0 = 0", "NULLIF(id, 0) = id", "COALESCE(id, 1) = id", "GREATEST(id) = id", "id = (SELECT victim.id)", "id = victim.id",
    "(id = id) = true", "CASE id WHEN id THEN true END", "CASE WHEN true THEN true ELSE id = 1 END",
    "tableoid = 'victim'::regclass", "ctid IS NOT NULL", "victim IS NOT NULL", "name SIMILAR TO '%'", "ctid = ANY (ARRAY(SELECT ctid FROM victim))",
    "current_user = 'x'", 'true COLLATE "C"',
]  # fmt: skip
SOME = [
    "id = 1", "id = $1", "id > 0", "name LIKE 'a%'", "name <> lower(name)", "id IN (1, 2)", "id = 1 OR id = 2", "id = 1 AND true",
    "EXISTS (SELECT 1 FROM other o WHERE o.id = victim.id)", "id IN (SELECT id FROM other)", "NOT (id = 1)", "false", "NULL",
    "name IS NULL", "id BETWEEN 1 AND 2", "id + 1 = 3", "lower(name) = 'a'", "(id, name) = (1, 'a')", "ctid = '(0,1)'", "id = 1 OR false",
    "CASE WHEN id = 1 THEN true ELSE false END", "name IS NOT NULL", "name ~ 'a.*'", "COALESCE(name, 'x') = 'x'",
    "(id = 1) = true", "id = (SELECT max(id) FROM victim)", "ctid = ANY (ARRAY(SELECT ctid FROM victim LIMIT 1))", "name SIMILAR TO 'a%'",
    "id - 1 = 0", "id IS DISTINCT FROM 1", "id <> id",
]  # fmt: skip


@pytest.mark.parametrize("condition", NONE)
def test_a_condition_that_is_the_same_for_every_row_is_no_where(look: Look, condition: str) -> None:
    for statement in (f"DELETE FROM victim WHERE {condition}", f"UPDATE victim SET name = 'x' WHERE {condition}"):
        facts = look(statement)
        assert facts.objection is None or condition.startswith("true COLLATE")
        assert not facts.has_where or facts.objection


@pytest.mark.parametrize("condition", SOME)
def test_a_condition_that_picks_rows_is_one(look: Look, condition: str) -> None:
    facts = look(f"DELETE FROM victim WHERE {condition}")
    assert facts.objection is None
    assert facts.has_where


@pytest.mark.parametrize(
    ("statement", "counts"),
    [
        ("DELETE FROM victim USING other o WHERE o.id = 1", False),
        ("DELETE FROM victim v USING other o WHERE o.id = v.id", True),
        ("UPDATE victim SET name = 'x' FROM other WHERE other.id > 0", False),
        ("DELETE FROM victim v USING victim w WHERE v.id = w.id", False),
        ("DELETE FROM victim v USING victim w WHERE v.id = w.id AND w.name = 'x'", True),
        ("DELETE FROM victim v USING victim w WHERE v.id > w.id AND v.name = w.name", True),
        ("MERGE INTO victim v USING victim w ON v.id = w.id WHEN MATCHED THEN DELETE", False),
        ("MERGE INTO victim USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE", False),
        ("MERGE INTO victim v USING other o ON v.id = o.id WHEN MATCHED THEN DELETE", True),
        ("MERGE INTO victim v USING other o ON true WHEN MATCHED AND v.id = 1 THEN UPDATE SET name = 'x'", True),
        ("MERGE INTO victim v USING other o ON v.id = o.id WHEN NOT MATCHED BY SOURCE THEN DELETE", False),
        ("MERGE INTO victim v USING other o ON v.id = o.id WHEN NOT MATCHED BY SOURCE AND v.id = 1 THEN DELETE", True),
        ("MERGE INTO victim v USING other o ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
        ("WITH d AS (DELETE FROM victim WHERE true RETURNING 1) SELECT * FROM d", False),
        ("INSERT INTO victim VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'", True),
        ("SELECT wipe()", False),
    ],
)
def test_it_has_to_be_about_what_is_changed(look: Look, statement: str, counts: bool) -> None:
    assert look(statement).has_where is counts


def test_other_numbers_in_the_same_words_are_looked_at_anew(view: View, snapshot: Snapshot, protected: ProtectedColumns) -> None:
    cache = FactsCache()
    for first, second in (("1 = 2", "1 = 1"), ("id + 1 = id", "id + 0 = id"), ("id = 1 OR id <> 2", "id = 1 OR id <> 1")):
        facts = [cache.look(f"DELETE FROM victim WHERE {each}".encode(), view, snapshot, protected).facts for each in (first, second)]
        assert [each.has_where for each in facts] == [True, False]
    plain = [cache.look(f"UPDATE victim SET id = 3 WHERE id = {n}".encode(), view, snapshot, protected) for n in (1, 2)]
    assert plain[0] is plain[1]


NUMBERED = [
    *(each for each in [*NONE, *SOME] if re.search(r"\b[0-9]\b", each) and "'" not in each and "$" not in each),
    "CASE 1 WHEN 1 THEN true ELSE id = 1 END", "CASE id + 1 WHEN id THEN true ELSE false END", "COALESCE(id * 1, 2) = id",
    "NOT (COALESCE(id + 0, 2) <> id)", "CASE id WHEN id * 1 THEN true END", "CASE WHEN id = 1 THEN 1 = 1 ELSE 1 = 2 END",
    "GREATEST(id + 0) = id", "id IN (id + 0)", "id BETWEEN id + 0 AND id * 1", "(SELECT id + 0) = id", "1 IN (1, 2)", "NULLIF(id - 0, 1) = id",
    "id IS NOT DISTINCT FROM id + 0", "id = 1 OR NOT (id = 2)", "COALESCE(1 = 2, id = 1)", "(1 = 2) IS NOT TRUE",
]  # fmt: skip


@pytest.mark.parametrize("condition", NUMBERED)
def test_what_is_remembered_of_some_numbers_is_never_said_of_others(
    condition: str, view: View, snapshot: Snapshot, protected: ProtectedColumns
) -> None:
    parts = re.split(r"\b[0-9]\b", condition)
    texts = [
        "DELETE FROM victim WHERE " + "".join(itertools.chain(*itertools.zip_longest(parts, numbers, fillvalue="")))
        for numbers in itertools.product("012"[: 5 - min(len(parts), 3)], repeat=len(parts) - 1)
    ]
    looked = [study(each.encode(), view, snapshot, protected).facts.has_where for each in texts]
    for order in (1, -1):
        cache = FactsCache()
        said = [cache.look(each.encode(), view, snapshot, protected).facts.has_where for each in texts[::order]]
        assert said[::order] == looked, texts
