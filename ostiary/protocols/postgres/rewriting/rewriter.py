"""A text in, the text that policy demands out, or why there is none.

Theory of operation
-------------------
The text is parsed, the judge's own walk says what each relation in FROM is, the tree is changed there, and written as text. Nobody
believes that text: it is judged like any other, and its facts must say that what was demanded holds (`unmet`). So whatever this
does not reach (views, functions' bodies, COPY of a table, DML, what a cursor or a prepared statement holds) is refused there and
needs no rule here.

Names: a relation or function that another takes the place of is written with the other's name and schema (`replacing.py`).

Rows: a SELECT without LIMIT is given one; a number in LIMIT is lowered; another expression becomes `LEAST(expression, number)`,
in which NULL counts for nothing, as in LIMIT; WITH TIES, which may return more, is put into a subquery whose rows are counted.
A tree that no grammar makes could crash the deparser, so a relation is only replaced where a subquery may stand.
FETCH gets a smaller number. DECLARE stays as it is: a cursor's rows come by FETCH.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final

from ostiary.model.catalogue import Relation, Snapshot
from ostiary.model.duties import Duties
from ostiary.model.errors import ConfigError
from ostiary.model.operations import Facts, Objection
from ostiary.protocols.postgres.grammar import Node, Statement, parse
from ostiary.protocols.postgres.rewriting.conditions import Caller, Condition, Unknown, filled, logic, read
from ostiary.protocols.postgres.rewriting.naming import Impossible, name_of, range_names, unqualify
from ostiary.protocols.postgres.rewriting.replacing import replace, unreplaced
from ostiary.protocols.postgres.rewriting.trees import MAX_TEXT, write
from ostiary.protocols.postgres.understand.filtered import digest, seen_through
from ostiary.protocols.postgres.understand.ground import WHOLE, ProtectedColumns
from ostiary.protocols.postgres.understand.judge import sites
from ostiary.protocols.postgres.understand.names import Target
from ostiary.protocols.postgres.understand.shapes import WHOLE_FETCHES, most_rows
from ostiary.protocols.postgres.understand.utility import SHOWING
from ostiary.protocols.postgres.understand.view import View

MAX_IVAL: Final = 2**31 - 1
"""The largest number that is an integer constant to the lexer."""
WRITTEN: Final = SHOWING - {"ExplainStmt"} | {
    "CreateTableAsStmt", "TransactionStmt", "VariableSetStmt", "VariableShowStmt", "DeallocateStmt", "ClosePortalStmt",
}  # fmt: skip
"""Statements that are written anew. The deparser is C that reads a caller's tree: it meets no more of them than it must."""
LIMITED: Final = "ostiary_rows"
"""The alias of a query whose rows are counted."""


MIXED: Final = Impossible(
    "policy demands that the statement be rewritten, and more than queries stand in it", "Send each statement by itself."
).objection


def conditions_of(duties: Duties, caller: Caller) -> dict[str, Node]:
    """What each relation may be seen through: all conditions on it together. Raises `Impossible`."""
    found: dict[str, list[Node]] = {}
    for relation, text in duties.filters:
        try:
            found.setdefault(relation, []).append(filled(_read(text), caller))
        except Unknown as what:
            raise Impossible(
                f"only some rows of {relation} may be seen, and which hangs on your {what}, which is not known",
                "Log in where it is part of the token, or ask whoever keeps the policy.",
            ) from None
    return {relation: logic("AND_EXPR", nodes) for relation, nodes in found.items()}


def _read(text: str) -> Condition:
    try:
        return read("policy", text)
    except ConfigError as fault:  # policies are checked when they are loaded
        raise Impossible(str(fault), "Ask whoever keeps the policy.") from None


