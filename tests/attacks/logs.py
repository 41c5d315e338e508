"""What must hold of a gateway's logs, whatever happened to it."""

from __future__ import annotations

import collections
import subprocess
import time
from pathlib import Path

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


def verifies(gate: Gateway, *, seconds: float = 20.0) -> None:
    """The verifier finds every log whole, once the last entries have got their checkpoint. Tampered is never waited out."""
    deadline = time.monotonic() + seconds
    while True:
        done = [verify(gate, log.parent) for log in gate.logs()]
        if len(done) >= 2 and all(each.returncode == 0 for each in done):  # the worker's log and the control process's
            return
        said = [f"exit {each.returncode}: {each.stdout}{each.stderr}" for each in done]
        assert not any(each.returncode == 1 for each in done), said
        assert time.monotonic() < deadline, said or "no log with a checkpoint"
        time.sleep(0.3)


def verify(gate: Gateway, origin: Path) -> subprocess.CompletedProcess[str]:
    """Run the verifier over one origin, with the gateway's own root as the key that is trusted."""
    return gate.run("audit", "verify", str(origin), "-c", str(gate.config))
