"""Another relation or function in the place of one that a statement names.

What a name means is what the judge's own walk says: a common table expression, or a table of the session's, that bears the
same name is not replaced, and where a name may mean one thing or another, there is no such text. The new name is written with its
schema. What cannot be written anew (a view over the relation, a trigger that calls the function) is found by `unreplaced`: the judge
says of each thing what the text names to reach it (`Facts.reached`), and only the other one may be that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ostiary.model.catalogue import Relation
from ostiary.model.operations import Facts
from ostiary.protocols.postgres.grammar import Node, Statement
from ostiary.protocols.postgres.rewriting.naming import Impossible, name_of, range_names, unqualify
from ostiary.protocols.postgres.understand.filtered import STAR
from ostiary.protocols.postgres.understand.names import Sites, Target

Instead = tuple[tuple[str, str, str], ...]
HINT: Final = "Name it with its schema, and not what this session made itself."


def unreplaced(facts: Facts, kind: str, name: str, other: str) -> bool:
    """Whether a statement reaches the one in another way than by naming the other."""
    thing = f"{kind} {name}"
    if not any(each.kind == kind and each.name == name for each in facts.resources):
        return False
    return any(named != f"{kind} {other}" for named in dict(facts.reached).get(thing, (thing,)))


def replace(statements: tuple[Statement, ...], found: Sites, instead: Instead) -> None:
    """Write the other's name wherever these statements name the one, in place. Raises `Impossible`."""
    others: dict[tuple[str, str], str] = {}
    for kind, name, other in instead:
        if others.setdefault((kind, name), other) != other:
            raise Impossible(
                f"policies put both {others[kind, name]} and {other} in the place of {name}", "Ask whoever keeps the policies."
            )
    relations = {name: other for (kind, name), other in others.items() if kind == "relation"}
    functions = {name: other for (kind, name), other in others.items() if kind == "function"}
    aliases = range_names(statements)
    for node, targets in _each(found.shown):
        if (target := _meant(targets, relations)) is not None:
            _rename(node["RangeVar"], target, relations)
            _call_by_old_name(node["RangeVar"], target, statements, aliases)
    for node, targets in _each(found.held):
        if (target := _meant(targets, relations)) is not None:
            _rename(node["relation"], target, relations)
            if any(each.kind == "CopyStmt" and each.node is node for each in statements):
                _as_query(node)
            else:
                _call_by_old_name(node["relation"], target, statements, aliases)
    _replace_calls(found, functions)


def _each(places: list[tuple[Node, tuple[Target, ...]]]) -> Iterable[tuple[Node, set[Target]]]:
    """Each node once, with all that any walk found it to mean."""
    meant: dict[int, tuple[Node, set[Target]]] = {}
    for node, targets in places:
        meant.setdefault(id(node), (node, set()))[1].update(targets)
    return meant.values()


def _meant(targets: set[Target], relations: Mapping[str, str]) -> Relation | None:
    """The relation that is to be replaced; None: none of them is."""
    wanted = sorted({name_of(each) for each in targets} & relations.keys())
    if not wanted:
        return None
    if len(targets) == 1 and isinstance(target := next(iter(targets)), Relation):
        return target
    raise Impossible(
        f"{relations[wanted[0]]} takes the place of {wanted[0]} here, and whether that is meant is not certain", HINT
    )


def _rename(range_var: Node, target: Relation, relations: Mapping[str, str]) -> None:
    schema, _, name = relations[name_of(target)].partition(".")
    range_var.pop("catalogname", None)
    range_var.update({"schemaname": schema, "relname": name})


def _call_by_old_name(
    range_var: Node, target: Relation, statements: tuple[Statement, ...], aliases: Mapping[str, int]
) -> None:
    """The rest of the statement goes on to name it as it did."""
    if "alias" not in range_var:
        unqualify(statements, target.schema, target.name, aliases)
        range_var["alias"] = {"aliasname": target.name}


def _as_query(copy: Node) -> None:
    """COPY ... TO of a table becomes one of a query, since what takes its place may be a view."""
    if copy.get("is_from"):
        return
    columns = [{"ResTarget": {"val": {"ColumnRef": {"fields": [each]}}}} for each in copy.pop("attlist", ())]
    query = {
        "targetList": columns or STAR,
        "fromClause": [{"RangeVar": copy.pop("relation")}],
        "limitOption": "LIMIT_OPTION_DEFAULT",
        "op": "SETOP_NONE",
    }
    copy["query"] = {"SelectStmt": query}


def _replace_calls(found: Sites, functions: Mapping[str, str]) -> None:
    meant: dict[int, tuple[Node, set[str]]] = {}
    for node, names in found.calls:
        meant.setdefault(id(node), (node, set()))[1].update(names)
    for node, all_names in meant.values():
        wanted = sorted(all_names & functions.keys())
        if not wanted:
            continue
        if len(all_names) > 1:
            raise Impossible(
                f"{functions[wanted[0]]} takes the place of {wanted[0]} here, and whether that is meant is not certain", HINT
            )
        schema, _, name = functions[wanted[0]].partition(".")
        node["funcname"] = [{"String": {"sval": schema}}, {"String": {"sval": name}}]
        node["funcformat"] = "COERCE_EXPLICIT_CALL"
