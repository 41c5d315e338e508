"""Indexes over a catalogue snapshot that judging needs, and the protected columns of a connection on top of it."""

from __future__ import annotations

import re
from typing import Final

import re2

from ostiary.model.catalogue import FIRST_NORMAL_OID, Function, Relation, Snapshot
from ostiary.model.connections import ColumnRule, Protected, Strategy
from ostiary.protocols.postgres.understand.builtins import COMPUTING, FOREIGN_TEXT, MACHINE_CODE, RUNS_TEXT
from ostiary.protocols.postgres.understand.seen_through import Label, seen_through

WHOLE: Final = "*"
JOIN: Final = "+"
"""Between names of classes, where a column may hang on any of them: see `ostiary.masking.plan`."""

SYSTEM: Final = frozenset({"pg_catalog", "information_schema", "pg_toast"})
STORED: Final = frozenset("rpfmv")
"""Kinds of relations whose columns a rule can name: tables, views, and foreign ones."""

READABLE: Final = frozenset({"sql", "plpgsql"})

STATISTICS: Final = frozenset({
    "pg_statistic", "pg_stats", "pg_statistic_ext_data", "pg_stats_ext", "pg_stats_ext_exprs",
    "pg_stat_activity", "pg_stat_statements", "pg_prepared_statements", "pg_cursors", "pg_stat_get_activity",
})  # fmt: skip
"""Relations that hold samples of column values, or other sessions' statements. What of them does counts as every protected column."""
TELLING: Final = {
    "pg_stat_activity": frozenset({"query"}), "pg_stat_statements": frozenset({"query"}),
    "pg_prepared_statements": frozenset({"statement"}), "pg_cursors": frozenset({"statement"}),
}  # fmt: skip
"""Which of their columns those are; of the others, all but these:"""
PLAIN: Final = frozenset({
    "starelid", "staattnum", "stainherit", "stxoid", "stxdinherit", "schemaname", "tablename", "attname", "inherited",
    "statistics_schemaname", "statistics_name", "statistics_owner", "attnames", "kinds",
})  # fmt: skip


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

    Of a view those columns are protected that show a protected one, or something computed with it; all of them where that cannot be
    told, and where a protected column decides which rows there are.
    """

    def __init__(self, protect: tuple[Protected, ...], snapshot: Snapshot, rules: tuple[ColumnRule, ...] = ()) -> None:
        self.snapshot = snapshot
        self.ground = Ground(snapshot)
        self.by_column: dict[tuple[int, int], tuple[str, Strategy]] = {}
        """(table oid, pg_attribute.attnum) to (data class, strategy)."""
        self._decided: set[int] = set()
        """Views whose rows may hang on something protected."""
        self.deciding: dict[int, frozenset[str]] = {}
        """Views whose rows surely do, and on which classes: how many there are tells."""
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
        self._spread_over_tables()
        if self.classes:
            self._apply_to_statistics()
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

    def _apply_to_statistics(self) -> None:
        """What may show a value of any protected column is masked whole, and needs the right to see them all."""
        every = JOIN.join(self.classes), Strategy.NULL
        for relation in self.snapshot.relations.values():
            if relation.name in STATISTICS:
                told = TELLING.get(relation.name)
                for column in relation.columns:
                    if column.name in told if told is not None else column.name not in PLAIN:
                        self.by_column[relation.oid, column.number] = every

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

    def _spread_over_tables(self) -> None:
        """What holds the same values, or is made of them, is protected as well: foreign keys to a protected column, generated columns."""
        todo = list(self.by_column)
        while todo:
            oid, number = todo.pop()
            relation = self.snapshot.relations[oid]
            entry = self.by_column[oid, number]
            for column in relation.columns:
                if number in column.made_of:
                    todo += self._spread(relation, column.name, (entry[0], Strategy.NULL))
            for child in filter(None, map(self.snapshot.relations.get, relation.referenced_by)):
                for guard in child.guards:
                    held = zip(guard.columns, guard.other_columns, strict=False) if guard.kind == "f" and guard.other == oid else ()
                    for own, other in held:
                        names = [column.name for column in child.columns if other == number and column.number == own]
                        todo += [place for name in names for place in self._spread(child, name, entry)]

    def _spread(self, relation: Relation, name: str, entry: Entry) -> list[tuple[int, int]]:
        """Protect a column of a table, and of all above and below it, as this too; the places where that is new."""
        found: list[tuple[int, int]] = []
        for member in self._family(relation):
            for column in member.columns:
                place = (member.oid, column.number)
                before = self.by_column.get(place)
                after = _both(before, entry)
                if column.name == name and after is not None and after != before and not _says(before, entry):
                    self.by_column[place] = after
                    found.append(place)
        return found

    def _spread_over_views(self) -> None:
        todo = list({oid for oid, _ in self.by_column})
        while todo:
            base = todo.pop()
            for view_oid in self.ground.views_over.get(base, ()):
                view = self.snapshot.relations[view_oid]
                before = {column.number: self.by_column.get((view_oid, column.number)) for column in view.columns}
                after = self._traced(view) or dict.fromkeys(before, self._seen_through(view, base))
                grown = {number: _both(entry, after.get(number)) for number, entry in before.items()}
                if grown != before:
                    self.by_column.update({(view_oid, number): entry for number, entry in grown.items() if entry is not None})
                    todo.append(view_oid)

    def _spread_over_callers(self) -> None:
        """A view, or a view over it, that calls a function that tells shows what that gives back."""
        for view in self.snapshot.relations.values():
            if view.kind in "vm" and not self.telling.isdisjoint(view.read_calls):
                self._decided.add(view.oid)
                for column in view.columns:
                    self.by_column[view.oid, column.number] = (JOIN.join(self.classes), Strategy.NULL)
        self._spread_over_views()

    def _traced(self, view: Relation) -> dict[int, Entry | None] | None:
        """Each column of a view with what it shows; None: all show everything."""
        seen = seen_through(view.rule) if view.rule else None
        decides = self._of(seen.decides) if seen is not None else None
        if decides is not None:
            self.deciding[view.oid] = frozenset(decides[0].split(JOIN))
        known = seen is not None and len(seen.columns) == len(view.columns) and decides is None
        if seen is None or not known or not self._decided.isdisjoint(seen.relations):
            self._decided.add(view.oid)
            return None
        return {column.number: self._of(label) for column, label in zip(view.columns, seen.columns, strict=True)}

    def _of(self, label: Label) -> Entry | None:
        """What is protected of these columns."""
        found: Entry | None = None
        for oid, number, is_own in label:
            numbers = [number] if number else [n for table, n in self.by_column if table == oid]
            for each in numbers:
                entry = self.by_column.get((oid, each))
                if entry is not None:
                    found = _both(found, entry if is_own else (entry[0], Strategy.NULL))
        return found

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


Entry = tuple[str, Strategy]
"""Data class, or several joined, and strategy."""


def _both(one: Entry | None, other: Entry | None) -> Entry | None:
    """A column that may show either."""
    if one is None or other is None or one == other:
        return one or other
    names = sorted({name for data_class, _ in (one, other) for name in data_class.split(JOIN)})
    return JOIN.join(names), Strategy.NULL


def _says(before: Entry | None, entry: Entry) -> bool:
    """Whether what is known of a column says all of this: what the operator named stays as it was named."""
    return before is not None and set(entry[0].split(JOIN)) <= set(before[0].split(JOIN))


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


def computes(function: Function, snapshot: Snapshot) -> bool:
    """Whether a function of somebody's own does no more than compute with what it is given, as PostgreSQL's own immutable ones do.

    That is machine code, which an extension or a superuser brought along, and which is declared IMMUTABLE: types and their operators
    (hstore, PostGIS, pgvector). What is written in a language may say that of itself and yet do anything. An aggregate is what it is
    made of, and a function in `internal` what it is another name of; what of that is PostgreSQL's own is judged where it runs.
    """
    if function.language not in MACHINE_CODE or function.name.startswith(FOREIGN_TEXT):
        return False
    if function.kind == "a":
        parts = [snapshot.functions.get(oid) for oid in function.runs if oid >= FIRST_NORMAL_OID]
        return all(part is not None and computes(part, snapshot) for part in parts)
    if function.language == "internal" and function.oid >= FIRST_NORMAL_OID:
        return any(oid < FIRST_NORMAL_OID for oid in function.runs)
    return function.volatility == "i" or (function.language == "c" and function.name in COMPUTING)


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
