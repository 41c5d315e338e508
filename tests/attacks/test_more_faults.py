"""More of the corpus's faults: killed at every call, power cut, two writers, a signer that stands still, a target that garbles."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import Closed, ServerError
from tests.attacks.lab import PASSWORD, connections, guarded, target_with
from tests.attacks.logs import closes_every_intent, verifies, verify
from tests.attacks.runner import HERE, SENTINEL
from tests.attacks.test_faults import end_of, insert, left_behind_nothing_secret, patiently, shim

__all__ = ["shim"]

TIMEOUT = int(os.environ.get("OSTIARY_TEST_SECONDS", "300"))
pytestmark = pytest.mark.timeout(TIMEOUT)

CALLS = int(os.environ.get("OSTIARY_KILL_CALLS", "0"))
"""Up to which call to kill at each; 0: at a few of them. `make soak` sets it."""

ROUNDS = int(os.environ.get("OSTIARY_POWER_CUTS", "2"))


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with target_with([{"id": "fault"}]) as running:
        yield running


def inserted(peer: Peer, low: int, high: int) -> int:
    return int(peer.psql(f"SELECT count(*) FROM other WHERE id BETWEEN {low} AND {high}", "fault"))


def intended(gate: Gateway, subject: str) -> int:
    return sum(
        e["kind"] == "intent" and e.get("who", {}).get("sub") == subject and e["op"]["name"] == "INSERT"
        for e in gate.entries()
    )


def insert_until_it_dies(gate: Gateway, subject: str, low: int) -> None:
    with (
        contextlib.suppress(ServerError, Closed, OSError),
        gate.connect("fault", token=gate.token(subject)) as client,
    ):
        for number in range(low, low + 200):
            if client.query(f"INSERT INTO other VALUES ({number})").closed:
                return


def test_flt_002_killed_at_any_call_on_the_log_nothing_ran_unrecorded(peer: Peer, shim: Path, tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    environment = {"LD_PRELOAD": str(shim), "OSTIARY_SHIM": str(switch)}
    calls = range(1, CALLS + 1) if CALLS else (1, 3, 6)
    with guarded(peer, ["fault"], environment=environment) as gate:
        for call in calls:
            subject, low = f"killed-at-{call}", 2_000_000 + call * 1000
            with gate.connect("fault") as before:
                before.query("SELECT 1")
            switch.write_text(f"kill {call}")
            insert_until_it_dies(gate, subject, low)
            switch.unlink()
            gate.kill()
            gate.start()
            assert inserted(peer, low, low + 999) <= intended(gate, subject), f"killed at call {call}"
            closes_every_intent(gate)
        verifies(gate)
        left_behind_nothing_secret(gate)


def test_flt_003_a_power_cut_leaves_what_was_synced_and_that_is_enough(peer: Peer, shim: Path, tmp_path: Path) -> None:
    """Of the log stays what fdatasync covered, and of the rest some bytes; what was in memory is gone."""
    dice = random.Random(815)
    synced = tmp_path / "synced"
    environment = {"LD_PRELOAD": str(shim), "OSTIARY_SHIM_SYNCED": str(synced)}
    with guarded(peer, ["fault"], environment=environment) as gate:
        for round_ in range(ROUNDS):
            subject, low = f"cut-{round_}", 3_000_000 + round_ * 10_000
            threads = [
                threading.Thread(target=insert_until_it_dies, args=(gate, subject, low + n * 200)) for n in range(4)
            ]
            for thread in threads:
                thread.start()
            threads[0].join(0.1 + dice.random() / 2)
            gate.kill()
            for thread in threads:
                thread.join(60)
            cut_power(gate, synced, dice)
            gate.start()
            ran = inserted(peer, low, low + 9_999)
            assert ran <= intended(gate, subject), f"round {round_}: {ran} rows at the target"
            closes_every_intent(gate)
            holds_or_says_where_not(gate)
        left_behind_nothing_secret(gate)


def holds_or_says_where_not(gate: Gateway) -> None:
    """Whole, or with a gap that the log itself states. Never tampered."""

    def verified() -> bool:
        done = [verify(gate, log.parent) for log in gate.logs()]
        assert not any(each.returncode == 1 for each in done), [each.stdout for each in done]
        return len(done) >= 2 and all(
            each.returncode == 0 or re.findall(r"INCOMPLETE +entry.*", each.stdout) == stated(each.stdout) for each in done
        )

    assert patiently(verified)


def stated(said: str) -> list[str]:
    return re.findall(r"INCOMPLETE +entry \d+: the log says that entries may be missing here", said) or ["none"]


def cut_power(gate: Gateway, synced: Path, dice: random.Random) -> None:
    ends: dict[str, int] = {}
    for line in synced.read_text().splitlines():
        end, _, path = line.partition(" ")
        ends[path] = max(int(end), ends.get(path, 0))
    workers = [path for path in ends if "worker" in path]
    assert workers, ends
    for path in map(Path, ends):
        if not path.exists():
            continue
        data = bytearray(path.read_bytes())
        end = end_of(bytes(data))
        keep = min(end, ends[str(path)])
        keep += dice.randrange(end - keep + 1)
        data[keep:] = bytes(len(data) - keep)
        path.write_bytes(data)
    (tail,) = (Path(line.split("=", 1)[1].strip().strip('"')) for line in gate.config.read_text().splitlines() if line.startswith("tail_dir"))
    for path in tail.rglob("*"):
        if path.is_file():
            path.unlink()


def test_flt_021_aud_019_a_second_gateway_on_the_same_log_does_not_start(peer: Peer) -> None:
    with guarded(peer, ["fault"]) as gate, gate.connect("fault") as client:
        assert client.query("SELECT 1").rows
        second = subprocess.run(
            [sys.executable, "-m", "ostiary.cli.main", "serve", "-c", str(gate.config)],
            env=gate.environment, cwd=gate.home, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert second.returncode != 0
        assert "Traceback" not in second.stdout + second.stderr
        assert client.query("SELECT 2").rows == [(b"2",)]
        assert insert(gate, 4_000_001)
        gate.stop()
        closes_every_intent(gate)
        gate.start()
        assert insert(gate, 4_000_002)
        verifies(gate)


def sealers(gate: Gateway) -> list[int]:
    return [pid for pid in gate.pids() if b"ostiary.audit.sealer" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_flt_022_without_a_signature_it_goes_on_for_the_stated_time_then_refuses_then_catches_up(peer: Peer) -> None:
    with guarded(peer, ["fault"], sections={"audit": {"unsigned_seconds": 2}}) as gate:
        assert insert(gate, 5_000_001)
        stopped = sealers(gate)
        assert stopped
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert insert(gate, 5_000_002), "it should go on for as long as is stated"
            assert patiently(lambda: not insert(gate, 5_000_100 + random.randrange(10_000)), 60), "it goes on unsigned"
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert patiently(lambda: insert(gate, 5_100_000 + random.randrange(10_000)), 30)
        closes_every_intent(gate)
        verifies(gate)


def test_what_copy_streams_in_is_on_the_disk_before_it_takes_effect(peer: Peer, shim: Path, tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    environment = {"LD_PRELOAD": str(shim), "OSTIARY_SHIM": str(switch)}
    with guarded(peer, ["fault"], environment=environment) as gate, gate.connect("fault") as client:
        client.send(pg.query(b"COPY other FROM STDIN"))
        client.read_until(b"G")
        client.send(pg.copy_data(b"5500001\n"))
        switch.write_text("hold")
        try:
            client.send(pg.COPY_DONE)
            assert not patiently(lambda: inserted(peer, 5_500_001, 5_500_001), 1.5)
        finally:
            switch.unlink()
        assert client.read_reply().tags == ["COPY 1"]
        assert inserted(peer, 5_500_001, 5_500_001) == 1


# --- a target that garbles --------------------------------------------------------------------------------------------

MARK = b"violetcell"


class Garbling:
    """A wire between gateway and target on which the length of one cell is changed."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.length = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.socks: list[socket.socket] = [self.listener]
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection((self.peer.host, self.peer.port))
                self.socks += [near, far]
                for source, sink, changes in ((near, far, False), (far, near, True)):
                    self.threads.append(threading.Thread(target=self._carry, args=(source, sink, changes), daemon=True))
                    self.threads[-1].start()

    def _carry(self, source: socket.socket, sink: socket.socket, changes: bool) -> None:
        honest = struct.pack("!i", len(MARK)) + MARK
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data.replace(honest, self.length + MARK) if changes else data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for sock in self.socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
        for sock in self.socks:
            sock.close()


