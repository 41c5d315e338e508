"""What the text of a query says of its shape: how many rows it returns, or puts into one value, at most.

Nothing is looked up here: a number that LIMIT says, rows that VALUES lists. What hangs on data has no bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ostiary.protocols.postgres.grammar import Node
from ostiary.protocols.postgres.understand.ground import STATISTICS
from ostiary.protocols.postgres.understand.names import CATALOG, strings

GATHERING: Final = frozenset({
    "array_agg", "string_agg", "xmlagg", "json_agg", "json_agg_strict", "jsonb_agg", "jsonb_agg_strict", "json_object_agg",
    "json_object_agg_strict", "json_object_agg_unique", "json_object_agg_unique_strict", "jsonb_object_agg", "jsonb_object_agg_strict",
    "jsonb_object_agg_unique", "jsonb_object_agg_unique_strict", "range_agg",
})  # fmt: skip
"""Aggregates of PostgreSQL's own that put values of all rows into one."""
HOLDING: Final = frozenset({"pg_largeobject"})
"""Relations of PostgreSQL's own that hold what people put into them."""
WHOLE_FETCHES: Final = frozenset({"FETCH_FORWARD", "FETCH_BACKWARD"})
"""Directions that take a number of rows; the others take one."""

IsPlain = Callable[[list[str]], bool]
"""Whether a function of that name is PostgreSQL's own, and makes its rows of what it is given."""


def most_rows(kind: str, node: Node) -> int | None:
    """How many rows a statement can return, as its text bounds them; None: it does not."""
    if kind == "SelectStmt":
        if "intoClause" in node:
            return 0
        return bound_of(node.get("limitCount", {})) if node.get("limitOption") == "LIMIT_OPTION_COUNT" else None
    if kind == "FetchStmt":
        if node.get("ismove"):
            return 0
        return max(1, abs(node.get("howMany", 0))) if node.get("direction") in WHOLE_FETCHES else 1
    return None if "returningClause" in node else 0


def bound_of(node: Node) -> int | None:
    """The number that LIMIT says, or the least of what LEAST names as `bigint`; None: there is none."""
    if "MinMaxExpr" in node and node["MinMaxExpr"].get("op") == "IS_LEAST":
        each = node["MinMaxExpr"].get("args", ())
        bounds = [bound_of(cast["TypeCast"].get("arg", {})) for cast in each if "TypeCast" in cast and is_bigint(cast)]
        return min((b for b in bounds if b is not None), default=None) if len(bounds) == len(each) else None
    constant = node.get("A_Const", {})
    return constant["ival"].get("ival", 0) if "ival" in constant else None


def is_bigint(cast: Node) -> bool:
    """Whether a TypeCast (wrapped) is to PostgreSQL's own int8, whatever search_path is."""
    return strings(cast["TypeCast"]["typeName"].get("names", ())) == ["pg_catalog", "int8"]


def rows_of(query: Node, is_plain: IsPlain) -> int | None:
    """How many rows a query (wrapped) gives, at most."""
    node = query.get("SelectStmt")
    if node is None:
        return None
    if "valuesLists" in node:
        return len(node["valuesLists"])
    if node.get("op", "SETOP_NONE") != "SETOP_NONE":
        arms = [rows_of({"SelectStmt": node[side]}, is_plain) for side in ("larg", "rarg")]
        given = None if None in arms else sum(each or 0 for each in arms)
    else:
        given = input_of(node, is_plain)
    bounds = [each for each in (most_rows("SelectStmt", node), given) if each is not None]
    return min(bounds, default=None)


def input_of(node: Node, is_plain: IsPlain) -> int | None:
    """How many rows the FROM of a SelectStmt gives, at most."""
    found = 1
    for item in node.get("fromClause", ()):
        rows = _item(item, is_plain)
        if rows is None:
            return None
        found *= rows
    return found


def _item(item: Node, is_plain: IsPlain) -> int | None:
    ((kind, node),) = item.items()
    if kind == "RangeSubselect":
        return rows_of(node["subquery"], is_plain)
    if kind == "JoinExpr":
        sides = [_item(node[side], is_plain) for side in ("larg", "rarg")]
        return None if None in sides else max(1, sides[0] or 0) * max(1, sides[1] or 0)
    if kind == "RangeFunction":
        calls = [each["List"]["items"][0] for each in node.get("functions", ())]
        # Out of one value, however many rows it makes of it.
        return 1 if all("FuncCall" in call and is_plain(strings(call["FuncCall"]["funcname"])) for call in calls) else None
    # What PostgreSQL says of its own objects is no row of anybody's: psql gathers columns of indexes and the like.
    is_own = kind == "RangeVar" and node.get("schemaname") == CATALOG and node["relname"] not in STATISTICS | HOLDING
    return 1 if is_own or kind in {"RangeTableFunc", "JsonTable"} else None


def bare_value(sublink: Node) -> Node | None:
    """The value of `(SELECT value)`, which is as if the value alone stood there; None: the subquery is more."""
    query = sublink.get("subselect", {}).get("SelectStmt", {})
    if sublink.get("subLinkType") != "EXPR_SUBLINK" or query.keys() != {"targetList", "limitOption", "op"} or len(query["targetList"]) != 1:
        return None
    value: Node | None = query["targetList"][0]["ResTarget"].get("val")
    return None if value is None or "A_Star" in str(value) else value
