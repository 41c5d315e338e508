"""How statements are rewritten, without a database: conditions, trees and what is never believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.catalogue import Column, Relation, Snapshot, Type
from ostiary.model.duties import Demand, Duties
from ostiary.model.errors import ConfigError
from ostiary.model.operations import Objection
from ostiary.protocols.postgres.grammar import parse
from ostiary.protocols.postgres.rewriting.conditions import Caller, filled, read
from ostiary.protocols.postgres.rewriting.rewriter import unmet
from ostiary.protocols.postgres.rewriting.trees import write
from ostiary.protocols.postgres.understand.filtered import bare
from ostiary.protocols.postgres.understanding import Knowledge, Understanding

ANA = Caller("ana", "https://idp.example", "ana@example.com", "Ana", ("dba", "staff"))
ORDERS = Relation(
    oid=20000, schema="public", name="orders", kind="r",
    columns=tuple(Column(name, number, 25) for number, name in enumerate(("id", "region", "note"), 1)),
    reads=(), calls=(), read_calls=(), built_in_calls=(), built_in_read_calls=(), children=(), delete_cascades=(),
    update_cascades=(), guards=(), referenced_by=(), rules=False,
)  # fmt: skip
TYPES = {oid: Type(oid, "pg_catalog", name, "b", 0, 0, 0, ()) for oid, name in ((20, "int8"), (23, "int4"), (25, "text"))}
SNAPSHOT = Snapshot(
    version=1, database="shop", server_version=150000, role="svc", superuser=False, search_path=("public",),
    writable_schemas=frozenset(), relations={20000: ORDERS}, relation_oids={("public", "orders"): 20000}, functions={},
    functions_named={}, operators_named={}, types=TYPES, type_oids={(t.schema, t.name): oid for oid, t in TYPES.items()},
    user_casts={}, implicit_casts=frozenset(),
)  # fmt: skip


def rewritten(sql: str, *, rows: int | None = None, condition: str = "") -> str | Objection:
    filters = (("public.orders", condition),) if condition else ()
    understanding = Understanding(Knowledge(()), SNAPSHOT)
    text = understanding.rewrite(sql.encode(), SNAPSHOT, (), Duties(rows, filters, (), read_only=False, timeout=None, parameters=()), ANA)
    return text if isinstance(text, Objection) else text.decode()


def test_a_limit_is_set_where_it_counts() -> None:
    assert rewritten("select * from orders", rows=5) == "SELECT * FROM orders LIMIT 5"
    assert rewritten("select * from orders limit $1", rows=5) == "SELECT * FROM orders LIMIT LEAST($1::bigint, 5::bigint)"
    assert rewritten("values (1) union all (values (2) limit 1) offset 1", rows=5) == (
        "VALUES (1) UNION ALL (VALUES (2) LIMIT 1) LIMIT 5 OFFSET 1"
    )
    assert rewritten("select 1", rows=2**40) == f"SELECT 1 LIMIT {2**40}"


def test_a_condition_is_written_so_that_it_means_one_thing_everywhere() -> None:
    assert rewritten("select o.* from orders o", condition="region in ('eu', 'us') and note like 'a%'") == (
        "SELECT o.* FROM (SELECT * FROM public.orders ostiary_row WHERE (ostiary_row.region OPERATOR(pg_catalog.=) 'eu' OR "
        "ostiary_row.region OPERATOR(pg_catalog.=) 'us') AND ostiary_row.note OPERATOR(pg_catalog.~~) 'a%' OFFSET 0) o"
    )
    text = rewritten("table orders", condition="lower(note) between 'a' and 'b' and id = any (ostiary.groups())")
    assert isinstance(text, str)
    assert "pg_catalog.lower(ostiary_row.note)" in text
    assert "ANY(ARRAY['dba', 'staff']::pg_catalog.text[])" in text


@given(st.text(max_size=40), st.lists(st.text(max_size=10), max_size=4))
def test_what_is_known_of_a_caller_is_a_value_and_never_syntax(email: str, groups: list[str]) -> None:
    email, groups = email.replace("\0", ""), [each.replace("\0", "") for each in groups]
    caller = Caller("s", "i", email, "n", tuple(groups))
    query = parse(b"SELECT * FROM t WHERE true")[0].node
    query["whereClause"] = filled(read("p", "note = ostiary.email() OR id = ANY (ostiary.groups())"), caller)
    try:
        encoded = (email + "".join(groups)).encode()
    except UnicodeEncodeError:
        return
    assert encoded is not None
    text = write([("SelectStmt", query)])
    assert text is not None
    (again,) = parse(text)
    assert bare(again.node) == bare(query)


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("id = (select 1)", "SubLink"),
        ("true) or (true", "no condition"),
        ("true; drop table orders", "nothing behind it"),
        ("true -- ", ""),
        ("true limit 1", "nothing behind it"),
        ("orders.id = '1'", "before its name"),
        ("mine(id)", ""),
        ("evil.mine(id)", "the function evil.mine"),
        ("id operator(evil.=) '1'", "the operator evil.="),
        ("id = '1'::evil.text", "the type evil.text"),
        ("count(*) > 1", "aggregate"),
        ("row_number() over () = 1", "over a window"),
        ("id = $1", "ParamRef"),
        ("ostiary.secret() = id", "not known of a caller"),
        ("ostiary.email(id) = id", "not known of a caller"),
        ("id is distinct from '1'", "DISTINCT"),
        ("", "no condition"),
    ],
)
def test_a_condition_holds_nothing_that_could_mean_something_else(condition: str, says: str) -> None:
    if not says:
        read("f.cedar line 1", condition)
        return
    with pytest.raises(ConfigError, match="@filter") as caught:
        read("f.cedar line 1", condition)
    assert caught.value.key == "f.cedar line 1"
    assert says in str(caught.value)


def test_a_text_counts_for_what_it_says_and_not_for_who_wrote_it() -> None:
    duties = Duties(5, (("public.orders", "region = 'eu'"),), (), read_only=False, timeout=None, parameters=())
    understanding = Understanding(Knowledge(()), SNAPSHOT)
    for sql, held in (
        ("SELECT * FROM (SELECT * FROM public.orders ostiary_row WHERE ostiary_row.region OPERATOR(pg_catalog.=) 'eu' OFFSET 0) x LIMIT 5", True),
        ("SELECT * FROM (SELECT * FROM public.orders ostiary_row WHERE ostiary_row.region = 'eu' OFFSET 0) x LIMIT 5", False),
        ("SELECT * FROM (SELECT * FROM public.orders ostiary_row WHERE ostiary_row.region OPERATOR(pg_catalog.=) 'eu') x LIMIT 5", False),
        ("SELECT * FROM (SELECT * FROM orders ostiary_row WHERE ostiary_row.region OPERATOR(pg_catalog.=) 'eu' OFFSET 0) x LIMIT 5", False),
        ("SELECT * FROM (SELECT * FROM public.orders ostiary_row WHERE ostiary_row.region OPERATOR(pg_catalog.=) 'eu' OFFSET 0) x, orders LIMIT 5", False),
        ("SELECT * FROM (SELECT * FROM public.orders ostiary_row WHERE ostiary_row.region OPERATOR(pg_catalog.=) 'eu' OFFSET 0) x LIMIT 6", False),
        ("SELECT * FROM orders WHERE region = 'eu' LIMIT 5", False),
    ):  # fmt: skip
        facts = understanding.look(sql.encode(), SNAPSHOT).facts
        assert facts.objection is None
        assert (unmet(facts, duties, ANA) is None) == held, sql


def test_a_demand_on_parameters_of_a_call_refuses_a_statement() -> None:
    duties = Duties(None, (), (), read_only=False, timeout=None, parameters=(Demand("", ("MaxKeys",), if_there=True, how="<=", value="1"),))
    facts = Understanding(Knowledge(()), SNAPSHOT).look(b"SELECT 1", SNAPSHOT).facts
    assert unmet(facts, duties, ANA) is not None


def test_what_a_condition_needs_and_nobody_knows_is_a_no() -> None:
    duties = Duties(None, (("public.orders", "note = ostiary.email()"),), (), read_only=False, timeout=None, parameters=())
    unknown = Caller("ana", "i", None, "Ana", ())
    understanding = Understanding(Knowledge(()), SNAPSHOT)
    text = understanding.rewrite(b"SELECT * FROM orders", SNAPSHOT, (), duties, unknown)
    assert isinstance(text, Objection)
    assert "your email" in text.message


@pytest.mark.parametrize("sql", ["COPY (SELECT 1) TO STDOUT (FORMAT)", "COPY (SELECT 1) TO STDOUT (FORMAT(int))"])
def test_options_that_hold_something_else_do_not_reach_the_deparser(sql: str) -> None:
    (statement,) = parse(sql.encode())
    assert write([(statement.kind, statement.node)]) is None
