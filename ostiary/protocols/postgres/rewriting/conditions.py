"""Conditions on rows, as a policy's `@filter` says them: read, checked, and made to mean one thing in every session.

A condition runs inside of every caller's statement, under the caller's search_path. So only what can be written down completely
may stand in one: columns of the relation itself, constants, what is known of the caller (`ostiary.subject()` and its kin), and
PostgreSQL's own operators, functions and types. Each of these is written with its schema.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from ostiary.model.errors import ConfigError
from ostiary.model.identity import VerifiedIdentity
from ostiary.protocols.postgres.grammar import Node, NotParsed, parse
from ostiary.protocols.postgres.understand.filtered import ROW
from ostiary.protocols.postgres.understand.names import CATALOG, strings

MAX_CONDITION: Final = 16 << 10
"""Bytes of one."""
CALLER: Final = "ostiary"
"""The schema of what is known of the caller."""
LIKES: Final = {"AEXPR_LIKE": "LIKE", "AEXPR_ILIKE": "ILIKE"}


class Caller(msgspec.Struct, frozen=True):
    """What a condition can hang on."""

    subject: str
    issuer: str
    email: str | None
    name: str
    groups: tuple[str, ...]
    """Sorted."""


def caller_of(who: VerifiedIdentity) -> Caller:
    """What conditions may know of an identity: the subject for whom everything is done, whoever acts for it."""
    return Caller(who.subject, who.issuer, who.email, who.name, tuple(sorted(who.groups)))


class Unknown(Exception):
    """The condition asks for something that is not known of the caller."""


class _Wrong(Exception):
    """What stands in a condition that may not."""


class Condition(msgspec.Struct, frozen=True):
    """One condition, checked."""

    node: Node
    columns: frozenset[str]
    """Of the relation, that it names."""


@lru_cache(maxsize=1024)
def read(place: str, text: str) -> Condition:
    """Read a condition; `ConfigError` says what is wrong with it."""
    data = text.encode("utf-8", "replace")
    if len(data) > MAX_CONDITION:
        raise ConfigError(place, f"@filter is longer than {MAX_CONDITION >> 10} KiB")
    try:
        statements = parse(b"SELECT * FROM t WHERE " + data)
    except NotParsed as fault:
        raise ConfigError(place, f"@filter is no condition of SQL: {fault.objection.message}") from None
    query = statements[0].node if len(statements) == 1 else {}
    if query.keys() != {"targetList", "fromClause", "whereClause", "limitOption", "op"}:
        raise ConfigError(place, "@filter must be one condition, and nothing behind it")
    columns: set[str] = set()
    try:
        node = _walk(query["whereClause"], columns)
    except _Wrong as wrong:
        raise ConfigError(place, f"@filter may not hold {wrong}; {ALLOWED}") from None
    return Condition(node, frozenset(columns))


ALLOWED: Final = (
    "columns of the relation, constants, comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS NULL, PostgreSQL's own operators, "
    "functions and types, and ostiary.subject(), .issuer(), .email(), .name() and .groups() may stand in it"
)


def filled(condition: Condition, caller: Caller) -> Node:
    """Put in what is known of the caller. Raises `Unknown`."""
    filled_in = _filled(condition.node, caller)
    if not isinstance(filled_in, dict):
        raise TypeError("a condition is a node")
    return filled_in


def _filled(node: object, caller: Caller) -> object:
    if isinstance(node, list):
        return [_filled(each, caller) for each in node]
    if not isinstance(node, dict):
        return node
    call = node.get("FuncCall")
    if call is not None:
        parts = strings(call["funcname"])
        if parts[0] == CALLER:
            return _known(parts[1], caller)
    return {key: _filled(value, caller) for key, value in node.items()}


def _known(what: str, caller: Caller) -> Node:
    if what == "groups":
        names = [{"String": {"sval": CATALOG}}, {"String": {"sval": "text"}}]
        array = {"A_ArrayExpr": {"elements": [_text(each) for each in caller.groups]}} if caller.groups else {"A_ArrayExpr": {}}
        return {"TypeCast": {"arg": array, "typeName": {"names": names, "typemod": -1, "arrayBounds": [{"Integer": {"ival": -1}}]}}}
    value = getattr(caller, what)
    if value is None:
        raise Unknown(what)
    return _text(value)


def _text(value: str) -> Node:
    if "\0" in value:
        raise Unknown("a name without zero bytes")
    return {"A_Const": {"sval": {"sval": value}}}


# --- what may stand in one --------------------------------------------------------------------------------------------


def _walk(node: Node, columns: set[str]) -> Node:
    ((kind, inner),) = node.items()
    rule = RULES.get(kind)
    if rule is None:
        raise _Wrong(f"a {kind}")
    return rule(inner, columns)


def _column(node: Node, columns: set[str]) -> Node:
    parts = strings(node["fields"])
    if len(parts) != len(node["fields"]) or len(parts) != 1:
        raise _Wrong("a column with anything before its name")
    columns.add(parts[0])
    return {"ColumnRef": {"fields": [{"String": {"sval": ROW}}, {"String": {"sval": parts[0]}}]}}


def _constant(node: Node, _columns: set[str]) -> Node:
    return {"A_Const": node}


def _logic(node: Node, columns: set[str]) -> Node:
    return logic(node["boolop"], [_walk(each, columns) for each in node["args"]])


def logic(operator: str, arguments: list[Node]) -> Node:
    """AND, OR or NOT of these. The grammar makes one list of a chain of ANDs, and so must this, to be what is parsed again."""
    if operator == "NOT_EXPR":
        return {"BoolExpr": {"boolop": operator, "args": arguments}}
    flat: list[Node] = []
    for each in arguments:
        inner = each.get("BoolExpr", {})
        flat += inner["args"] if inner.get("boolop") == operator else [each]
    return flat[0] if len(flat) == 1 else {"BoolExpr": {"boolop": operator, "args": flat}}


def _test(kind: str) -> Callable[[Node, set[str]], Node]:
    return lambda node, columns: {kind: {**node, "arg": _walk(node["arg"], columns)}}


def _array(node: Node, columns: set[str]) -> Node:
    return {"A_ArrayExpr": {**node, "elements": [_walk(each, columns) for each in node.get("elements", ())]}}


def _operator(name: str, left: Node | None, right: Node, kind: str = "AEXPR_OP") -> Node:
    parts = [{"String": {"sval": CATALOG}}, {"String": {"sval": name}}]
    inner: Node = {"kind": kind, "name": parts, "rexpr": right}
    return {"A_Expr": inner if left is None else inner | {"lexpr": left}}


def _expression(node: Node, columns: set[str]) -> Node:
    kind, parts = node["kind"], strings(node.get("name", ()))
    if len(parts) > 1 and parts[0] != CATALOG:
        raise _Wrong(f"the operator {'.'.join(parts)}")
    name = parts[-1] if parts else ""
    left = _walk(node["lexpr"], columns) if "lexpr" in node else None
    if kind in {"AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL"}:
        return _operator(name, left, _walk(node["rexpr"], columns), kind)
    if kind in LIKES:
        return _operator(name, left, _walk(node["rexpr"], columns))
    if kind == "AEXPR_IN" and "List" in node["rexpr"]:
        each = [_operator(name, left, _walk(item, columns)) for item in node["rexpr"]["List"]["items"]]
        return logic("OR_EXPR" if name == "=" else "AND_EXPR", each)
    if kind in {"AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN"}:
        low, high = (_walk(item, columns) for item in node["rexpr"]["List"]["items"])
        inside = kind == "AEXPR_BETWEEN"
        both = [_operator(">=" if inside else "<", left, low), _operator("<=" if inside else ">", left, high)]
        return logic("AND_EXPR" if inside else "OR_EXPR", both)
    raise _Wrong(f"{kind.removeprefix('AEXPR_').replace('_', ' ')}")


def _call(node: Node, columns: set[str]) -> Node:
    parts = strings(node["funcname"])
    if parts[0] == CALLER:
        if len(parts) != 2 or parts[1] not in Caller.__struct_fields__ or "args" in node:
            raise _Wrong(f"{'.'.join(parts)}(): it is not known of a caller")
        return {"FuncCall": node}
    if len(parts) > 1 and parts[0] != CATALOG:
        raise _Wrong(f"the function {'.'.join(parts)}")
    if node.keys() - {"funcname", "args", "funcformat", "location"}:
        raise _Wrong(f"{parts[-1]}() as an aggregate or over a window")
    names = [{"String": {"sval": CATALOG}}, {"String": {"sval": parts[-1]}}]
    call: Node = {"funcname": names, "funcformat": "COERCE_EXPLICIT_CALL"}
    return {"FuncCall": call | ({"args": [_walk(each, columns) for each in node["args"]]} if "args" in node else {})}


def _cast(node: Node, columns: set[str]) -> Node:
    type_name = node["typeName"]
    parts = strings(type_name.get("names", ()))
    if (len(parts) > 1 and parts[0] != CATALOG) or "setof" in type_name or "pct_type" in type_name:
        raise _Wrong(f"the type {'.'.join(parts)}")
    named = {**type_name, "names": [{"String": {"sval": CATALOG}}, {"String": {"sval": parts[-1]}}]}
    return {"TypeCast": {"arg": _walk(node["arg"], columns), "typeName": named}}


RULES: Final[dict[str, Callable[[Node, set[str]], Node]]] = {
    "ColumnRef": _column,
    "A_Const": _constant,
    "BoolExpr": _logic,
    "NullTest": _test("NullTest"),
    "BooleanTest": _test("BooleanTest"),
    "A_ArrayExpr": _array,
    "A_Expr": _expression,
    "FuncCall": _call,
    "TypeCast": _cast,
}
