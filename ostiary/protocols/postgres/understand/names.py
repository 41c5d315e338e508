"""What names mean: relations, functions, operators and types, by search_path, through the snapshot and the session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ostiary.model.catalogue import FIRST_NORMAL_OID, Function, Operator, Relation, Snapshot
from ostiary.model.operations import Action, Objection, Unjudgeable
from ostiary.protocols.postgres.grammar import Node
from ostiary.protocols.postgres.understand.builtins import (
    ADMINISTRATIVE,
    ADMINISTRATIVE_PREFIXES,
    FOREIGN_TEXT,
    INNOCENT,
    LARGE_OBJECTS,
    POLYMORPHIC,
    RUNS_TEXT,
    RUNS_TYPES,
    SECRET_RELATIONS,
    STATISTICS_FUNCTIONS,
    TEXT,
    UNKNOWN,
)
from ostiary.protocols.postgres.understand.findings import Finding, Objected
from ostiary.protocols.postgres.understand.ground import READABLE, WHOLE, ProtectedColumns, computes, ground_of
from ostiary.protocols.postgres.understand.scopes import Mark
from ostiary.protocols.postgres.understand.view import TEMP, Effect, Made, Path, View

CATALOG: Final = "pg_catalog"
SELECT, INSERT, UPDATE, DELETE, TRUNCATE, DEFINE, ADMIN = (
    "select", "insert", "update", "delete", "truncate", "define", "admin",
)  # fmt: skip
ACTIONS: Final = {
    SELECT: Action.READ, INSERT: Action.WRITE, UPDATE: Action.WRITE, DELETE: Action.DELETE, TRUNCATE: Action.DELETE,
    DEFINE: Action.DEFINE, ADMIN: Action.ADMINISTER,
}  # fmt: skip

SERVER_MADE: Final = re.compile(r".+_(?:pkey|key|idx|excl|seq)\d*", re.DOTALL)
"""Names that the server makes: `ChooseIndexName`, `ChooseRelationName` (src/backend/commands/indexcmds.c)."""
SHORTENED: Final = 28
"""Characters of a table's name that are always in them, however long the rest."""
SEQUENCE_FUNCTIONS: Final = frozenset({"nextval", "currval", "lastval"})
"""In defaults of columns: they move a sequence of the table's own."""
SPEAKING: Final = frozenset({"set_config", "setval", "pg_notify"})
"""What they do is in their arguments, which are not read behind a view."""
MOST_LOOKUPS: Final = 1_000_000
"""Columns that names of one text are compared with, about: a second. Real texts need some thousands."""

Type = int | None
"""A type's OID; UNKNOWN of a literal or parameter; None: it may be any type."""
Target = Relation | Made


def strings(nodes: Sequence[Node]) -> list[str]:
    """The parts of a qualified name."""
    return [str(node["String"].get("sval", "")) for node in nodes if "String" in node]


@dataclass(slots=True)
class Sites:
    """Where a text names relations and functions: nodes of its trees, with all that each may mean."""

    shown: list[tuple[Node, tuple[Target, ...]]] = field(default_factory=list)
    """Relations in a FROM: a wrapped RangeVar."""
    held: list[tuple[Node, tuple[Target, ...]]] = field(default_factory=list)
    """Relations that a statement writes to or copies: the node whose `relation` that is."""
    calls: list[tuple[Node, frozenset[str]]] = field(default_factory=list)
    """Functions: a FuncCall, not wrapped."""


