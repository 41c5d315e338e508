"""What a recording is searched for: the values of statements about rows, and no password that stands beside them."""

from __future__ import annotations

import pytest

from ostiary.model.events import PayloadRef
from ostiary.recording.contents import contents
from ostiary.vault.payload_reading import Record
from ostiary.vault.payloads import PayloadKind


def values(statement: str) -> list[str]:
    record = Record(1, PayloadKind.STATEMENT, "e", 0, statement.encode(), PayloadRef("", "", 0))
    return [value for _, value in contents([record], lambda _: False)]


@pytest.mark.parametrize(
    "statement",
    [
        "select 1; create role x password 'hunter two'",
        "select 1 ;alter role x password 'hunter two';",
        "select 'a;b'; create role x password 'hunter two'",
        "select 1; -- and then\ncreate role x password 'hunter two'",
        "select 1 /* /* */ ' */ ; create role x password 'hunter two'",
        "select E'\\'', 1; create role x password 'hunter two'",
        "select $q$'$q$; create role x password 'hunter two'",
        'select 1 as "\'"; create role x password \'hunter two\'',
        "create role x password 'hunter two'",
    ],
)
def test_no_literal_of_a_statement_behind_another_is_a_value(statement: str) -> None:
    assert values(statement) == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("select * from t where a = 'x' and b = 7", ["x", "7"]),
        ("select 'x';", ["x"]),
        ("select 'x' ; \n; ", ["x"]),
        ("select 'x'; -- done\n", ["x"]),
        ("select 'a; b', 'it''s'", ["a; b", "it's"]),
        ("insert into t values ('x') /* from a form */", ["x"]),
        ("update t set a = 'x' where id = $1", ["x"]),
        ('select "odd;name" from t where a = \'x\'', ["x"]),
    ],
)
def test_literals_of_one_statement_are_values(statement: str, found: list[str]) -> None:
    assert values(statement) == found
