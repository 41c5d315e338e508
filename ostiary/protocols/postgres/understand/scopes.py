"""What column names can mean at one place of a statement."""

from __future__ import annotations

from dataclasses import dataclass, field

from ostiary.model.catalogue import Column, Relation
from ostiary.protocols.postgres.grammar import Node


@dataclass(slots=True)
class Cte:
    """A common table expression: its name, and the names of its columns as far as they can be told."""

    name: str
    columns: tuple[str, ...] | None


@dataclass(slots=True, eq=False)
class Entry:
    """One item of FROM, or the target of DML."""

    alias: str
    """The name that it goes by; empty: it cannot be named."""
    schema: str | None
    """Set when it goes by its own name, so that `schema.table.column` works."""
    relation: Relation | None
    columns: dict[str, Column | None] | None
    """Visible name to column of `relation`; None of a derived column. None instead of a dict: it may have any column."""
    touched: set[str] | None
    """Where to note names of columns that are read."""
    plain: bool
    """Its columns keep their origin in RowDescription, so that masking finds them."""
    hidden: bool = False
    """Its columns cannot be named without qualification (`excluded`, `old`, `new`)."""


@dataclass(slots=True)
class Scope:
    """Names that can be seen at one query level, and the level around it."""

    outer: Scope | None = None
    entries: list[Entry] = field(default_factory=list)
    ctes: dict[str, Cte] = field(default_factory=dict)
    targets: list[Node] = field(default_factory=list)
    """The select list, for ORDER BY and GROUP BY by number or name."""
    merged: bool = False
    """A join merged columns, so the order of a star's columns is not that of the tables."""

    def cte(self, name: str) -> Cte | None:
        """The CTE that a bare name means, from here outwards."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.ctes:
                return scope.ctes[name]
            scope = scope.outer
        return None
