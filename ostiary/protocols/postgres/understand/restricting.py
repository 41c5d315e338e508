"""Whether a condition picks rows, as far as its text says: what `has_where` counts.

A WHERE that is true of every row, or says nothing of the row, is none: `true`, `1 = 1`, `id = id`, `$1`, `now() > '1999-01-01'`,
`EXISTS (SELECT 1)`, `other.id = 1`. Nothing is looked up and nothing is computed but such constants, so what hangs on data is not
seen: `id IS NOT NULL` of a key, `id > -1`, `id IN (SELECT id FROM t)` over more than the table alone.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, Final

from ostiary.protocols.postgres.grammar import Node, nodes
from ostiary.protocols.postgres.understand.filtered import bare
from ostiary.protocols.postgres.understand.names import strings
from ostiary.protocols.postgres.understand.scopes import Entry


class Holds(enum.Enum):
    """Of which rows a condition is true."""

    ALL = "all"
    NONE = "none"
    SAME = "all or none"
    SOME = "it hangs on the row"


CONSTANTS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1", "tru", "tr", "ye"), Holds.ALL),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0", "fals", "fal", "fa", "of"), Holds.NONE),
}
"""Texts that are booleans: PostgreSQL 18, 8.6."""
NOT: Final = {Holds.ALL: Holds.NONE, Holds.NONE: Holds.ALL, Holds.SAME: Holds.SAME, Holds.SOME: Holds.SOME}
OF_ITSELF: Final = {
    **dict.fromkeys(("=", "<=", ">=", "~~", "~~*"), Holds.ALL), **dict.fromkeys(("<>", "!=", "<", ">", "!~~", "!~~*"), Holds.NONE),
}  # fmt: skip
"""What comparing a value with itself gives, unless it is NULL."""
EVERYTHING: Final = {"~~": "%", "~~*": "%", "~": ".*^$", "~*": ".*^$"}
"""Of operators that match patterns: what a pattern is made of that anything matches."""
TESTS: Final = {
    "IS_TRUE": {Holds.ALL: Holds.ALL, Holds.NONE: Holds.NONE},
    "IS_NOT_FALSE": {Holds.ALL: Holds.ALL, Holds.NONE: Holds.NONE},
    "IS_FALSE": {Holds.ALL: Holds.NONE, Holds.NONE: Holds.ALL},
    "IS_NOT_TRUE": {Holds.ALL: Holds.NONE, Holds.NONE: Holds.ALL},
    "IS_UNKNOWN": {Holds.ALL: Holds.NONE, Holds.NONE: Holds.NONE},
    "IS_NOT_UNKNOWN": dict.fromkeys(Holds, Holds.ALL),
}
COMPARED: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: a == b, "<>": lambda a, b: a != b, "<": lambda a, b: a < b, ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b,
}  # fmt: skip


class Reading:
    """Reads conditions on what a statement changes."""

    def __init__(self, targets: Sequence[Entry], others: Sequence[Entry] = ()) -> None:
        """`others`: what else stands in FROM. The same relation again shows the same rows."""
        again = {each.relation.oid for each in targets if each.relation is not None}
        self._targets = [*targets, *(each for each in others if each.relation is not None and each.relation.oid in again)]
        self.constants = False
        """With other numbers in the text the answer could be another."""

    def picks(self, node: Node | None) -> bool:
        """Whether a condition (wrapped) is true of some rows and not of others, or of none."""
        return bool(node) and self.holds(node or {}) in {Holds.SOME, Holds.NONE}

    def holds(self, node: Node) -> Holds:
        """Of which rows a condition (wrapped) is true."""
        ((kind, inner),) = node.items()
        rule = _RULES.get(kind)
        return rule(self, inner) if rule is not None else self._plain(node)

    def _plain(self, node: Node) -> Holds:
        return Holds.SOME if self._hangs(node) else Holds.SAME

    def _hangs(self, tree: Any) -> bool:
        """Whether a column of the targets may stand anywhere in it."""
        return any(kind == "ColumnRef" and self._is_ours(strings(node["fields"])) for kind, node in nodes(tree))

    def _is_ours(self, parts: list[str]) -> bool:
        if not parts:
            return True  # a star
        if parts[-1] == "tableoid":
            return False
        for entry in self._targets:
            if entry.alias in parts[:2] or entry.alias == parts[-1]:
                return True
            if len(parts) == 1 and (entry.columns is None or parts[0] in entry.columns or parts[0] in SYSTEM):
                return True
        return False

    def _constant(self, node: Node) -> Holds:
        if node.get("isnull"):
            return Holds.NONE
        if "boolval" in node:
            return Holds.ALL if node["boolval"].get("boolval") else Holds.NONE
        text = str(node["sval"].get("sval", "")).strip().lower() if "sval" in node else ""
        return CONSTANTS.get(text, Holds.SAME)

    def _cast(self, node: Node) -> Holds:
        return self.holds(node["arg"])

    def _logic(self, node: Node) -> Holds:
        parts = node.get("args", [])
        each = [self.holds(part) for part in parts]
        if node["boolop"] == "NOT_EXPR":
            return NOT[each[0]]
        if node["boolop"] == "AND_EXPR":
            for found in (Holds.NONE, Holds.SOME, Holds.SAME):
                if found in each:
                    return found
            return Holds.ALL
        self.constants |= sum(_has_numbers(part) for part in parts) > 1
        if Holds.ALL in each or _complement(parts):
            return Holds.ALL
        for found in (Holds.SAME, Holds.SOME):
            if found in each:
                return found
        return Holds.NONE

    def _null(self, node: Node) -> Holds:
        """What is never NULL: where a row is, and the row."""
        parts = strings(node["arg"].get("ColumnRef", {}).get("fields", ()))
        if parts and (parts[-1] in SYSTEM or (len(parts) == 1 and any(each.alias == parts[0] for each in self._targets))):
            return Holds.ALL if node["nulltesttype"] == "IS_NOT_NULL" else Holds.NONE
        return self._plain({"NullTest": node})

    def _test(self, node: Node) -> Holds:
        return TESTS[node["booltesttype"]].get(found := self.holds(node["arg"]), found)

    def _expression(self, node: Node) -> Holds:
        kind = node["kind"]
        name = strings(node.get("name", ()))[-1] if node.get("name") else "="
        self.constants |= _hangs_on_numbers(node.get("lexpr", {}), node.get("rexpr", {}))
        left, right = _naked(node.get("lexpr", {})), node.get("rexpr", {})
        if kind == "AEXPR_SIMILAR" and _pattern(right).strip("%") == "" != _pattern(right):
            return Holds.ALL
        if kind == "AEXPR_OP_ANY" and name == "=" and self._is_itself(node.get("lexpr", {}), right.get("SubLink", {})):
            return Holds.ALL
        if kind in {"AEXPR_IN", "AEXPR_OP_ANY"} and name == "=" and left in [_naked(each) for each in _elements(right)]:
            return Holds.ALL
        if kind == "AEXPR_BETWEEN" and all(left == _naked(each) for each in _elements(right)):
            return Holds.ALL
        if kind == "AEXPR_NOT_DISTINCT" and left == _naked(right):
            return Holds.ALL
        if kind not in {"AEXPR_OP", "AEXPR_LIKE", "AEXPR_ILIKE"}:
            return self._plain({"A_Expr": node})
        if name in OF_ITSELF and (left == _naked(right) or self._is_mirrored(left, _naked(right))):
            return OF_ITSELF[name]
        if name in {"=", "<>"} and "lexpr" in node and (said := self._said(node["lexpr"], right)) is not None:
            return said if name == "=" else NOT[said]
        one, other = _value(left), _value(_naked(right))
        if one is not None and type(one) is type(other) and name in COMPARED:
            return Holds.ALL if COMPARED[name](one, other) else Holds.NONE
        if isinstance(other, str) and not other.strip(EVERYTHING.get(name, "")) and (other or name in {"~", "~*"}) and name in EVERYTHING:
            return Holds.ALL
        return self._plain({"A_Expr": node})

    def _sublink(self, node: Node) -> Holds:
        if node.get("subLinkType") == "ANY_SUBLINK" and self._is_itself(node.get("testexpr", {}), node):
            return Holds.ALL
        return self._plain({"SubLink": node})

    def _said(self, left: Node, right: Node) -> Holds | None:
        """Of which rows a condition holds that is compared with true or false; None: neither side is one of these."""
        for one, other in ((left, right), (right, left)):
            if "boolval" in _uncast(one).get("A_Const", {}):
                return self.holds(other) if self.holds(one) is Holds.ALL else NOT[self.holds(other)]
        return None

    def _is_mirrored(self, left: Node, right: Node) -> bool:
        """`id = t.id`, or `t.id = again.id`, where both are of one relation."""
        one, other = (strings(each.get("ColumnRef", {}).get("fields", ())) for each in (left, right))
        return bool(one and other) and one[-1] == other[-1] and self._is_ours(one) and self._is_ours(other)

    def _is_itself(self, tested_by: Node, node: Node) -> bool:
        """`id IN (SELECT id FROM t)` of t."""
        if "subselect" not in node:
            return False
        query = node["subselect"].get("SelectStmt", {})
        if query.keys() - {"limitOption", "op"} != {"targetList", "fromClause"} or len(query["fromClause"]) != 1:
            return False
        table = query["fromClause"][0].get("RangeVar", {}).get("relname")
        shown = [_naked(each["ResTarget"]["val"]).get("ColumnRef", {}).get("fields", ({},))[-1] for each in query["targetList"]]
        tested = _naked(tested_by).get("ColumnRef", {}).get("fields", ({},))[-1]
        return shown == [tested] and any(each.relation is not None and each.relation.name == table for each in self._targets)

    def _case(self, node: Node) -> Holds:
        first = node["args"][0]["CaseWhen"]
        self.constants |= "arg" in node and _hangs_on_numbers(node["arg"], first["expr"])
        same = _naked(node["arg"]) == _naked(first["expr"]) if "arg" in node else self.holds(first["expr"]) is Holds.ALL
        if same:
            return self.holds(first["result"])
        results = [each["CaseWhen"]["result"] for each in node.get("args", ())] + [node.get("defresult", {"A_Const": {"isnull": True}})]
        found = {self.holds(each) for each in results}
        return found.pop() if len(found) == 1 else self._plain({"CaseExpr": node})

    def _first(self, node: Node) -> Holds:
        return found if (found := self.holds(node["args"][0])) is Holds.ALL else self._plain({"CoalesceExpr": node})

    def _cursor(self, _node: Node) -> Holds:
        return Holds.SOME


SYSTEM: Final = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
_R = Reading
_RULES: Final[dict[str, Callable[[Reading, Node], Holds]]] = {
    "A_Const": _R._constant,  # noqa: SLF001 -- methods of the class above, here and below
    "TypeCast": _R._cast,  # noqa: SLF001
    "BoolExpr": _R._logic,  # noqa: SLF001
    "NullTest": _R._null,  # noqa: SLF001
    "BooleanTest": _R._test,  # noqa: SLF001
    "A_Expr": _R._expression,  # noqa: SLF001
    "SubLink": _R._sublink,  # noqa: SLF001
    "CaseExpr": _R._case,  # noqa: SLF001
    "CoalesceExpr": _R._first,  # noqa: SLF001
    "CurrentOfExpr": _R._cursor,  # noqa: SLF001
}


def _naked(node: Node) -> Node:
    """A value without what does not change it, and without places in the text."""
    while node:
        if "TypeCast" in node:
            node = node["TypeCast"]["arg"]
        elif "CollateClause" in node:
            node = node["CollateClause"]["arg"]
        elif "CoalesceExpr" in node or len(node.get("MinMaxExpr", {}).get("args", ())) == 1:
            node = next(iter(node.values()))["args"][0]
        elif node.get("A_Expr", {}).get("kind") == "AEXPR_NULLIF":
            node = node["A_Expr"]["lexpr"]
        elif _is_value(node.get("SubLink", {})):
            node = node["SubLink"]["subselect"]["SelectStmt"]["targetList"][0]["ResTarget"]["val"]
        elif _is_nothing(node.get("A_Expr", {})):
            node = {"A_Const": {"ival": {}}}
        elif (sum_ := node.get("A_Expr", {})).get("kind") == "AEXPR_OP" and _changes_nothing(sum_):
            node = sum_["lexpr"]
        else:
            break
    found: Node = bare(node)
    return found


def _has_numbers(tree: Any) -> bool:
    return any(kind == "A_Const" and not {"ival", "fval"}.isdisjoint(node) for kind, node in nodes(tree))


def _hangs_on_numbers(left: Any, right: Any) -> bool:
    """Whether with other numbers two sides might be the same, or not: both have some, or one computes with one."""
    sides = (left, right)
    return all(_has_numbers(each) or _value(_naked(each)) is not None for each in sides if each) or any(map(_is_sum, sides))


def _is_sum(side: Any) -> bool:
    """Whether a value is computed with a number, but for what a subquery computes that is more than a value."""
    todo = [side]
    while todo:
        each = todo.pop()
        if isinstance(each, list):
            todo += each
        elif isinstance(each, dict):
            if "A_Expr" in each and _has_numbers(each):
                return True
            todo += [value for key, value in each.items() if key != "SubLink" or _is_value(value)]
    return False


def _uncast(node: Node) -> Node:
    while "TypeCast" in node or "CollateClause" in node:
        node = next(iter(node.values()))["arg"]
    return node


def _is_value(sublink: Node) -> bool:
    """`(SELECT value)`."""
    query = sublink.get("subselect", {}).get("SelectStmt", {})
    return query.keys() == {"targetList", "limitOption", "op"} and len(query["targetList"]) == 1 and "testexpr" not in sublink


def _is_nothing(node: Node) -> bool:
    """`x - x`, `x * 0`."""
    if node.get("kind") != "AEXPR_OP" or "lexpr" not in node:
        return False
    name, left, right = strings(node["name"])[-1], bare(node["lexpr"]), bare(node["rexpr"])
    return (name == "-" and left == right) or (name == "*" and 0 in {_value(left), _value(right)})


def _pattern(node: Node) -> str:
    """The constant of SIMILAR TO, which the grammar puts into a call."""
    arguments = node.get("FuncCall", {}).get("args", ({},))
    found = _value(arguments[0])
    return found if isinstance(found, str) else ""


def _changes_nothing(node: Node) -> bool:
    """`x + 0`, `x * 1`, `x || ''`."""
    name, right = strings(node["name"])[-1], _value(bare(node.get("rexpr", {})))
    return "lexpr" in node and (name, right) in {("+", 0), ("-", 0), ("*", 1), ("/", 1), ("||", "")} and right is not True


def _value(node: Node) -> int | str | None:
    constant = node.get("A_Const", {})
    if "ival" in constant:
        return int(constant["ival"].get("ival", 0))
    return str(constant["sval"].get("sval", "")) if "sval" in constant else None


def _elements(node: Node) -> list[Node]:
    if "List" in node:
        items: list[Node] = node["List"].get("items", [])
        return items
    elements: list[Node] = node.get("A_ArrayExpr", {}).get("elements", [])
    return elements


def _complement(parts: list[Node]) -> bool:
    """Whether one of these says the contrary of another: `a OR NOT a`, `a IS NULL OR a IS NOT NULL`, `a = 1 OR a <> 1`."""
    said = [bare(each) for each in parts]
    return any(_contrary(each) in said for each in said)


def _contrary(node: Node) -> Node | None:
    ((kind, inner),) = node.items()
    if kind == "BoolExpr" and inner["boolop"] == "NOT_EXPR":
        found: Node = inner["args"][0]
        return found
    if kind == "NullTest":
        other = "IS_NOT_NULL" if inner["nulltesttype"] == "IS_NULL" else "IS_NULL"
        return {kind: inner | {"nulltesttype": other}}
    if kind == "A_Expr" and inner["kind"] in {"AEXPR_OP", "AEXPR_IN"} and (name := strings(inner["name"])[-1]) in CONTRARY:
        return {kind: inner | {"name": [{"String": {"sval": CONTRARY[name]}}]}}
    return None


CONTRARY: Final = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
