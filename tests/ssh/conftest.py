"""A real OpenSSH server with the gateway in front of it, under the policy of the corpus' `ssh-base`, and OpenSSH's own clients."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.issuer import LocalIssuer
from ostiary.testing.peers import free_port
from ostiary.testing.sshd import Sshd, sshd

POLICY = """
@id("connect") permit (principal, action == Ostiary::Action::"connect", resource);
@id("programs") permit (principal, action == Ostiary::Action::"execute", resource is Ostiary::Command)
  when { ["ls", "cat", "echo", "true", "head", "id", "sleep", "exit", "env", "wc", "seq"].contains(resource.program) };
@id("read") permit (principal, action == Ostiary::Action::"read", resource is Ostiary::File);
@id("change") permit (principal, action in [Ostiary::Action::"write", Ostiary::Action::"delete"], resource is Ostiary::File);
@id("move") permit (principal, action == Ostiary::Action::"transfer", resource == Ostiary::Connection::"web");
@id("trees") permit (principal, action == Ostiary::Action::"transfer", resource is Ostiary::File);
@id("shell") permit (principal in Ostiary::Group::"operators", action == Ostiary::Action::"opaque", resource == Ostiary::Connection::"web")
  when { context.name == "shell" };
@id("forwards") permit (principal in Ostiary::Group::"operators", action == Ostiary::Action::"transfer", resource is Ostiary::Endpoint)
  when { resource.host == "127.0.0.1" && resource.port == @PORT@ };
@id("listeners") permit (principal in Ostiary::Group::"operators", action == Ostiary::Action::"opaque", resource is Ostiary::Endpoint)
  when { (resource.host == "127.0.0.1" && resource.port == @LISTEN@) || resource.name like "@HOME@/*.sock" };
@id("secrets") permit (principal in Ostiary::Group::"operators", action == Ostiary::Action::"unmask", resource == Ostiary::DataClass::"keys");
@id("no-flag") forbid (principal, action, resource is Ostiary::File)
  when { resource.name like "@SRV@/flag*" };
@id("confined") forbid (principal, action, resource is Ostiary::File)
  unless { context.name == "exec" || resource.name == "@HOME@" || resource.name like "@HOME@/*" };
"""

OPTIONS = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
BY_PASSWORD = [*OPTIONS, "-o", "PubkeyAuthentication=no"]


@dataclass
class Lab:
    """The host, the gateway, two folders (`home` may be touched by SFTP, `srv` holds a flag), and how to log in."""

    server: Sshd
    gateway: Gateway
    port: int
    home: Path
    srv: Path
    echo_port: int
    listen_port: int
    """Where policy lets the target listen."""

    def environment(self, subject: str = "ana", **claims: object) -> dict[str, str]:
        return {**os.environ, "SSHPASS": self.gateway.token(subject, **claims), "HOME": str(self.gateway.home)}

    def run(self, *command: str, stdin: bytes = b"", timeout: float = 60, **claims: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a client with a token as its password."""
        return subprocess.run(
            ["sshpass", "-e", *command], env=self.environment(**claims), input=stdin, capture_output=True, timeout=timeout, check=False
        )

    def ssh(self, *words: str, options: tuple[str, ...] = (), **more: Any) -> subprocess.CompletedProcess[bytes]:
        return self.run("ssh", *BY_PASSWORD, *options, "-p", str(self.port), "web@127.0.0.1", *words, **more)

    def rsync(self, *words: str, **claims: Any) -> subprocess.CompletedProcess[bytes]:
        command = ["rsync", "-e", self.shell_transport(), *words]
        return subprocess.run(command, env=self.environment(**claims), capture_output=True, timeout=60, check=False)

    def scp(self, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return self.run("scp", *BY_PASSWORD, "-P", str(self.port), *words, **more)

    def sftp(self, batch: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return self.run("sftp", *BY_PASSWORD, "-P", str(self.port), "web@127.0.0.1", stdin=batch.encode(), **more)

    def remote(self, path: Path | str) -> str:
        return f"web@127.0.0.1:{path}"

    def shell_transport(self) -> str:
        return " ".join(["sshpass", "-e", "ssh", *BY_PASSWORD, "-p", str(self.port)])

    def entries(self, kind: str, **op: object) -> list[dict[str, Any]]:
        found = [entry for entry in self.gateway.entries() if entry["kind"] == kind]
        return [entry for entry in found if all(entry.get("op", {}).get(name) == value for name, value in op.items())]

    def last(self, kind: str) -> dict[str, Any]:
        return self.entries(kind)[-1]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with LocalIssuer(audience="our-client") as people:
        issuer = {"issuer": people.issuer, "audience": "our-client", "kind": "human", "algorithms": ["EdDSA"], "discovery": True}
        with make_lab(tmp_path_factory.mktemp("ssh"), tables={"issuers": [issuer | {"login_client_id": "our-client"}]}) as made:
            yield made


@contextlib.contextmanager
def make_lab(
    folder: Path,
    *,
    more_policy: str = "",
    tables: dict[str, list[dict[str, object]]] | None = None,
    sections: dict[str, dict[str, object]] | None = None,
    options: tuple[str, ...] = (),
    state_bytes: int | None = None,
    **connection: object,
) -> Iterator[Lab]:
    """`more_policy`, `tables` and `sections` of the gateway's; `options` of sshd's, `state_bytes` of the gateway's disk; the rest is the connection's."""
    for tool in ("ssh", "scp", "sftp", "sshpass", "rsync", "git"):
        assert shutil.which(tool), f"{tool} is missing: run scripts/setup.sh"
    home, srv = folder / "home", folder / "srv"
    for each in (home, srv):
        each.mkdir()
    (srv / "flag").write_text("FLAG{sentinel}\n")
    (home / "secret.env").write_text("PASSWORD=hunter2hunter2\n")
    (home / "note.txt").write_text("ssn 078-05-1120 card 4111 1111 1111 1111\n")
    echo_port, listen_port, port = free_port(), free_port(), free_port()
    policy = POLICY + more_policy
    for name, value in {"HOME": home, "SRV": srv, "PORT": echo_port, "LISTEN": listen_port}.items():
        policy = policy.replace(f"@{name}@", str(value))
    with sshd(*options) as server:
        target = server.target(protect={f"{home}/*.env": "keys"}, **connection)
        listener = {"address": f"127.0.0.1:{port}"} | (sections or {}).get("listen.ssh", {})
        settings = {**(sections or {}), "listen.ssh": listener, "admin": {"groups": ["chiefs"]}}
        with gateway(connections={"web": target}, policy=policy, sections=settings, tables=tables, state_bytes=state_bytes) as running:
            yield Lab(server, running, port, home, srv, echo_port, listen_port)