def test_pgw_012_a_cell_of_an_impossible_length_ends_the_session_and_nothing_else(peer: Peer) -> None:
    policy = (HERE / "profiles" / "pg-base.cedar").read_text()
    targets = connections(peer, ["fault"])
    with contextlib.closing(Garbling(peer)) as wire:
        targets["garbled"] = targets["fault"] | {"address": f"127.0.0.1:{wire.port}"}
        with gateway(connections=targets, policy=policy, secrets_by_name={"pg": PASSWORD}) as gate:
            for length in (0x8000_0000, 0xFFFF_FFFE, 0x7FFF_FFFF, len(MARK) + 1):
                wire.length = struct.pack("!I", length)
                with gate.connect("garbled") as client:
                    assert client.query("SELECT 1").rows == [(b"1",)]
                    reply = client.query(f"SELECT '{MARK.decode()}'::text, secret FROM victim")
                    assert reply.closed, hex(length)
                    assert SENTINEL.encode() not in client.received
                with gate.connect("fault") as client:
                    assert client.query(f"SELECT '{MARK.decode()}'").rows == [(MARK,)]
            closes_every_intent(gate)


# --- a core dump ------------------------------------------------------------------------------------------------------


def test_a_process_that_crashes_leaves_no_core_and_the_process_list_shows_no_secret(peer: Peer) -> None:
    with guarded(peer, ["fault"]) as gate:
        with gate.connect("fault") as client:
            client.query("SELECT secret FROM victim")
        done = subprocess.run(["ps", "axeww", "-o", "args"], capture_output=True, check=True)
        assert str(gate.config).encode() in done.stdout
        assert PASSWORD.encode() not in done.stdout
        for pid in gate.pids():
            limits = Path(f"/proc/{pid}/limits").read_text()
            (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
            assert core.split()[4:6] == ["0", "0"], core
        for pid in gate.pids()[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)
        patiently(lambda: insert(gate, 6_000_001), 10)
        left_behind_nothing_secret(gate)
