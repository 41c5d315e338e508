"""A real session at a limit on recordings: it is told, ended and on record, and nothing it could not record went out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import psycopg
import pytest

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer

MIB = 1 << 20
WIDE = "SELECT repeat('x', 1000) FROM generate_series(1, %s)"


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    limits = {"recordings": {"session_bytes": MIB, "store_bytes": 2 * MIB}}
    with gateway(connections={"db": target(postgres)}, policy="permit (principal, action, resource);", sections=limits) as running:
        yield running


def ask(gate: Gateway, rows: int) -> int:
    with psycopg.connect(host=gate.host, port=gate.port, dbname="db", user="ana", password=gate.token(), sslmode="disable") as db:
        return len(db.execute(WIDE % rows).fetchall())


def fill_up(gate: Gateway) -> None:
    """Record until nobody is let in any more."""
    for _ in range(40):
        try:
            ask(gate, 200)
        except psycopg.OperationalError as refused:
            if "connection failed" in str(refused):
                raise


def told(gate: Gateway, kind: str) -> list[dict[str, object]]:
    done = gate.run("audit", "search", "--kind", kind, "-o", "json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_session_at_its_limit_ends_and_a_full_store_lets_nobody_in(gate: Gateway) -> None:
    with pytest.raises(psycopg.OperationalError, match="a limit on recordings was reached"):
        ask(gate, 3000)
    (ended,) = told(gate, "session.end")
    assert ended["result"]["status"] == "RECORDINGS_FULL"  # type: ignore[index]
    assert ask(gate, 100) == 100, "the next one is not touched by it"
    with pytest.raises(psycopg.OperationalError, match=r"connection failed.*recordings\.store_bytes"):
        fill_up(gate)
    (denied,) = [entry for entry in told(gate, "login") if entry["login"]["status"] == "denied"]  # type: ignore[index]
    assert denied["login"]["reason"] == "RECORDINGS_FULL"  # type: ignore[index]
    kept = sum(path.stat().st_size for path in gate.home.glob("state/audit/worker-1/*/payloads/*.osp"))
    assert kept <= 2 * MIB
    origins = {path.parent / "log" for path in gate.state.glob("audit/*/*/wal")}
    deadline = time.monotonic() + 30
    while not origins <= set(gate.logs()) and time.monotonic() < deadline:
        time.sleep(0.05)  # a checkpoint comes within a second or so
    verified = gate.run("audit", "verify", "--live")
    assert verified.returncode == 0, verified.stdout
