"""Search, tail and show: the index says where, the log says what.

Every search first brings the index up to date. What comes back are entries as they stand in the log; whoever prints one
uses `summary`, or `ostiary.model.printable` on each text, because entries quote strangers.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ostiary.audit import index, walreader
from ostiary.audit.index import first_number, id_key, text_of
from ostiary.audit.streams import END, Stream, Streams, together
from ostiary.audit.touched import Touched
from ostiary.audit.walreader import Place
from ostiary.model.errors import OstiaryError
from ostiary.model.printable import printable
from ostiary.model.words import words_wanted

MAX_LIMIT: Final = 1_000_000
_FIELDS: Final = (
    "person", "actor", "task", "connection", "action", "object", "verdict", "kind", "session", "policy", "group",
    "status", "error", "reason",
)  # fmt: skip
_POLL_SECONDS: Final = 0.25
_LATEST: Final = END - 1


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
    value: str | None = None
    """A whole value that a client of PostgreSQL sent as a parameter or literal, or was shown."""
    screen: str | None = None
    """Words that all were on the screen, or in the output, of one operation of SSH."""
    row: str | None = None
    """`table/key`: an operation on that table, with that value."""
    limit: int = 100
    newest_first: bool = True


class Found(msgspec.Struct, frozen=True):
    """One entry and where it stands."""

    origin: str
    """`<writer>/<year>`: the folder under `<state>/audit`."""
    index: int
    entry: dict[str, Any]


def search(state_dir: str | Path, query: Query, touched: Touched | None = None) -> Iterator[dict[str, Any]]:
    """Yield the entries that fit, newest first unless asked otherwise. Raises `BadQuery`, `IndexFailed`.

    `touched` is needed to look for a value or a row.
    """
    for found in find(state_dir, query, touched):
        yield found.entry


def find(state_dir: str | Path, query: Query, touched: Touched | None = None) -> Iterator[Found]:
    """As `search`, with where each entry stands."""
    state = Path(state_dir)
    check(query)  # what cannot be understood is said before anything is opened
    with contextlib.closing(index.open_index(state)) as db:
        index.catch_up(db, state)
        yield from _answers(db, state, query, touched)


def tail(state_dir: str | Path, count: int = 20, query: Query | None = None) -> list[dict[str, Any]]:
    """The last `count` entries that fit, oldest first."""
    base = query or Query()
    last = msgspec.structs.replace(base, limit=count, newest_first=True)
    return list(search(state_dir, last))[::-1]


def follow(state_dir: str | Path, query: Query | None = None, count: int = 20) -> Iterator[dict[str, Any]]:
    """As `tail`, and then every new entry as it becomes durable, for ever."""
    state = Path(state_dir)
    last = msgspec.structs.replace(query or Query(), limit=count, newest_first=True)
    newer = msgspec.structs.replace(last, limit=MAX_LIMIT, newest_first=False)
    check(last)
    with contextlib.closing(index.open_index(state)) as db:
        index.catch_up(db, state)
        seen = _ends(db)
        for found in list(_answers(db, state, last))[::-1]:
            yield found.entry
        while True:
            if not index.catch_up(db, state):
                time.sleep(_POLL_SECONDS)
                continue
            now = _ends(db)
            for found in _answers(db, state, newer, among=_between(db, seen, now)):
                yield found.entry
            seen = now


def show(state_dir: str | Path, entry_id: str) -> Found | None:
    """The entry with this id, or None."""
    state = Path(state_dir)
    with contextlib.closing(index.open_index(state)) as db:
        index.catch_up(db, state)
        row = db.execute("SELECT n FROM entry WHERE id = ? LIMIT 1", (id_key(entry_id),)).fetchone()
        return None if row is None else _found(db, state, row[0])


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


def _answers(
    db: sqlite3.Connection, state: Path, query: Query, touched: Touched | None = None, among: Sequence[int] | None = None
) -> Iterator[Found]:
    """Yield what fits: of all entries, or of those whose numbers are given."""
    make = Streams(db, newest_first=query.newest_first)
    try:
        streams = list(_streams(db, state, make, query, touched))
        streams += [] if among is None else [make.these(among)]
        fits = [check for name, text in _beginnings(query) if (check := _beginning(make, streams, name, text)) is not None]
        low, high = _bounds(query)
        left = query.limit
        for number in together(streams or [make.everything()], *make.range(low, high)):
            found = _found(db, state, abs(number))
            if found is not None and all(fit(found.entry) for fit in fits):
                yield found
                left -= 1
            if not left:
                return
    except sqlite3.Error as exc:
        raise index.IndexFailed(f"the search index failed: {exc}") from None


def _streams(
    db: sqlite3.Connection, state: Path, make: Streams, query: Query, touched: Touched | None
) -> Iterator[Stream]:
    """Make a stream of each thing that is asked for, but for the beginnings of terms."""
    for field in _FIELDS:
        wanted = getattr(query, field)
        if wanted is not None and not wanted.endswith("*"):
            yield make.term(field, index.term_text(wanted))
    if query.ref is not None:
        yield make.closing(id_key(query.ref))
    if query.text is not None:
        # Each word is quoted, so nothing in it is FTS5's query language; a trailing * asks for a prefix.
        yield make.words(" ".join(f'"{_quoted(term)}"' + ("*" if term.endswith("*") else "") for term in query.text.split()))
    values = [] if query.value is None else [query.value]
    if query.screen is not None:
        values += dict.fromkeys(word.casefold() for word in words_wanted(query.screen))
    if query.row is not None:
        table, _, key = query.row.partition("/")
        values.append(key)
        yield make.named("object", index.term_text(table))
    for value in values:
        if touched is None:
            raise BadQuery("values can only be looked for where the recordings can be read")
        yield touched.stream(db, state, make, value)


def _beginnings(query: Query) -> Iterator[tuple[str, str]]:
    for field in _FIELDS:
        wanted = getattr(query, field)
        if wanted is not None and wanted.endswith("*"):
            yield field, index.term_text(wanted)[:-1]


def _beginning(make: Streams, streams: list[Stream], field: str, text: str) -> Callable[[dict[str, Any]], bool] | None:
    """Add the stream of a term's beginning, or, where that would be too much, return how to look at entries."""
    stream = make.beginning(field, text, alone=not streams)
    if stream is not None:
        streams.append(stream)
        return None
    return lambda entry: any(name == field and term.startswith(text) for name, term in index.terms(entry))


