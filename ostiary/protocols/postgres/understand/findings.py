"""What judging a statement gathers, and how that becomes `Facts`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ostiary.model.connections import Strategy
from ostiary.model.operations import (
    MAX_HEAD,
    Action,
    Facts,
    Objection,
    Origin,
    Resource,
    Shown,
    Unjudgeable,
    facts_digest,
)
from ostiary.protocols.postgres.understand.view import BLOCKS, Effect

GRAVITY: Final = (
    Action.CONNECT, Action.READ, Action.EXECUTE, Action.WRITE, Action.TRANSFER, Action.DEFINE, Action.DELETE,
    Action.ADMINISTER, Action.OPAQUE,
)  # fmt: skip
"""From the least to the gravest, for `Facts.action`."""
QUIET: Final = frozenset({Action.READ, Action.CONNECT})
NAMED: Final = frozenset({"relation", "function"})
"""Kinds of which it counts how they are reached."""


class Objected(Exception):
    """The statement cannot be judged. Never leaves `understand`."""

    def __init__(self, objection: Objection) -> None:
        super().__init__(objection.message)
        self.objection = objection


def unsupported(what: str, hint: str = "") -> Objected:
    """An exception that says: the gateway has no rule for this."""
    return Objected(Objection(Unjudgeable.UNSUPPORTED, what, hint, "0A000", None))


class Finding:
    """Facts in the making. One a text; statements add to it."""

    def __init__(self) -> None:
        self.resources: dict[tuple[str, str, Action], tuple[set[str], set[str]]] = {}
        self.names: list[str] = []
        self.functions: set[str] = set()
        self.opaque: dict[str, None] = {}
        self.unmask: set[str] = set()
        self.infer: set[str] = set()
        self.tested: set[str] = set()
        """Classes that a change tells of by whether it fails. What the caller gave is compared with them, so nothing of them goes anywhere."""
        self.shown: Shown | None = None
        """What the statement at hand shows; None: no rows that hang on anything protected."""
        self.typed = False
        """What the statement at hand shows is wanted for its types alone, too: COPY's rows have no description."""
        self.steps: list[Shown | None] = []
        """The same of each statement before it."""
        self.has_where = True
        self.harmless = True
        self.touches_protected = False
        self.invalidates = False
        self.effects: list[Effect] = []
        self.cacheable = True
        """False: the facts hang on names of the session that are not part of the cache's key."""
        self.constants = False
        """True: the facts hang on the values of constants in the text."""
        self.through = ""
        """Digest of the condition through which rows of what is touched now are seen; empty: all of them are."""
        self.bares = False
        """Whatever is touched now is seen bare: the statement at hand makes something of it, or tells of rows that it does not show."""
        self.ways: dict[str, set[str]] = {}
        """Of each relation that is read, the conditions through which."""
        self.behind = ""
        """Of what the text names, that behind which is what is touched now (`relation public.all_orders`); empty: the text names it."""
        self.reached: dict[str, set[str]] = {}
        """Of each relation and function, what the text names to reach it."""
        self.lifts: set[str] = set()
        self.cascades = False
        """A foreign key changes rows elsewhere, or in the same relation, that no command tag counts."""
        self.rows: int | None = 0
        """The most that one statement so far can return; None: there is no bound."""
        self.gathers: int | None = 1
        """How many rows are put into one that is shown; None: there is no bound."""

    def touch(
        self, kind: str, name: str, action: Action, columns: Iterable[str] = (), classes: Iterable[str] = ()
    ) -> tuple[set[str], set[str]]:
        """Note one resource; the same one again adds columns to it."""
        if kind in NAMED:
            if action is Action.READ and kind == "relation":
                self.ways.setdefault(name, set()).add(self.way)
            thing = f"{kind} {name}"
            self.reached.setdefault(thing, set()).add(self.behind or thing)
        entry = self.resources.get((kind, name, action))
        if entry is None:
            entry = self.resources[kind, name, action] = (set(), set())
            if action not in QUIET:
                self.harmless = False
        entry[0].update(columns)
        entry[1].update(classes)
        return entry

    @property
    def way(self) -> str:
        """How what is touched now is seen."""
        return "" if self.bares else self.through

    def cannot_see(self, phrase: str) -> None:
        """Note what cannot be seen through: policy must permit `opaque` by name."""
        self.opaque[phrase] = None
        self.touch("other", phrase.partition(" ")[0], Action.OPAQUE)

    def shows(self, columns: tuple[Origin, ...] | None, every: tuple[str, ...]) -> None:
        """Note the output columns of the statement at hand; of several meanings, all hold."""
        shown = Shown(columns, every)
        self.shown = shown if self.shown is None else either(self.shown, shown)

    def returns(self, rows: int | None) -> None:
        """Note how many rows a statement can return at most."""
        self.rows = None if rows is None or self.rows is None else max(self.rows, rows)

    def gather(self, rows: int | None) -> None:
        """Note that so many rows are put into one value."""
        self.gathers = None if rows is None or self.gathers is None else self.gathers * max(1, rows)

    def step(self) -> None:
        """The statement at hand has been walked."""
        shown = self.shown
        self.steps.append(shown if shown is not None and (shown.every or self.typed) else None)
        self.shown, self.typed = None, False

    def add(self, facts: Facts, *, as_read: bool = False) -> None:
        """Take over another statement's facts: of EXECUTE, FETCH, a temporary view."""
        around, behind, conditions, reached = self.through, self.behind, dict(facts.filtered), dict(facts.reached)
        for r in facts.resources:
            self.through = conditions.get(r.name, "")
            for named in reached.get(f"{r.kind} {r.name}", ("",)):
                self.behind = behind or named
                self.touch(
                    r.kind, r.name, Action.READ if as_read and r.kind == "relation" else r.action, r.columns, r.classes
                )
        self.through, self.behind = around, behind
        self.functions.update(facts.functions)
        self.opaque.update(dict.fromkeys(facts.opaque))
        self.unmask.update(facts.unmask)
        self.infer.update(facts.infer)
        self.lifts.update(facts.lifts)
        self.gathers = None if self.gathers is None or facts.gathers is None else max(self.gathers, facts.gathers)
        self.has_where &= facts.has_where
        self.harmless &= facts.harmless
        self.touches_protected |= facts.touches_protected
        self.invalidates |= facts.invalidates_catalogue
        if facts.objection is not None:
            raise Objected(facts.objection)

    def facts(self, head: str, session: tuple[str, ...] = ()) -> Facts:
        """Close the finding, in a session in this state."""
        if not self.resources:
            # `SELECT 1` touches nothing, but having a session is what it takes.
            self.touch("connection", "", Action.CONNECT)
        resources = tuple(
            Resource(kind, name, action, tuple(sorted(columns)), tuple(sorted(classes)))
            for (kind, name, action), (columns, classes) in sorted(self.resources.items())
        )
        action = max((r.action for r in resources), key=GRAVITY.index, default=Action.CONNECT)
        name = "; ".join(dict.fromkeys(self.names))[:MAX_HEAD]
        functions = tuple(sorted(self.functions))
        opaque, unmask = tuple(self.opaque), tuple(sorted(self.unmask))
        infer = tuple(sorted((self.infer | self.tested) - self.unmask))
        rest: tuple[object, ...] = (self.has_where, functions, opaque, unmask, self.harmless, infer)
        lasting = tuple(each for each in session if each not in BLOCKS)
        bare = (*rest, lasting) if lasting else rest
        rest = (*rest, session) if session else rest
        return Facts(
            action=action,
            name=name,
            resources=resources,
            has_where=self.has_where,
            functions=functions,
            opaque=opaque,
            unmask=unmask,
            infer=infer,
            shown=tuple(self.steps) if any(self.steps) else (),
            harmless=self.harmless and not opaque,
            touches_protected=self.touches_protected,
            head=head,
            objection=None,
            invalidates_catalogue=self.invalidates,
            digest=facts_digest(action, name, resources, rest),
            meaning=b"" if lasting == session else facts_digest(action, name, resources, bare),
            rows=self.rows,
            gathers=self.gathers,
            lifts=tuple(sorted(self.lifts)),
            session=session,
            reached=tuple(sorted((thing, tuple(sorted(by))) for thing, by in self.reached.items() if by != {thing})),
            filtered=tuple(sorted((name, way) for name, (way, *more) in self.ways.items() if way and not more)),
        )


