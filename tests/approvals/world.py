"""A gateway with approvals before a real PostgreSQL, people with tokens of their own, and what they do over the API."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import PgClient, Reply
from ostiary.testing.waiting import until

POLICY = """
@id("all") permit (principal, action, resource);
@id("deletes-need-a-dba") @approval("dba") @message("Deletes need a DBA.")
forbid (principal, action == Ostiary::Action::"delete", resource) unless { context.approved_by.contains("dba") };
@id("changes-of-audit-need-three") @approval("dba:2,security:1")
forbid (principal, action == Ostiary::Action::"write", resource == Ostiary::Relation::"db/public.audit")
unless { context.approved_by.contains("dba") && context.approved_by.contains("security") };
@id("vault-is-granted") @approval("dba")
forbid (principal, action == Ostiary::Action::"connect", resource == Ostiary::Connection::"vault")
unless { context.approved_by.contains("dba") };
@id("nobody-may") @approval("ghosts")
forbid (principal, action == Ostiary::Action::"write", resource == Ostiary::Relation::"db/public.haunted")
unless { context.approved_by.contains("ghosts") };
"""
TABLES = """
DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS shadow CASCADE; CREATE SCHEMA shadow;
CREATE TABLE other (id int primary key); INSERT INTO other SELECT generate_series(1, 9);
CREATE TABLE shadow.other (id int primary key); INSERT INTO shadow.other SELECT generate_series(1, 9);
CREATE TABLE audit (id int); CREATE TABLE haunted (id int);
"""
SETTINGS: dict[str, dict[str, object]] = {
    "approvals": {
        "grant_groups": ["dba"], "break_glass_groups": ["oncall"], "review_groups": ["security"], "max_open": 3,
        "wait_seconds": 120.0,
    }
}  # fmt: skip


class Person:
    """Somebody with a token, at the API."""

    def __init__(self, gate: Gateway, name: str, *groups: str, **claims: object) -> None:
        self.gate = gate
        self.token = gate.token(name, groups=list(groups), **claims)
        self._at = f"http://127.0.0.1:{gate.api_port}"
        self._headers = {"authorization": f"Bearer {self.token}"}

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self._at + path, headers=self._headers, timeout=30)

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self._at + path, headers=self._headers, json=body, timeout=30)

    def questions(self, state: str = "open") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/v1/approvals?past=true").json()["approvals"]
        return [each for each in found if each["state"] == state]

    def wait_question(self, holds: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        return until(lambda: next((each for each in self.questions() if holds(each)), None))

    def show(self, number: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.get(f"/v1/approvals/{number}").json()
        return shown

    def approve(self, question: dict[str, Any], **more: Any) -> httpx.Response:
        return self.post(f"/v1/approvals/{question['id']}/approve", {"digest": question["digest"]} | more)

    def deny(self, question: dict[str, Any], **more: Any) -> httpx.Response:
        return self.post(f"/v1/approvals/{question['id']}/deny", {"digest": question["digest"]} | more)


class Waiting:
    """A statement that waits in a thread of its own."""

    def __init__(self, client: PgClient, run: Callable[[PgClient], Reply]) -> None:
        self.client = client
        self._reply: list[Reply] = []
        self._thread = threading.Thread(target=lambda: self._reply.append(run(client)), daemon=True)
        self._thread.start()

    @property
    def is_waiting(self) -> bool:
        return self._thread.is_alive()

    def reply(self) -> Reply:
        self._thread.join(60)
        assert not self._thread.is_alive(), "it still waits"
        return self._reply[0]


def waits(client: PgClient, sql: str | Callable[[PgClient], Reply]) -> Waiting:
    """Send it, and go on while it waits."""
    client.sock.settimeout(90)
    return Waiting(client, (lambda c: c.query(sql)) if isinstance(sql, str) else sql)


def events(gate: Gateway, what: str) -> list[dict[str, Any]]:
    """What the log says of approvals under that word."""
    return [e for e in gate.entries() if e["kind"] == "approval" and e["approval"]["what"] == what]


def child(gate: Gateway, name: str) -> int:
    """The process id of a part of the gateway."""
    for pid in gate.pids():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"ostiary.app.child" in command and name.encode() in command:
                return pid
    raise AssertionError(name)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def approving(peer: Peer, policy: str = POLICY, **approvals: object) -> Iterator[Gateway]:
    """A gateway with approvals."""
    sections = {"approvals": SETTINGS["approvals"] | approvals}
    with gateway(connections={"db": target(peer), "vault": target(peer)}, policy=policy, sections=sections) as gate:
        yield gate


def left(peer: Peer, table: str = "other") -> int:
    """Rows that are there."""
    return int(peer.psql(f"SELECT count(*) FROM {table}").strip())