def unmet(facts: Facts, duties: Duties, caller: Caller) -> Objection | None:
    """Say what of the duties a statement as it stands does not do; None: it does all."""
    if duties.parameters:
        return Impossible("policy demands something of the parameters of a call, and a statement has none", "Ask whoever keeps the policy.").objection
    if duties.rows is not None and (facts.rows is None or facts.rows > duties.rows):
        return Impossible(
            f"a statement may return {duties.rows} rows here, and this one cannot be held to that",
            f"Write a SELECT of its own, with LIMIT {duties.rows}, or read a cursor by FETCH {duties.rows}.",
        ).objection
    if duties.rows is not None and facts.rows and (facts.gathers is None or facts.rows * facts.gathers > duties.rows):
        return Impossible(
            f"a statement may return {duties.rows} rows here, and this one puts more rows together in one value",
            f"Let it gather rows of a subquery in FROM with a LIMIT, so that they are {duties.rows} in all.",
        ).objection
    for kind, name, other in duties.instead:
        if unreplaced(facts, kind, name, other):
            return Impossible(
                f"{other} takes the place of {name} here, and this statement reaches {name} in a way that the gateway cannot change",
                "Name it in a SELECT, INSERT, UPDATE, DELETE, MERGE or COPY; not in EXPLAIN, a view or function, as an operator, cast or "
                "default, nor by the name of a partition. Prepare again what was prepared before.",
            ).objection
    if not duties.filters:
        return None
    through = dict(facts.filtered)
    try:
        wanted = conditions_of(duties, caller)
    except Impossible as why:
        return why.objection
    for relation, condition in wanted.items():
        if relation == WHOLE:
            return Impossible(
                "only some rows may be seen here, and what this statement shows cannot be told",
                "Write it as a SELECT of the tables themselves.",
            ).objection
        if through.get(relation) != digest(condition):
            return Impossible(
                f"only some rows of {relation} may be seen, and this statement reaches it in a way that the gateway cannot filter",
                "Name the table itself in FROM of a SELECT; not in a view or function, COPY of a table, EXPLAIN, TABLESAMPLE, "
                "or as what UPDATE and DELETE change. Prepare again what was prepared before.",
            ).objection
    return None


class Rewriter:
    """Rewrites one text for one session."""

    def __init__(
        self,
        view: View,
        snapshot: Snapshot,
        protected: ProtectedColumns,
        parameter_types: tuple[int, ...],
    ) -> None:
        self._view = view
        self._snapshot = snapshot
        self._protected = protected
        self._types = parameter_types

    def rewritten(self, sql: bytes, duties: Duties, caller: Caller) -> bytes | Objection:
        """The text that does what `duties` demand, as far as that can be done: it is to be judged again."""
        if len(sql) > MAX_TEXT:
            return Impossible(
                f"policy demands that the statement be rewritten, and it is longer than {MAX_TEXT >> 10} KiB",
                "Send values as parameters.",
            ).objection
        try:
            statements = parse(sql)
            if not all(each.kind in WRITTEN for each in statements):
                return MIXED
            if duties.instead:
                found = sites(sql, statements, self._view, self._snapshot, self._protected, self._types)
                replace(statements, found, duties.instead)
            if duties.filters:
                self._filter(sql, statements, conditions_of(duties, caller), duties)
            if duties.rows is not None:
                for each in statements:
                    limit(each.kind, each.node, duties.rows)
            text = write([(each.kind, each.node) for each in statements])
        except Impossible as why:
            return why.objection
        if text is None:
            return Impossible(
                "policy demands that the statement be rewritten, and its syntax is more than the gateway can write",
                "Write it more simply.",
            ).objection
        return text

    # --- rows of relations ---

    def _filter(
        self, sql: bytes, statements: tuple[Statement, ...], conditions: Mapping[str, Node], duties: Duties
    ) -> None:
        family = self._family(conditions)
        meant: dict[int, tuple[Node, set[Target]]] = {}
        for wrapped, targets in sites(sql, statements, self._view, self._snapshot, self._protected, self._types).shown:
            meant.setdefault(id(wrapped), (wrapped, set()))[1].update(targets)
        aliases = range_names(statements)
        for wrapped, targets_of in meant.values():
            wanted = {family[name] for name in map(name_of, targets_of) if name in family}
            if not wanted:
                continue
            if len(targets_of) != 1 or not isinstance(target := next(iter(targets_of)), Relation):
                raise _unclear(wrapped["RangeVar"], min(wanted))
            filtered = min(wanted)
            missing = _columns(duties, filtered) - {column.name for column in target.columns}
            if missing:
                raise Impossible(
                    f"only some rows of {filtered} may be seen, and {name_of(target)} has no column {min(missing)} to tell which",
                    "Ask whoever keeps the policy: its @filter does not fit the table.",
                )
            relation = wrapped.pop("RangeVar")
            if "alias" not in relation:
                unqualify(statements, target.schema, target.name, aliases)
            inner = {key: value for key, value in relation.items() if key not in {"alias", "catalogname"}}
            inner |= {"schemaname": target.schema, "relname": target.name}
            alias = relation.get("alias", {"aliasname": target.name})
            wrapped.update(seen_through(inner, copy.deepcopy(conditions[filtered]), alias))

    def _family(self, conditions: Mapping[str, Node]) -> dict[str, str]:
        """Each relation that is filtered, and each partition or child of one, with the relation whose condition counts.

        A child's rows are its parents', so reading it alone must not show more of them.
        """
        family = {name: name for name in conditions}
        for name in conditions:
            todo = oids_named(name, self._snapshot)
            while todo:
                each = self._snapshot.relations.get(todo.pop())
                if each is not None:
                    # Where several conditions meet in a child, the judge finds that not all of them are met.
                    new = family.setdefault(name_of(each), name) == name
                    todo += [child for child in each.children if new]
        return family


