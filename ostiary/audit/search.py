"""Search, tail and show: the index says where, the log says what.

Every search first brings the index up to date. What comes back are entries as they stand in the log; whoever prints one
uses `summary`, or `ostiary.model.printable` on each text, because entries quote strangers.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from ostiary.audit import index, walreader
from ostiary.audit.index import text_of
from ostiary.audit.walreader import Place
from ostiary.model.errors import OstiaryError
from ostiary.model.printable import printable

MAX_LIMIT: Final = 1_000_000
_FIELDS: Final = (
    "person", "actor", "task", "connection", "action", "object", "verdict", "kind", "session", "policy", "group",
    "status", "error", "reason", "ref",
)  # fmt: skip
_POLL_SECONDS: Final = 0.25
_COMMON: Final = 5000
"""Entries from which on a term is asked of entries, not the other way round."""


class BadQuery(OstiaryError):
    """The query cannot be understood; the sentence says why."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for; all that is given must hold. Terms are compared without case; one that ends in `*` is a prefix."""

    person: str | None = None
    """Subject or proved initiator: id or name."""
    actor: str | None = None
    """Anyone in the chain that acts for the subject: id or name."""
    task: str | None = None
    connection: str | None = None
    action: str | None = None
    """Any effect of the operation."""
    object: str | None = None
    """Name of a relation, function, ... as policy writes it."""
    verdict: str | None = None
    kind: str | None = None
    session: str | None = None
    policy: str | None = None
    """Id of a policy that decided."""
    group: str | None = None
    status: str | None = None
    error: str | None = None
    reason: str | None = None
    ref: str | None = None
    since: str | None = None
    """RFC 3339 in UTC, or the beginning of one: `2026-11-21`, `2026-11-21T08:01`. Inclusive."""
    until: str | None = None
    """Exclusive."""
    text: str | None = None
    """Words that all occur in normalised statements, names or messages."""
    limit: int = 100
    newest_first: bool = True


class Found(msgspec.Struct, frozen=True):
    """One entry and where it stands."""

    origin: str
    """`<writer>/<year>`: the folder under `<state>/audit`."""
    index: int
    entry: dict[str, Any]


def search(state_dir: str | Path, query: Query) -> Iterator[dict[str, Any]]:
    """Yield the entries that fit, newest first unless asked otherwise. Raises `BadQuery`, `IndexFailed`."""
    for found in find(state_dir, query):
        yield found.entry


def find(state_dir: str | Path, query: Query) -> Iterator[Found]:
    """As `search`, with where each entry stands."""
    state = Path(state_dir)
    _statement(query)  # what cannot be understood is said before anything is opened
    with contextlib.closing(index.open_index(state)) as db:
        index.catch_up(db, state)
        sql, values = _statement(query, db=db)
        yield from _rows(db, state, sql, values)


def tail(state_dir: str | Path, count: int = 20, query: Query | None = None) -> list[dict[str, Any]]:
    """The last `count` entries that fit, oldest first."""
    base = query or Query()
    last = msgspec.structs.replace(base, limit=count, newest_first=True)
    return list(search(state_dir, last))[::-1]


def follow(state_dir: str | Path, query: Query | None = None, count: int = 20) -> Iterator[dict[str, Any]]:
    """As `tail`, and then every new entry as it becomes durable, for ever."""
    state = Path(state_dir)
    base = query or Query()
    sql, values = _statement(msgspec.structs.replace(base, limit=count, newest_first=True))
    newer, newer_values = _statement(msgspec.structs.replace(base, limit=MAX_LIMIT, newest_first=False), follow=True)
    with contextlib.closing(index.open_index(state)) as db:
        index.catch_up(db, state)
        (seen,) = db.execute("SELECT coalesce(max(n), 0) FROM entry").fetchone()
        for found in list(_rows(db, state, sql, values))[::-1]:
            yield found.entry
        while True:
            if not index.catch_up(db, state):
                time.sleep(_POLL_SECONDS)
                continue
            (now,) = db.execute("SELECT max(n) FROM entry").fetchone()
            for found in _rows(db, state, newer, [*newer_values[:-1], seen, newer_values[-1]]):
                yield found.entry
            seen = now


def show(state_dir: str | Path, entry_id: str) -> Found | None:
    """The entry with this id, or None."""
    state = Path(state_dir)
    with contextlib.closing(index.open_index(state)) as db:
        index.catch_up(db, state)
        sql = f"{_SELECT} WHERE e.id = ? LIMIT 1"
        return next(_rows(db, state, sql, [entry_id.strip().lower()]), None)


def outcome_of(state_dir: str | Path, entry_id: str) -> Found | None:
    """What closed the intent or session start with this id; None while nothing has."""
    return next(find(state_dir, Query(ref=entry_id, limit=1)), None)


