"""A text in, facts out: the way in to this package."""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec

from ostiary.kernel.literals import STRING, plain_key
from ostiary.model.catalogue import Snapshot
from ostiary.model.nouns import Noun
from ostiary.model.operations import Action, Facts, Objection, Unjudgeable
from ostiary.protocols.postgres import grammar
from ostiary.protocols.postgres.grammar import NotParsed, Statement
from ostiary.protocols.postgres.understand.findings import Objected, both, objection_facts
from ostiary.protocols.postgres.understand.ground import ProtectedColumns
from ostiary.protocols.postgres.understand.head import head_of
from ostiary.protocols.postgres.understand.names import Sites
from ostiary.protocols.postgres.understand.strings import Strings
from ostiary.protocols.postgres.understand.utility import Utility
from ostiary.protocols.postgres.understand.view import Effect, Path, View

CACHE_BYTES: Final = 32 << 20
"""Of texts and facts in one cache, estimated."""
MAX_WORLDS: Final = 4_096
LARGEST_KEPT: Final = 64 << 10
"""Bytes of text: larger ones are hardly sent twice."""


class Understood(Noun):
    """Facts, with what they mean for the session and for the cache."""

    __slots__ = ("cacheable", "constants", "effects", "facts", "strings")

    def __init__(
        self, facts: Facts, effects: tuple[Effect, ...], *, cacheable: bool, constants: bool, strings: int = -1
    ) -> None:
        self.facts: Final = facts
        self.effects: Final = effects
        """For `View.expect` when the text goes out, and `View.confirm` when it ran."""
        self.cacheable: Final = cacheable
        """The same text means the same in every session of the same `World`."""
        self.constants: Final = constants
        """It would not mean the same with other constants."""
        self.strings: Final = strings
        """How many strings the server's grammar found in it; with as many others it would mean the same. -1: it might not."""


class World(Noun):
    """What the meaning of a text hangs on beside the text: half of a key, hashed once and not with every statement."""

    __slots__ = ("digest", "number", "parameter_types", "paths", "version")

    def __init__(
        self, version: int, paths: tuple[Path, ...], digest: bytes, parameter_types: tuple[int, ...]
    ) -> None:
        self.version: Final = version
        """The snapshot's."""
        self.paths: Final = paths
        self.digest: Final = digest
        """`View.digest`."""
        self.parameter_types: Final = parameter_types
        self.number: Final = hash((version, paths, digest, parameter_types))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, World) and (self.version, self.paths, self.digest, self.parameter_types) == (
            other.version, other.paths, other.digest, other.parameter_types,
        )  # fmt: skip

    def __hash__(self) -> int:
        return self.number


def study(
    sql: bytes,
    view: View,
    snapshot: Snapshot,
    protected: ProtectedColumns,
    parameter_types: tuple[int, ...] = (),
) -> Understood:
    """Judge a whole simple-query string, or the text of a Parse message. Never raises, whatever the bytes are."""
    try:
        head = head_of(sql)
        try:
            return _study(sql, view, snapshot, protected, parameter_types, head)
        except (NotParsed, Objected) as refused:
            return _refused(refused.objection, head)
        except RecursionError:
            return _refused(_TOO_DEEP, head)
        except Exception:  # noqa: BLE001 -- a bug of ours while judging must refuse the statement, not end the session
            return _refused(_FAULT, head)
    except Exception:  # noqa: BLE001 -- the same, for the head
        return _refused(_FAULT, "")


def understand(sql: bytes, view: View, snapshot: Snapshot, protected: ProtectedColumns) -> Facts:
    """Facts alone: see `study`."""
    return study(sql, view, snapshot, protected).facts


def _study(
    sql: bytes,
    view: View,
    snapshot: Snapshot,
    protected: ProtectedColumns,
    parameter_types: tuple[int, ...],
    head: str,
) -> Understood:
    statements = grammar.parse(sql)
    strings = Strings(sql, statements)
    walkers = [Utility(sql, view.copy(), path, snapshot, protected) for path in view.paths]
    refused: list[Objected] = []
    for walker in walkers:
        walker.parameter_types = parameter_types
        try:
            _judge(walker, statements)
        except Objected as objected:
            refused.append(objected)
            if len(refused) == len(walkers) or objected.objection.reason is not Unjudgeable.UNKNOWN_OBJECT:
                raise
    found = walkers[0].found
    # search_path may be any of several: whatever a name means under one of them counts. Where one finds nothing under a name,
    # the server would stop there; what it had done before still counts.
    for walker in walkers[1:]:
        each = walker.found
        found.add(each.facts(""))
        found.steps = both(found.steps, each.steps)
        found.names += [name for name in each.names if name not in found.names]
        found.effects += [effect for effect in each.effects if effect not in found.effects]
        found.cacheable &= each.cacheable
        found.constants |= each.constants
    facts = found.facts(head, view.state(snapshot.search_path))
    if len(statements) == 1 and not any(each.found.cascades for each in walkers) and _counts_changes(statements[0], facts):
        facts = msgspec.structs.replace(facts, counts_changes=True)
    return Understood(
        facts, tuple(found.effects), cacheable=found.cacheable, constants=found.constants,
        strings=-1 if found.effects else strings.unread,
    )  # fmt: skip


