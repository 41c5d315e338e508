"""Machines die, disks fill and stall, clients and targets vanish: nothing runs unrecorded, and the log verifies."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import STALL_MS, Gateway, GatewayDidNotStart
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import Closed, PgClient, ServerError, query
from ostiary.testing.waiting import until
from tests.attacks.lab import PASSWORD, guarded, target_with
from tests.attacks.logs import closes_every_intent, verifies
from tests.attacks.runner import SENTINEL
from tests.workers.spread import on_each

TIMEOUT = int(os.environ.get("OSTIARY_TEST_SECONDS", "300"))
pytestmark = pytest.mark.timeout(TIMEOUT)

ROUNDS = int(os.environ.get("OSTIARY_KILL_ROUNDS", "4"))
"""How often to kill: the corpus asks for 200, which a nightly run may set."""
CLIENTS = 8


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with target_with([{"id": "fault"}, {"id": "second"}]) as running:
        yield running


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The failing disk, compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler: the failing disk (tests/attacks/shim.c) cannot be built")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).parent / "shim.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def patiently(condition: Callable[[], Any], seconds: float = 20.0) -> bool:
    """Wait for something that must come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def backends(peer: Peer, database: str) -> int:
    """Sessions of clients on the target, without the gateway's own look at the catalogue."""
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND application_name NOT LIKE '%catalogue%'"
    return int(peer.psql(sql))


# --- kill -9 ----------------------------------------------------------------------------------------------------------


class Load:
    """Clients that insert numbers of their own, each as a caller of its own, until the gateway is gone."""

    def __init__(self, gate: Gateway, first: int) -> None:
        self.gate = gate
        self.first = first
        self.threads = [threading.Thread(target=self._insert, args=(n,)) for n in range(CLIENTS)]

    def subject(self, n: int) -> str:
        return f"load-{self.first}-{n}"

    def numbers(self, n: int) -> range:
        return range(self.first + n * 100_000, self.first + (n + 1) * 100_000)

    def _insert(self, n: int) -> None:
        token = self.gate.token(self.subject(n))
        with contextlib.suppress(ServerError, Closed, OSError), self.gate.connect("fault", token=token) as client:
            for number in self.numbers(n):
                if client.query(f"INSERT INTO other VALUES ({number})").closed:
                    return


def test_flt_001_nothing_ran_that_is_not_on_record_after_kill_9(peer: Peer) -> None:
    dice = random.Random(4711)
    with guarded(peer, ["fault"]) as gate:
        for round_ in range(ROUNDS):
            load = Load(gate, (round_ + 1) * 10_000_000)
            for thread in load.threads:
                thread.start()
            time.sleep(0.3 + dice.random())
            gate.kill()
            for thread in load.threads:
                thread.join(60)
            gate.start()
            entries = gate.entries()
            for n in range(CLIENTS):
                low, high = load.numbers(n)[0], load.numbers(n)[-1]
                ran = int(peer.psql(f"SELECT count(*) FROM other WHERE id BETWEEN {low} AND {high}", "fault"))
                intended = sum(
                    e["kind"] == "intent"
                    and e.get("who", {}).get("sub") == load.subject(n)
                    and e["op"]["name"] == "INSERT"
                    for e in entries
                )
                assert ran <= intended, f"{load.subject(n)}: {ran} rows at the target, {intended} intents on record"
            closes_every_intent(gate)
            verifies(gate)
        left_behind_nothing_secret(gate)


def test_flt_001_buffered_durability_survives_a_killed_process_too(peer: Peer) -> None:
    with guarded(peer, ["fault"], connection={"durability": "buffered"}) as gate:
        load = Load(gate, 900_000_000)
        for thread in load.threads:
            thread.start()
        time.sleep(1)
        gate.kill()
        for thread in load.threads:
            thread.join(60)
        gate.start()
        low, high = load.first, load.numbers(CLIENTS - 1)[-1]
        ran = int(peer.psql(f"SELECT count(*) FROM other WHERE id BETWEEN {low} AND {high}", "fault"))
        intended = sum(e["kind"] == "intent" and e["op"]["name"] == "INSERT" for e in gate.entries())
        assert 0 < ran <= intended
        closes_every_intent(gate)
        verifies(gate)


def left_behind_nothing_secret(gate: Gateway) -> None:
    """The target's credential stands in its own file and nowhere else; nor does the protected value."""
    for path, content in gate.written():
        if path.name == "pg" and path.parent.name == "secrets":
            continue
        assert PASSWORD.encode() not in content, path
        assert SENTINEL.encode() not in content, path


