"""A whole gateway and a witness beside it: what the witness knows decides whether the gateway starts."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.audit.keys import instance_id, origins
from ostiary.audit.verify import Policy
from ostiary.audit.verify import verify as verify_log
from ostiary.audit.witness import make_witness
from ostiary.testing.gateway import Gateway, GatewayDidNotStart, free_port, gateway

TARGET = {"type": "postgresql", "address": "127.0.0.1:1", "database": "d", "user": "u", "tls": "disable"}


@contextlib.contextmanager
def witness(folder: Path, logs: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "ostiary.cli.main", "witness", "serve", "--state", str(folder), "--logs", str(logs)]
    child = subprocess.Popen([*command, "--listen", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline().startswith("ready")
        yield
    finally:
        child.terminate()
        child.wait(20)
        child.stdout.close()


def patiently(condition) -> bool:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def cosigned(gate: Gateway) -> bool:
    found = origins(gate.state, "gw-test", "worker-1")[-1].folder / "log" / "checkpoint"
    return found.exists() and "w.example" in found.read_text()


def test_a_gateway_that_was_rolled_back_does_not_start_and_goes_on_with_its_newest_copy(tmp_path: Path) -> None:
    vkey = make_witness(tmp_path / "w", "w.example")
    port = free_port()
    policy = tmp_path / "witnesses"
    policy.write_text(f"witness w {vkey} http://127.0.0.1:{port}\nquorum w\n")
    with gateway(connections={"t": TARGET}, policy="", sections={"audit": {"witness_policy": str(policy)}}) as gate:
        # It began without its witness, which did not hinder it.
        assert instance_id(gate.state) in (gate.state / "policy").read_text()
        with witness(tmp_path / "w", gate.state / "policy", port):
            assert patiently(lambda: cosigned(gate))
            gate.stop()
            shutil.copytree(gate.state / "audit", tmp_path / "old", symlinks=True)
            gate.start()
            gate.stop()
            trusted = Policy.parse((gate.state / "policy").read_text())
            report = verify_log(origins(gate.state, "gw-test", "worker-1")[-1].folder, trusted)
            assert (report.status, report.cosignatures) == ("whole", ["w"])
            shutil.move(gate.state / "audit", tmp_path / "newest")
            shutil.copytree(tmp_path / "old", gate.state / "audit")
            with pytest.raises(GatewayDidNotStart, match="rolled back"):
                gate.start()
            shutil.rmtree(gate.state / "audit")
            shutil.move(tmp_path / "newest", gate.state / "audit")
            gate.start()
