"""Indexes over a catalogue snapshot that judging needs, and the protected columns of a connection on top of it."""

from __future__ import annotations

import re
from typing import Final

import re2

from ostiary.model.catalogue import FIRST_NORMAL_OID, Function, Relation, Snapshot
from ostiary.model.connections import ColumnRule, Protected, Strategy
from ostiary.protocols.postgres.understand.builtins import RUNS_TEXT

WHOLE: Final = "*"
JOIN: Final = "+"
"""Between names of classes, where a column may hang on any of them: see `ostiary.masking.plan`."""

SYSTEM: Final = frozenset({"pg_catalog", "information_schema", "pg_toast"})
STORED: Final = frozenset("rpfmv")
"""Kinds of relations whose columns a rule can name: tables, views, and foreign ones."""

MACHINE_CODE: Final = frozenset({"c", "internal"})
READABLE: Final = frozenset({"sql", "plpgsql"})

STATISTICS: Final = frozenset({
    "pg_statistic", "pg_stats", "pg_statistic_ext_data", "pg_stats_ext", "pg_stats_ext_exprs",
    "pg_stat_activity", "pg_stat_statements", "pg_prepared_statements", "pg_cursors", "pg_stat_get_activity",
})  # fmt: skip
"""Relations that hold samples of column values, or other sessions' statements: they count as every protected column."""


class Ground:
    """What can be derived from a snapshot once, instead of for each statement."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.parents: dict[int, list[int]] = {}
        """Child to the tables that it is a partition of or inherits from."""
        self.views_over: dict[int, list[int]] = {}
        """Relation to the views that read it."""
        self.arrays: dict[int, int] = {}
        """Element type to array type."""
        self.in_schema: dict[str, list[int]] = {}
        self.overloaded: set[str] = set()
        """Names of functions that are not built in."""
        for relation in snapshot.relations.values():
            self.in_schema.setdefault(relation.schema, []).append(relation.oid)
            for child in relation.children:
                self.parents.setdefault(child, []).append(relation.oid)
            for base, _ in relation.reads:
                self.views_over.setdefault(base, []).append(relation.oid)
        for type_ in snapshot.types.values():
            if type_.element and type_.name.startswith("_"):
                self.arrays[type_.element] = type_.oid
        for function in snapshot.functions.values():
            if function.oid >= FIRST_NORMAL_OID:
                self.overloaded.add(function.name)
        self.user_operators: dict[str, tuple[int, ...]] = {
            name: tuple(i for i, each in enumerate(operators) if each.oid >= FIRST_NORMAL_OID)
            for name, operators in snapshot.operators_named.items()
        }


class ProtectedColumns:
    """Which columns are protected, and as what: what the operator named, spread over views and partitions.

    All columns of a view that depends on a protected column are protected, as which of them shows it is not known.
    """

    def __init__(self, protect: tuple[Protected, ...], snapshot: Snapshot, rules: tuple[ColumnRule, ...] = ()) -> None:
        self.snapshot = snapshot
        self.ground = Ground(snapshot)
        self.by_column: dict[tuple[int, int], tuple[str, Strategy]] = {}
        """(table oid, pg_attribute.attnum) to (data class, strategy)."""
        self.missing: list[Protected] = []
        """What the operator named and the catalogue does not hold."""
        self.classes: tuple[str, ...] = tuple(
            sorted({each.data_class for each in protect} | {rule.data_class for rule in rules})
        )
        """All classes, in order."""
        for each in protect:
            self._add(each)
        for rule in rules:
            self._apply(rule)
        self._spread_over_views()
        self.telling: frozenset[int] = frozenset()
        """Functions that may give back what is protected."""
        self._names: frozenset[frozenset[str]] = frozenset()
        if self.classes:
            self.telling, self._names = telling(snapshot, {oid for oid, _ in self.by_column})
        self._spread_over_callers()
        self.of_relation: dict[int, frozenset[str]] = {}
        """Relation to the classes of its protected columns."""
        for (oid, _), (data_class, _) in self.by_column.items():
            self.of_relation[oid] = self.of_relation.get(oid, frozenset()) | frozenset(data_class.split(JOIN))
        self.notifies: bool = self._may_notify()
        """A function that tells, or is given rows with something protected in them, may send notifications."""

    def tells(self, language: str, body: str) -> bool:
        """Whether a function of this body may give back what is protected."""
        if not self.classes or language in MACHINE_CODE:
            return False
        words = _words(body)
        return language not in READABLE or _is_made_up(language, body, words) or any(name <= words for name in self._names)

    def _may_notify(self) -> bool:
        given = {oid for relation in self.of_relation for oid in self.snapshot.relations[relation].calls}
        return any(_sends(self.snapshot.functions[oid]) for oid in self.telling | given if oid in self.snapshot.functions)

    def _add(self, each: Protected) -> None:
        oid = self.snapshot.relation_oids.get((each.schema, each.table))
        relation = self.snapshot.relations.get(oid) if oid is not None else None
        if relation is None or all(c.name != each.column for c in relation.columns):
            self.missing.append(each)
            return
        for member in self._family(relation):
            for column in member.columns:
                if column.name == each.column:
                    self.by_column[member.oid, column.number] = (each.data_class, each.strategy)

    def _apply(self, rule: ColumnRule) -> None:
        pattern = re2.compile(rule.pattern)
        for relation in list(self.snapshot.relations.values()):
            if relation.schema in SYSTEM or relation.kind not in STORED:
                continue
            for column in relation.columns:
                if (relation.oid, column.number) in self.by_column:
                    continue
                if pattern.fullmatch(f"{relation.schema}.{relation.name}.{column.name}"):
                    self._add(Protected(relation.schema, relation.name, column.name, rule.data_class, rule.strategy))

    def _family(self, relation: Relation) -> list[Relation]:
        """The table, and all above and below it in inheritance: they show one another's rows."""
        seen = {relation.oid}
        todo = [relation.oid]
        while todo:
            oid = todo.pop()
            known = self.snapshot.relations.get(oid)
            near = (*(known.children if known else ()), *self.ground.parents.get(oid, ()))
            for other in near:
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return [self.snapshot.relations[oid] for oid in seen if oid in self.snapshot.relations]

    def _spread_over_views(self) -> None:
        todo = list({oid for oid, _ in self.by_column})
        while todo:
            base = todo.pop()
            for view_oid in self.ground.views_over.get(base, ()):
                view = self.snapshot.relations[view_oid]
                if (view_oid, view.columns[0].number if view.columns else 0) in self.by_column:
                    continue
                found = self._seen_through(view, base)
                if found is not None:
                    for column in view.columns:
                        self.by_column[view_oid, column.number] = found
                    todo.append(view_oid)

    def _spread_over_callers(self) -> None:
        """A view, or a view over it, that calls a function that tells shows what that gives back."""
        for view in self.snapshot.relations.values():
            if view.kind in "vm" and not self.telling.isdisjoint(view.read_calls):
                for column in view.columns:
                    self.by_column[view.oid, column.number] = (JOIN.join(self.classes), Strategy.NULL)
        self._spread_over_views()

    def _seen_through(self, view: Relation, base: int) -> tuple[str, Strategy] | None:
        """What a view shows of a base relation's protected columns; of several classes all, masked whole."""
        found: set[tuple[str, Strategy]] = set()
        for oid, numbers in view.reads:
            if oid == base:
                found |= {
                    entry
                    for (table, number), entry in self.by_column.items()
                    if table == base and (not numbers or number in numbers)
                }
        if not found:
            return None
        if len(found) == 1:
            return next(iter(found))
        return JOIN.join(sorted({name for data_class, _ in found for name in data_class.split(JOIN)})), Strategy.NULL