def test_flt_026_any_process_of_it_may_die_and_nothing_runs_unrecorded(peer: Peer) -> None:
    with guarded(peer, ["fault"]) as gate:
        with gate.connect("fault") as client:
            assert client.query("SELECT 1").rows
        for victim in gate.pids()[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            subject = f"after-{victim}"

            def asks(subject: str = subject) -> bool:
                with (
                    contextlib.suppress(ServerError, Closed, OSError),
                    gate.connect("fault", token=gate.token(subject)) as c,
                ):
                    return bool(c.query("SELECT count(*) FROM other").rows)
                return False

            if patiently(asks, 20):
                assert any(e["kind"] == "intent" and e.get("who", {}).get("sub") == subject for e in gate.entries()), (
                    "it answered, and nothing is on record"
                )
        gate.stop()
        gate.start()
        closes_every_intent(gate)
        verifies(gate)


def test_flt_019_sigterm_ends_each_session_on_record(peer: Peer) -> None:
    with guarded(peer, ["fault"]) as gate:
        clients = [gate.connect("fault") for _ in range(5)]
        for client in clients:
            client.query("BEGIN")
        assert gate.stop() == 0
        for client in clients:
            assert client.query("SELECT 1").closed
            client.close()
        kinds = [e["kind"] for e in gate.entries()]
        assert kinds.count("session.start") == kinds.count("session.end") >= 5
        closes_every_intent(gate)
        verifies(gate)


# --- the disk ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def failing(peer: Peer, shim: Path, tmp_path: Path, *, stall_ms: int = STALL_MS) -> Iterator[tuple[Gateway, Path]]:
    """A gateway on a disk that fails as the file says."""
    switch = tmp_path / "switch"
    environment = {"LD_PRELOAD": str(shim), "OSTIARY_SHIM": str(switch)}
    with guarded(peer, ["fault"], environment=environment, sections={"audit": {"stall_ms": stall_ms}}) as gate:
        try:
            yield gate, switch
        finally:
            switch.unlink(missing_ok=True)


def insert(gate: Gateway, number: int, client: PgClient | None = None) -> bool:
    """Whether an insert was answered as done, in a session of its own where none is given."""
    with contextlib.suppress(ServerError, Closed, OSError):
        if client is not None:
            return client.query(f"INSERT INTO other VALUES ({number})").tags == ["INSERT 0 1"]
        with gate.connect("fault") as fresh:
            return insert(gate, number, fresh)
    return False


def answered(gate: Gateway) -> PgClient | None:
    """A session that was answered. One whose entry took the disk too long, on a busy machine, is over."""
    with contextlib.suppress(ServerError, Closed, OSError):
        client = gate.connect("fault")
        if client.query("SELECT count(*) FROM other").rows:
            return client
        client.close()
    return None


def test_flt_004_an_fsync_error_is_final(peer: Peer, shim: Path, tmp_path: Path) -> None:
    """Of each worker: the log of one says nothing of another's."""
    with failing(peer, shim, tmp_path) as (gate, switch):
        with on_each(gate, "fault") as clients:
            assert all(insert(gate, 1_000_010 + n, client) for n, client in enumerate(clients.values()))
            switch.write_text("eio")
            assert not any(insert(gate, 1_000_020 + n, client) for n, client in enumerate(clients.values()))
        switch.unlink()
        for number in range(1_000_030, 1_000_034):  # whichever worker it comes to
            assert not insert(gate, number), "it went on after an fsync error"
        assert peer.psql("SELECT count(*) FROM other WHERE id BETWEEN 1000020 AND 1000099", "fault") == "0"
        gate.stop()
        gate.start()
        assert insert(gate, 1_000_100)
        verifies(gate)


def test_a_disk_that_stalls_refuses_instead_of_hanging(peer: Peer, shim: Path, tmp_path: Path) -> None:
    with failing(peer, shim, tmp_path, stall_ms=100) as (gate, switch):
        with until(lambda: answered(gate), "a session is answered") as client:
            switch.write_text("stall")
            assert client.query("INSERT INTO other VALUES (1100001)").is_refused
        assert peer.psql("SELECT count(*) FROM other WHERE id = 1100001", "fault") == "0"
        switch.unlink()
        assert patiently(lambda: insert(gate, 1_100_002))
        verifies(gate)


def test_flt_008_short_writes_are_finished(peer: Peer, shim: Path, tmp_path: Path) -> None:
    with failing(peer, shim, tmp_path) as (gate, switch):
        switch.write_text("short")
        for number in range(1_200_000, 1_200_005):
            assert insert(gate, number)
        switch.unlink()
        verifies(gate)


def test_flt_024_a_full_disk_refuses_and_says_why(peer: Peer) -> None:
    try:
        with guarded(peer, ["fault"], state_bytes=48 << 20, sections={"audit": {"stall_ms": 500}}) as gate:
            assert patiently(lambda: insert(gate, 1_300_001))
            filler = gate.state / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(b"\0" * 65536):
                    pass
            assert patiently(lambda: not insert(gate, 1_300_100 + random.randrange(1000)), 30), (
                "it goes on with a full disk"
            )
            low = int(peer.psql("SELECT count(*) FROM other WHERE id BETWEEN 1300000 AND 1301999", "fault"))
            intended = sum(e["kind"] == "intent" and e["op"]["name"] == "INSERT" for e in gate.entries())
            assert low <= intended
            filler.unlink()
            gate.stop()
            gate.start()
            assert patiently(lambda: insert(gate, 1_302_001))
            verifies(gate)
    except GatewayDidNotStart as problem:
        if "mount:" not in str(problem):
            raise
        pytest.skip(f"a file system of limited size cannot be mounted here: {problem}")


def test_flt_010_a_torn_last_record_is_dropped_and_said(peer: Peer) -> None:
    with guarded(peer, ["fault"]) as gate:
        for number in range(20):
            assert insert(gate, 1_400_000 + number)
        gate.kill()
        segment = max(gate.state.glob("audit/*/*/wal/*.wal"), key=lambda path: path.stat().st_size)
        data = bytearray(segment.read_bytes())
        end = end_of(bytes(data))
        # A frame that began and never ended: more length than there is entry.
        data[end : end + 40] = struct.pack("<II", 500, 0) + b'{"torn":"' + b"x" * 23
        segment.write_bytes(bytes(data))
        gate.start()
        assert insert(gate, 1_400_100)
        closes_every_intent(gate)
        verifies(gate)


def end_of(data: bytes) -> int:
    """Where the frames of a write-ahead file end."""
    at = 0
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if not length:
            break
        at += 8 + length
    return at


def test_flt_009_bit_rot_in_a_sealed_record_stops_the_start(peer: Peer) -> None:
    with guarded(peer, ["fault"]) as gate:
        for number in range(20):
            assert insert(gate, 1_500_000 + number)
        gate.stop()
        segment = max(gate.state.glob("audit/*/*/wal/*.wal"), key=lambda path: path.stat().st_size)
        data = bytearray(segment.read_bytes())
        data[end_of(bytes(data)) // 2] ^= 1
        segment.write_bytes(bytes(data))
        with pytest.raises(GatewayDidNotStart) as refused:
            gate.start()
        assert "Traceback" not in str(refused.value)


def test_flt_027_a_full_pipe_behind_its_stdout_blocks_nothing(peer: Peer) -> None:
    with guarded(peer, ["fault"], deaf=True, sections={"gateway": {"log_level": "debug"}}) as gate:
        for number in range(300):
            with contextlib.suppress(ServerError), gate.connect("no-such-connection"):
                pass
            if number % 30 == 0:
                assert insert(gate, 1_600_000 + number)
        verifies(gate)


# --- targets ----------------------------------------------------------------------------------------------------------


def test_a_dead_target_is_an_error_and_a_record() -> None:
    with target_with([{"id": "fault"}]) as peer, guarded(peer, ["fault"]) as gate:
        with gate.connect("fault") as client:
            assert client.query("SELECT 1").rows
            peer.die()
            gone = client.query("SELECT 1")
            assert gone.is_refused
            assert all(PASSWORD not in str(error) for error in gone.errors)
        with pytest.raises((ServerError, Closed)) as refused:
            gate.connect("fault")
        assert PASSWORD not in str(refused.value)
        gate.stop()
        closes_every_intent(gate)


def test_a_target_that_stalls_harms_no_other_session() -> None:
    with target_with([{"id": "fault"}]) as stalled, target_with([{"id": "second"}]) as sound:
        both = {"fault": stalled, "second": sound}
        with two_targets(both) as gate, gate.connect("fault") as held, gate.connect("second") as free:
            assert held.query("SELECT 1").rows
            stalled.freeze()
            try:
                held.send(query(b"SELECT 2"))
                for _ in range(50):
                    assert free.query("SELECT 3").rows == [(b"3",)]
                with gate.connect("second") as another:
                    assert another.query("SELECT 4").rows
            finally:
                stalled.thaw()
            assert held.read_reply().rows == [(b"2",)]


@contextlib.contextmanager
def two_targets(peers: dict[str, Peer]) -> Iterator[Gateway]:
    from ostiary.testing.gateway import gateway
    from tests.attacks.lab import connections
    from tests.attacks.runner import HERE

    targets = {name: connections(peer, [name])[name] for name, peer in peers.items()}
    policy = (HERE / "profiles" / "pg-base.cedar").read_text()
    with gateway(connections=targets, policy=policy, secrets_by_name={"pg": PASSWORD}) as gate:
        yield gate


# --- clients ----------------------------------------------------------------------------------------------------------

Leaving = Callable[[Gateway], None]


def before_a_word(gate: Gateway) -> None:
    PgClient(gate.host, gate.port).vanish()


def inside_the_startup(gate: Gateway) -> None:
    client = PgClient(gate.host, gate.port)
    client.send(pg.startup({"user": "me", "database": "fault"})[:11])
    client.vanish()


def before_the_password(gate: Gateway) -> None:
    client = PgClient(gate.host, gate.port)
    client.send(pg.startup({"user": "me", "database": "fault"}))
    client.read_message()
    client.vanish()


def right_behind_the_password(gate: Gateway) -> None:
    client = PgClient(gate.host, gate.port)
    client.send(pg.startup({"user": "me", "database": "fault"}))
    client.read_message()
    client.send(pg.packet(b"p", gate.token().encode() + b"\0"))
    client.vanish()


def while_idle(gate: Gateway) -> None:
    gate.connect("fault").vanish()


def inside_a_message(gate: Gateway) -> None:
    client = gate.connect("fault")
    client.send(query(b"SELECT 1")[:7])
    client.vanish()


def while_a_statement_runs(gate: Gateway) -> None:
    client = gate.connect("fault")
    client.send(query(b"SELECT count(*) FROM pg_class a, pg_class b, pg_class c, pg_class d"))
    time.sleep(0.2)
    client.vanish()


def before_sync(gate: Gateway) -> None:
    client = gate.connect("fault")
    client.send(pg.parse(b"", b"SELECT 1") + pg.bind(b"", b"") + pg.execute())
    client.vanish()


def in_a_transaction(gate: Gateway) -> None:
    client = gate.connect("fault")
    client.query("BEGIN; INSERT INTO other VALUES (1700001)")
    client.vanish()


def inside_copy_in(gate: Gateway) -> None:
    client = gate.connect("fault")
    client.send(query(b"COPY other FROM STDIN"))
    client.read_until(b"G")
    client.send(pg.copy_data(b"1700002\n"))
    client.vanish()


def with_results_unread(gate: Gateway) -> None:
    client = gate.connect("fault")
    client.send(query(b"SELECT i, repeat('x', 1000) FROM generate_series(1, 100000) i"))
    client.read_message()
    client.vanish()


LEAVINGS: tuple[Leaving, ...] = (
    before_a_word, inside_the_startup, before_the_password, right_behind_the_password, while_idle, inside_a_message,
    while_a_statement_runs, before_sync, in_a_transaction, inside_copy_in, with_results_unread,
)  # fmt: skip


def test_clients_that_vanish_in_every_state_leave_nothing_behind(peer: Peer) -> None:
    with guarded(peer, ["fault"]) as gate:
        for leave in LEAVINGS:
            for _ in range(3):
                leave(gate)
            assert patiently(lambda: backends(peer, "fault") == 0, 30), f"{leave.__name__}: sessions are left at the target"
        with gate.connect("fault") as client:
            assert client.query("SELECT count(*) FROM other WHERE id IN (1700001, 1700002)").rows == [(b"0",)]
        gate.stop()
        kinds = [e["kind"] for e in gate.entries()]
        assert kinds.count("session.start") == kinds.count("session.end")
        closes_every_intent(gate)
        verifies(gate)


def test_a_million_rows_read_slowly_take_no_memory(peer: Peer) -> None:
    with guarded(peer, ["fault"]) as gate:
        client = PgClient(gate.host, gate.port)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.login(user="me", database="fault", password=gate.token())
        client.query("SELECT 1")
        before = gate.resident_bytes()
        client.send(query(b"SELECT i, repeat('x', 80) FROM generate_series(1, 1000000) i"))
        most = 0
        for _ in range(20):
            client.read_message()
            time.sleep(0.1)
            most = max(most, gate.resident_bytes() - before)
        assert most <= 16 << 20, f"{most >> 20} MiB more while nobody reads"
        rows = 0
        while (message := client.read_message()).tag != b"Z":
            rows += message.tag == b"D"
            client.received.clear()
        assert rows > 999_900
        assert gate.resident_bytes() - before <= 16 << 20
        client.close()
