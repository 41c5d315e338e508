"""What the gateway knows of one PostgreSQL session beside the catalogue: names that only this session has.

Theory of operation
-------------------
A statement is judged before the answers to earlier ones came, and one that the gateway thinks succeeded may have been
rolled back. So the view never holds *the* meaning of a name but all that it may have: `expect` adds a meaning when a
statement goes out, `confirm` drops the older ones when the server said that it ran, and nothing else drops any; of what a rollback can bring back, not even that does. Judging
unites the facts of all meanings. Being wrong then means asking policy for more than needed, or a refusal, never for
less.

What the session did that cannot be followed (a DO block, a function of somebody's own) sets `fog`: from then on a name
that is in neither the catalogue nor the view is opaque instead of unknown.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeVar

import msgspec

from ostiary.model.operations import Facts

TEMP: Final = "pg_temp"
BLOCKS: Final = ("transaction", "failed transaction")
"""What is said of a session in which a transaction is open, or may be; the second: it can only be rolled back."""
MAX_MEANINGS: Final = 16
"""Of one name. A client that redefines it faster than the server answers is waited for by nobody: it becomes opaque."""
MAX_MODES: Final = 32
"""Settings and modes of transactions of one session that are told apart."""
NO_MODES: Final[frozenset[str]] = frozenset()
MAX_NAMES: Final = 4_096
LONGEST_KEPT: Final = 64 << 10
"""Bytes of a prepared statement's text that are kept."""

K = TypeVar("K")
V = TypeVar("V")

Path = tuple[str, ...]
"""Schemas of a search_path, resolved, without the implicit pg_temp and pg_catalog."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A relation, type or function that this session made and the snapshot does not know, or not any more."""

    schema: str
    name: str
    sort: str
    """`relation type function operator`."""
    columns: tuple[str, ...] | None
    """None: unknown."""
    calls: tuple[str, ...]
    """Functions that touching it may run."""
    classes: tuple[str, ...]
    """Data classes that were copied into it, or that it is a view of: every use needs `unmask`."""
    reads: tuple[Facts, ...]
    """Of a view: what its query does."""
    opaque: bool
    """It was changed in a way that is not followed."""


class Prepared(msgspec.Struct, frozen=True):
    """One meaning of a prepared statement's or cursor's name."""

    facts: Facts
    """What it meant when it was made."""
    sql: bytes
    """Its text, as the server resolves names anew when search_path or a relation changed. Empty: not kept."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement does to the view once it ran."""

    step: int
    """Which statement of the text, from 0."""
    verb: str
    """`prepare deallocate declare make path role mode begin fog` and the like."""
    name: str = ""
    facts: Facts | None = None
    sql: bytes = b""
    made: Made | None = None
    path: Path = ()
    local: bool = False


