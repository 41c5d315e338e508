"""The gateway itself as a peer: a real `ostiary serve` in a process of its own, with a configuration made for the test.

It has an issuer whose key this process holds, so a test mints whatever token it likes; whatever is written here is what an
operator would write, and goes through the same doors.
"""

from __future__ import annotations

import base64
import contextlib
import heapq
import json
import os
import re
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.model.errors import OstiaryError
from ostiary.testing.peers import Peer, free_port, process_family
from ostiary.testing.pgclient import PgClient

ISSUER: Final = "https://idp.test"
AUDIENCE: Final = "ostiary"
START_SECONDS: Final = 60.0
STALL_MS: Final = 10_000
"""What the machine's disk may take: other tests keep it busy. A test about a stall sets less."""
STOP_SECONDS: Final = 30.0


class GatewayDidNotStart(OstiaryError):
    """`ostiary serve` ended, or was not ready in time; the sentence holds what it said."""


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Mint:
    """An issuer's signing key and the tokens that it signs: EdDSA (RFC 8037)."""

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self.kid = secrets.token_hex(4)
        self._key = Ed25519PrivateKey.generate()

    def jwks(self) -> dict[str, Any]:
        """The public half, as a JWK set."""
        public = self._key.public_key().public_bytes_raw()
        key = {"kty": "OKP", "crv": "Ed25519", "x": _b64(public), "kid": self.kid, "alg": "EdDSA", "use": "sig"}
        return {"keys": [key]}

    def token(self, claims: Mapping[str, object], *, header: Mapping[str, object] | None = None) -> str:
        """Sign these claims as they are."""
        head = {"alg": "EdDSA", "typ": "JWT", "kid": self.kid} | dict(header or {})
        signed = f"{_b64(json.dumps(head).encode())}.{_b64(json.dumps(claims).encode())}"
        return f"{signed}.{_b64(self._key.sign(signed.encode()))}"

    def claims(self, subject: str = "ana", **more: object) -> dict[str, object]:
        """Ordinary claims of a person, good for an hour."""
        now = int(time.time())
        ordinary: dict[str, object] = {
            "iss": self.issuer,
            "sub": subject,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 3600,
            "jti": secrets.token_hex(8),
            "name": subject.title(),
            "email": f"{subject}@example.com",
            "email_verified": True,
            "groups": ["staff"],
        }
        return ordinary | more


