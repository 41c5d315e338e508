"""Rules over what is on record: refusals in a row, a first use, more than usual, a masked class in bulk. Pure.

A `Watch` hears entries in order and says which rules they set off. What it has to know of the past (which tables somebody has used,
how much they usually read) is a `Memory`, which whoever holds the watch keeps between two starts.

Who is meant is the whole chain: Ana, and Ana through an agent, are two. What an entry does not say (it was too large) sets nothing off.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ostiary.config.types import Alert

HOUR: Final = 3600
USUAL_HOURS: Final = 3
"""Hours with something in them that have to be known before there is a usual."""
REMEMBERED_HOURS: Final = 24 * 14
MAX_WATCHED: Final = 100_000
MAX_SESSIONS: Final = 100_000
MAX_USED: Final = 20_000
QUIET_SECONDS: Final = 60
"""A rule that was set off by somebody says so once a minute at most; what it does to them holds meanwhile."""


class Actor(msgspec.Struct, frozen=True):
    """Whom an alarm is about."""

    key: str
    """Stands for the whole chain."""
    name: str
    iss: str
    sub: str
    """Of whoever was at the keyboard: who is isolated."""


class Alarm(msgspec.Struct, frozen=True):
    """A rule was set off."""

    rule: Alert
    actor: Actor
    connection: str
    session: str
    entry: str
    """Id of the entry that did."""
    why: str


class Session(msgspec.Struct, frozen=True):
    """What entries of a session do not say again."""

    actor: Actor
    connection: str
    kinds: frozenset[str]
    groups: frozenset[str]


class Memory:
    """What has to be known of the past: in memory, with what has changed since it was last kept."""

    def __init__(self) -> None:
        self.used: dict[str, set[str]] = {}
        """Actor to connection and object; of one actor `MAX_USED` at most: whatever is used beyond that is used for the first time."""
        self.sessions: dict[str, Session] = {}
        """Those that have begun and not ended."""
        self.changed: set[str] = set()
        """Sessions that began or ended."""
        self.hours: dict[tuple[str, int], int] = {}
        """(actor, hour) to rows."""
        self.fresh: list[tuple[str, str]] = []
        self.touched: set[tuple[str, int]] = set()


class Watch:
    """Every rule, over every entry."""

    def __init__(self, rules: tuple[Alert, ...], memory: Memory) -> None:
        self._rules = rules
        self.memory = memory
        self._counted: dict[tuple[str, str], deque[tuple[float, int]]] = {}
        self._said: dict[tuple[str, str], float] = {}

    def heard(self, entry: Mapping[str, Any]) -> list[Alarm]:
        """Take one entry; the alarms that it sets off."""
        kind = entry.get("kind")
        if kind == "session.start":
            self._begin(entry)
        elif kind == "session.end":
            self._forget(str(entry.get("session")))
        session = self.memory.sessions.get(str(entry.get("session")))
        if kind not in ("intent", "deny", "outcome") or session is None:
            return []
        now = dt.datetime.fromisoformat(entry["t"]).timestamp()
        alarms = []
        uses = self._uses(entry, session) if kind == "intent" else []
        rows = self._rows(entry, session, now) if kind == "outcome" else 0
        for rule in self._rules:
            if not _is_about(rule, session):
                continue
            why = self._why(rule, entry, session, now, uses, rows)
            if why and self._is_news(rule, session, entry["session"], now):
                alarms.append(Alarm(rule, session.actor, session.connection, entry["session"], entry["id"], why))
        return alarms

    def _is_news(self, rule: Alert, session: Session, number: str, now: float) -> bool:
        """Whether nobody has been told of it. That a session was ended says nothing of the next one: that is ended as well."""
        place = rule.name, number if "end-session" in rule.do else session.actor.key
        if now - self._said.get(place, 0.0) < QUIET_SECONDS:
            return False
        if len(self._said) >= MAX_WATCHED:
            del self._said[next(iter(self._said))]
        self._said[place] = now
        return True

    def _forget(self, number: str) -> None:
        if self.memory.sessions.pop(number, None) is not None:
            self.memory.changed.add(number)

    def _begin(self, entry: Mapping[str, Any]) -> None:
        if len(self.memory.sessions) >= MAX_SESSIONS:
            self._forget(next(iter(self.memory.sessions)))
        self.memory.changed.add(str(entry.get("session")))
        who = entry.get("who", {})
        chain = [who, *who.get("act", [])]
        key = hashlib.sha256(msgspec.json.encode([(each.get("iss"), each.get("sub")) for each in chain])).hexdigest()
        keyboard = chain[1] if len(chain) > 1 else who
        name = " for ".join(str(each.get("name") or each.get("sub")) for each in [*chain[1:], who])
        self.memory.sessions[str(entry.get("session"))] = Session(
            Actor(key, name, str(keyboard.get("iss")), str(keyboard.get("sub"))),
            str(entry.get("target", {}).get("connection")),
            frozenset(str(each.get("kind")) for each in chain),
            frozenset(map(str, who.get("groups", []))),
        )

    def _why(
        self, rule: Alert, entry: Mapping[str, Any], session: Session, now: float, uses: list[str], rows: int
    ) -> str:
        match rule.when, entry["kind"]:
            case "refusals", "deny":
                count = self._count(rule, session, now, 1)
                return f"{count} refusals in a row" if count >= rule.count else ""
            case "refusals", "intent":
                self._counted.pop((rule.name, session.actor.key), None)
            case "first-use", "intent" if uses:
                return f"first use of {', '.join(uses[:5])}"
            case "volume", "outcome" if rows:
                hour = int(now) // HOUR
                usual = self._usual(session.actor.key, hour)
                total = self.memory.hours.get((session.actor.key, hour), 0)
                if usual is not None and total >= rule.count and total > rule.factor * usual:
                    return f"{total} rows this hour, where {usual:.0f} are usual"
            case "masked", "outcome":
                masked = _masked(entry, rule.classes)
                count = self._count(rule, session, now, masked) if masked else 0
                return f"{count} protected values read, masked" if count >= rule.count else ""
        return ""

    def _count(self, rule: Alert, session: Session, now: float, more: int) -> int:
        if len(self._counted) >= MAX_WATCHED:
            del self._counted[next(iter(self._counted))]
        seen = self._counted.setdefault((rule.name, session.actor.key), deque())
        seen.append((now, more))
        while seen and now - seen[0][0] > rule.within_seconds:
            seen.popleft()
        return sum(count for _, count in seen)

    def _uses(self, entry: Mapping[str, Any], session: Session) -> list[str]:
        """Name the objects that this actor has not used before; remember them."""
        found = []
        for each in entry.get("op", {}).get("objects", []):
            if each.get("kind") not in ("relation", "function", "path", "service", "file"):
                continue
            thing = f"{session.connection}/{each.get('name')}"
            used = self.memory.used.setdefault(session.actor.key, set())
            if thing not in used:
                found.append(str(each.get("name")))
                if len(used) < MAX_USED:
                    used.add(thing)
                    self.memory.fresh.append((session.actor.key, thing))
        return found

    def _rows(self, entry: Mapping[str, Any], session: Session, now: float) -> int:
        rows = int(entry.get("result", {}).get("rows", 0))
        if rows:
            place = (session.actor.key, int(now) // HOUR)
            self.memory.hours[place] = self.memory.hours.get(place, 0) + rows
            self.memory.touched.add(place)
        return rows

    def _usual(self, key: str, hour: int) -> float | None:
        known = [
            rows for back in range(1, REMEMBERED_HOURS) if (rows := self.memory.hours.get((key, hour - back), 0)) > 0
        ]
        return sum(known) / len(known) if len(known) >= USUAL_HOURS else None


def _is_about(rule: Alert, session: Session) -> bool:
    return (
        (not rule.connections or session.connection in rule.connections)
        and (not rule.kinds or not session.kinds.isdisjoint(each.value for each in rule.kinds))
        and (not rule.groups or not session.groups.isdisjoint(rule.groups))
    )


def _masked(entry: Mapping[str, Any], classes: tuple[str, ...]) -> int:
    counts = entry.get("result", {}).get("masked", [])
    pairs = counts.items() if isinstance(counts, dict) else counts
    return sum(int(count) for name, count in pairs if not classes or name in classes)
