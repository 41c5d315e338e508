"""What one session's statements mean: the session's view, over what all sessions on a target share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from ostiary.model.catalogue import Snapshot
from ostiary.model.connections import ColumnRule, Protected, Strategy
from ostiary.model.duties import Duties
from ostiary.model.operations import Facts, Objection, Shown
from ostiary.model.results import ColumnDescription
from ostiary.protocols.postgres import copying
from ostiary.protocols.postgres import operations as ops
from ostiary.protocols.postgres.rewriting.conditions import Caller
from ostiary.protocols.postgres.rewriting.rewriter import Rewriter, unmet
from ostiary.protocols.postgres.understand.settings import mode_of

MAX_REWRITTEN: Final = 512
"""Texts whose rewriting is remembered, a connection; of at most 16 KiB each."""
LONGEST_REWRITTEN: Final = 16 << 10

Columns = tuple[ColumnDescription, ...]


def objection_facts(objection: Objection) -> Facts:
    """Facts of a message that cannot be judged, and has no statement."""
    return ops.objection_facts(objection, "")


def relations_of(facts: Facts, snapshot: Snapshot) -> list[int]:
    """All relations that the resources may be: a schema's name and a table's may hold dots, so every cut counts."""
    found = []
    for resource in facts.resources:
        name = resource.name
        at = name.find(".")
        while at >= 0:
            oid = snapshot.relation_oids.get((name[:at], name[at + 1 :]))
            if oid is not None:
                found.append(oid)
            at = name.find(".", at + 1)
    return found


class Knowledge:
    """What the sessions on one target share: statements already understood, and the protected columns."""

    def __init__(self, protect: tuple[Protected, ...], rules: tuple[ColumnRule, ...] = ()) -> None:
        self._protect = protect
        self._rules = rules
        self.cache = ops.FactsCache()
        self._protected: ops.ProtectedColumns | None = None
        self.rewritten: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        """Texts that policy wanted otherwise, and how they are sent."""

    @property
    def protects(self) -> bool:
        """Whether the connection names protected columns."""
        return bool(self._protect or self._rules)

    def protected(self, snapshot: Snapshot) -> ops.ProtectedColumns:
        """The protected columns as the catalogue has them now."""
        if self._protected is None or self._protected.snapshot is not snapshot:
            self._protected = ops.ProtectedColumns(self._protect, snapshot, self._rules)
        return self._protected


class Understanding:
    """One session's."""

    __slots__ = ("_digest", "_in_block", "_is_newer", "_knowledge", "_paths", "_snapshot", "_types", "_version", "_view", "_world")

    def __init__(self, knowledge: Knowledge, snapshot: Snapshot) -> None:
        self._knowledge = knowledge
        self._snapshot = snapshot
        self._view = ops.View(snapshot.search_path)
        self._version = snapshot.version
        self._paths = self._view.paths
        self._digest = self._view.known()
        self._types: tuple[int, ...] = ()
        self._world = knowledge.cache.world(ops.World(self._version, self._paths, self._digest, self._types))
        """Of the last statement, with the very objects that it was made of: the next one's is nearly always the same."""
        self._in_block = False
        self._is_newer = False
        """The snapshot is newer than what the view holds of this session's own doing."""

    @property
    def protects(self) -> bool:
        """Whether the connection names protected columns."""
        return self._knowledge.protects

    @property
    def protected_columns(self) -> Mapping[tuple[int, int], tuple[str, Strategy]]:
        """(table OID, column number) to class and strategy."""
        return self._knowledge.protected(self._snapshot).by_column

    @property
    def notifies(self) -> bool:
        """Whether a notification may hold what is protected."""
        return self._knowledge.protected(self._snapshot).notifies

    def renew(self, snapshot: Snapshot, at_rest: bool) -> None:
        """Use this snapshot from now on. `at_rest`: everything that was sent has been answered, so all that it made is in it."""
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._is_newer = True
        if self._is_newer and at_rest and not self._in_block:
            self._view.reread()
            self._is_newer = False

    def look(self, sql: bytes, snapshot: Snapshot, parameter_types: tuple[int, ...] = ()) -> ops.Understood:
        """What `sql` would do, sent now."""
        view, cache = self._view, self._knowledge.cache
        version, paths, digest = snapshot.version, view.paths, view.known()
        if not (
            version == self._version
            and paths is self._paths
            and digest is self._digest
            and (parameter_types is self._types or parameter_types == self._types)
        ):
            self._version, self._paths, self._digest, self._types = version, paths, digest, parameter_types
            self._world = cache.world(ops.World(version, paths, digest, parameter_types))
        return cache.look(
            sql, view, snapshot, self._knowledge.protected(snapshot), parameter_types, self._world
        )

    def rewrite(
        self, sql: bytes, snapshot: Snapshot, parameter_types: tuple[int, ...], duties: Duties, caller: Caller
    ) -> bytes | Objection:
        """`sql` as `duties` demand it, to be looked at again, or why there is no such text."""
        known, view = self._knowledge.rewritten, self._view
        key = (sql, snapshot.version, view.paths, view.digest, parameter_types, duties, caller)
        found = known.get(key)
        if found is not None:
            known.move_to_end(key)
            return found
        rewriter = Rewriter(view, snapshot, self._knowledge.protected(snapshot), parameter_types)
        text = rewriter.rewritten(sql, duties, caller)
        if isinstance(text, bytes) and len(sql) <= LONGEST_REWRITTEN and self.look(sql, snapshot, parameter_types).cacheable:
            known[key] = text
            if len(known) > MAX_REWRITTEN:
                known.popitem(last=False)
        return text

    def unmet(self, facts: Facts, duties: Duties, caller: Caller) -> Objection | None:
        """What of the duties a statement with these facts does not do."""
        return unmet(facts, duties, caller)

    @property
    def version(self) -> int:
        """Of the catalogue snapshot in use."""
        return self._snapshot.version

    def strangers(self, columns: Columns, facts: Facts) -> frozenset[tuple[int, int]]:
        """Columns of a result that come from no table that the statement was judged to read.

        The catalogue is then older than the target: a table was swapped for another of its name, or a column made anew. What
        is protected goes by table OID and column number, so nothing can be said of these; session-made tables apart, which
        no snapshot has.
        """
        if not facts.touches_protected or any(r.name.startswith("pg_temp.") for r in facts.resources):
            return frozenset()
        known = {
            (oid, column.number)
            for oid in relations_of(facts, self._snapshot)
            for column in self._snapshot.relations[oid].columns
        }
        # Numbers below 0 are system columns (ctid, xmin, ...): they hold no values.
        return frozenset(
            (c.table_oid, c.column)
            for c in columns
            if c.table_oid and c.column > 0 and (c.table_oid, c.column) not in known
        )

    def fingerprint(self) -> bytes:
        """Over all that this session's own names mean, and where it looks for others."""
        return self._view.fingerprint()

    def is_prepared_in_sql(self, name: bytes) -> bool:
        """Whether a statement of that name may have been made with PREPARE: a Bind of it is not judged here."""
        made = self._view.prepared_in_sql
        return bool(made) and name.decode("utf-8", "surrogateescape") in made

    # --- what happens ---

    def began(self, settings: Mapping[str, str]) -> None:
        """The session was opened with these settings."""
        modes = [mode_of(name, value) for name, value in settings.items()]
        self._view.expect(tuple(ops.Effect(step=0, verb="mode", name=mode) for mode in modes if mode))

    def sent(self, effects: tuple[ops.Effect, ...]) -> None:
        """A text with these effects goes out."""
        if effects:
            self._view.expect(effects)

    def ran(self, effects: tuple[ops.Effect, ...], completed: int) -> None:
        """So many statements of the text have run."""
        if effects:
            self._view.confirm(effects, completed)

    def parsing(self, name: bytes, facts: Facts, sql: bytes) -> None:
        """A named Parse goes out: until its answer is here, EXECUTE may mean this or what it meant."""
        if name:
            self._view.parsing(name.decode("utf-8", "surrogateescape"), facts, sql)

    def parsed(self, name: bytes, facts: Facts, sql: bytes) -> None:
        """A named statement is there: SQL's EXECUTE can run it."""
        if name:
            self._view.parsed(name.decode("utf-8", "surrogateescape"), facts, sql)

    def bound(self, name: bytes, facts: Facts) -> None:
        """A named portal is there: SQL's FETCH can read it."""
        if name:
            self._view.bound(name.decode("utf-8", "surrogateescape"), facts)

    def ready(self, in_block: bool, failed: bool, has_failed: bool = False, is_last: bool = True) -> None:
        """ReadyForQuery came; `failed`: there was an error since the one before.

        `has_failed`: the block is to be rolled back. `is_last`: nothing else is outstanding, which may have opened one.
        """
        if not (in_block or self._in_block or failed):
            self._view.settle()
        self._in_block = in_block
        if in_block or is_last:
            self._view.block(is_open=in_block, has_failed=has_failed)

    def copy_layout(
        self, sql: bytes, step: int, count: int, shown: Shown | None, *, binary: bool
    ) -> copying.CopyLayout:
        """How the rows of a COPY ... TO STDOUT are laid out."""
        return copying.layout(sql, step, count, shown, binary=binary)
