"""Reads a database's catalogue over one side connection into a `Snapshot`, and after that only what changed.

Theory of operation
-------------------
A look is one REPEATABLE READ READ ONLY transaction with an empty search_path, so that a snapshot is of one moment and no name in
the queries can be hijacked. It begins with PostgreSQL's own word for which transactions were over (pg_current_snapshot): where that is what it
was, nothing was committed since the last look, and nothing more is asked (a *glance* asks this alone). Else it asks for stamps: sums over hashes of (xmin, ctid) of the rows that a snapshot is made of,
by section (relations, functions, types, the rest) and in a section by bucket of the oid of the object that a row
belongs to. Any change of a row changes its stamp, in whatever way it came about (another session, DDL rolled back in part, VACUUM FULL).
Of buckets whose stamp changed, all objects are read anew, and those of them that are gone are dropped; what was read before
stands for all others. What a relation looks like depends on rows of other objects in one way only: which functions stand
behind an operator or operator class, and how schemas are called. Where one of those changed, everything is read again, as
when one of PostgreSQL's own objects did.

System objects (OIDs below 16384) are in the snapshot as well: statements name them, and their volatility counts. Temporary
objects belong to sessions, which know their own (`protocols/postgres/understand/view.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from ostiary.catalogue import assemble, queries
from ostiary.catalogue.queries import BUCKETS, SYSTEM
from ostiary.model.catalogue import FIRST_NORMAL_OID, Function, Relation, Snapshot, Type

Rows = list[dict[str, Any]]
Stamps = dict[str, dict[int, str]]

T = TypeVar("T", Relation, Function, Type, assemble.TypeCalls)

MOST_BUCKETS: Final = BUCKETS // 4
"""Changed at once: from then on it is cheaper to read everything."""


class Link(Protocol):
    """A connection of the gateway's own to a target (`ostiary.driver.side`)."""

    @property
    def is_closed(self) -> bool:
        """Whether it can be used no more."""
        ...

    async def fetch_all(self, statements: Sequence[str]) -> list[Rows]:
        """Run statements one after another, in one round trip; the rows of each."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


OPENING: Final = ("begin isolation level repeatable read read only", queries.SESSION, "set local search_path = pg_catalog", queries.MOMENT)
GLANCE: Final = (*OPENING, "rollback")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot, and what is needed to bring it up to date."""

    snapshot: Snapshot
    moment: str
    """`queries.MOMENT`; empty: not to be known."""
    stamps: Stamps
    session: dict[str, Any]
    schemas: Rows
    rest: assemble.Rest
    types: dict[int, assemble.TypeCalls]
    is_quiet: bool = True
    """Nothing had been committed the last time somebody looked: it is worth a glance before a look."""


async def read_snapshot(link: Link, version: int) -> Snapshot:
    """Read the whole catalogue through an open connection."""
    known = await look(link, None)
    return msgspec.structs.replace(known.snapshot, version=version)


async def look(link: Link, known: Known | None) -> Known:
    """What the catalogue is now; `known` itself where a glance shows that nothing changed.

    A glance is a transaction of its own, whole in one round trip, so that what most sessions begin with costs one. Where something is
    committed all the time it would be one more for nothing: then the look comes at once. A snapshot that says the same as the one before has its version. Raises what the link does; then hang up, as its
    transaction may be open.
    """
    if known is not None and known.moment and known.is_quiet:
        _, (session,), _, (told,), _ = await link.fetch_all(GLANCE)
        if (told["moment"], session) == (known.moment, known.session):
            return known
    _, (session,), _, (told,) = await link.fetch_all(OPENING)
    moment = told["moment"]
    if known is not None and moment and (moment, session) == (known.moment, known.session):
        await link.fetch_all(["rollback"])
        return msgspec.structs.replace(known, is_quiet=True)
    stamped, schemas = await link.fetch_all([queries.STAMPS, queries.SCHEMAS])
    stamps = _stamps(stamped)
    found = None
    if known is not None:
        if (stamps, session, schemas) == (known.stamps, known.session, known.schemas):
            await link.fetch_all(["rollback"])
            return msgspec.structs.replace(known, moment=moment, is_quiet=False)
        found = await _changes(link, known, stamps, session, schemas)
    found = found or await _everything(link, known, stamps, session, schemas)
    return msgspec.structs.replace(found, moment=moment, is_quiet=known is None)


def _stamps(rows: Rows) -> Stamps:
    stamps: Stamps = {}
    for row in rows:
        pairs = (pair.partition(":") for pair in row["stamps"].split(" "))
        stamps[row["section"]] = {int(bucket): stamp for bucket, _, stamp in pairs}
    return stamps


