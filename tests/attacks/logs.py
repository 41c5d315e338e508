"""What must hold of a gateway's logs, whatever happened to it."""

from __future__ import annotations

import collections
import time

from ostiary.testing.gateway import Gateway


def closes_every_intent(gate: Gateway, *, seconds: float = 20.0) -> None:
    """Each intent is closed by exactly one outcome (of a crash: `unknown`)."""
    deadline = time.monotonic() + seconds
    while True:
        entries = gate.entries()
        intents = {e["id"] for e in entries if e["kind"] == "intent"}
        closed = collections.Counter(e["ref"] for e in entries if e["kind"] == "outcome")
        twice = {ref for ref, count in closed.items() if count > 1}
        assert not twice, f"closed more than once: {sorted(twice)[:5]}"
        assert closed.keys() <= intents, "an outcome of no intent"
        if closed.keys() == intents:
            return
        assert time.monotonic() < deadline, f"{len(intents - closed.keys())} intents have no outcome"
        time.sleep(0.2)


def verifies(gate: Gateway) -> None:
    """The verifier finds every log whole."""
    assert gate.logs(), "no log with a checkpoint"
    for log in gate.logs():
        done = gate.run("audit", "verify", str(log))
        assert done.returncode == 0, f"{log}: exit {done.returncode}: {done.stdout}{done.stderr}"
