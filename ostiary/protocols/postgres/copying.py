"""How the rows of a COPY ... TO STDOUT are laid out.

COPY has no RowDescription: what its columns are, and which of them hang on something protected, is known by the lineage of
the statement alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ostiary.model.operations import Shown
from ostiary.model.results import CSV_COPY, TEXT_COPY, ColumnDescription, CopyPlan
from ostiary.protocols.postgres.grammar import Node, NotParsed, parse

_NUMBERS: Final = frozenset({20, 1700})
"""int8 and numeric: in binary nothing else tells that the bytes are digits. What else the lineage says of types is not relied on where
nothing is protected: the catalogue may be seconds old."""
_NAMELESS: Final = ColumnDescription("", 0, 0, 0, -1, -1, 0)


class CopyLayout(msgspec.Struct, frozen=True):
    """The columns of a COPY's rows in order, and how text or CSV is written; `written` None: binary."""

    columns: tuple[ColumnDescription, ...]
    written: CopyPlan | None


def layout(sql: bytes, step: int, count: int, shown: Shown | None, *, binary: bool) -> CopyLayout:
    """The layout of the COPY that statement `step` of `sql` is, of `count` columns as the target said."""
    written = None if binary else _written(_copy_statement(sql, step))
    if shown is None or shown.columns is None or len(shown.columns) != count:
        return CopyLayout((_NAMELESS,) * count, written)
    named = (
        ColumnDescription(each.name, 0, 0, each.type_oid if shown.every or (binary and each.type_oid in _NUMBERS) else 0, -1, -1, 0)
        for each in shown.columns
    )
    return CopyLayout(tuple(named), written)


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
    options = (
        {} if node is None else {o["DefElem"]["defname"]: o["DefElem"].get("arg") for o in node.get("options", ())}
    )
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
