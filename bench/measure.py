"""One measurement each: transactions with pgbench, a scan by COPY and by SELECT."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.ways import ROWS, Way, machine_cpu_seconds
from ostiary.testing.pgclient import PgClient, bind, describe, execute, parse, query

SYNC_DONE = b"Z\0\0\0\x05I"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run's figures. Rates a second; CPU in microseconds a unit (transaction or row)."""

    rate: float
    proxy_cpu: float
    machine_cpu: float
    p50: float = 0.0
    p99: float = 0.0

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class Meter:
    """CPU of the proxy and of the machine between two moments."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.proxy = way.cpu_seconds()
        self.machine = machine_cpu_seconds()
        self.began = time.perf_counter()

    def read(self, units: float, *, seconds: float | None = None, p50: float = 0.0, p99: float = 0.0) -> Sample:
        elapsed = seconds if seconds is not None else time.perf_counter() - self.began
        proxy = (self.way.cpu_seconds() - self.proxy) / units * 1e6
        machine = (machine_cpu_seconds() - self.machine) / units * 1e6
        return Sample(units / elapsed, proxy, machine, p50, p99)


def transactions(way: Way, *, mode: str, clients: int, seconds: float, script: str = "", anew: bool = False) -> Sample:
    """pgbench -S (or a script of our own) for so many seconds. `anew`: each transaction on a connection of its own."""
    command = [str(way.binaries / "pgbench"), "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2))]
    command += ["-T", str(max(1, round(seconds)))] + (["-C"] if anew else [])
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command += ["-f", file.name, "-D", f"aids={10 * 100_000}"] if script else ["-S"]
        meter = Meter(way)
        said = run(command, way)
    done = int(found(r"number of transactions actually processed: (\d+)", said))
    tps = float(found(r"tps = ([\d.]+) \((?:without|including)", said))
    failed = int(found(r"number of failed transactions: (\d+)", said))
    if failed or not done:
        raise RuntimeError(f"{way.name}: {failed} transactions failed: {said}")
    return meter.read(done, seconds=done / tps)


def latency(way: Way, *, clients: int, rate: float, seconds: float) -> Sample:
    """Latency of prepared point queries at a given rate: median and p99 in microseconds, waiting for a client left out."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / "log")
        command = [str(way.binaries / "pgbench"), "-n", "-S", "-M", "prepared", "-c", str(clients), "-j", "2"]
        command += ["-T", str(max(1, round(seconds))), "-R", str(int(rate)), "-l", f"--log-prefix={prefix}"]
        meter = Meter(way)
        run(command, way)
        times = []
        for path in Path(folder).iterdir():
            for line in path.read_text().splitlines():
                fields = line.split()
                times.append(int(fields[2]) - int(fields[6]))  # without the time that it waited for its turn
    times.sort()
    return meter.read(len(times), p50=statistics.median(times), p99=times[int(len(times) * 0.99)])


@contextlib.contextmanager
def idle_sessions(way: Way, count: int) -> Iterator[None]:
    """So many sessions that have asked something once, and then say nothing."""
    with contextlib.ExitStack() as held:
        for _ in range(count):
            client = held.enter_context(PgClient(way.host, way.port, timeout=60))
            client.login(user=way.user, database=way.database, password=way.password)
            client.query("SELECT 1")
        yield


def copy_scan(way: Way) -> Sample:
    """COPY a million rows TO STDOUT with psql, to nowhere."""
    meter = Meter(way)
    with Path(os.devnull).open("wb") as nowhere:
        subprocess.run(
            [str(way.binaries / "psql"), "-X", "-q", "-c", "COPY scan TO STDOUT"],
            env=way.environment(), stdout=nowhere, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    return meter.read(ROWS)


def select_scan(way: Way, *, binary: bool = False) -> Sample:
    """SELECT a million rows; a client that only counts bytes, so that the ways are measured and not the client."""
    with PgClient(way.host, way.port, timeout=120) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.login(user=way.user, database=way.database, password=way.password)
        client.query("SELECT 1")
        sql = b"SELECT * FROM scan"
        asked = parse(b"", sql) + bind(b"", b"", results=[1]) + describe(b"P", b"") + execute() + b"S\0\0\0\x04"
        meter = Meter(way)
        client.send(asked if binary else query(sql))
        tail, got = b"", 0
        buffer = bytearray(1 << 18)
        while not tail.endswith(SYNC_DONE):
            count = client.sock.recv_into(buffer)
            if not count:
                raise RuntimeError(f"{way.name}: the connection ended in the middle of the scan")
            got += count
            tail = (tail + bytes(buffer[max(0, count - 16) : count]))[-16:]
        sample = meter.read(ROWS)
    if got < ROWS * 20:
        raise RuntimeError(f"{way.name}: {got} bytes are no million rows")
    return sample


def run(command: list[str], way: Way) -> str:
    done = subprocess.run(command, env=way.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{way.name}: {' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"pgbench did not say {pattern!r}: {text}")
    return match[1]