class Names:
    """Resolves names and notes what touching their bearers means."""

    foreign = 0
    """How many things were met that may store or send what they are given."""
    foreign_inside = 0
    """How many of them in subqueries of expressions of a body: what they are given was judged there."""
    sites: Sites | None = None
    """Where set: what the text names, noted as it is walked."""
    aggregates: set[int]
    """Calls (`id` of their nodes) of aggregates over the rows of a whole query."""
    told: set[Mark]
    """Marks of what code gives back that may read anything: it is masked, and nothing else follows from it."""

    def __init__(self, text: bytes, view: View, path: Path, snapshot: Snapshot, protected: ProtectedColumns) -> None:
        self.text = text
        self.view = view
        self.snapshot = snapshot
        self.protected = protected
        self.ground = ground_of(snapshot, protected)
        self.found = Finding()
        self.path = path
        self.step = 0
        self._lookups = MOST_LOOKUPS
        self._types: set[int] = set()
        self._touched: set[tuple[int, str, str, str]] = set()
        self._bodies: set[tuple[int, str]] = set()
        """Functions whose bodies have been read, and behind what."""
        self._reading: list[tuple[int, str]] = []
        """Those of them that are being read."""
        self.told = set()
        self.aggregates = set()
        self._set_path(path)

    def _set_path(self, path: Path) -> None:
        self.path = path
        self._function_path = path if CATALOG in path else (CATALOG, *path)
        self._relation_path = self._function_path if TEMP in path else (TEMP, *self._function_path)
        self._catalog_first = not path or CATALOG not in path or path[0] == CATALOG

    def spend(self, lookups: int) -> None:
        """Bound the time for a text of many names over many tables, which is their product."""
        self._lookups -= lookups
        if self._lookups < 0:
            what = "the statement names too many columns of too many tables to be judged"
            raise Objected(Objection(Unjudgeable.TOO_COMPLEX, what, "Split it.", "54001", None))

    def effect(self, verb: str, *, depends: bool = True, **fields: object) -> None:
        """Note what the statement does to the session's view; `depends`: it is not the same for every session."""
        effect = Effect(step=self.step, verb=verb, **fields)  # type: ignore[arg-type]
        self.found.effects.append(effect)
        self.view.expect((effect,))
        self.found.cacheable &= not depends

    def missing(self, what: str, sqlstate: str, location: int | None) -> Objected:
        """Say, as PostgreSQL would, that a name means nothing."""
        position = None
        if location is not None and location >= 0:
            position = len(self.text[:location].decode("utf-8", "replace")) + 1
        return Objected(Objection(Unjudgeable.UNKNOWN_OBJECT, what, "", sqlstate, position))

    # --- relations ---

    def find_relation(self, range_var: Node) -> tuple[Target, ...]:
        """All that a RangeVar may mean; empty: nothing that is known."""
        name = range_var.get("relname", "")
        schema = range_var.get("schemaname")
        catalog = range_var.get("catalogname")
        if catalog and catalog != self.snapshot.database:
            what = f'cross-database references are not implemented: "{catalog}.{schema}.{name}"'
            raise self.missing(what, "0A000", range_var.get("location"))
        if schema is None:
            path: tuple[str, ...] = self._relation_path
        else:
            path = (TEMP if schema.startswith(TEMP) else schema,)
        found: tuple[Target, ...] = ()
        for where in path:
            # What this session made may have been rolled back since, so it never ends the search.
            found += self.view.made_of("relation", where, name)
            oid = self.snapshot.relation_oids.get((where, name))
            if oid is not None:
                return (*found, self.snapshot.relations[oid])
        return found or self._server_named(path, name)

    def _server_named(self, path: tuple[str, ...], name: str) -> tuple[Target, ...]:
        """An index or sequence of a table that this session made or changed, whose name the server made up.

        No snapshot holds it before it is committed, nor one in pg_temp ever. It is as its table is, and using it is using that.
        """
        if not self.view.made or SERVER_MADE.fullmatch(name) is None:
            return ()
        tables = [
            made
            for (sort, schema, table), each in self.view.made.items()
            if sort == "relation" and schema in path and name.startswith(table[:SHORTENED])
            for made in each
        ]
        for table in tables:
            self.touch_relation(table, DEFINE)
        return tuple(msgspec.structs.replace(table, name=name, columns=None) for table in tables)

    def relation(self, range_var: Node) -> tuple[Target, ...]:
        """The same; a name that means nothing is an objection, unless the session did things that cannot be followed."""
        found = self.find_relation(range_var)
        if found:
            return found
        name = range_var.get("relname", "")
        schema = range_var.get("schemaname")
        if self.view.fog:
            return (_ghost(schema or TEMP, name),)
        full = f"{schema}.{name}" if schema else name
        raise self.missing(f'relation "{full}" does not exist', "42P01", range_var.get("location"))

    def touch_relation(self, target: Target, operation: str, *, inherit: bool = True) -> set[str]:
        """Note that a relation is touched, and all that this touches in turn. Gives the set for names of columns."""
        if isinstance(target, Made):
            return self._touch_made(target, operation)
        action = ACTIONS[operation]
        name = f"{target.schema}.{target.name}"
        columns, _ = self.found.touch("relation", name, action)
        key = (target.oid, operation if inherit else f"{operation} only", self.found.way, self.found.behind)
        if key not in self._touched:
            self._touched.add(key)
            around, self.found.behind = self.found.behind, self.found.behind or f"relation {name}"
            self._touch_along(target, operation, name, inherit=inherit)
            self.found.behind = around
        return columns

    def _touch_along(self, target: Relation, operation: str, name: str, *, inherit: bool) -> None:
        """Note what touching a relation touches in turn."""
        if target.oid in self.protected.of_relation:
            self.found.touches_protected = True
        if target.oid < FIRST_NORMAL_OID:
            self._system_relation(target, operation)
        if target.schema == "pg_toast":
            # Values of other tables, protected ones too, moved out of line.
            self.found.touch("relation", name, Action.ADMINISTER)
            self.found.unmask.update(self.protected.classes)
        if operation in {DEFINE, ADMIN}:
            self._touch_family(target, operation, inherit=inherit)
            return
        self.run_functions(target.read_calls if operation == SELECT else target.calls)
        self._run_built_in(target.built_in_read_calls if operation == SELECT else target.built_in_calls, name)
        if target.kind == "f":
            self.found.touch("server", name, Action.EXECUTE)
        if target.rules and operation != SELECT:
            self.found.cannot_see(f"{name} has rewrite rules")
        if operation == SELECT:
            self.found.infer.update(self.protected.deciding.get(target.oid, ()))
        # What PostgreSQL's own views read is judged by their names: pg_user reads passwords, and shows none.
        if target.kind in "vm" and (target.oid >= FIRST_NORMAL_OID or operation != SELECT):
            # A condition on what a view shows is none on what it reads.
            around, self.found.through = self.found.through, ""
            self._touch_behind(target, operation)
            self.found.through = around
        self._touch_family(target, operation, inherit=inherit)
        self._touch_cascades(target, operation)

    def _touch_made(self, made: Made, operation: str) -> set[str]:
        self.found.through = ""
        columns, _ = self.found.touch("relation", f"{made.schema}.{made.name}", ACTIONS[operation])
        around, self.found.behind = self.found.behind, self.found.behind or f"relation {made.schema}.{made.name}"
        for function in made.calls:
            self.run_made(function)
        self.found.unmask.update(made.classes)
        self.found.touches_protected |= bool(made.classes)
        for facts in made.reads:
            self.found.add(facts)
        self.found.behind = around
        if made.opaque:
            self.found.cannot_see(f"{made.schema}.{made.name} is not known to the gateway as it now is")
        self.found.cacheable = False
        return columns

    def _system_relation(self, relation: Relation, operation: str) -> None:
        if relation.name in SECRET_RELATIONS or (operation != SELECT and relation.oid < FIRST_NORMAL_OID):
            # UPDATE pg_settings is SET, INSERT INTO pg_proc is CREATE FUNCTION, and so on.
            self.found.touch("relation", f"{relation.schema}.{relation.name}", Action.ADMINISTER)

    def _touch_behind(self, view: Relation, operation: str) -> None:
        """A view shows its base relations; DML on one that is automatically updatable is DML on them."""
        if view.kind == "m":
            return  # its rows are its own; REFRESH reads what is behind by itself
        for oid, numbers in view.reads:
            base = self.snapshot.relations.get(oid)
            if base is None:
                self.found.cannot_see(f"{view.schema}.{view.name} reads what the catalogue does not hold")
                continue
            columns = self.touch_relation(base, operation)
            if numbers:
                columns.update(c.name for c in base.columns if c.number in numbers)
            else:
                columns.add(WHOLE)
            if operation != SELECT:
                self.touch_relation(base, SELECT)

    def _touch_family(self, relation: Relation, operation: str, *, inherit: bool) -> None:
        if inherit and not (operation == INSERT and relation.kind != "p"):
            for oid in relation.children:
                child = self.snapshot.relations.get(oid)
                if child is not None:
                    self.touch_relation(child, operation)
        for oid in self.ground.parents.get(relation.oid, ()):
            parent = self.snapshot.relations[oid]
            name = f"{parent.schema}.{parent.name}"
            # Its rows are the parent's rows, too: a rule about the parent must hold, whichever way they are reached.
            if (oid, operation, self.found.way, self.found.behind) not in self._touched:
                self._touched.add((oid, operation + " child", self.found.way, self.found.behind))
                self.found.touch("relation", name, ACTIONS[operation])
                self._touch_family(parent, operation, inherit=False)

    def lock_rows(self, relation: Relation) -> None:
        """Note that rows are locked: those of the relation, of what a view shows, of its children and its parents.

        That is a write to their headers, but no trigger, rule or cascade runs.
        """
        todo, seen = [relation.oid], {relation.oid}
        while todo:
            oid = todo.pop()
            known = self.snapshot.relations.get(oid)
            if known is None:
                self.found.cannot_see(f"{relation.schema}.{relation.name} locks what the catalogue does not hold")
                continue
            self.found.touch("relation", f"{known.schema}.{known.name}", Action.WRITE)
            behind = (base for base, _ in known.reads) if known.kind == "v" else ()
            for other in (*behind, *known.children, *self.ground.parents.get(oid, ())):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)

    def _touch_cascades(self, relation: Relation, operation: str) -> None:
        if operation == DELETE:
            cascades: Iterable[int] = relation.delete_cascades
        elif operation == UPDATE:
            cascades = relation.update_cascades
        else:
            return
        for oid in cascades:
            other = self.snapshot.relations.get(oid)
            if other is not None:
                self.found.cascades = True
                self.touch_relation(other, DELETE if operation == DELETE else UPDATE)
                if operation == DELETE:
                    self.touch_relation(other, UPDATE)

    # --- functions ---

    def run_functions(self, oids: Iterable[int]) -> None:
        """Note that functions of somebody's own may run."""
        for oid in oids:
            self.foreign += 1
            function = self.snapshot.functions.get(oid)
            name = f"{function.schema}.{function.name}" if function is not None else f"oid {oid}"
            plain = function is not None and computes(function, self.snapshot)
            self.found.touch("function", name, Action.READ if plain else Action.EXECUTE)
            # What it says in passing may hold what it reads.
            self.found.touches_protected |= oid in self.protected.telling
            if oid < FIRST_NORMAL_OID and (function is None or _is_dangerous(function)):
                # Behind an operator, a cast or a trigger of somebody's own, with arguments that nobody sees.
                self.found.touch("function", name, Action.ADMINISTER)
            self.found.functions.add(name)
            if function is not None and function.language == "c" and function.name.startswith(FOREIGN_TEXT):
                self.found.cannot_see(f"{name} runs statements that are named in values")
                self.found.unmask.update(self.protected.classes)
            if function is not None and function.result in self.snapshot.types:
                self.touch_type(function.result)
            behind = self.found.behind or f"function {name}"
            if function is not None and function.runs and (oid, f"{behind} runs") not in self._bodies:
                self._bodies.add((oid, f"{behind} runs"))
                around, self.found.behind = self.found.behind, behind
                self.run_functions(each for each in function.runs if each >= FIRST_NORMAL_OID)
                self._run_built_in((each for each in function.runs if each < FIRST_NORMAL_OID), name)
                self.found.behind = around
            if function is not None and function.language in READABLE and (oid, behind) not in self._bodies:
                self._bodies.add((oid, behind))
                self.read_body(function, behind)

    def run_made(self, name: str) -> None:
        """Note that a function runs that this session may have made, and what its statements do."""
        self.found.touch("function", name, Action.EXECUTE)
        around, self.found.behind = self.found.behind, self.found.behind or f"function {name}"
        schema, _, bare = name.rpartition(".")
        for each in self.view.made_named("function", bare):
            for facts in each.reads:
                self.found.add(facts)
            for other in each.calls:
                if other != name:
                    self.run_made(other)
        for where in (schema,) if schema else self._function_path:
            self.run_functions(oid for oid in self.snapshot.functions_named.get((where, bare), ()) if oid >= FIRST_NORMAL_OID)
        self.found.behind = around

    def read_body(self, function: Function, behind: str) -> None:
        """Note what the statements of a function in SQL touch: `utility.py`."""
        raise NotImplementedError

    def tells(self) -> None:
        """Note that code is run here which may give back whatever is protected: `lineage.py`."""
        raise NotImplementedError

    def _run_built_in(self, oids: Iterable[int], behind: str) -> None:
        """Note what functions of PostgreSQL's own do behind a view, a default, a check, a policy or a trigger of somebody's."""
        for oid in oids:
            function = self.snapshot.functions.get(oid)
            if function is None:
                self.found.cannot_see(f"{behind} runs a function that the catalogue does not hold")
            elif function.name in RUNS_TEXT:
                self.found.cannot_see(f"{behind} runs {function.name}, which runs statements or reads relations named in values")
                self.found.unmask.update(self.protected.classes)
            elif function.name in STATISTICS_FUNCTIONS:
                self.found.unmask.update(self.protected.classes)
            elif function.name.startswith(ADMINISTRATIVE_PREFIXES) or function.name in ADMINISTRATIVE | LARGE_OBJECTS | SPEAKING:
                self.found.touch("function", f"{CATALOG}.{function.name}", Action.ADMINISTER)
            elif _is_dangerous(function) and function.name not in SEQUENCE_FUNCTIONS:
                self.found.touch("function", f"{CATALOG}.{function.name}", Action.EXECUTE)

    def functions(self, parts: list[str], arguments: Sequence[Type]) -> tuple[list[Function], list[str]]:
        """All functions that a call may run: from the snapshot, and names of those that this session made."""
        name = parts[-1]
        made = [f"{m.schema}.{m.name}" for m in self.view.made_named("function", name)] if self.view.made else []
        path = self._function_path if len(parts) == 1 else (parts[-2],)
        builtin: list[Function] = []
        foreign: list[Function] = []
        exact = False
        for schema in path:
            for oid in self.snapshot.functions_named.get((schema, name), ()):
                function = self.snapshot.functions[oid]
                if oid < FIRST_NORMAL_OID:
                    builtin.append(function)
                    if schema == CATALOG and not foreign and _is_exact(function.arguments, arguments):
                        exact = True
                else:
                    foreign.append(function)
        if foreign and not (exact and not made):
            foreign = [f for f in foreign if self._may_take(f.arguments, arguments)]
        elif exact:
            foreign = []
        fitting = [f for f in builtin if len(f.arguments) == len(arguments)]
        fitting = [f for f in fitting if _is_exact(f.arguments, arguments)] or fitting
        return (fitting or builtin) + foreign, made

    def _may_take(self, wanted: tuple[int, ...], given: Sequence[Type]) -> bool:
        if len(given) > len(wanted):
            # Only a variadic function takes more than it names: its last argument is an array, or "any".
            if not wanted or not self._is_array(wanted[-1]):
                return False
            return all(self._reaches(g, w) for g, w in zip(given, wanted[:-1], strict=False))
        # With fewer, the rest may have defaults; named arguments may stand in any order.
        return len(given) < len(wanted) or all(map(self._reaches, given, wanted))

    def _is_array(self, oid: int) -> bool:
        type_ = self.snapshot.types.get(oid)
        return oid in POLYMORPHIC or type_ is None or bool(type_.element)

    def _reaches(self, given: Type, wanted: int) -> bool:
        """Whether PostgreSQL could pass a value of one type where another is wanted, without being told to."""
        if given in {None, UNKNOWN, wanted} or wanted in POLYMORPHIC:
            return True
        if wanted < FIRST_NORMAL_OID or given >= FIRST_NORMAL_OID:
            return True
        return (given, wanted) in self.snapshot.implicit_casts

    # --- operators ---

    def operator(self, parts: list[str], left: Type, right: Type, *, unary: bool = False) -> Type:
        """Note what an operator may run, and give the type of its result."""
        name = parts[-1]
        operators = self.snapshot.operators_named.get(name, ())
        schemas = set(self._function_path) if len(parts) == 1 else {parts[-2]}
        made = self.view.made_named("operator", name) if self.view.made else ()
        for each in made:
            for function in each.calls:
                self.foreign += 1
                self.run_made(function)
            self.found.harmless = False
        left, right = (0, right) if unary else (left, right)
        exact = _exact_operator(operators, left, right) if CATALOG in schemas else None
        user = self.ground.user_operators.get(name, ())
        if user and not (exact is not None and (self._catalog_first or len(parts) > 1)):
            for index in user:
                candidate = operators[index]
                if candidate.schema in schemas and self._operator_fits(candidate, left, right):
                    self.run_functions((candidate.function,))
                    if candidate.function in self.protected.telling:
                        self.tells()
                    self.touch_type(candidate.left)
                    self.touch_type(candidate.right)
                    exact = None
        if not operators and not made:
            # The server will say that there is none, unless something unseen made it.
            self.found.touch("function", f"operator {name}", Action.EXECUTE)
        runs = self.snapshot.functions.get(exact.function) if exact is not None else None
        return runs.result if runs is not None and runs.result not in POLYMORPHIC else None

    def _operator_fits(self, candidate: Operator, left: Type, right: Type) -> bool:
        if bool(candidate.left) != (left != 0):
            return False
        return self._reaches(left, candidate.left) and self._reaches(right, candidate.right)

    # --- types ---

    def touch_type(self, oid: Type) -> None:
        """Note that values of a type are made, shown or converted."""
        if oid is None or oid in self._types or oid == 0:
            return
        self._types.add(oid)
        if oid < FIRST_NORMAL_OID:
            return
        type_ = self.snapshot.types.get(oid)
        if type_ is None:
            self.found.cannot_see(f"type {oid} is not in the catalogue")
            return
        self.run_functions(type_.calls)
        self.touch_type(type_.element)
        self.touch_type(type_.base)
        row = self.snapshot.relations.get(type_.relation) if type_.relation else None
        if row is not None:
            for column in row.columns:
                self.touch_type(column.type_oid)

    def type_name(self, node: Node | None) -> Type:
        """Resolve a TypeName, note that the type is used, and give its OID."""
        if not node:
            return None
        parts = strings(node.get("names", ()))
        if not parts:
            return None
        if node.get("pct_type"):
            self.found.harmless = False
            return None
        oid = self.find_type(parts)
        if oid is None or self._made_type(parts):
            if oid is None:
                self._unknown_type(parts, node)
            self.touch_type(oid)
            return None
        if node.get("arrayBounds"):
            array = self.ground.arrays.get(oid)
            self.touch_type(oid)
            return array
        self.touch_type(oid)
        return oid

    def find_type(self, parts: list[str]) -> int | None:
        """The OID of a type by its name, or None."""
        if len(parts) == 1:
            path: tuple[str, ...] = self._relation_path
        else:
            path = (parts[-2],)
        for schema in path:
            oid = self.snapshot.type_oids.get((schema, parts[-1]))
            if oid is not None:
                return oid
        return None

    def _made_type(self, parts: list[str]) -> bool:
        """Whether this session may have made a type, or a relation with its row type, of that name."""
        if not self.view.made:
            return False
        made = self.view.made_named("type", parts[-1]) + self.view.made_named("relation", parts[-1])
        for each in made:
            for function in each.calls:
                self.run_made(function)
            if each.opaque:
                self.found.cannot_see(f"type {each.name} is not known to the gateway as it now is")
        if made:
            self.found.cacheable = False
            self.found.harmless = False
        return bool(made)

    def _unknown_type(self, parts: list[str], node: Node) -> None:
        if self._made_type(parts):
            return
        if self.view.fog or parts[-1].startswith("_"):
            self.found.cannot_see(f"type {'.'.join(parts)} is not in the catalogue")
        else:
            raise self.missing(f'type "{".".join(parts)}" does not exist', "42704", node.get("location"))

    def run_casts(self) -> None:
        """At the end of a statement: note the casts of somebody's own that the types in it may bring in."""
        for (source, target), function in self.snapshot.user_casts.items():
            if not function:
                continue
            source_own, target_own = source >= FIRST_NORMAL_OID, target >= FIRST_NORMAL_OID
            if (
                (source_own and source in self._types)
                or (target_own and target in self._types)
                or not (source_own or target_own)
            ):
                self.run_functions((function,))


