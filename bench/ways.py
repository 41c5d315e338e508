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
SETTINGS = {"shared_buffers": "512MB", "synchronous_commit": "off", "max_connections": "2600"}
SESSIONS = 1300
"""Most at once through a proxy."""
WIDE = 60
"""Text columns of the table `wide`: a row has some 2 KB."""
SCAN = f"""
CREATE TABLE scan AS
SELECT i AS id, md5(i::text) AS token, 'customer ' || i AS name, 'note ' || (i::bigint * 7919 % 1000003) AS note,
       (i % 9973)::numeric / 100 AS price, timestamptz '2026-01-01' + i * interval '1 second' AS made
FROM generate_series(1, {ROWS}) i;
VACUUM ANALYZE scan;
CREATE TABLE wide AS
SELECT i AS id, {", ".join(f"md5((i + {n})::text) AS c{n}" for n in range(WIDE))} FROM generate_series(1, 20000) i;
ALTER TABLE wide ADD PRIMARY KEY (id);
VACUUM ANALYZE wide;
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
    sslmode: str = "disable"

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGSSLMODE": self.sslmode,
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
def bouncer(peer: Peer, tls: tuple[Path, Path] | None = None) -> Iterator[Way]:
    """Debian's pgbouncer in session mode, as shipped but for where it listens, and how many it lets in. `tls`: certificate and key."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        raise PeerUnavailable("pgbouncer is not installed: install Debian's package pgbouncer")
    home = Path(tempfile.mkdtemp(prefix="ostiary-bouncer-", dir="/tmp"))
    account = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    port = free_port()
    (home / "ini").write_text(
        f"[databases]\nbench = host={peer.host} port={peer.port} user={peer.user}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = session\nmax_client_conn = {SESSIONS}\ndefault_pool_size = {SESSIONS}\n"
        "ignore_startup_parameters = extra_float_digits\n"
        f"logfile = {home}/log\npidfile = {home}/pid\n"
        + ("" if tls is None else f"client_tls_sslmode = require\nclient_tls_cert_file = {home}/crt\nclient_tls_key_file = {home}/key\n")
    )
    for name, path in zip(("crt", "key"), tls or (), strict=False):
        shutil.copy(path, home / name)
        (home / name).chmod(0o600)
        shutil.chown(home / name, account)
    shutil.chown(home, account)
    process = subprocess.Popen(
        [program, "-q", str(home / "ini")], user=account if os.geteuid() == 0 else None,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port)
        name, sslmode = ("pgbouncer", "disable") if tls is None else ("pgbouncer TLS", "require")
        yield Way(name, "127.0.0.1", port, peer.user, "", "bench", process.pid, peer.binaries, sslmode)
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def ostiary(peer: Peer, tls: tuple[Path, Path] | None = None, workers: int = 1) -> Iterator[dict[str, Way]]:
    """The gateway, by profile: what is recorded, how durable it is, what is masked. `tls`: its certificate and key."""
    several = "" if workers == 1 else several_workers(workers)
    events = {"database": "bench", "recording": "events", "durability": "buffered", "detect": [], "max_sessions": SESSIONS}
    masked = {"public.scan.token": {"class": "pii"}, "public.scan.name": {"class": "pii"}}
    connections = {
        "decide": target(peer, **events),
        "strict": target(peer, **(events | {"durability": "strict"})),
        "recorded": target(peer, **(events | {"recording": "full"})),
        "full": target(peer, **(events | {"recording": "full", "durability": "strict"})),
        "masked": target(peer, **events, protect=masked),
        "detect": target(peer, **(events | {"detect": list(DETECTORS)})),
    }
    listener: dict[str, object] = {"max_sessions": SESSIONS}
    if tls is not None:
        listener |= {"tls_cert": str(tls[0]), "tls_key": str(tls[1])}
    policy = (Path(__file__).parent / "policy.cedar").read_text()
    sections = {"listen.postgresql": listener}
    with gateway(connections=connections, policy=policy, on_disk=True, sections=sections, workers=workers) as gate:
        token = gate.token("bench", exp=int(time.time()) + 6 * 3600)
        sslmode = "disable" if tls is None else "require"
        yield {
            name + several: Way(
                f"ostiary {name}{several}", gate.host, gate.port, "bench", token, name, gate.process.pid, peer.binaries, sslmode
            )
            for name in connections
        }


def several_workers(workers: int) -> str:
    """What stands behind the name of a profile that so many workers serve."""
    return f", {workers} workers"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own making, and its key."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(
        [*command, "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    key.chmod(0o600)
    return certificate, key


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
