"""The watch over a gateway's logs: reads what is new, asks the rules, and does what they say. Lives in the control process.

It reads the write-ahead files of every writer of this gateway, in their order, a moment after they are written, so a rule acts within
about a second and the data path pays nothing for it. How far it has read and what it remembers are kept in one transaction with each
other; what was written while nobody watched is looked at later.

What it does is on record before it is done: a `config` entry that names the rule, the actor and the entry that set it off.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog

from ostiary.alerts.heard import DEMANDED, ENDED, ENDED_SECONDS
from ostiary.alerts.rules import REMEMBERED_HOURS, Alarm, Memory, Session, Watch
from ostiary.config.types import Alert
from ostiary.model.errors import OstiaryError
from ostiary.store.database import Area, Database
from ostiary.store.news import NewsBoard

LOOK_SECONDS: Final = 0.3

AREA: Final = Area(
    "alerts",
    (
        (
            "CREATE TABLE alerts_read (origin TEXT PRIMARY KEY, segment INTEGER, offset INTEGER, next INTEGER) STRICT",
            "CREATE TABLE alerts_used (actor TEXT, thing TEXT, PRIMARY KEY (actor, thing)) STRICT, WITHOUT ROWID",
            "CREATE TABLE alerts_rows (actor TEXT, hour INTEGER, rows INTEGER, PRIMARY KEY (actor, hour)) STRICT, WITHOUT ROWID",
        ),
        ("CREATE TABLE alerts_sessions (session TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT",),
    ),
)

Place = tuple[int, int, int]
"""Where in a log the next entry stands: segment, offset, index. Whoever reads it knows what that means."""
Read = Callable[[dict[str, Place]], tuple[list[dict[str, Any]], dict[str, Place]]]
"""Read what stands behind these places, by log: some entries in order, and where each log goes on. Called in a thread."""
Record = Callable[[dict[str, Any]], Awaitable[None]]
Isolate = Callable[[str, str, str], Awaitable[None]]
"""Stop an actor everywhere: issuer, subject, why."""
Notify = Callable[[str, dict[str, Any]], None]

_log = structlog.get_logger("ostiary")


class Engine:
    """Reads, asks, acts."""

    def __init__(
        self,
        rules: tuple[Alert, ...],
        *,
        read: Read,
        database: Database,
        board: NewsBoard,
        record: Record,
        isolate: Isolate,
        notify: Notify,
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._read = read
        self._database = database
        self._board = board
        self._record = record
        self._isolate = isolate
        self._notify = notify
        self._clock = clock
        self._places: dict[str, Place] = {}
        self._watch = Watch(rules, Memory())

    async def run(self) -> None:
        """Watch, for ever."""
        await self.load()
        while True:
            try:
                busy = await self.look()
            except (OstiaryError, OSError) as exc:
                _log.error("alerts cannot be looked for now", error=str(exc))
                busy = False
            if not busy:
                await asyncio.sleep(LOOK_SECONDS)

    async def load(self) -> None:
        """Take up where the process before left off; the first time, at what is written now."""
        memory = self._watch.memory

        def work(db: sqlite3.Connection) -> None:
            for actor, thing in db.execute("SELECT actor, thing FROM alerts_used"):
                memory.used.setdefault(actor, set()).add(thing)
            rows = db.execute("SELECT session, body FROM alerts_sessions ORDER BY session")
            memory.sessions = {number: msgspec.json.decode(body, type=Session) for number, body in rows}
            memory.hours = {(a, h): r for a, h, r in db.execute("SELECT actor, hour, rows FROM alerts_rows")}
            self._places = {
                origin: (segment, offset, following)
                for origin, segment, offset, following in db.execute("SELECT origin, segment, offset, next FROM alerts_read")
            }

        await self._database.transact(work)

    async def look(self) -> bool:
        """Look at what is new; whether there may be more."""
        entries, places = await asyncio.to_thread(self._read, dict(self._places))
        if not entries:
            return False
        alarms = [alarm for entry in entries for alarm in self._watch.heard(entry)]
        for alarm in alarms:
            await self._act(alarm)
        await self._keep(places)
        return True

    async def _keep(self, places: dict[str, Place]) -> None:
        memory = self._watch.memory
        fresh, touched = list(memory.fresh), {place: memory.hours[place] for place in memory.touched}
        changed = {number: memory.sessions.get(number) for number in memory.changed}
        oldest = max((hour for _, hour in touched), default=0) - REMEMBERED_HOURS

        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR IGNORE INTO alerts_used VALUES (?, ?)", fresh)
            db.executemany("INSERT OR REPLACE INTO alerts_rows VALUES (?, ?, ?)", [(a, h, r) for (a, h), r in touched.items()])
            db.executemany("DELETE FROM alerts_sessions WHERE session = ?", [(number,) for number in changed])
            db.executemany(
                "INSERT INTO alerts_sessions VALUES (?, ?)",
                [(number, msgspec.json.encode(held)) for number, held in changed.items() if held is not None],
            )
            if touched:
                db.execute("DELETE FROM alerts_rows WHERE hour < ?", (oldest,))
            db.executemany(
                "INSERT OR REPLACE INTO alerts_read VALUES (?, ?, ?, ?)",
                [(origin, *place) for origin, place in places.items()],
            )

        await self._database.transact(work)
        memory.fresh.clear()
        memory.touched.clear()
        memory.changed.clear()
        self._places |= places

    async def _act(self, alarm: Alarm) -> None:
        rule, actor = alarm.rule, alarm.actor
        said = {
            "action": "alert", "rule": rule.name, "why": alarm.why, "who": actor.name, "iss": actor.iss, "sub": actor.sub,
            "connection": alarm.connection, "session": alarm.session, "entry": alarm.entry, "do": list(rule.do),
        }  # fmt: skip
        await self._record(said)
        now = int(self._clock())
        if "notify" in rule.do:
            self._notify("alert", {name: said[name] for name in ("rule", "why", "who", "connection", "session", "entry")})
        if "demand-approval" in rule.do:
            until = now + int(rule.demand_minutes * 60)
            await self._board.tell(DEMANDED, actor.key, {"rule": rule.name, "groups": list(rule.approvers)}, until)
        if "isolate" in rule.do:
            await self._isolate(actor.iss, actor.sub, f"alert {rule.name}: {alarm.why}")
        if "end-session" in rule.do:
            await self._board.tell(ENDED, alarm.session, {"rule": rule.name, "why": alarm.why}, now + ENDED_SECONDS)