@dataclass(slots=True)
class Gateway:
    """One running gateway."""

    home: Path
    host: str
    port: int
    api_port: int
    config: Path
    mint: Mint
    process: subprocess.Popen[bytes] = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    said: list[str] = field(default_factory=list, repr=False)
    """Lines of stdout and stderr so far."""

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.home / "state"

    def token(self, subject: str = "ana", **more: object) -> str:
        """A token of the trusted issuer for this subject, fit to be a password."""
        return self.mint.token(self.mint.claims(subject, **more))

    def connect(self, connection: str, *, token: str | None = None, user: str = "", **startup: str) -> PgClient:
        """Log in as `ana`, or with the token given."""
        client = PgClient(self.host, self.port)
        try:
            client.login(user=user or "me", database=connection, password=token or self.token(), **startup)
        except BaseException:
            client.sock.close()
            raise
        return client

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `ostiary ARGUMENTS` beside it, with its environment."""
        return subprocess.run(
            [sys.executable, "-m", "ostiary.cli.main", *arguments],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def pids(self) -> list[int]:
        """Every process of it, the supervisor first."""
        return process_family(self.process.pid)

    def kill(self) -> None:
        """SIGKILL to every process of it at once: nothing gets to say goodbye."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """SIGTERM, and wait. Returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def start(self) -> None:
        """Start it again over the same state, on the same ports."""
        self.process, self.said = _serve(self.config, self.environment, self.home)

    def resident_bytes(self) -> int:
        """Memory of all its processes that is its own (RssAnon of /proc/PID/status), in bytes."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                match = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                total += int(match[1]) * 1024 if match else 0
        return total

    def logs(self) -> list[Path]:
        """The public folders of its audit logs: each holds a `checkpoint`."""
        return sorted(path.parent for path in self.state.glob("audit/*/*/log/checkpoint"))

    def entries(self) -> list[dict[str, Any]]:
        """Every entry of every log, straight from its write-ahead files: in each log's order, those of several logs by their time.

        Frames are `u32le length | u32le crc32c | entry`; a length of zero is the unused rest of a segment.
        """
        logs: dict[Path, list[dict[str, Any]]] = {}
        for segment in sorted(self.state.glob("audit/*/*/wal/*.wal")):
            found = logs.setdefault(segment.parent, [])
            data, at = segment.read_bytes(), 0
            while at + 8 <= len(data):
                (length,) = struct.unpack_from("<I", data, at)
                if not length or at + 8 + length > len(data):
                    break
                found.append(json.loads(data[at + 8 : at + 8 + length]))
                at += 8 + length
        return list(heapq.merge(*logs.values(), key=lambda entry: str(entry["t"])))

    def written(self) -> Iterator[tuple[Path, bytes]]:
        """Every file that it left: state, tail, and what it said."""
        for path in sorted(self.home.rglob("*")):
            if path.is_file():
                with contextlib.suppress(OSError):
                    yield path, path.read_bytes()
        yield Path("stdout+stderr"), "\n".join(self.said).encode()


@contextlib.contextmanager
def gateway(
    *,
    connections: Mapping[str, Mapping[str, object]],
    policy: str,
    sections: Mapping[str, Mapping[str, object]] | None = None,
    secrets_by_name: Mapping[str, str] | None = None,
    issuer: Mapping[str, object] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    state_bytes: int | None = None,
    workers: int | None = None,
    deaf: bool = False,
    on_disk: bool = False,
) -> Iterator[Gateway]:
    """Start a gateway with these connections (as in `ostiary.toml`) under this Cedar policy; stop and delete it at the end.

    `sections` are merged over the configuration made here, by section. `secrets_by_name` become files 0600 in `secrets/`,
    so a connection's password is `file:secrets/NAME` with `@HOME@` for the folder. `tables` are added to arrays of
    tables (`issuers`, `clients`). `prefix` goes before the command
    (`strace`, `nice`). `state_bytes` puts the state on a file system of that size (needs root). `workers`: how many it has; not
    said: as many as `OSTIARY_TEST_WORKERS` in the environment, or one. `deaf`: once it is ready,
    nobody reads its stdout and stderr any more. `on_disk` keeps the state under /tmp; else it is in memory, so that a busy
    disk of the machine that tests does not make the gateway refuse.
    """
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else "/tmp"
    home = Path(tempfile.mkdtemp(prefix="ostiary-gw-", dir="/tmp" if on_disk else memory))
    tail = Path(tempfile.mkdtemp(prefix="ostiary-tail-", dir=memory))
    mint = Mint()
    ready: Gateway | None = None
    try:
        (home / "secrets").mkdir(mode=0o700)
        for name, value in (secrets_by_name or {}).items():
            (home / "secrets" / name).touch(mode=0o600)
            (home / "secrets" / name).write_text(value)
        (home / "jwks.json").write_text(json.dumps(mint.jwks()))
        (home / "policy.cedar").write_text(policy)
        port, api_port = free_port(), free_port()
        document = _document(home, tail, port, api_port, connections, dict(issuer or {}))
        document["gateway"]["workers"] = workers or int(os.environ.get("OSTIARY_TEST_WORKERS", "1"))
        for section, settings in (sections or {}).items():
            _merge(document, section, settings)
        for name, items in (tables or {}).items():
            document[name] = [*document.get(name, []), *items]
        config = home / "ostiary.toml"
        config.write_text(to_toml(document).replace("@HOME@", str(home)))
        env = _environment(home) | dict(environment or {})
        (home / "state").mkdir(mode=0o700)
        if state_bytes is not None:
            _mount(home / "state", state_bytes)
        _init(config, env, home)
        process, said = _serve(config, env, home, prefix, deaf=deaf)
        ready = Gateway(home, "127.0.0.1", port, api_port, config, mint, process, env, said)
        yield ready
    finally:
        if ready is not None:
            ready.stop()
        if os.path.ismount(home / "state"):
            subprocess.run(["umount", "-l", str(home / "state")], check=False)
        for folder in (home, tail):
            shutil.rmtree(folder, ignore_errors=True)


def target(peer: Peer, **more: object) -> dict[str, object]:
    """A connection of `ostiary.toml` to this PostgreSQL. A password needs `password="file:…"` beside."""
    settings: dict[str, object] = {
        "type": "postgresql",
        "address": f"{peer.host}:{peer.port}",
        "database": peer.database,
        "user": peer.user,
        "tls": "disable",
    }
    return settings | more


def _document(
    home: Path,
    tail: Path,
    port: int,
    api_port: int,
    connections: Mapping[str, Mapping[str, object]],
    issuer: dict[str, object],
) -> dict[str, Any]:
    return {
        "gateway": {"name": "gw-test", "state_dir": str(home / "state")},
        "listen": {"postgresql": {"address": f"127.0.0.1:{port}"}},
        "api": {"address": f"127.0.0.1:{api_port}"},
        "audit": {"durability": "strict", "tail_dir": str(tail), "stall_ms": STALL_MS},
        "policy": {"files": [str(home / "policy.cedar")]},
        "issuers": [
            {
                "issuer": ISSUER,
                "audience": AUDIENCE,
                "jwks_file": str(home / "jwks.json"),
                "algorithms": ["EdDSA"],
                "kind": "human",
            }
            | issuer
        ],
        "connections": {name: dict(settings) for name, settings in connections.items()},
    }


def _merge(document: dict[str, Any], section: str, settings: Mapping[str, object]) -> None:
    """Lay settings over one section, which may be dotted."""
    place = document
    for part in section.split("."):
        place = place.setdefault(part, {})
    place.update(settings)


def _environment(home: Path) -> dict[str, str]:
    root = Path(__file__).resolve().parent.parent.parent
    passed = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "TMPDIR", "OSTIARY_PURE", "PYTHONWARNINGS"}}
    return passed | {"HOME": str(home), "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}


def _mount(folder: Path, size: int) -> None:
    """A memory file system that fills up; `GatewayDidNotStart` where this process may not mount one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GatewayDidNotStart(f"mount: {done.stderr.strip()}")