def _ghost(schema: str, name: str) -> Made:
    return Made(schema=schema, name=name, sort="relation", columns=None, calls=(), classes=(), reads=(), opaque=True)


def _is_dangerous(function: Function) -> bool:
    name = function.name
    return (function.volatility == "v" and name not in INNOCENT) or name in ADMINISTRATIVE | RUNS_TEXT | RUNS_TYPES


def _is_exact(wanted: tuple[int, ...], given: Sequence[Type]) -> bool:
    """Whether a call fits a signature so well that no other can be preferred; a literal counts as text (10.3, 4.d)."""
    if len(wanted) != len(given):
        return False
    return all(g is not None and (g == w or (g == UNKNOWN and w == TEXT)) for g, w in zip(given, wanted, strict=True))


def _exact_operator(operators: tuple[Operator, ...], left: Type, right: Type) -> Operator | None:
    """The built-in operator for exactly these types; a literal takes the other side's type (10.2, 2.a)."""
    if left is None or right is None:
        return None
    if left == UNKNOWN and right == UNKNOWN:
        left = right = TEXT
    elif left == UNKNOWN:
        left = right
    elif right == UNKNOWN:
        right = left if left != 0 else TEXT
    for each in operators:
        if each.left == left and each.right == right and each.oid < FIRST_NORMAL_OID:
            return each
    return None
