"""Play attacks that share databases: a table of cases against one gateway, judged case by case.

The published items each have a database of their own (`runner.py`). The cases here are many and cheap, so they share a few
databases that hold, made directly, all that a target can hold behind a name: triggers, rules, views, casts, domains.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostiary.testing.gateway import Gateway
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import SYNC, PgClient, Reply, bind, close, describe, execute, packet, parse, query
from tests.attacks.runner import encodings, squash


@dataclass(frozen=True, slots=True)
class Case:
    """One attack, or one control."""

    name: str
    outcome: str
    """`deny`: some step is refused, and the target never hears it. `no-leak`: no byte of the secret. `allow`: as direct."""
    steps: tuple[str | bytes | tuple[str, str], ...]
    """A text is a simple query; a pair is (mode, text) for the extended protocol."""
    database: str = "more"

    def __str__(self) -> str:
        return self.name


def deny(name: str, *steps: Any, database: str = "more") -> Case:
    """An attack that must be refused."""
    return Case(name, "deny", steps, database)


def hide(name: str, *steps: Any, database: str = "plain") -> Case:
    """An attack that must not show the secret: masked or refused."""
    return Case(name, "no-leak", steps, database)


def allow(name: str, *steps: Any, database: str = "more") -> Case:
    """A control: exactly what a direct connection gives."""
    return Case(name, "allow", steps, database)


@dataclass(slots=True)
class Seen:
    """What a caller got."""

    subject: str
    replies: list[Reply] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)


def text_of(step: str | bytes | tuple[str, str]) -> bytes:
    """The statement's bytes."""
    match step:
        case bytes():
            return step
        case str():
            return step.encode()
        case _:
            return step[1].encode()


FLUSH = packet(b"H", b"")
ONE = b"SELECT 1"
WIRE: dict[str, Callable[[bytes], list[bytes]]] = {
    # how a statement is put into messages; what goes out in one write stands in one piece
    "drip": lambda sql: [query(sql)[at : at + 3] for at in range(0, len(query(sql)), 3)],
    "after-another": lambda sql: [query(ONE) + query(sql) + query(ONE)],
    "in-a-pipeline": lambda sql: [_whole(ONE) + _whole(sql) + _whole(ONE) + SYNC],
    "cut-at-messages": lambda sql: [parse(b"", sql), bind(b"", b""), describe(b"P", b""), execute(), SYNC],
    "cut-in-headers": lambda sql: _cut(_whole(sql) + SYNC, 4),
    "with-flushes": lambda sql: [parse(b"w", sql) + FLUSH + bind(b"", b"w") + FLUSH, execute() + FLUSH, SYNC],
    "a-name-twice": lambda sql: [parse(b"n", ONE) + close(b"S", b"n") + parse(b"n", sql) + bind(b"", b"n") + execute() + SYNC],
    "a-name-for-two": lambda sql: [parse(b"n", ONE) + bind(b"p", b"n") + parse(b"", sql) + bind(b"", b"") + execute(b"p") + execute() + SYNC],
    "bound-twice": lambda sql: [parse(b"t", sql) + bind(b"a", b"t") + bind(b"b", b"t", results=(1,)) + execute(b"b") + execute(b"a") + SYNC],
    "executed-twice": lambda sql: [parse(b"", sql) + bind(b"", b"") + execute(b"", 1) + execute(b"", 1) + execute() + SYNC],
    "described-late": lambda sql: [parse(b"l", sql) + SYNC, bind(b"p", b"l") + execute(b"p", 1) + describe(b"P", b"p") + execute(b"p") + SYNC],
    "after-an-error": lambda sql: [parse(b"", b"SELECT 1/0") + bind(b"", b"") + execute() + _whole(sql) + SYNC + query(sql)],
    "between-syncs": lambda sql: [SYNC + SYNC + _whole(sql) + SYNC + SYNC],
    "closed-and-used": lambda sql: [parse(b"u", sql) + bind(b"p", b"u") + close(b"S", b"u") + execute(b"p") + SYNC],
    "formats-mixed": lambda sql: [parse(b"", sql) + bind(b"", b"", results=(1, 0)) + execute() + SYNC, _whole(sql, results=(1,)) + SYNC],
}  # fmt: skip


def _whole(sql: bytes, results: tuple[int, ...] = ()) -> bytes:
    return parse(b"", sql) + bind(b"", b"", results=results) + describe(b"P", b"") + execute()


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def take(client: PgClient, step: str | bytes | tuple[str, str]) -> Reply:
    """Do one step."""
    if isinstance(step, tuple) and step[0] in WIRE:
        pieces = WIRE[step[0]](step[1].encode())
        whole = b"".join(pieces)
        for piece in pieces:
            client.send(piece)
        replies = [client.read_reply() for _ in range(_answers(whole))]
        return Reply([message for reply in replies for message in reply.messages], closed=replies[-1].closed)
    return client.extended(step[1], mode=step[0]) if isinstance(step, tuple) else client.query(step)


def _answers(wire: bytes) -> int:
    """How many ReadyForQuery these messages lead to."""
    count = at = 0
    while at < len(wire):
        count += wire[at] in b"QS"
        at += 1 + int.from_bytes(wire[at + 1 : at + 5], "big")
    return count