def _init(config: Path, env: Mapping[str, str], home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ostiary.cli.main", "init", "-c", str(config)],
        env=dict(env),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise GatewayDidNotStart(f"ostiary init: {done.stderr.strip() or done.stdout.strip()}")


def _serve(
    config: Path, env: Mapping[str, str], home: Path, prefix: Sequence[str] = (), *, deaf: bool = False
) -> tuple[subprocess.Popen[bytes], list[str]]:
    """Start it and wait for a line that says `ready`; a thread goes on collecting what it says."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "ostiary.cli.main", "serve", "-c", str(config)],
        env=dict(env),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    said: list[str] = []
    forgotten: list[int] = []  # a pipe that stays open and unread, to the end of this process
    is_ready = threading.Event()

    def listen() -> None:
        pipe = process.stdout
        if pipe is None:
            return
        with pipe:
            for line in pipe:
                said.append(line.decode(errors="replace").rstrip("\n"))
                if re.search(r"\bready\b", said[-1]):
                    is_ready.set()
                    if deaf:
                        forgotten.append(os.dup(pipe.fileno()))
                        return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    deadline = time.monotonic() + START_SECONDS
    while not is_ready.wait(0.05):
        if process.poll() is not None or time.monotonic() > deadline:
            for pid in process_family(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(STOP_SECONDS)
            listener.join(5)
            raise GatewayDidNotStart("\n".join(said[-40:]) or "it said nothing")
    return process, said


def to_toml(document: Mapping[str, Any]) -> str:
    """Write nested tables, arrays of tables, strings, numbers, booleans and lists as TOML."""
    lines: list[str] = []

    def table(prefix: str, content: Mapping[str, Any]) -> None:
        plain = {k: v for k, v in content.items() if not isinstance(v, Mapping) and not _is_tables(v)}
        if prefix and (plain or not content):
            lines.append(f"\n[{prefix}]")
        lines.extend(f"{_key(k)} = {_value(v)}" for k, v in plain.items())
        for name, value in content.items():
            path = f"{prefix}.{_key(name)}" if prefix else _key(name)
            if isinstance(value, Mapping):
                table(path, value)
            elif _is_tables(value):
                for item in value:
                    lines.append(f"\n[[{path}]]")
                    lines.extend(f"{_key(k)} = {_value(v)}" for k, v in item.items())

    table("", document)
    return "\n".join(lines) + "\n"


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value)