def telling(snapshot: Snapshot, protected: set[int]) -> tuple[frozenset[int], frozenset[frozenset[str]]]:
    """Functions of somebody's own that may give back values of these relations, or of anything over them; and all their names.

    A body is not understood here but searched for names: of the relations, and of functions that tell. One that runs statements
    that it makes up, writes names in another way, or is in a language that is not read here, may name anything. Machine code
    came with an extension or a superuser, and is taken to compute with its arguments alone.
    """
    own = [f for f in snapshot.functions.values() if f.oid >= FIRST_NORMAL_OID and f.language not in MACHINE_CODE]
    words = {f.oid: _words(f.body) for f in own}
    names = {_words(snapshot.relations[oid].name) for oid in protected if oid in snapshot.relations}
    names |= {_words(name) for name in STATISTICS}
    found = {f.oid for f in own if f.language not in READABLE or _is_made_up(f.language, f.body, words[f.oid])}
    named = set(found)
    while True:
        names |= {_words(snapshot.functions[oid].name) for oid in named}
        named = {oid for oid, said in words.items() if oid not in found and any(name <= said for name in names)}
        if not named:
            return frozenset(found), frozenset(names)
        found |= named


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _is_made_up(language: str, body: str, words: frozenset[str]) -> bool:
    if not RUNS_TEXT.isdisjoint(words) or "dblink" in words or 'u&"' in body.lower():
        return True
    return language == "plpgsql" and "execute" in words


def _sends(function: Function) -> bool:
    words = _words(function.body)
    readable = function.language in READABLE and not _is_made_up(function.language, function.body, words)
    return function.oid >= FIRST_NORMAL_OID and (not readable or not words.isdisjoint({"notify", "pg_notify"}))


_WORD: Final = re.compile(r"[^\W\d][\w$]*")

_recent: list[Ground] = []


def ground_of(snapshot: Snapshot, protected: ProtectedColumns) -> Ground:
    """The indexes of a snapshot, made once."""
    if protected.snapshot is snapshot:
        return protected.ground
    for ground in _recent:
        if ground.snapshot is snapshot:
            return ground
    _recent[:] = [*_recent[-3:], Ground(snapshot)]
    return _recent[-1]
