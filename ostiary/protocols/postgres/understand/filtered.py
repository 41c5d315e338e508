"""A relation seen through a condition, as the gateway writes it and knows it again.

Theory of operation
-------------------
`FROM orders o` becomes `FROM (SELECT * FROM public.orders AS ostiary_row WHERE CONDITION OFFSET 0) AS o`. What that is worth:

* OFFSET keeps PostgreSQL from pulling the subquery up, and from pushing conditions of the statement down into it
  (`is_simple_subquery`, `subquery_is_pushdown_safe`), so no function or operator of the caller's sees a row that it keeps back.
* Each column in the condition is written `ostiary_row.column`, so none can come to mean one of a level around; each operator,
  function and type is written with `pg_catalog`, so none can come to mean one that search_path brings in.
* The relation is written with its schema. Its alias is the caller's, or its name, so the statement around it means the same.

Who wrote it does not matter: a relation is filtered if each way in which the statement reaches it goes through this shape, with
the same condition, to the letter. The judge says through which (`Facts.filtered`); the rewriter is not trusted.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson

from ostiary.protocols.postgres.grammar import Node

ROW: Final = "ostiary_row"
"""The alias of the relation inside."""

PLACES: Final = frozenset({
    "location", "stmt_location", "stmt_len", "list_start", "list_end", "name_location", "rexpr_list_start", "rexpr_list_end",
})  # fmt: skip
"""Fields of a tree that say where in the text something stands."""
SHAPE: Final = frozenset({"targetList", "fromClause", "whereClause", "limitOffset", "limitOption", "op"})


def bare(node: Any) -> Any:
    """A tree without places: what two texts have in common that mean the same to the letter."""
    if isinstance(node, dict):
        return {key: bare(value) for key, value in node.items() if key not in PLACES}
    return [bare(each) for each in node] if isinstance(node, list) else node


def digest(condition: Node) -> str:
    """SHA-256 over a condition as it is parsed, in hex: a string in it is read (`strings.py`)."""
    return hashlib.sha256(orjson.dumps(bare(condition), default=str, option=orjson.OPT_SORT_KEYS)).hexdigest()


def condition_on(subselect: Node) -> tuple[Node, Node] | None:
    """The relation (a wrapped RangeVar) and the condition of a RangeSubselect (not wrapped) of this shape; None: it has another."""
    query = subselect.get("subquery", {}).get("SelectStmt")
    if query is None or "alias" not in subselect or subselect.get("lateral") or query.keys() != SHAPE:
        return None
    if bare(query["targetList"]) != STAR or bare(query["limitOffset"]) != ZERO or query["op"] != "SETOP_NONE":
        return None
    relation = query["fromClause"][0].get("RangeVar", {}) if len(query["fromClause"]) == 1 else {}
    if relation.get("alias") != {"aliasname": ROW} or "schemaname" not in relation:
        return None
    return query["fromClause"][0], query["whereClause"]


def seen_through(relation: Node, condition: Node, alias: Node) -> Node:
    """Write a relation (RangeVar, not wrapped, with its schema) as seen through a condition: a wrapped RangeSubselect."""
    inner = {key: value for key, value in relation.items() if key != "alias"} | {"alias": {"aliasname": ROW}}
    query = {
        "targetList": STAR,
        "fromClause": [{"RangeVar": inner}],
        "whereClause": condition,
        "limitOffset": ZERO,
        "limitOption": "LIMIT_OPTION_COUNT",
        "op": "SETOP_NONE",
    }
    return {"RangeSubselect": {"subquery": {"SelectStmt": query}, "alias": alias}}


STAR: Final[list[Node]] = [{"ResTarget": {"val": {"ColumnRef": {"fields": [{"A_Star": {}}]}}}}]
ZERO: Final[Node] = {"A_Const": {"ival": {}}}