def _counts_changes(statement: Statement, facts: Facts) -> bool:
    """Whether its command tag will hold all the rows that it changes: PostgreSQL 18, 54.7 (`CommandComplete`).

    It does not where a cascade, a trigger or a function changes others, or a WITH changes rows beside it.
    """
    node = statement.node
    if statement.kind not in _TELLING or (statement.kind == "CopyStmt" and not node.get("is_from")):
        return False
    held = node.get("withClause", {}).get("ctes", ())
    if any("SelectStmt" not in each["CommonTableExpr"]["ctequery"] for each in held):
        return False
    changed = {each.name for each in facts.resources if each.action in _CHANGING}
    return len(changed) == 1 and not facts.opaque and all(each.action in _PLAIN for each in facts.resources)


_TELLING: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CopyStmt"})
_CHANGING: Final = frozenset({Action.WRITE, Action.DELETE})
_PLAIN: Final = _CHANGING | {Action.READ, Action.TRANSFER}


def _judge(walker: Utility, statements: tuple[Statement, ...]) -> None:
    if walker.view.blind:
        walker.found.cannot_see("session: more was made in it than the gateway remembers")
    for oid in walker.parameter_types:
        walker.touch_type(oid)
    for step, statement in enumerate(statements):
        end = statement.start + statement.length if statement.length else len(walker.text)
        walker.step, walker.source = step, walker.text[statement.start : end]
        walker.statement(statement.kind, statement.node)
        walker.found.step()
        if not walker.view.fog and any(_is_foreign_code(*resource) for resource in walker.found.resources):
            # It may make temporary tables, prepared statements, anything.
            walker.effect("fog", depends=False)


def _is_foreign_code(kind: str, name: str, action: Action) -> bool:
    return kind == "function" and action is Action.EXECUTE and not name.startswith("pg_catalog.")


def _refused(objection: Objection, head: str) -> Understood:
    return Understood(objection_facts(objection, head), (), cacheable=False, constants=True)


_TOO_DEEP: Final = Objection(
    Unjudgeable.TOO_COMPLEX, "the statement is nested too deeply to be judged", "Split it.", "54001", None
)
_FAULT: Final = Objection(
    Unjudgeable.UNSUPPORTED,
    "the gateway failed to judge the statement",
    "This is a fault of the gateway.",
    "XX000",
    None,
)


def sites(
    sql: bytes,
    statements: tuple[Statement, ...],
    view: View,
    snapshot: Snapshot,
    protected: ProtectedColumns,
    parameter_types: tuple[int, ...],
) -> Sites:
    """What these statements name."""
    found = Sites()
    for path in view.paths:
        walker = Utility(sql, view.copy(), path, snapshot, protected)
        walker.parameter_types = parameter_types
        walker.sites = found
        # Under a search_path by which a name means nothing the server would stop there.
        with contextlib.suppress(Objected, NotParsed):
            _judge(walker, statements)
    return found


def _stands_for(plain: bytes, understood: Understood) -> bool:
    """Whether what was understood holds for all texts with this key."""
    strings = plain.count(STRING)
    return not understood.constants and (not strings or strings == understood.strings)


class FactsCache:
    """What texts mean, remembered. One a connection; shared by its sessions."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._young: dict[tuple[bytes, World], Understood] = {}
        self._old: dict[tuple[bytes, World], Understood] = {}
        self._worlds: dict[World, World] = {}

    def world(self, world: World) -> World:
        """Return the one that stands for all equal ones: keys then compare by identity."""
        if len(self._worlds) >= MAX_WORLDS:
            self._worlds.clear()
        return self._worlds.setdefault(world, world)

    def look(
        self,
        sql: bytes,
        view: View,
        snapshot: Snapshot,
        protected: ProtectedColumns,
        parameter_types: tuple[int, ...] = (),
        world: World | None = None,
    ) -> Understood:
        """`study`, from memory where it can be. `world`: that of these arguments, if it is at hand."""
        if world is None:
            world = self.world(World(snapshot.version, view.paths, view.digest, parameter_types))
        plain = plain_key(sql)
        if plain is not None:
            found = self._find((plain, world))
            if found is not None:
                return found
        if plain is not sql:
            found = self._find((sql, world))
            if found is not None:
                return found
        understood = study(sql, view, snapshot, protected, parameter_types)
        if understood.cacheable and len(sql) <= LARGEST_KEPT:
            self._keep((plain if plain is not None and _stands_for(plain, understood) else sql, world), understood)
        return understood

    def _find(self, key: tuple[bytes, World]) -> Understood | None:
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self._keep(key, found)
        return found

    def facts_for(self, sql: bytes, view: View, snapshot: Snapshot, protected: ProtectedColumns) -> Facts:
        """`understand`, from memory where it can be."""
        return self.look(sql, view, snapshot, protected).facts

    def _keep(self, key: tuple[bytes, World], understood: Understood) -> None:
        """Two generations, as in `ostiary.policy.policies`: a hit writes nothing, and what is used survives."""
        facts = understood.facts
        size = 1_500 + 2 * len(key[0]) + 200 * len(facts.resources) + 80 * len(facts.functions)
        if self._size + size > self._limit // 2:
            self._old, self._young, self._size = self._young, {}, 0
        if size <= self._limit // 2:
            self._young[key] = understood
            self._size += size

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._size = {}, {}, 0