async def _everything(
    link: Link, known: Known | None, stamps: Stamps, session: dict[str, Any], schemas: Rows
) -> Known:
    asked = {name: query(queries.everything) for name, query in (queries.TYPES | queries.ABOUT_RELATIONS).items()}
    asked |= {"functions": queries.functions(queries.everything), "relations": queries.relations(queries.everything)}
    asked |= queries.REST
    *answers, _ = await link.fetch_all([*asked.values(), "rollback"])
    rows = dict(zip(asked, answers, strict=True))
    rest = assemble.Rest.of(rows)
    names = _schema_names(schemas)
    types, type_calls = assemble.types(rows, names, rest)
    snapshot = assemble.snapshot(
        version=1,
        session=session,
        schemas=schemas,
        rest=rest,
        relations=assemble.relations(rows, names, rest),
        functions=assemble.functions(rows["functions"], names),
        types=types,
    )
    snapshot = _numbered(snapshot, None if known is None else known.snapshot)
    return Known(snapshot=snapshot, moment="", stamps=stamps, session=session, schemas=schemas, rest=rest, types=type_calls)


def _numbered(snapshot: Snapshot, old: Snapshot | None) -> Snapshot:
    """With the version of the one before if it says the same, else with the next."""
    if old is None:
        return snapshot
    snapshot = msgspec.structs.replace(snapshot, version=old.version)
    return snapshot if snapshot == old else msgspec.structs.replace(snapshot, version=old.version + 1)


async def _changes(
    link: Link, known: Known, stamps: Stamps, session: dict[str, Any], schemas: Rows
) -> Known | None:
    """Read what changed; None: it has to be everything."""
    buckets = {section: _changed(known.stamps, stamps, section) for section in ("relation", "function", "type")}
    names, old_names = _schema_names(schemas), _schema_names(known.schemas)
    if (
        session != known.session
        or any(SYSTEM in each or len(each) > MOST_BUCKETS for each in buckets.values())
        or any(names.get(oid, name) != name for oid, name in old_names.items())
    ):
        return None
    asked: dict[str, str] = {}
    if stamps.get("rest") != known.stamps.get("rest"):
        asked |= queries.REST
    asked["relations"] = queries.relations(queries.in_buckets(buckets["relation"]))
    asked["functions"] = queries.functions(queries.in_buckets(buckets["function"]))
    asked |= {name: query(queries.in_buckets(buckets["type"])) for name, query in queries.TYPES.items()}
    rows = dict(zip(asked, await link.fetch_all(list(asked.values())), strict=True))
    rest = assemble.Rest.of(rows) if "operators" in rows else known.rest
    if not rest.agrees_with(known.rest):
        return None
    near = queries.of([row["oid"] for row in rows["relations"]])
    about = {name: query(near) for name, query in queries.ABOUT_RELATIONS.items()}
    *answers, _ = await link.fetch_all([*about.values(), "rollback"])
    rows |= dict(zip(about, answers, strict=True))
    return _merged(known, rows, buckets, stamps, session, schemas, rest)


def _merged(
    known: Known,
    rows: dict[str, Rows],
    buckets: dict[str, set[int]],
    stamps: Stamps,
    session: dict[str, Any],
    schemas: Rows,
    rest: assemble.Rest,
) -> Known:
    old = known.snapshot
    names = _schema_names(schemas)
    relations = _replaced(old.relations, assemble.relations(rows, names, rest), buckets["relation"])
    functions = _replaced(old.functions, assemble.functions(rows["functions"], names), buckets["function"])
    changed, calls = assemble.types(rows, names, rest)
    type_calls = _replaced(known.types, calls, buckets["type"])
    types = assemble.with_subtypes(_replaced(old.types, changed, buckets["type"]), type_calls)
    snapshot = assemble.snapshot(
        version=1,
        session=session,
        schemas=schemas,
        rest=rest,
        relations=relations,
        functions=functions,
        types=types,
    )
    snapshot = _numbered(snapshot, old)
    return Known(snapshot=snapshot, moment="", stamps=stamps, session=session, schemas=schemas, rest=rest, types=type_calls)


def _replaced(old: dict[int, T], new: dict[int, T], buckets: set[int]) -> dict[int, T]:
    """`old`, but in these buckets `new` and nothing else."""
    if not buckets:
        return dict(old)
    kept = {
        oid: each for oid, each in old.items() if oid < FIRST_NORMAL_OID or oid % BUCKETS not in buckets or oid in new
    }
    kept |= new
    return kept


def _changed(old: Stamps, new: Stamps, section: str) -> set[int]:
    before, after = old.get(section, {}), new.get(section, {})
    return {bucket for bucket in before.keys() | after.keys() if before.get(bucket) != after.get(bucket)}


def _schema_names(rows: Rows) -> dict[int, str]:
    return {row["oid"]: row["name"] for row in rows}