class View:
    """The names of one session. Mutable, one a session; see the module's text for its rules."""

    def __init__(self, path: Path) -> None:
        """`path`: the search_path of a new session of the role: `Snapshot.search_path`."""
        self.paths: tuple[Path, ...] = (path,)
        """All that search_path may be."""
        self.default_path: Path | None = path
        """What RESET search_path goes back to; None: it may be anything the role's default becomes."""
        self.prepared: dict[str, tuple[Prepared, ...]] = {}
        """SQL PREPARE and protocol-level Parse share one namespace (PostgreSQL 18, "PREPARE", Notes)."""
        self.prepared_in_sql: set[str] = set()
        self.cursors: dict[str, tuple[Prepared, ...]] = {}
        """DECLARE and protocol-level portals share one, too."""
        self.made: dict[tuple[str, str, str], tuple[Made, ...]] = {}
        """(sort, schema, name) to all that it may be."""
        self.fog = False
        self.crowded = False
        """Meanings of prepared statements or cursors had to be forgotten: running any is opaque."""
        self.roles: frozenset[str] = frozenset()
        """Roles that SET ROLE may have put the session into, since it began."""
        self.blind = False
        """More was made than is remembered: every statement is opaque."""
        self.modes = NO_MODES
        """Modes of transactions, and settings by which values are read, that were named since the session began: `isolation=serializable`."""
        self.modes_inside = NO_MODES
        """The same, for the transaction at hand."""
        self.in_transaction = False
        """A transaction block is open, or may be."""
        self.has_failed = False
        """It is open, and the target refuses everything but its end."""
        self._confirmed_path: Path | None = None
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """Over all that names in a statement may mean because of this session; empty when nothing."""
        return self.known()

    def known(self) -> bytes:
        """`digest`, for who asks with every statement."""
        if self._digest is None:
            self._digest = self._make_digest()
        return self._digest

    def _make_digest(self) -> bytes:
        block = b"" if not self.in_transaction else b"failed" if self.has_failed else b"block"
        return self._lasting_digest() + block

    def _lasting_digest(self) -> bytes:
        """But for whether a transaction is open."""
        if not (self.made or self.fog or self.blind or self.roles or self.modes or self.modes_inside):
            return b""
        modes = sorted(self.modes | self.modes_inside)
        state = (sorted((key, value) for key, value in self.made.items()), self.fog, self.blind, sorted(self.roles), modes)
        return hashlib.sha256(msgspec.json.encode(state, order="deterministic")).digest()

    def fingerprint(self) -> bytes:
        """SHA-256 over everything in the session that a statement's meaning hangs on, but for whether a transaction is open."""
        named = [
            sorted((name, [(each.facts.meaning or each.facts.digest, each.sql) for each in meanings]) for name, meanings in names.items())
            for names in (self.prepared, self.cursors)
        ]
        state = (self.paths, self.default_path, named, self._lasting_digest(), self.fog, self.crowded, self.blind)
        return hashlib.sha256(msgspec.json.encode(state, order="deterministic")).digest()

    def state(self, usual: Path) -> tuple[str, ...]:
        """What of it may give a statement another meaning than in a new session, whose search_path is `usual`."""
        found = [f"search_path={','.join(path)}" for path in self.paths if path != usual]
        found += [f"role={name}" for name in self.roles]
        found += self.modes | self.modes_inside
        if self.in_transaction:
            found.append(BLOCKS[self.has_failed])
        if any(schema == TEMP for _, schema, _ in self.made):
            found.append("temporary objects")
        if self.fog or self.blind:
            found.append("unseen work")
        return tuple(sorted(found))

    def made_of(self, sort: str, schema: str, name: str) -> tuple[Made, ...]:
        """All that this session may have made under that name."""
        return self.made.get((sort, schema, name), ())

    def made_named(self, sort: str, name: str) -> tuple[Made, ...]:
        """The same, in whatever schema."""
        if not self.made:
            return ()
        return tuple(m for (s, _, n), each in self.made.items() if s == sort and n == name for m in each)

    # --- what happens ---

    def expect(self, effects: tuple[Effect, ...]) -> None:
        """A text goes out: all that it may do may be so from now on."""
        for effect in effects:
            self._expect(effect)

    def confirm(self, effects: tuple[Effect, ...], completed: int) -> None:
        """The first `completed` statements of the text ran (CommandComplete or EmptyQueryResponse for each)."""
        for effect in effects:
            if effect.step < completed:
                self._confirm(effect)

    def block(self, *, is_open: bool, has_failed: bool = False) -> None:
        """ReadyForQuery said how things stand: `I`, `T` or `E`. Of one that another statement went out behind, only `T` and `E` count."""
        inside = self.modes_inside if is_open else NO_MODES
        if self.in_transaction != is_open or self.has_failed != has_failed or (self.modes_inside is not inside and self.modes_inside != inside):
            self.in_transaction, self.has_failed, self.modes_inside, self._digest = is_open, has_failed, inside, None

    def settle(self) -> None:
        """Take the last search_path that was confirmed for the only one.

        To be called when ReadyForQuery says `I`, if the one before it said `I` as well and no error came in between: then
        nothing that was confirmed can be undone. Without it the paths of a session only add up, which is safe, but asks
        for more than is needed.
        """
        if self._confirmed_path is not None:
            self.paths, self._confirmed_path = (self._confirmed_path,), None

    def reread(self) -> None:
        """A snapshot newer than the last DDL of this session is in use and no transaction is open.

        What was made outside pg_temp is in it.
        """
        kept = {key: value for key, value in self.made.items() if key[1] == TEMP}
        if len(kept) != len(self.made):
            self.made = kept
            self._digest = None

    def parsed(self, name: str, facts: Facts, sql: bytes = b"") -> None:
        """A Parse message of that name was answered with ParseComplete.

        `sql`: its text. Without it, EXECUTE of that name is opaque once names may have changed their meaning.
        """
        self.prepared[name] = (Prepared(facts, sql if len(sql) <= LONGEST_KEPT else b""),)
        self.prepared_in_sql.discard(name)

    def parsing(self, name: str, facts: Facts, sql: bytes = b"") -> None:
        """A Parse message of that name goes out: until the answer came, the name may mean this or what it meant."""
        self._add(self.prepared, name, Prepared(facts, sql if len(sql) <= LONGEST_KEPT else b""))

    def bound(self, name: str, facts: Facts) -> None:
        """A portal of that name may be open: FETCH can read it."""
        self._add(self.cursors, name, Prepared(facts, b""))

    def path_reported(self, path: Path) -> None:
        """The server said what search_path is (ParameterStatus, from PostgreSQL 18 on)."""
        self.paths = (path,)

    def copy(self) -> View:
        """Return a view to think ahead with: of a text with several statements, later ones see earlier ones' effects."""
        other = View(())
        other.paths, other.default_path = self.paths, self.default_path
        other.prepared, other.prepared_in_sql = dict(self.prepared), set(self.prepared_in_sql)
        other.cursors, other.made = dict(self.cursors), dict(self.made)
        other.fog, other.in_transaction, other.has_failed = self.fog, self.in_transaction, self.has_failed
        other.modes, other.modes_inside = self.modes, self.modes_inside
        other.crowded, other.blind, other.roles = self.crowded, self.blind, self.roles
        return other

    def _expect(self, effect: Effect) -> None:
        match effect.verb:
            case "prepare" if effect.facts is not None:
                self._add(self.prepared, effect.name, Prepared(effect.facts, effect.sql))
                self.prepared_in_sql.add(effect.name)
            case "declare" if effect.facts is not None:
                self._add(self.cursors, effect.name, Prepared(effect.facts, b""))
            case "make" if effect.made is not None:
                self._make(effect.made)
            case "path":
                if effect.path not in self.paths:
                    self.blind |= len(self.paths) >= MAX_MEANINGS
                    self.paths = (*self.paths, effect.path)[-MAX_MEANINGS:]
            case "role":
                if effect.name not in self.roles and len(self.roles) < MAX_MEANINGS:
                    self.roles, self._digest = self.roles | {effect.name}, None
            case "begin":
                if not self.in_transaction:
                    self.in_transaction, self._digest = True, None
            case "mode":
                self._note(effect.name, local=effect.local)
            case "fog":
                if not self.fog:
                    self.fog, self._digest = True, None
            case _:
                pass

    def _confirm(self, effect: Effect) -> None:
        match effect.verb:
            case "prepare" if effect.facts is not None:
                # PREPARE is not undone by a rollback, so what it replaced is gone for good.
                self._settle(self.prepared, effect.name, Prepared(effect.facts, effect.sql))
            case "deallocate":
                self._forget(self.prepared, effect.name)
            case "path":
                self._confirmed_path = None if effect.local else effect.path
            case _:
                pass

    def _note(self, mode: str, *, local: bool) -> None:
        known = self.modes_inside if local else self.modes
        if mode in known:
            return
        known |= {mode if len(known) < MAX_MODES else "more settings"}
        self._digest = None
        if local:
            self.modes_inside = known
        else:
            self.modes = known

    def _make(self, made: Made) -> None:
        key = (made.sort, made.schema, made.name)
        known = self.made.get(key, ())
        if made in known:
            return
        if len(known) >= MAX_MEANINGS:
            made = _all_of((*known, made))
            known = ()
        self.blind |= len(self.made) >= MAX_NAMES
        self.made[key] = (*known, made)
        self._digest = None

    def _add(self, names: dict[str, tuple[Prepared, ...]], name: str, facts: Prepared) -> None:
        known = names.get(name, ())
        if facts in known:
            return
        if len(known) >= MAX_MEANINGS or len(names) >= MAX_NAMES:
            self.crowded = True
        names[name] = (*known, facts)[-MAX_MEANINGS:]

    @staticmethod
    def _settle(names: dict[K, tuple[V, ...]], name: K, meaning: V) -> None:
        known = names.get(name, ())
        if meaning in known:
            names[name] = known[known.index(meaning) :]

    @staticmethod
    def _forget(names: dict[str, tuple[Prepared, ...]], name: str) -> None:
        if len(names.get(name, ())) <= 1:
            names.pop(name, None)


def _all_of(meanings: tuple[Made, ...]) -> Made:
    """One meaning that stands for many: opaque, and all that they were."""
    last = meanings[-1]
    return msgspec.structs.replace(
        last,
        columns=None,
        calls=tuple(sorted({call for each in meanings for call in each.calls})),
        classes=tuple(sorted({name for each in meanings for name in each.classes})),
        reads=(),
        opaque=True,
    )
