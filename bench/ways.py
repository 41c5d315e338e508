"""The ways to the database that are compared: directly, through pgbouncer, through Ostiary."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ostiary.testing.gateway import gateway, target
from ostiary.testing.peers import Peer, PeerUnavailable, free_port, postgres_cluster, process_family

ROWS = 1_000_000
SCALE = 10
SETTINGS = {"shared_buffers": "512MB", "synchronous_commit": "off", "max_connections": "300"}
SCAN = f"""
CREATE TABLE scan AS
SELECT i AS id, md5(i::text) AS token, 'customer ' || i AS name, 'note ' || (i::bigint * 7919 % 1000003) AS note,
       (i % 9973)::numeric / 100 AS price, timestamptz '2026-01-01' + i * interval '1 second' AS made
FROM generate_series(1, {ROWS}) i;
VACUUM ANALYZE scan;
"""
DETECTORS = ("card", "email", "iban", "ssn", "secret")


@dataclass(frozen=True, slots=True)
class Way:
    """One way in: where libpq should go, and whose CPU time it costs."""

    name: str
    host: str
    port: int
    user: str
    password: str
    database: str
    pid: int | None
    """The proxy's first process; None: there is no proxy."""
    binaries: Path

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
        }

    def cpu_seconds(self) -> float:
        """CPU that the proxy's processes have used so far."""
        if self.pid is None:
            return 0.0
        ticks = 0
        for pid in process_family(self.pid):
            with contextlib.suppress(OSError):
                after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(after_name[11]) + int(after_name[12])  # utime, stime
        return ticks / os.sysconf("SC_CLK_TCK")


def machine_cpu_seconds() -> float:
    """CPU that the whole machine has used so far, idle and waiting apart."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def database() -> Iterator[Peer]:
    """A PostgreSQL with pgbench's tables and a million rows to scan."""
    with postgres_cluster(settings=SETTINGS) as peer:
        peer.psql("CREATE DATABASE bench")
        subprocess.run(
            [str(peer.binaries / "pgbench"), "-i", "-q", "-s", str(SCALE)],
            env=peer.environment("bench"), check=True, capture_output=True,
        )  # fmt: skip
        peer.psql(SCAN, "bench")
        peer.psql("CHECKPOINT")
        yield peer


@contextlib.contextmanager
def bouncer(peer: Peer) -> Iterator[Way]:
    """Debian's pgbouncer in session mode, as shipped but for where it listens."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        raise PeerUnavailable("pgbouncer is not installed: install Debian's package pgbouncer")
    home = Path(tempfile.mkdtemp(prefix="ostiary-bouncer-", dir="/tmp"))
    account = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    port = free_port()
    (home / "ini").write_text(
        f"[databases]\nbench = host={peer.host} port={peer.port} user={peer.user}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = session\nmax_client_conn = 500\ndefault_pool_size = 200\n"
        "ignore_startup_parameters = extra_float_digits\n"
        f"logfile = {home}/log\npidfile = {home}/pid\n"
    )
    shutil.chown(home, account)
    process = subprocess.Popen(
        [program, "-q", str(home / "ini")], user=account if os.geteuid() == 0 else None,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port)
        yield Way("pgbouncer", "127.0.0.1", port, peer.user, "", "bench", process.pid, peer.binaries)
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def ostiary(peer: Peer) -> Iterator[dict[str, Way]]:
    """The gateway: `decide` (events, buffered, no mask), `full` (recorded whole, strict), and the scans under masks."""
    decide = {"database": "bench", "recording": "events", "durability": "buffered", "detect": []}
    connections = {
        "decide": target(peer, **decide),
        "full": target(peer, database="bench", recording="full", durability="strict", detect=[]),
        "masked": target(
            peer, **decide, protect={"public.scan.token": {"class": "pii"}, "public.scan.name": {"class": "pii"}}
        ),
        "detect": target(peer, **(decide | {"detect": list(DETECTORS)})),
    }
    policy = (Path(__file__).parent / "policy.cedar").read_text()
    with gateway(connections=connections, policy=policy, on_disk=True) as gate:
        token = gate.token("bench", exp=int(time.time()) + 6 * 3600)
        yield {
            name: Way(f"ostiary {name}", gate.host, gate.port, "bench", token, name, gate.process.pid, peer.binaries)
            for name in connections
        }


def direct(peer: Peer) -> Way:
    return Way("direct", peer.host, peer.port, peer.user, peer.password, "bench", None, peer.binaries)


def wait_for(port: int) -> None:
    """Until someone listens there."""
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise PeerUnavailable(f"nobody listens on port {port}")
        time.sleep(0.05)
