"""What column names can mean at one place of a statement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ostiary.model.catalogue import Column, Relation
from ostiary.model.connections import Strategy

Mark = tuple[str, Strategy | None]
"""A data class, and how its column is masked while a value is still that column's own: see `lineage.py`."""
Label = frozenset[Mark]
NOTHING: Final[Label] = frozenset()


@dataclass(slots=True)
class Cte:
    """A common table expression: its name, and the names of its columns as far as they can be told."""

    name: str
    columns: tuple[str, ...] | None
    types: tuple[int | None, ...] = ()
    """Their types' OIDs; empty: not known."""
    labels: tuple[Label, ...] = ()
    """Their labels; empty: not known."""
    every: Label = NOTHING
    """What any of them hangs on."""


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
    hidden: bool = False
    """Its columns cannot be named without qualification (`excluded`, `old`, `new`)."""
    types: dict[str, int | None] = field(default_factory=dict)
    """Of derived columns: their types' OIDs, as far as they can be told."""
    labels: dict[str, Label] = field(default_factory=dict)
    """Of derived columns: their labels."""
    every: Label = NOTHING
    """What a derived column hangs on of which nothing else is known."""

    def label_of(self, name: str) -> Label:
        """The label of a derived column."""
        return self.labels.get(name, self.every)

    def type_of(self, name: str) -> int | None:
        """OID of a column's type; None: it may be any."""
        column = (self.columns or {}).get(name)
        return column.type_oid if column is not None else self.types.get(name)


@dataclass(slots=True)
class Scope:
    """Names that can be seen at one query level, and the level around it."""

    outer: Scope | None = None
    entries: list[Entry] = field(default_factory=list)
    ctes: dict[str, Cte] = field(default_factory=dict)
    shown: tuple[tuple[str, Label], ...] | None = ()
    """Names and labels of the output columns, for ORDER BY and GROUP BY by number or name; None: not known which they are."""
    every: Label = NOTHING
    """All their labels in one."""
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


def distinct(names: Iterable[str]) -> Iterable[str]:
    """The names, with zero bytes behind each that comes again: no text can name it, and it still has its place.

    `t AS x(a, a)` and `(SELECT 1, 2) q` have two columns of one name. To name it is an error; a star, a number and the
    whole row mean both.
    """
    seen: dict[str, int] = {}
    for name in names:
        bare = name.rstrip("\0")
        again = seen.get(bare, 0)
        seen[bare] = again + 1
        yield bare + "\0" * again