def _found(db: sqlite3.Connection, state: Path, number: int) -> Found | None:
    """Read an entry where the index says that it stands; None where the log says otherwise."""
    sql = "SELECT o.path, e.idx, e.segment, e.offset, e.id FROM entry e JOIN origin o ON o.id = e.origin WHERE e.n = ?"
    row = db.execute(sql, (number,)).fetchone()
    if row is None:
        return None
    path, place, segment, offset, entry_id = row
    data = walreader.read_at(state / "audit" / path, Place(segment, offset, place))
    entry = index.decode(data) if data is not None else {}
    return Found(path, place, entry) if entry and id_key(str(entry.get("id", ""))) == entry_id else None


def _ends(db: sqlite3.Connection) -> dict[int, int]:
    """How far each origin was read."""
    return dict(db.execute("SELECT id, next FROM origin"))


def _between(db: sqlite3.Connection, since: dict[int, int], until: dict[int, int]) -> list[int]:
    """Return the numbers of the entries that were read in between."""
    sql = "SELECT n FROM entry WHERE origin = ? AND idx >= ? AND idx < ?"
    return [n for origin, end in until.items() for (n,) in db.execute(sql, (origin, since.get(origin, 0), end))]


def fits(query: Query, entry: dict[str, Any]) -> bool:
    """Whether a query by terms and times would find an entry, told without the index. Raises `BadQuery`."""
    low, high = _bounds(query)
    micros = index.micros_of(entry.get("t"))
    if micros is not None and not low <= first_number(micros) <= high:
        return False
    held = index.terms(entry)
    wanted = [(field, index.term_text(text)) for field in _FIELDS if (text := getattr(query, field)) is not None]
    return all(
        any(name == field and (term.startswith(text[:-1]) if text.endswith("*") else term == text) for name, term in held)
        for field, text in wanted
    )


def check(query: Query) -> None:
    """Raise `BadQuery` for what cannot be understood."""
    if query.text is not None and not query.text.split():
        raise BadQuery("the text to look for is empty")
    if query.screen is not None and not words_wanted(query.screen):
        raise BadQuery("there is no word in what is looked for on screens")
    if query.row is not None and not all(query.row.partition("/")):
        raise BadQuery(f"not a row: {printable(query.row)}; write the table and the key, as in public.orders/4711")
    if not 1 <= query.limit <= MAX_LIMIT:
        raise BadQuery(f"the limit is from 1 to {MAX_LIMIT}")
    _bounds(query)


def _bounds(query: Query) -> tuple[int, int]:
    """Return the numbers of the first and of the last entry that may fit."""
    low = 0 if query.since is None else first_number(_micros(query.since))
    high = _LATEST if query.until is None else first_number(_micros(query.until)) - 1
    return low, high


def _quoted(term: str) -> str:
    return term.rstrip("*").replace('"', '""').replace("\0", "")


def _micros(bound: str) -> int:
    """Microseconds since 1970 at which a time begins of which the beginning is given."""
    text = bound.strip().upper().replace(" ", "T").removesuffix("Z")
    shape = "0000-00-00T00:00:00.000000"
    fits = len(text) <= len(shape) and all(
        char.isdigit() if form == "0" else char == form for char, form in zip(text, shape, strict=False)
    )
    whole = text + shape[len(text) :]
    try:
        if len(text) < 4 or not fits or not text.isascii():
            raise ValueError  # noqa: TRY301 - said below, as what the calendar does not have
        year, month, day = (max(1, int(part)) for part in whole[:10].split("-"))
        clock = dt.time.fromisoformat(whole[11:])
        since = dt.datetime.combine(dt.date(year, month, day), clock) - dt.datetime(1970, 1, 1)  # noqa: DTZ001 - both in UTC
        return min(max(0, since // dt.timedelta(microseconds=1)), index.LAST_MICROS)
    except ValueError:
        raise BadQuery(f"not a time: {printable(bound)}; write 2026-11-21 or 2026-11-21T08:01:02 (UTC)") from None


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
