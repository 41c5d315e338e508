"""Play an item of the corpus against the real gateway in front of a real PostgreSQL, and judge what came of it.

The corpus (`attacks.jsonl`) says what is tried (`steps`), what must hold (`required_outcome`, the law) and how to tell
(`oracle`). Each item has a database of its own, made from a template, and a caller of its own, so that its records are
found by who made them and one item's failure cannot hide another's.
"""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostiary.testing.gateway import Gateway
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import Closed, PgClient, Reply, ServerError, function_call

HERE = Path(__file__).resolve().parent
SENTINEL = "078-05-1120"

SCHEMA = """
CREATE TABLE victim(id int primary key, name text, secret text);
INSERT INTO victim SELECT i, 'n' || i, '078-05-1120' FROM generate_series(1, 5) i;
CREATE TABLE other(id int);
CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM victim; SELECT 1';
"""


def items(protocol: str) -> list[dict[str, Any]]:
    """The items of one protocol that have machine steps."""
    lines = (HERE / "attacks.jsonl").read_text(encoding="utf-8").splitlines()
    return [item for item in map(json.loads, lines) if item["protocol"] == protocol and item.get("steps")]


def database_of(item_id: str) -> str:
    """Name of the item's database, and of the gateway's connection to it."""
    return item_id.lower().replace("_", "-")


@dataclass(slots=True)
class Played:
    """What happened: the bytes that the caller got, the replies, and which steps were refused."""

    subject: str
    received: bytearray = field(default_factory=bytearray)
    replies: list[Reply] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    """Texts of the refused steps."""
    connect_refused: bool = False
    closed: int = 0

    @property
    def is_refused(self) -> bool:
        return self.connect_refused or bool(self.refused)


