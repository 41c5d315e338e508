"""What an error tells: rules of a relation that a change may break, where they compare with values that are protected.

A unique index says whether a value is there; a check compares what is written with what else is in the row; a foreign key says
whether the other table has the value, or whether another table still has this one. Whoever changes a column that such a rule is about
learns of it whether the change succeeds or not, so it counts as inference of the protected columns that the rule compares with.

What the caller chose is no secret: a check over columns that are all written by an INSERT tells nothing. Nor is it told which values a
trigger or a function compares; those need `execute`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ostiary.model.catalogue import Guard, Relation, Snapshot
from ostiary.protocols.postgres.understand.ground import JOIN, WHOLE, ProtectedColumns

ROW: Final = 0
"""Stands for all columns in a rule about the whole row."""
ANY: Final = {-1}
"""Columns of which it is not known which they are."""


class Guarded:
    """Which classes the rules of a relation compare with."""

    def __init__(self, snapshot: Snapshot, protected: ProtectedColumns) -> None:
        self._snapshot = snapshot
        self._protected = protected

    def by_change(self, relation: Relation, names: Iterable[str], *, updates: bool) -> set[str]:
        """Classes that writing these columns (`*`: all) may tell of; `updates`: into rows that are there."""
        if not self._protected.of_relation:
            return set()
        columns = set(names)
        return self._follow(relation, lambda each: _numbers(each, columns), set(), updates=updates)

    def by_delete(self, relation: Relation) -> set[str]:
        """Classes that deleting rows may tell of."""
        found: set[str] = set()
        if self._protected.of_relation:
            for member in self._members(relation):
                for child, guard in self._keys_to(member):
                    if not guard.cascades:
                        found |= self._classes(child, guard.columns)
        return found

    def _follow(
        self, relation: Relation, written: Callable[[Relation], set[int]], seen: set[int], *, updates: bool
    ) -> set[str]:
        found: set[str] = set()
        for member in self._members(relation):
            if member.oid in seen:
                continue
            seen.add(member.oid)
            # Which column of a view is which of the table, is not followed: it may be any.
            numbers = ANY if relation.kind == "v" else written(member)
            found |= self._broken(member, numbers, updates=updates)
            if not updates:
                continue
            for child, guard in self._keys_to(member):
                if _meet(numbers, guard.other_columns):
                    found |= self._classes(child, guard.columns)
                    if child.oid in member.update_cascades:
                        found |= self._follow(child, lambda _, own=set(guard.columns): own, seen, updates=True)  # type: ignore[misc]
        return found

    def _broken(self, relation: Relation, numbers: set[int], *, updates: bool) -> set[str]:
        found: set[str] = set()
        for guard in relation.guards:
            about = _all(relation) if ROW in guard.columns else set(guard.columns)
            if not _meet(numbers, about):
                continue
            if guard.kind == "u":
                found |= self._classes(relation, about)
            elif guard.kind == "c" and updates:
                found |= self._classes(relation, about - numbers)
            elif guard.kind == "f" and (other := self._snapshot.relations.get(guard.other)) is not None:
                found |= self._classes(other, guard.other_columns)
        return found

    def _members(self, relation: Relation) -> list[Relation]:
        """The relation, the tables behind a view, and all partitions and children."""
        todo, seen = [relation.oid], {relation.oid}
        while todo:
            known = self._snapshot.relations.get(todo.pop())
            if known is None:
                continue
            behind = (base for base, _ in known.reads) if known.kind == "v" else ()
            for oid in (*behind, *known.children):
                if oid not in seen:
                    seen.add(oid)
                    todo.append(oid)
        return [self._snapshot.relations[oid] for oid in sorted(seen) if oid in self._snapshot.relations]

    def _keys_to(self, relation: Relation) -> Iterator[tuple[Relation, Guard]]:
        for oid in relation.referenced_by:
            child = self._snapshot.relations.get(oid)
            for guard in child.guards if child is not None else ():
                if child is not None and guard.kind == "f" and guard.other == relation.oid:
                    yield child, guard

    def _classes(self, relation: Relation, numbers: Iterable[int]) -> set[str]:
        by_column = self._protected.by_column
        found = (by_column.get((relation.oid, number)) for number in numbers)
        return {name for each in found if each is not None for name in each[0].split(JOIN)}


def _all(relation: Relation) -> set[int]:
    return {column.number for column in relation.columns}


def _meet(numbers: set[int], about: Iterable[int]) -> bool:
    return numbers == ANY or not numbers.isdisjoint(about)


def _numbers(relation: Relation, names: set[str]) -> set[int]:
    return {column.number for column in relation.columns if WHOLE in names or column.name in names}