def summary(entry: dict[str, Any]) -> str:
    """One line for people, safe for a terminal: when, who, through whom, where, what, verdict."""
    who, target, op = (_object(entry, name) for name in ("who", "target", "op"))
    chain = [text_of(who.get("name")) or text_of(who.get("sub"))]
    chain += [
        text_of(a.get("name")) or text_of(a.get("sub")) for a in reversed(who.get("act") or []) if isinstance(a, dict)
    ]
    verdict = text_of(_object(entry, "decision").get("verdict"))
    result = _object(entry, "result")
    what = text_of(_object(entry, "stmt").get("head")) or text_of(op.get("name"))
    parts = [
        str(entry.get("t", "")),
        str(entry.get("kind", "")),
        " → ".join(filter(None, chain)),
        text_of(target.get("connection")) or text_of(_object(entry, "login").get("connection")),
        verdict or text_of(result.get("status")) or text_of(_object(entry, "login").get("status")),
        what or text_of(result.get("tag")),
    ]
    return "  ".join(printable(part) for part in parts if part)


_SELECT: Final = "SELECT o.path, e.idx, e.segment, e.offset, e.id FROM entry e JOIN origin o ON o.id = e.origin"


def _rows(db: sqlite3.Connection, state: Path, sql: str, values: list[Any]) -> Iterator[Found]:
    try:
        for path, number, segment, offset, entry_id in db.execute(sql, values):
            data = walreader.read_at(state / "audit" / path, Place(segment, offset, number))
            entry = index.decode(data) if data is not None else {}
            if entry and str(entry.get("id", "")) == entry_id:
                yield Found(path, number, entry)
    except sqlite3.Error as exc:
        raise index.IndexFailed(f"the search index failed: {exc}") from None


def _statement(query: Query, *, follow: bool = False, db: sqlite3.Connection | None = None) -> tuple[str, list[Any]]:
    """SQL and its values; everything that came from outside is a value.

    A term that many entries have is asked of each entry in order of time until the limit is reached; a rare one is
    looked up first. So the time does not grow with the log, whichever it is.
    """
    where: list[str] = []
    values: list[Any] = []
    for field in _FIELDS:
        wanted = getattr(query, field)
        if wanted is None:
            continue
        text = index.term_text(wanted)
        match, bounds = "v.text = ?", [text]
        if wanted.endswith("*"):
            match, bounds = "v.text >= ? AND v.text < ?", [text[:-1], text[:-1] + "\U0010ffff"]
        having = f"SELECT p.entry FROM value v JOIN posting p ON p.value = v.n WHERE v.field = ? AND {match}"  # noqa: S608 - constants
        if db is not None and _is_common(db, having, [field, *bounds]):
            where.append(f"EXISTS ({having} AND p.entry = e.n)")
        else:
            where.append(f"e.n IN ({having})")
        values += [field, *bounds]
    if query.text is not None:
        terms = query.text.split()
        if not terms:
            raise BadQuery("the text to look for is empty")
        where.append("e.n IN (SELECT rowid FROM words WHERE words MATCH ?)")
        # Each word is quoted, so nothing in it is FTS5's query language; a trailing * asks for a prefix.
        values.append(" ".join(f'"{_quoted(term)}"' + ("*" if term.endswith("*") else "") for term in terms))
    for bound, comparison in ((query.since, ">="), (query.until, "<")):
        if bound is not None:
            where.append(f"e.t {comparison} ?")
            values.append(_time(bound))
    if not 1 <= query.limit <= MAX_LIMIT:
        raise BadQuery(f"the limit is from 1 to {MAX_LIMIT}")
    order = "e.t DESC, e.n DESC" if query.newest_first else "e.t, e.n"
    if follow:
        where.append("e.n > ?")
        order = "e.n"
    values.append(query.limit)
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    return f"{_SELECT}{condition} ORDER BY {order} LIMIT ?", values


def _is_common(db: sqlite3.Connection, having: str, values: list[Any]) -> bool:
    (count,) = db.execute(f"SELECT count(*) FROM ({having} LIMIT {_COMMON + 1})", values).fetchone()  # noqa: S608 - constants
    return int(count) > _COMMON


def _quoted(term: str) -> str:
    return term.rstrip("*").replace('"', '""').replace("\0", "")


def _time(bound: str) -> str:
    """A beginning of an RFC 3339 time compares, as text, as the moment at which it begins."""
    text = bound.strip().upper().replace(" ", "T").removesuffix("Z")
    shape = "0000-00-00T00:00:00.000000"
    fits = len(text) <= len(shape) and all(
        char.isdigit() if form == "0" else char == form for char, form in zip(text, shape, strict=False)
    )
    if len(text) < 4 or not fits or not text.isascii():
        raise BadQuery(f"not a time: {printable(bound)}; write 2026-11-21 or 2026-11-21T08:01:02 (UTC)")
    return text


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
