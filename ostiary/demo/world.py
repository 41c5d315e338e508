"""What the demo plays in: PostgreSQL with the shop, an identity provider and the gateway, in one folder that goes away.

Everything an operator would write is written here: `ostiary.toml`, `policy.cedar`, a password file; then `ostiary init` and
`ostiary serve` do what they do anywhere. The documentation's commands are tested in the same world.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostiary.demo import shop
from ostiary.demo.guard import Guard
from ostiary.model.errors import OstiaryError
from ostiary.testing.issuer import LocalIssuer
from ostiary.testing.peers import Peer, free_port, postgres_cluster, process_family

USUAL_PORT: Final = 15432
USUAL_API_PORT: Final = 15480
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
COMMAND_SECONDS: Final = 60.0
TOKEN_SECONDS: Final = 2 * 3600

CONFIG: Final = """\
[gateway]
name = "demo"
state_dir = "state"

[listen.postgresql]
address = "127.0.0.1:{port}"

[api]
address = "127.0.0.1:{api_port}"

[audit]
durability = "strict"
tail_dir = "{tail}"
tail_bytes = 4194304
stall_ms = 5000

[policy]
files = ["policy.cedar"]

[[issuers]]
issuer = "{issuer}"
audience = "ostiary"
discovery = true

[connections.shop]
type = "postgresql"
address = "{target}"
database = "{database}"
user = "{account}"
password = "file:{folder}/shop.password"
tls = "disable"
labels = {{ env = "prod" }}