class Table:
    """The databases of the cases, and the gateway in front of them."""

    def __init__(self, peer: Peer, gate: Gateway, secrets: dict[str, str]) -> None:
        self.peer = peer
        self.gate = gate
        self.secrets = secrets
        """By database: the value that must not be seen."""
        self._read: dict[Path, int] = {}
        self._entries: list[dict[str, Any]] = []
        self._beside = {name: self.connected(name) for name in secrets}
        self.whole = {name: self.victim(name) for name in secrets}

    def connected(self, database: str) -> PgClient:
        """A new connection past the gateway."""
        client = PgClient(self.peer.host, self.peer.port)
        client.login(user=self.peer.user, database=database, password=self.peer.password)
        return client

    @contextlib.contextmanager
    def directly(self, database: str) -> Iterator[PgClient]:
        """A connection past the gateway, for one case alone."""
        with self.connected(database) as client:
            yield client

    def victim(self, database: str) -> list[tuple[bytes | None, ...]]:
        """All that is in `victim`, and its shape."""
        sql = "SELECT v::text FROM victim v ORDER BY 1; SELECT oid, relnatts FROM pg_class WHERE relname = 'victim'"
        return self._beside[database].query(sql).rows

    def play(self, case: Case) -> Seen:
        """Do what the case says as a caller of its own; the connection is in step afterwards, or closed."""
        seen = Seen(f"mallory-{case.name}")
        client: PgClient | None = None
        for step in case.steps:
            if client is None:
                client = self.gate.connect(case.database, token=self.gate.token(seen.subject))
            reply = take(client, step)
            seen.replies.append(reply)
            if reply.is_refused:
                seen.refused.append(text_of(step))
            if reply.closed:
                seen.received += client.received
                client.close()
                client = None
        if client is not None:
            client.query("ROLLBACK")
            reply = client.query("SELECT 4711")
            assert reply.kinds == b"TDCZ", f"out of step: {reply.kinds!r} {reply.errors}"
            assert reply.rows == [(b"4711",)], f"out of step: {reply.rows}"
            seen.received += client.received
            client.close()
        return seen

    def judge(self, case: Case, seen: Seen, heard: str) -> None:
        """Hold what the case demands."""
        now = self.victim(case.database)
        if now != self.whole[case.database]:
            self._beside[case.database].query("DELETE FROM victim; INSERT INTO victim SELECT * FROM pristine")
        assert now == self.whole[case.database], f"victim was changed: {len(now)}"
        self.hides(case, seen)
        if case.outcome == "deny":
            self.was_denied(seen, heard)
        elif case.outcome == "allow":
            self.same_as_direct(case, seen)

    def hides(self, case: Case, seen: Seen) -> None:
        """The secret is in no byte, nor in pieces."""
        if case.outcome == "allow":
            return
        secret = self.secrets[case.database]
        typed = b" ".join(map(text_of, case.steps))
        for spelt in encodings(secret):
            raw = spelt.encode()
            assert raw in typed or raw not in seen.received, f"{spelt!r} reached the caller"
        cells = b"".join(cell or b"" for reply in seen.replies for row in reply.rows for cell in row)
        assert secret.encode() in typed or secret.encode() not in cells, "it reached the caller in pieces"

    def was_denied(self, seen: Seen, heard: str) -> None:
        """It was refused by the gateway, on record, and not by the target."""
        assert seen.refused, f"nothing was refused: {[(r.tags, r.rows[:2]) for r in seen.replies]}"
        there = squash(heard)
        heard_of = [t for t in seen.refused if squash(t.decode("utf-8", "replace"))[:5000] in there]
        errors = [error for reply in seen.replies for error in reply.errors]
        assert not heard_of, f"refused, yet the target heard {heard_of[0][:200]!r} {errors}"
        mine = [e for e in self.entries() if e["kind"] == "deny" and e.get("who", {}).get("sub") == seen.subject]
        lengths = {entry.get("stmt", {}).get("len") for entry in mine}
        assert {len(text) for text in seen.refused} & lengths, f"records of {lengths}, refused {seen.refused[0][:80]!r}"

    def same_as_direct(self, case: Case, seen: Seen) -> None:
        """Message for message what a direct connection gives."""
        with self.directly(case.database) as client:
            for step, reply in zip(case.steps, seen.replies, strict=True):
                expected = take(client, step)
                assert reply.messages == expected.messages, f"{text_of(step)[:200]!r}: {reply.errors or reply.kinds!r}"

    def entries(self) -> list[dict[str, Any]]:
        """Every audit entry so far. As `Gateway.entries`, but what was read once is not read again."""
        for segment in sorted(self.gate.state.glob("audit/*/*/wal/*.wal")):
            with segment.open("rb") as file:
                at = self._read.get(segment, 0)
                while True:
                    file.seek(at)
                    head = file.read(8)
                    length = int.from_bytes(head[:4], "little")
                    body = file.read(length)
                    if len(head) < 8 or not length or len(body) < length:
                        break
                    self._entries.append(json.loads(body))
                    at += 8 + length
                self._read[segment] = at
        return self._entries

    def close(self) -> None:
        """Close its own connections."""
        for client in self._beside.values():
            client.close()

    def log_position(self) -> int:
        """Where the target's log ends now."""
        return (self.peer.data.parent / "log").stat().st_size

    def heard_since(self, position: int) -> str:
        """What the target wrote to its log since."""
        with (self.peer.data.parent / "log").open("rb") as log:
            log.seek(position)
            return log.read().decode("utf-8", "replace")
