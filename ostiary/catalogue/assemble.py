"""Puts the rows of catalogue queries together into what a `Snapshot` holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ostiary.model.catalogue import Column, Function, Guard, Operator, Relation, Snapshot, Type

NEVER_WRITABLE: Final = frozenset({"public", "pg_catalog", "information_schema", "pg_toast"})

Rows = list[dict[str, Any]]
Calls = dict[int, set[int]]
Names = dict[int, str]
"""Schemas by oid. Objects in others (of sessions) are left out."""


class TypeCalls(msgspec.Struct, frozen=True):
    """Functions not built in that values of a type run: its own, and of a range the type under it."""

    own: frozenset[int]
    subtype: int


class Rest(msgspec.Struct, frozen=True):
    """What is read whole: operators, casts, and the functions behind operator classes."""

    operators: Rows
    casts: Rows
    operator_functions: dict[int, int]
    class_functions: Calls
    support: Calls
    """Type to the functions of its default operator classes."""

    @classmethod
    def of(cls, rows: dict[str, Rows]) -> Rest:
        """Put together."""
        return cls(
            rows["operators"],
            rows["casts"],
            {r["oid"]: r["function"] for r in rows["operators"]},
            _grouped((r["class"], r["function"]) for r in rows["class_support"]),
            _grouped((r["type"], r["function"]) for r in rows["support"]),
        )

    def agrees_with(self, old: Rest) -> bool:
        """Whether all that was made with `old` still holds: nothing that it names has another meaning now, or none."""
        return (
            self is old
            or (all(self.operator_functions.get(oid) == f for oid, f in old.operator_functions.items())
            and self.class_functions.items() >= old.class_functions.items()
            and self.support == old.support)
        )

    def behind(self, row: dict[str, Any]) -> Iterable[int]:
        """The functions that depending on an object can run."""
        match row["class"]:
            case "pg_proc":
                return (row["object"],)
            case "pg_operator":
                return (self.operator_functions.get(row["object"], row["object"]),)
            case _:
                return self.class_functions.get(row["object"], ())


def functions(rows: Rows, schemas: Names) -> dict[int, Function]:
    """Functions by oid."""
    return {
        r["oid"]: Function(
            r["oid"], schemas[r["schema"]], r["name"], tuple(r["arguments"]), r["result"], r["volatility"], r["kind"],
            r["language"], r["body"], tuple(r["settings"]), tuple(r["names"]), tuple(r["runs"]),
        )
        for r in rows
        if r["schema"] in schemas
    }  # fmt: skip


def types(rows: dict[str, Rows], schemas: Names, rest: Rest) -> tuple[dict[int, Type], dict[int, TypeCalls]]:
    """Types by oid, and what using them runs."""
    checks: Calls = defaultdict(set)
    for row in rows["domains"]:
        checks[row["type"]].update(rest.behind(row))
    found: dict[int, Type] = {}
    calls: dict[int, TypeCalls] = {}
    for r in rows["types"]:
        oid = r["oid"]
        if r["schema"] not in schemas:
            continue
        calls[oid] = TypeCalls(frozenset((*r["calls"], *checks.get(oid, ()), *rest.support.get(oid, ()))), r["subtype"])
        found[oid] = Type(
            oid, schemas[r["schema"]], r["name"], r["kind"], r["element"], r["base"], r["relation"],
            tuple(sorted(calls[oid].own)),
        )  # fmt: skip
    return with_subtypes(found, calls), calls


def with_subtypes(found: dict[int, Type], calls: dict[int, TypeCalls]) -> dict[int, Type]:
    """Let ranges run what the type under them does."""
    for oid, each in calls.items():
        if each.subtype and oid in found:
            below = calls.get(each.subtype)
            run = tuple(sorted(each.own | (below.own if below is not None else frozenset())))
            if found[oid].calls != run:
                found[oid] = msgspec.structs.replace(found[oid], calls=run)
    return found


def relations(rows: dict[str, Rows], schemas: Names, rest: Rest) -> dict[int, Relation]:
    """Relations by oid, out of all that was read about them."""
    columns: dict[int, list[Column]] = defaultdict(list)
    made_of: dict[tuple[int, int], list[int]] = defaultdict(list)
    for r in rows["generated"]:
        made_of[r["relation"], r["number"]].append(r["base"])
    for r in rows["columns"]:
        bases = tuple(made_of.get((r["relation"], r["number"]), ()))
        columns[r["relation"]].append(Column(r["name"], r["number"], r["type"], bases))
    reads: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for r in (*rows["views"], *rows["system_reads"]):
        reads[r["view"]][r["relation"]].add(r["number"])
    calls: Calls = _grouped((r["relation"], r["function"]) for r in rows["triggers"])
    read_calls: Calls = defaultdict(set)
    for r in rows["dependencies"]:
        calls[r["relation"]].update(rest.behind(r))
        if r["reading"]:
            read_calls[r["relation"]].update(rest.behind(r))
    built_in = _grouped((r["relation"], r["function"]) for r in rows["built_in_calls"])
    read_built_in = _grouped((r["relation"], r["function"]) for r in rows["built_in_calls"] if r["reading"])
    children = _listed((r["parent"], r["child"]) for r in rows["inherits"])
    keys = rows["foreign_keys"]
    deletes = _listed((r["referenced"], r["referencing"]) for r in keys if r["on_delete"] in "cnd")
    updates = _listed((r["referenced"], r["referencing"]) for r in keys if r["on_update"] in "cnd")
    referenced = _listed((r["referenced"], r["referencing"]) for r in keys)
    rules = {r["relation"] for r in rows["rules"]}
    guards: dict[int, list[Guard]] = defaultdict(list)
    for r in rows["guards"]:
        guard = Guard(r["kind"], tuple(r["columns"]), r["other"], tuple(r["other_columns"]), r["cascades"])
        guards[r["relation"]].append(guard)
    trees = {r["view"]: r["rule"] for r in rows["view_rules"]}
    return {
        oid: Relation(
            oid=oid,
            schema=schemas[r["schema"]],
            name=r["name"],
            kind=r["kind"],
            columns=tuple(columns.get(oid, ())),
            reads=tuple((base, () if 0 in n else tuple(sorted(n))) for base, n in sorted(reads.get(oid, {}).items())),
            calls=tuple(sorted(calls.get(oid, ()))),
            read_calls=tuple(sorted(read_calls.get(oid, ()))),
            built_in_calls=tuple(sorted(built_in.get(oid, ()))),
            built_in_read_calls=tuple(sorted(read_built_in.get(oid, ()))),
            children=children.get(oid, ()),
            delete_cascades=deletes.get(oid, ()),
            update_cascades=updates.get(oid, ()),
            guards=tuple(sorted(guards.get(oid, ()), key=lambda guard: (guard.kind, guard.columns, guard.other))),
            referenced_by=referenced.get(oid, ()),
            rules=oid in rules,
            rule=trees.get(oid, ""),
        )
        for r in rows["relations"]
        if r["schema"] in schemas
        for oid in (r["oid"],)
    }


def snapshot(
    *,
    version: int,
    session: dict[str, Any],
    schemas: Rows,
    rest: Rest,
    relations: dict[int, Relation],
    functions: dict[int, Function],
    types: dict[int, Type],
) -> Snapshot:
    """The whole."""
    names: Names = {r["oid"]: r["name"] for r in schemas}
    operators: dict[str, list[Operator]] = defaultdict(list)
    for r in rest.operators:
        schema = names.get(r["schema"], "")
        operators[r["name"]].append(Operator(r["oid"], schema, r["name"], r["left"], r["right"], r["function"]))
    named: dict[tuple[str, str], list[int]] = defaultdict(list)
    for f in functions.values():
        named[f.schema, f.name].append(f.oid)
    return Snapshot(
        version=version,
        database=session["database"],
        server_version=session["version"],
        role=session["role"],
        superuser=session["superuser"],
        search_path=tuple(session["path"]),
        writable_schemas=frozenset(r["name"] for r in schemas if r["writable"] and r["name"] not in NEVER_WRITABLE),
        relations=relations,
        relation_oids={(r.schema, r.name): r.oid for r in relations.values()},
        functions=functions,
        functions_named={key: tuple(sorted(oids)) for key, oids in named.items()},
        operators_named={name: tuple(each) for name, each in operators.items()},
        types=types,
        type_oids={(t.schema, t.name): t.oid for t in types.values()},
        user_casts={(r["source"], r["target"]): r["function"] for r in rest.casts},
        implicit_casts=frozenset((r["source"], r["target"]) for r in rest.casts if r["context"] == "i"),
    )


def _grouped(pairs: Iterable[tuple[int, int]]) -> Calls:
    grouped: Calls = defaultdict(set)
    for key, value in pairs:
        grouped[key].add(value)
    return grouped


def _listed(pairs: Iterable[tuple[int, int]]) -> dict[int, tuple[int, ...]]:
    listed: dict[int, dict[int, None]] = defaultdict(dict)
    for key, value in pairs:
        listed[key][value] = None
    return {key: tuple(values) for key, values in listed.items()}
