"""Sessions on every worker of a gateway: the kernel chooses which one a connection comes to, so as many are opened as it takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from ostiary.testing.gateway import Gateway
from ostiary.testing.pgclient import PgClient

MOST = 64
"""Connections that are tried until one came to each worker."""


def worker_of(gate: Gateway, client: PgClient) -> str:
    """Which worker has this session: the one whose log has what it asks."""
    mark = f"mark_{time.monotonic_ns() % 10**9}"  # thirteen digits may be a card's number, and are not on record then
    client.query(f"SELECT 1 AS {mark}")
    (found,) = {e["gw"] for e in gate.entries() if e["kind"] == "intent" and mark in e.get("stmt", {}).get("head", "")}
    return str(found.partition("/")[2])


@contextlib.contextmanager
def on_each(gate: Gateway, connection: str = "db", *, token: str | None = None) -> Iterator[dict[str, PgClient]]:
    """By worker: a session on it, of as many workers as the gateway has."""
    workers = {path.name for path in gate.state.glob("audit/worker-*")}
    with contextlib.ExitStack() as stack:
        found: dict[str, PgClient] = {}
        for _ in range(MOST):
            client = gate.connect(connection, token=token)
            worker = worker_of(gate, client)
            if worker in found:
                client.close()
                continue
            found[worker] = client
            stack.callback(client.close)
            if len(found) == len(workers):
                break
        assert found.keys() == workers
        yield found
