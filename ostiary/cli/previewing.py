"""What would be masked on a PostgreSQL connection, and why: the catalogue held against the configuration, and a sample of rows.

Rows are read as the gateway reads its catalogue, on a connection of its own that is read-only, and go through the very stage that masks
what callers get; what that leaves is all that anybody sees of them. What the target says where a sample fails is left out, since it may
quote values: its SQLSTATE stays.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import re2
from msgspec import structs

from ostiary.catalogue import Catalogue
from ostiary.driver.side import SETTINGS, Side
from ostiary.driver.targets import means
from ostiary.masking import mask
from ostiary.masking.plan import JOIN, Planner
from ostiary.model.catalogue import FIRST_NORMAL_OID, Relation, Snapshot
from ostiary.model.connections import PostgresConnection
from ostiary.model.decisions import Grounds, Permit
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.operations import Operation, Shown
from ostiary.model.proofs import Batch, Content, Treatment
from ostiary.model.results import ColumnDescription
from ostiary.policy import decide as deciding
from ostiary.policy.policies import Policies
from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.operations import ProtectedColumns, View
from ostiary.protocols.postgres.operations import understand as understand_text
from ostiary.upstream.dial import open_target
from ostiary.vault.references import resolve

MAX_SAMPLE: Final = 8 << 20
"""Bytes of one sample; of a larger one nothing is shown."""
MAX_NAMES: Final = 8 << 10
"""Bytes of names in one entry of the log."""
READABLE: Final = frozenset("rpfmv")
_DATA_ROW: Final = 0x44

Found = dict[str, Any]


class _Sample(asyncio.Protocol):
    """Hears one answer: what its columns are, and its rows as they came."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.columns: tuple[ColumnDescription, ...] = ()
        self.rows = bytearray()
        self.count = 0
        self.code = ""
        self._held = bytearray()

    def data_received(self, data: bytes) -> None:
        self._held += data
        try:
            while len(self._held) >= 5 and len(self._held) > (length := int.from_bytes(self._held[1:5], "big")):
                self._take(bytes(self._held[: 1 + length]))
                del self._held[: 1 + length]
            if len(self._held) + len(self.rows) > MAX_SAMPLE:
                self._fail(NotAdmitted(Reason.TARGET_REFUSED, f"a sample of more than {MAX_SAMPLE >> 20} MiB"))
        except Exception as exc:  # noqa: BLE001 - whatever it is, it belongs to whoever waits
            self._fail(exc)

    def _take(self, frame: bytes) -> None:
        if frame[0] == _DATA_ROW:
            self.rows += frame
            self.count += 1
            return
        message = decode.backend(frame)
        if isinstance(message, m.RowDescription):
            self.columns = tuple(
                ColumnDescription(
                    f.name.decode("utf-8", "replace"), f.table, f.attribute, f.type, f.type_size, f.type_modifier, f.format
                )
                for f in message.fields
            )
        elif isinstance(message, m.ErrorResponse):
            self.code = message.text("C") or "XX000"
        elif isinstance(message, m.ReadyForQuery) and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._fail(NotAdmitted(Reason.TARGET_UNREACHABLE, "it closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Preview:
    """One look at one connection, for one identity."""

    def __init__(self, connection: PostgresConnection, policies: Policies, who: VerifiedIdentity) -> None:
        self.connection = connection
        self._policies = policies
        self.who = who
        reference = connection.upstream.password
        self._password = None if reference is None else resolve(reference)
        self._planner = Planner(means(connection, resolve))
        self._rules = [(number, rule, re2.compile(rule.pattern)) for number, rule in enumerate(connection.rules)]
        self._snapshot: Snapshot | None = None

    async def relations(self, wanted: list[str], most: int) -> tuple[list[Relation], int, list[str]]:
        """The relations to look at, how many more there are, and names that are none. All of somebody's own, if none is named."""
        catalogue = Catalogue(self.connection, lambda: Side.open(self.connection, self._password))
        try:
            self._snapshot = await catalogue.refresh()
        finally:
            await catalogue.close()
        self._protected = ProtectedColumns(self.connection.protect, self._snapshot, self.connection.rules)
        known = {f"{each.schema}.{each.name}": each for each in self._snapshot.relations.values() if each.kind in READABLE}
        if wanted:
            return [known[name] for name in wanted if name in known], 0, [name for name in wanted if name not in known]
        own = [known[name] for name in sorted(known) if known[name].oid >= FIRST_NORMAL_OID and known[name].schema != "information_schema"]
        own.sort(key=lambda each: each.oid not in self._protected.of_relation)  # what is protected first
        return own[:most], max(0, len(own) - most), []

    @property
    def missing(self) -> list[str]:
        """Protected columns that are not there."""
        return [f"{each.schema}.{each.table}.{each.column}" for each in self._protected.missing]

    async def look(self, relation: Relation, rows: int) -> Found:
        """What is masked of one relation, and why; with `rows`, what is left of so many."""
        columns = [self._column(relation, column.name, column.number) for column in relation.columns]
        found: Found = {"relation": f"{relation.schema}.{relation.name}", "columns": columns, "sample": []}
        sql = f"SELECT * FROM {_quoted(relation.schema)}.{_quoted(relation.name)}"  # noqa: S608 - names of the catalogue, quoted
        assert self._snapshot is not None  # noqa: S101 - `relations` came first
        facts = understand_text(sql.encode(), View(self._snapshot.search_path), self._snapshot, self._protected)
        decision = deciding.decide(self._policies, self.who, Operation(facts, sql.encode(), None, b""), self.connection)
        found["readable"] = isinstance(decision, Permit)
        clear = decision.grounds.clear if isinstance(decision, Permit) else frozenset[str]()
        for column in columns:
            column["clear"] = bool(column["classes"]) and clear.issuperset(column["classes"])
        if not isinstance(decision, Permit):
            found["problem"] = "this identity may not read it"
        elif (problem := _demanded(decision.grounds)) is not None:
            found["problem"] = problem
        elif rows:
            await self._sample(found, f"{sql} LIMIT {_most(decision.grounds, rows)}", clear, facts.shown[0] if facts.shown else None)
        return found

    def _column(self, relation: Relation, name: str, number: int) -> Found:
        entry = self._protected.by_column.get((relation.oid, number))
        because = "" if entry is None else self._reason(relation, name)
        classes = [] if entry is None else entry[0].split(JOIN)
        return {"column": name, "classes": classes, "mask": None if entry is None else entry[1].value, "because": because, "detected": {}}

    def _reason(self, relation: Relation, name: str) -> str:
        whole = f"{relation.schema}.{relation.name}.{name}"
        if any((each.schema, each.table, each.column) == (relation.schema, relation.name, name) for each in self.connection.protect):
            return f'protect."{whole}"'
        for number, rule, pattern in self._rules:
            if pattern.fullmatch(whole):
                return f"protect_rules[{number}]: {rule.pattern}"
        if relation.kind in "vm":
            return "the view shows what is protected"
        return self._derived(relation, name)

    def _derived(self, relation: Relation, name: str) -> str:
        """Why a column of a table is protected that nobody named."""
        assert self._snapshot is not None  # noqa: S101 - `relations` came first
        known = self._protected.by_column
        (column,) = [each for each in relation.columns if each.name == name]
        made_of = [each.name for each in relation.columns if each.number in column.made_of and (relation.oid, each.number) in known]
        if made_of:
            return f"it is computed from {', '.join(made_of)}, which is protected"
        for guard in relation.guards:
            other = self._snapshot.relations.get(guard.other) if guard.kind == "f" else None
            for own, number in zip(guard.columns, guard.other_columns, strict=False) if other is not None else ():
                if own == column.number and other is not None and (other.oid, number) in known:
                    there = next((each.name for each in other.columns if each.number == number), "")
                    return f"it refers to {other.schema}.{other.name}.{there}, which is protected"
        return "a table above or below it in inheritance or partitioning is protected"

    async def _sample(self, found: Found, sql: str, clear: frozenset[str], shown: Shown | None) -> None:
        target = await open_target(self.connection, self._password, SETTINGS | {"application_name": "ostiary-preview", "statement_timeout": "5s"})
        try:
            heard = _Sample()
            target.attach(heard)
            target.transport.write(encode.encode(m.Query(sql.encode())))
            await heard.done
        finally:
            target.close()
        if heard.code:
            found["problem"] = f"its rows could not be read: SQLSTATE {heard.code}"
            return
        look = self.connection.detect
        plan = self._planner.plan_rows(heard.columns, self._protected.by_column, clear, look, (), shown)
        frames = bytes(heard.rows)
        for at, column in enumerate(found["columns"][: len(heard.columns)]):
            if plan.treatments[at] == Treatment.SCAN:
                only = bytes(Treatment.SCAN if other == at else Treatment.KEEP for other in range(len(heard.columns)))
                alone = mask(clear, Batch(frames, Content.ROWS, structs.replace(plan, treatments=only), heard.count, strip=False), look)
                column["detected"] = dict(alone.counts)
        masked = mask(clear, Batch(frames, Content.ROWS, plan, heard.count, strip=False), look)
        found["sample"] = [dict(zip((c.name for c in heard.columns), row, strict=True)) for row in _rows(masked.frames)]
        found["rows"] = heard.count


def _demanded(grounds: Grounds) -> str | None:
    """Why no rows are tried: what this identity gets is something else than the relation's rows."""
    duties = grounds.duties
    if duties is None:
        return None
    if duties.filters:
        return "a permit shows this identity some of its rows only, so none is tried"
    if duties.instead:
        return f"a permit puts {duties.instead[0][2]} in its place for this identity, so none of its rows is tried: look at that"
    return None


def _most(grounds: Grounds, rows: int) -> int:
    """How many rows are tried: no more than this identity gets."""
    limits = [grounds.row_limit, None if grounds.duties is None else grounds.duties.rows]
    return min([rows, *(each for each in limits if each is not None)])


def _parts(names: list[str]) -> Iterator[list[str]]:
    """Names, as many at a time as an entry holds beside who it is for."""
    part: list[str] = []
    size = 0
    for name in names:
        length = len(json.dumps(name)) + 1
        if part and size + length > MAX_NAMES:
            yield part
            part, size = [], 0
        part.append(name)
        size += length
    if part:
        yield part


def _rows(frames: bytes) -> Iterator[list[str | None]]:
    """The cells of DataRow frames in text format."""
    at = 0
    while at < len(frames):
        end = at + 1 + int.from_bytes(frames[at + 1 : at + 5], "big")
        cells: list[str | None] = []
        place = at + 7
        while place < end:
            length = int.from_bytes(frames[place : place + 4], "big", signed=True)
            place += 4
            cells.append(None if length < 0 else frames[place : place + length].decode("utf-8", "replace"))
            place += max(length, 0)
        yield cells
        at = end


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def preview(
    made: Preview, wanted: list[str], most: int, rows: int, record: Callable[[list[str]], str]
) -> Found:
    """All of it. `record` puts on record that rows of these relations are read, before they are."""
    relations, left, unknown = await made.relations(wanted, most)
    names = [f"{each.schema}.{each.name}" for each in relations]
    entries = [await asyncio.to_thread(record, part) for part in _parts(names)] if rows else []
    found = [await made.look(relation, rows) for relation in relations]
    return {
        "connection": made.connection.name, "entries": entries, "relations": found, "left_out": left, "unknown": unknown,
        "missing": made.missing,
    }  # fmt: skip