class Lab:
    """A target, a gateway before it, and the folder that items may try to write to."""

    def __init__(self, peer: Peer, gate: Gateway, scratch: Path) -> None:
        self.peer = peer
        self.gate = gate
        self.scratch = scratch

    def fill(self, text: str) -> str:
        """Put this run's folder and port where the corpus leaves a place for them."""
        return text.replace("@SCRATCH@", str(self.scratch)).replace("@PORT@", str(self.peer.port))

    def text_of(self, step: dict[str, Any]) -> bytes:
        """The bytes that a step sends as its statement."""
        match step["op"]:
            case "q" | "ext":
                return self.fill(step["sql"]).encode()
            case "q_latin1":
                return self.fill(step["sql"]).encode("latin-1")
            case "q_generated":
                return str(eval(step["python"], {"__builtins__": {}})).encode()
            case _:
                return b""

    def play(self, item: dict[str, Any]) -> Played:
        """Do what the item says, as a caller of its own."""
        played = Played(f"mallory-{database_of(item['id'])}")
        startup = dict(item.get("startup") or {})
        client: PgClient | None = None
        for step in item["steps"]:
            if step["op"] == "startup":
                startup |= step["params"]
                continue
            if client is None:
                client = self.connect(item, played, startup)
                if client is None:
                    return played
            reply = self.take(client, step, item)
            played.replies.append(reply)
            if reply.is_refused:
                played.refused.append(self.text_of(step))
            if reply.closed:
                played.closed += 1
                self.leave(client, played)
                client = None
        if client is not None:
            self.check_in_step(client, item)
            self.leave(client, played)
        elif not played.replies:
            client = self.connect(item, played, startup)
            if client is not None:
                self.leave(client, played)
        return played

    def connect(self, item: dict[str, Any], played: Played, startup: dict[str, str]) -> PgClient | None:
        client = PgClient(self.gate.host, self.gate.port)
        try:
            token = self.gate.token(played.subject)
            client.login(user="postgres", database=database_of(item["id"]), password=token, **startup)
        except (ServerError, Closed):
            played.connect_refused = True
            self.leave(client, played)
            return None
        return client

    def take(self, client: PgClient, step: dict[str, Any], item: dict[str, Any]) -> Reply:
        match step["op"]:
            case "ext":
                return client.extended(self.fill(step["sql"]), mode=step.get("mode", ""))
            case "fcall":
                oid = step.get("oid") or self.oid_of(step["function"], item)
                values = [None if v is None else str(v).encode() for v in step.get("args", [])]
                return client.ask(function_call(int(oid), values))
            case _:
                return client.query(self.text_of(step))

    def oid_of(self, function: str, item: dict[str, Any]) -> int:
        name = function.replace("'", "''")
        return int(self.direct(item, f"SELECT '{name}'::regproc::oid"))

    def leave(self, client: PgClient, played: Played) -> None:
        played.received += client.received
        client.close()

    def check_in_step(self, client: PgClient, item: dict[str, Any]) -> None:
        """A connection that is still open answers the next question, and only that."""
        reply = client.query("ROLLBACK")
        assert not reply.closed, f"{item['id']}: the connection died after it had answered"
        reply = client.query("SELECT 4711 AS still_here")
        assert reply.kinds == b"TDCZ", f"{item['id']}: out of step: {reply.kinds!r} {reply.errors}"
        assert reply.rows == [(b"4711",)], f"{item['id']}: out of step: {reply.rows}"

    def direct(self, item: dict[str, Any], sql: str) -> str:
        return self.peer.psql(self.fill(sql), database_of(item["id"]))

    # --- oracles ---------------------------------------------------------------------------------------------------

    def judge(self, item: dict[str, Any], played: Played, heard: str) -> None:
        """Hold what the item demands. `heard`: what the target wrote in its log of statements meanwhile."""
        outcome = item["required_outcome"]
        try:
            self.consult(item, played)
        finally:
            for cleanup in ((item.get("oracle") or {}).get("cleanup"), item.get("cleanup")):
                self.clean(item, cleanup)
        if outcome.startswith("ALLOW"):
            self.same_as_direct(item, played)
            self.recorded(item, played, "intent")
        elif outcome.startswith("DENY or treat"):
            assert self.direct(item, "SELECT count(*) FROM victim") == "5"
        elif outcome.startswith("DENY"):
            assert played.is_refused, f"{item['id']}: nothing was refused: {[r.tags for r in played.replies]}"
            self.never_heard(item, played, heard)
            self.recorded(item, played, "login" if played.connect_refused else "deny")

    def consult(self, item: dict[str, Any], played: Played) -> None:
        oracle = item.get("oracle") or {}
        match oracle.get("type"):
            case "rows":
                left = self.direct(item, "SELECT count(*) FROM victim")
                assert left == str(oracle["expect"]), f"{item['id']}: {left} rows are left in victim"
            case "leak":
                self.nothing_leaked(item, played, oracle["patterns"])
            case "sql":
                assert self.direct(item, oracle["q"]) != oracle["unsafe"], f"{item['id']}: it took effect"
            case "file":
                assert not Path(self.fill(oracle["path"])).exists(), f"{item['id']}: the file was written"
            case "connect_denied":
                assert played.connect_refused, f"{item['id']}: it was let in"
            case "denied":
                assert played.is_refused, f"{item['id']}: nothing was refused"
            case None:
                pass
            case unknown:
                raise AssertionError(f"{item['id']}: no oracle of type {unknown}")

    def nothing_leaked(self, item: dict[str, Any], played: Played, patterns: list[str]) -> None:
        if item["kind"] == "control":
            return  # what the caller typed may come back to it
        received = bytes(played.received)
        typed = b" ".join(self.text_of(step) for step in item["steps"])
        for pattern in {*patterns, *encodings(SENTINEL)}:
            raw = pattern.encode()
            assert raw in typed or raw not in received, f"{item['id']}: {pattern!r} reached the caller"
        values = b"".join(cell or b"" for reply in played.replies for row in reply.rows for cell in row)
        assert SENTINEL.encode() not in values, f"{item['id']}: the value reached the caller in pieces"

    def same_as_direct(self, item: dict[str, Any], played: Played) -> None:
        with PgClient(self.peer.host, self.peer.port) as client:
            client.login(user=self.peer.user, database=database_of(item["id"]), password=self.peer.password)
            for step, reply in zip(item["steps"], played.replies, strict=True):
                expected = self.take(client, step, item)
                assert reply.messages == expected.messages, (
                    f"{item['id']}: differs from a direct connection: {reply.errors or reply.kinds!r}"
                )

    def never_heard(self, item: dict[str, Any], played: Played, heard: str) -> None:
        """What was refused stands nowhere in the target's own log of statements."""
        there = squash(heard)
        for text in played.refused:
            words = squash(text.decode("utf-8", "replace"))
            assert not words or words not in there, f"{item['id']}: refused, yet the target heard {text[:200]!r}"

    def recorded(self, item: dict[str, Any], played: Played, kind: str) -> None:
        """One durable record of that kind names the caller, and holds the length of every refused text."""
        mine = self.entries(played.subject, kind)
        assert mine, f"{item['id']}: no {kind} record of {played.subject}"
        for entry in mine:
            assert entry["who"]["iss"] == self.gate.mint.issuer
        if kind == "deny":
            lengths = {entry.get("stmt", {}).get("len") for entry in mine}
            wanted = {len(text) for text in played.refused if text}
            assert played.connect_refused or wanted & lengths, f"{item['id']}: records of {lengths}, refused {wanted}"

    def entries(self, subject: str, kind: str, *, seconds: float = 2.0) -> list[dict[str, Any]]:
        """Entries of this kind by this caller. A refusal is on record before the caller hears of it: it does not wait."""
        deadline = time.monotonic() + seconds
        while True:
            found = [e for e in self.gate.entries() if e["kind"] == kind and e.get("who", {}).get("sub") == subject]
            if found or kind in ("deny", "login") or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def clean(self, item: dict[str, Any], sql: str | None) -> None:
        """Undo what an attack that got through left in the whole cluster. Nothing is there if it did not."""
        if sql and "slot" in sql:
            name = re.findall(r"'(\w+)'", sql)[0]
            sql = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
        if sql:
            self.direct(item, sql)

    def log_position(self) -> int:
        return (self.peer.data.parent / "log").stat().st_size

    def heard_since(self, position: int) -> str:
        with (self.peer.data.parent / "log").open("rb") as log:
            log.seek(position)
            return log.read().decode("utf-8", "replace")


def squash(text: str) -> str:
    """Without white space: the log breaks and indents lines."""
    return re.sub(r"\s+", "", text)


def encodings(value: str) -> list[str]:
    """The value and its plain reversible spellings."""
    raw = value.encode()
    return [value, raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), value[::-1], value.replace("-", "")]
