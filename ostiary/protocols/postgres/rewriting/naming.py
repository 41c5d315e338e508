"""Names in a tree that is being rewritten: what stands for what, and what is not certain."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary.model.operations import Objection, Unjudgeable
from ostiary.protocols.postgres.grammar import Statement, nodes
from ostiary.protocols.postgres.understand.names import Target, strings


class Impossible(Exception):
    """It cannot be done. Never leaves this package."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.objection = Objection(Unjudgeable.NOT_REWRITTEN, message, hint, "42501", None)


def name_of(target: Target) -> str:
    """A relation's name, as policy writes it."""
    return f"{target.schema}.{target.name}"


def range_names(statements: tuple[Statement, ...]) -> dict[str, int]:
    """How often each name stands for something in a FROM, or for a common table expression."""
    counts: dict[str, int] = {}
    for statement in statements:
        for kind, node in nodes({statement.kind: statement.node}):
            name = ""
            if kind in {"alias", "join_using_alias"}:
                name = node.get("aliasname", "")
            elif kind in {"RangeVar", "relation"} and "alias" not in node:
                name = node.get("relname", "")
            elif kind == "CommonTableExpr":
                name = node.get("ctename", "")
            if name:
                counts[name] = counts.get(name, 0) + 1
    return counts


def unqualify(statements: tuple[Statement, ...], schema: str, name: str, aliases: Mapping[str, int]) -> None:
    """Write `schema.table.column` as `table.column`: a subquery has no schema. Only where the name can mean one thing."""
    for statement in statements:
        for kind, node in nodes({statement.kind: statement.node}):
            if kind != "ColumnRef" or len(node["fields"]) < 3 or strings(node["fields"])[:2] != [schema, name]:
                continue
            if aliases.get(name, 0) > 1:
                raise Impossible(
                    f"policy demands that this be rewritten where it names {schema}.{name}, and {name} means several things in it",
                    "Give each an alias, and name columns by it.",
                )
            node["fields"] = node["fields"][1:]
