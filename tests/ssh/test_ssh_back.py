"""Agents and displays of clients: what runs on the target reaches them where policy permits it by name, and each use is on record."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.testing.sshd import make_key
from tests.ssh.conftest import Lab, make_lab
from tests.ssh.test_ssh_remote import ended
from tests.ssh.test_ssh_sessions import replayed

MORE = """
@id("agents") permit (principal in Ostiary::Group::"trusted", action == Ostiary::Action::"opaque", resource == Ostiary::Endpoint::"web/agent");
@id("displays") permit (principal in Ostiary::Group::"drawing", action == Ostiary::Action::"opaque", resource == Ostiary::Endpoint::"web/display");
@id("asking") permit (principal in Ostiary::Group::"asking", action == Ostiary::Action::"opaque", resource == Ostiary::Endpoint::"web/agent")
  when { context.name == "auth-agent-req" };
@id("xdpyinfo") permit (principal, action == Ostiary::Action::"execute", resource in Ostiary::Program::"web/xdpyinfo");
@id("programs too") permit (principal, action == Ostiary::Action::"opaque", resource is Ostiary::Command);
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with make_lab(tmp_path_factory.mktemp("back"), more_policy=MORE) as made:
        yield made


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An agent with one key: its environment, and the key."""
    folder = tmp_path_factory.mktemp("agent")
    make_key(folder / "key")
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(folder / "socket")], stdout=subprocess.DEVNULL) as process:
        try:
            environment = {"SSH_AUTH_SOCK": str(folder / "socket")}
            subprocess.run(
                ["sh", "-c", f"until ssh-add -q {folder}/key; do sleep 0.1; done"],
                env={**os.environ, **environment}, check=True, timeout=60, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            yield environment | {"key": (folder / "key.pub").read_text().split()[1]}
        finally:
            process.terminate()


def used(lab: Lab, agent: dict[str, str], *groups: str) -> tuple[bool, str]:
    """Whether a program on the target finds the key in the client's agent, and the session's id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSH_AUTH_SOCK", agent["SSH_AUTH_SOCK"])
        done = lab.ssh("ssh-add -L; echo done", options=("-A",), groups=[*groups])
    assert done.stdout.endswith(b"done\n"), done.stderr
    return agent["key"].encode() in done.stdout, str(lab.last("session.end")["session"])


def test_an_agent_is_reached_where_policy_permits_it_and_each_use_is_counted(lab: Lab, agent: dict[str, str]) -> None:
    found, session = used(lab, agent, "trusted")
    assert found
    tags = ended(lab, session)
    assert tags["auth-agent-req"] == ["1 connections came"]
    (flowed,) = tags["auth-agent"]
    there, back = (int(part.split()[0]) for part in flowed.split(", "))
    assert there > 50
    assert back > 0
    assert "> auth-agent agent" in replayed(lab, session)


@pytest.mark.parametrize("groups", [["operators"], ["drawing"], []])
def test_an_agent_is_not_reached_by_a_permit_for_anything_else(lab: Lab, agent: dict[str, str], groups: list[str]) -> None:
    found, session = used(lab, agent, *groups)
    assert not found
    assert "auth-agent" not in ended(lab, session)
    assert [each["op"]["name"] for each in lab.entries("deny") if each["session"] == session] == ["auth-agent-req"]


def test_each_use_of_an_agent_is_decided_on_its_own(lab: Lab, agent: dict[str, str]) -> None:
    found, session = used(lab, agent, "asking")
    assert not found
    assert [each["op"]["name"] for each in lab.entries("deny") if each["session"] == session] == ["auth-agent"]


def test_a_target_that_was_not_told_of_an_agent_gets_none(lab: Lab) -> None:
    done = lab.ssh("echo at $SSH_AUTH_SOCK.", options=("-a",), groups=["trusted"])
    assert done.stdout == b"at .\n"


@contextlib.contextmanager
def display(folder: Path) -> Iterator[tuple[str, list[bytes]]]:
    """What stands for an X server: where it is, and how each client began. It takes nobody."""
    server = None
    for number in range(60, 99):
        with contextlib.suppress(OSError):
            server = socket.create_server(("127.0.0.1", 6000 + number))
            break
    assert server is not None
    began: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                began.append(client.recv(4096))
                client.sendall(b"\0\x04\x0b\0\0\0\x01\0" + b"nope")
                client.close()

    serving = threading.Thread(target=serve)
    serving.start()
    name = f"127.0.0.1:{number}"
    subprocess.run(["xauth", "-f", str(folder / "authority"), "add", name, "MIT-MAGIC-COOKIE-1", "5e" * 16], check=True, stderr=subprocess.DEVNULL)
    try:
        yield name, began
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        serving.join()


@pytest.mark.parametrize(("groups", "permitted"), [(["drawing"], True), (["trusted", "operators"], False)])
def test_a_display_is_reached_where_policy_permits_it(lab: Lab, tmp_path: Path, groups: list[str], permitted: bool) -> None:
    with display(tmp_path) as (name, began), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", name)
        patch.setenv("XAUTHORITY", str(tmp_path / "authority"))
        done = lab.ssh("xdpyinfo; echo at $DISPLAY.", options=("-Y",), groups=groups)
    session = str(lab.last("session.end")["session"])
    tags = ended(lab, session)
    if permitted:
        assert b"at localhost:" in done.stdout, done.stderr
        assert bytes([0x5E]) * 16 in began[0], "with the cookie that the client's own has, which the target never saw"
        assert tags["x11-req"] == ["1 connections came"]
        assert tags["x11"] == [f"12 bytes there, {len(began[0])} back"]
    else:
        assert done.stdout == b"at .\n"
        assert began == []
        assert [each["op"]["name"] for each in lab.entries("deny") if each["session"] == session] == ["x11-req"]