[connections.shop.protect]
"public.customers.card" = {{ class = "pci", mask = "last4" }}
"""


class DemoFailed(OstiaryError):
    """The demo could not do, or did not see, what it says; the sentence says which."""


class PortTaken(DemoFailed):
    """Somebody listens where the gateway wanted to."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ran: its exit code, and all that it wrote, in order."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class World:
    """The running demo."""

    folder: Path
    port: int
    api_port: int
    issuer: LocalIssuer
    peer: Peer
    environment: dict[str, str]
    gateway_pid: int

    @property
    def state(self) -> Path:
        """The gateway's state folder."""
        return self.folder / "state"

    def sh(self, command: str, **more: str) -> Done:
        """Run a line of shell in the folder; `more` goes into its environment."""
        done = subprocess.run(  # noqa: S603 - the demo's own commands
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"))

    def token(self, whose: str) -> str:
        """A gateway token for the shop, from the issuer's token in the file `WHOSE.jwt`."""
        done = self.sh(f"ostiary token shop --from file:{whose}.jwt 2>/dev/null")
        if done.code:
            raise DemoFailed(f"ostiary token ended with {done.code}")
        return done.text.strip()


Progress = Callable[[str], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def world(progress: Progress | None = None, *, usual_ports: bool = True) -> Iterator[World]:
    """Set it all up; take it all down at the end. `progress` is told what is being started.

    `usual_ports`: listen where the documentation says, if nobody else does.
    """
    telling = progress or (lambda _: contextlib.nullcontext())
    with contextlib.ExitStack() as stack:
        guard = stack.enter_context(Guard())
        folder = _folder(stack, guard, None)
        tail = _folder(stack, guard, Path("/dev/shm"))  # noqa: S108 - a folder of our own, 0700, inside it
        password = secrets.token_urlsafe(18)
        with telling("PostgreSQL, with a small shop in it"):
            peer = stack.enter_context(postgres_cluster(auth="scram-sha-256", password=secrets.token_urlsafe(18)))
            guard.process(peer.process.pid, signal.SIGINT)
            guard.folder(peer.data.parent)
            _fill(peer, password)
        with telling("an identity provider"):
            issuer = stack.enter_context(LocalIssuer())
            _write_tokens(folder, issuer)
        with telling("the gateway"):
            (folder / "policy.cedar").write_text((Path(__file__).parent / "policy.cedar").read_text())
            _private(folder / "shop.password", password)
            environment = _environment(folder, peer)

            def start(port: int, api_port: int) -> int:
                config = CONFIG.format(
                    port=port, api_port=api_port, tail=tail, issuer=issuer.issuer, folder=folder,
                    target=f"{peer.host}:{peer.port}", database=shop.DATABASE, account=shop.ACCOUNT,
                )  # fmt: skip
                (folder / "ostiary.toml").write_text(config)
                return stack.enter_context(_gateway(folder, environment, guard))

            port, api_port = (_free(USUAL_PORT), _free(USUAL_API_PORT)) if usual_ports else (free_port(), free_port())
            try:
                pid = start(port, api_port)
            except PortTaken:  # somebody was quicker
                port, api_port = free_port(), free_port()
                pid = start(port, api_port)
        yield World(folder, port, api_port, issuer, peer, environment, pid)


def _folder(stack: contextlib.ExitStack, guard: Guard, parent: Path | None) -> Path:
    """A new private folder, gone at the end; where `parent` cannot be written to, among the usual temporary ones."""
    usable = parent is not None and parent.is_dir() and os.access(parent, os.W_OK)
    path = Path(tempfile.mkdtemp(prefix="ostiary-demo-", dir=parent if usable else None))
    stack.callback(shutil.rmtree, path, ignore_errors=True)
    guard.folder(path)
    return path


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n")


def _free(wanted: int) -> int:
    """The port wanted, if nobody has it; else any."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
            probe.listen()
        except OSError:
            return free_port()
    return wanted


def _fill(peer: Peer, password: str) -> None:
    peer.psql(f"CREATE ROLE {shop.ACCOUNT} LOGIN PASSWORD '{password}'")
    peer.psql(f"CREATE DATABASE {shop.DATABASE} OWNER {shop.ACCOUNT}")
    peer.psql(f"GRANT ALL ON SCHEMA public TO {shop.ACCOUNT}; SET ROLE {shop.ACCOUNT}; {shop.TABLES}", shop.DATABASE)


def _write_tokens(folder: Path, issuer: LocalIssuer) -> None:
    """What the identity provider gives to Ana, to Ana's agent on her behalf, and to Dora."""
    until = int(time.time()) + TOKEN_SECONDS
    _private(folder / "ana.jwt", issuer.mint(shop.ANA, exp=until))
    _private(folder / "agent.jwt", issuer.mint_agent(shop.ANA, shop.AGENT, exp=until))
    _private(folder / "dora.jwt", issuer.mint(shop.DORA, exp=until))


def _environment(folder: Path, peer: Peer) -> dict[str, str]:
    """What commands run with: `ostiary` and `psql` on the PATH, and nothing of the user's own settings."""
    programs = folder / "bin"
    programs.mkdir()
    command = programs / "ostiary"
    # Where this very program was found: it need not be installed.
    found = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{found}" exec "{sys.executable}" -m ostiary.cli.main "$@"\n')
    command.chmod(0o755)
    passed = {name: os.environ[name] for name in ("LANG", "TMPDIR", "OSTIARY_PURE") if name in os.environ}
    return passed | {
        "PATH": f"{programs}:{peer.binaries}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PSQL_PAGER": "cat",
        "PSQLRC": "/dev/null",
        "PGCONNECT_TIMEOUT": "20",
    }


@contextlib.contextmanager
def _gateway(folder: Path, environment: dict[str, str], guard: Guard) -> Iterator[int]:
    """`ostiary init` and `ostiary serve`; yields the supervisor's process id."""
    if (folder / "state").exists():
        shutil.rmtree(folder / "state")
    made = subprocess.run(
        ["ostiary", "init"],  # noqa: S607 - of our own PATH
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS,
    )  # fmt: skip
    if made.returncode:
        raise DemoFailed(f"ostiary init: {made.stderr.strip()}")
    said = folder / "gateway.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            ["ostiary", "serve"],  # noqa: S607 - of our own PATH
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    guard.process(process.pid, signal.SIGTERM)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not re.search(rb"^ready\b", said.read_bytes(), re.MULTILINE):
            if process.poll() is not None or time.monotonic() > deadline:
                told = f"ostiary serve: {said.read_text(errors='replace').strip()}"
                raise PortTaken(told) if "Address already in use" in told else DemoFailed(told)
            time.sleep(0.05)
        yield process.pid
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in process_family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