def objection_facts(objection: Objection, head: str) -> Facts:
    """Facts of a text that cannot be judged."""
    return Facts(
        action=Action.OPAQUE,
        name="",
        resources=(),
        has_where=True,
        functions=(),
        opaque=(),
        unmask=(),
        harmless=False,
        touches_protected=False,
        head=head,
        objection=objection,
        invalidates_catalogue=False,
        digest=facts_digest(Action.OPAQUE, "", (), (objection.reason.name, objection.message)),
    )


def both(ones: list[Shown | None], others: list[Shown | None]) -> list[Shown | None]:
    """What each statement of a text shows whose names may mean one thing or another."""
    nothing = Shown(None, ())
    longer = max(len(ones), len(others))
    padded = [(each + [None] * longer)[:longer] for each in (ones, others)]
    return [
        None if one is None and other is None else either(one or nothing, other or nothing)
        for one, other in zip(*padded, strict=True)
    ]


def either(one: Shown, other: Shown) -> Shown:
    """What a statement shows that is one of two."""
    every = tuple(sorted({*one.every, *other.every}))
    if one.columns is None or other.columns is None or len(one.columns) != len(other.columns):
        return Shown(None, every)
    return Shown(tuple(map(_either, one.columns, other.columns)), every)


def _either(one: Origin, other: Origin) -> Origin:
    if one == other:
        return one
    same = (one.type_oid, one.strategy) == (other.type_oid, other.strategy) or not one.classes or not other.classes
    strategy = (one if one.classes else other).strategy if same else Strategy.NULL
    classes = tuple(sorted({*one.classes, *other.classes}))
    return Origin(
        one.name if one.name == other.name else "",
        one.type_oid if one.type_oid == other.type_oid else 0,
        classes,
        strategy if len(classes) == 1 else Strategy.NULL,
    )
