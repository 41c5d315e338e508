"""How the rows of a COPY ... TO STDOUT are laid out, and which of its columns are protected.

COPY has no RowDescription, so the columns are named from the statement's tree. Only what is plain is named: a table with or
without a column list, or a select list of plain column names. Wherever the position of a protected column is not plain,
every column counts as protected.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ostiary.model.catalogue import Snapshot
from ostiary.model.operations import Facts
from ostiary.model.results import CSV_COPY, TEXT_COPY, ColumnDescription, CopyPlan
from ostiary.protocols.postgres.grammar import Node, NotParsed, parse
from ostiary.protocols.postgres.operations import ProtectedColumns

STAR: Final = "*"


class CopyLayout(msgspec.Struct, frozen=True):
    """The columns of a COPY's rows in order, and how text or CSV is written; `written` None: binary."""

    columns: tuple[ColumnDescription, ...]
    written: CopyPlan | None


def layout(
    sql: bytes, step: int, count: int, binary: bool, facts: Facts, snapshot: Snapshot, protected: ProtectedColumns
) -> CopyLayout:
    """The layout of the COPY that statement `step` of `sql` is, of `count` columns as the target said."""
    node = _copy_statement(sql, step)
    written = None if binary else _written(node)
    if not facts.touches_protected:
        return CopyLayout(tuple(_column("", 0, 0) for _ in range(count)), written)
    names = None if node is None else _names(node, snapshot)
    if names is None or len(names) != count:
        return CopyLayout(_all_protected(count, facts, snapshot, protected), written)
    relations = relations_of(facts, snapshot)
    return CopyLayout(tuple(_named(name, relations, snapshot, protected) for name in names), written)


def _copy_statement(sql: bytes, step: int) -> Node | None:
    try:
        statements = parse(sql)
    except NotParsed:
        return None
    if step >= len(statements) or statements[step].kind != "CopyStmt":
        return None
    return statements[step].node


def _written(node: Node | None) -> CopyPlan:
    """The format options, with PostgreSQL's defaults (PostgreSQL 18, "COPY")."""
    options = {} if node is None else {o["DefElem"]["defname"]: o["DefElem"].get("arg") for o in node.get("options", ())}
    plan = CSV_COPY if _word(options.get("format")) == "csv" else TEXT_COPY
    changes: dict[str, object] = {}
    for name in ("delimiter", "quote", "escape", "null"):
        if name in options:
            changes[name] = _word(options[name]).encode()
    if "quote" in changes and "escape" not in changes:
        changes["escape"] = changes["quote"]
    if "header" in options:
        changes["header"] = _word(options["header"]).lower() not in {"false", "off", "0"}
    return msgspec.structs.replace(plan, **changes)


def _word(arg: Node | None) -> str:
    if arg is None:
        return ""
    ((kind, value),) = arg.items()
    if kind == "Boolean":
        return "true" if value.get("boolval") else "false"
    return str(value.get("sval", value.get("ival", value.get("boolval", ""))))


def _names(node: Node, snapshot: Snapshot) -> list[str] | None:
    """The copied columns' names in order; None: not plain."""
    if "query" not in node:
        listed = [each["String"].get("sval", "") for each in node.get("attlist", ())]
        if listed:
            return listed
        relation = node["relation"]
        schemas = [relation["schemaname"]] if "schemaname" in relation else [*snapshot.search_path, "pg_catalog"]
        for schema in schemas:
            oid = snapshot.relation_oids.get((schema, relation["relname"]))
            if oid is not None:
                return [column.name for column in snapshot.relations[oid].columns]
        return None
    select = node["query"].get("SelectStmt")
    if select is None or select.get("op", "SETOP_NONE") != "SETOP_NONE" or "targetList" not in select:
        return None
    names = []
    for target in select["targetList"]:
        reference = target.get("ResTarget", {}).get("val", {}).get("ColumnRef")
        if reference is None:
            names.append("")  # an expression: it may not use what is protected, or `unmask` was asked of policy
            continue
        last = reference["fields"][-1]
        if "String" not in last:
            return None
        names.append(last["String"].get("sval", ""))
    return names


def relations_of(facts: Facts, snapshot: Snapshot) -> list[int]:
    """All relations that the resources may be: a schema's name and a table's may hold dots, so every cut counts."""
    found = []
    for resource in facts.resources:
        name = resource.name
        at = name.find(".")
        while at >= 0:
            oid = snapshot.relation_oids.get((name[:at], name[at + 1 :]))
            if oid is not None:
                found.append(oid)
            at = name.find(".", at + 1)
    return found


def _column(name: str, table: int, number: int) -> ColumnDescription:
    return ColumnDescription(name, table, number, 0, -1, -1, 0)


def _named(name: str, relations: list[int], snapshot: Snapshot, protected: ProtectedColumns) -> ColumnDescription:
    """The column of that name: of whichever table has a protected one."""
    found = _column(name, 0, 0)
    for oid in relations:
        for column in snapshot.relations[oid].columns:
            if column.name == name:
                if (oid, column.number) in protected.by_column:
                    return ColumnDescription(name, oid, column.number, column.type_oid, -1, -1, 0)
                found = ColumnDescription(name, oid, column.number, column.type_oid, -1, -1, 0)
    return found


def _all_protected(
    count: int, facts: Facts, snapshot: Snapshot, protected: ProtectedColumns
) -> tuple[ColumnDescription, ...]:
    relations = set(relations_of(facts, snapshot))
    known = [key for key in protected.by_column if key[0] in relations] or list(protected.by_column)
    # Whichever of several classes is the least often shown in clear is not known here, so they take turns; with one class,
    # which is the common case, all are that one.
    return tuple(_column("", *known[i % len(known)]) for i in range(count))