def oids_named(name: str, snapshot: Snapshot) -> list[int]:
    """All relations that a name may be: a schema's name and a table's may hold dots, so every cut counts."""
    parts = name.split(".")
    cuts = [(".".join(parts[:at]), ".".join(parts[at:])) for at in range(1, len(parts))]
    return [snapshot.relation_oids[cut] for cut in cuts if cut in snapshot.relation_oids]


def _columns(duties: Duties, relation: str) -> frozenset[str]:
    return frozenset().union(*(_read(text).columns for name, text in duties.filters if name == relation))


def _unclear(range_var: Node, relation: str) -> Impossible:
    return Impossible(
        f"only some rows of {relation} may be seen, and what {range_var.get('relname', '')} means here is not certain",
        "Name it with its schema, and not what this session made itself.",
    )


# --- how many rows ----------------------------------------------------------------------------------------------------


def limit(kind: str, node: Node, rows: int) -> None:
    """Hold one statement to a number of rows, in place. What it does not know stays, and is found not to be held."""
    if (kind == "CopyStmt" and "query" in node) or kind == "PrepareStmt":
        ((inner, query),) = node["query"].items()
        limit(inner, query, rows)
        return
    most = most_rows(kind, node)
    if most is not None and most <= rows:
        return
    if kind == "SelectStmt":
        _limit_query(node, rows)
    elif kind == "FetchStmt" and node.get("direction") in WHOLE_FETCHES and rows > 0:
        node["howMany"] = rows if node.get("howMany", 0) > 0 else -rows


def _limit_query(node: Node, rows: int) -> None:
    count = node.get("limitCount")
    if node.get("limitOption") == "LIMIT_OPTION_WITH_TIES":
        _wrap(node)
        count = None
    if count is not None and not (_is_null(count) or "ival" in count.get("A_Const", {})):
        arguments = [_bigint(count), _bigint(_number(rows))]
        node["limitCount"] = {"MinMaxExpr": {"op": "IS_LEAST", "args": arguments}}
    else:
        node["limitCount"] = _number(rows)
    node["limitOption"] = "LIMIT_OPTION_COUNT"


def _wrap(node: Node) -> None:
    """Put a query into a subquery. WITH stays outside, since what changes data may stand only there."""
    inner = dict(node)
    node.clear()
    if "withClause" in inner:
        node["withClause"] = inner.pop("withClause")
    node["targetList"] = [{"ResTarget": {"val": {"ColumnRef": {"fields": [{"A_Star": {}}]}}}}]
    node["fromClause"] = [{"RangeSubselect": {"subquery": {"SelectStmt": inner}, "alias": {"aliasname": LIMITED}}}]
    node["op"] = "SETOP_NONE"


def _is_null(node: Node) -> bool:
    return bool(node.get("A_Const", {}).get("isnull"))


def _number(rows: int) -> Node:
    if rows > MAX_IVAL:
        return {"A_Const": {"fval": {"fval": str(rows)}}}
    return {"A_Const": {"ival": {"ival": rows} if rows else {}}}


def _bigint(node: Node) -> Node:
    names = [{"String": {"sval": "pg_catalog"}}, {"String": {"sval": "int8"}}]
    return {"TypeCast": {"arg": node, "typeName": {"names": names, "typemod": -1}}}
