"""How the gateway gets into hosts, whom it believes, and which algorithms are spoken on either side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pytest

from ostiary.config.load import load
from ostiary.model.connections import SshConnection
from ostiary.model.errors import NotAdmitted
from ostiary.model.secrets import Secret
from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.peers import free_port
from ostiary.testing.sshd import Sshd, make_key, sshd
from ostiary.upstream.ssh import open_ssh
from tests.ssh.conftest import BY_PASSWORD

POLICY = 'permit (principal, action, resource);\npermit (principal, action == Ostiary::Action::"opaque", resource);'
KEXINIT, DISCONNECT, IGNORE = 20, 1, 2
WEAK = ("sha1", "md5", "cbc", "chacha20", "arcfour", "3des", "ssh-dss", "group1-", "ssh-rsa", "-96", "umac-64", "zlib", "none,")


@contextlib.contextmanager
def by_password(folder: Path, password: str) -> Iterator[tuple[int, str]]:
    """(port, host key) of a server that takes a password, which no sshd here can be made to do without an account for it."""
    make_key(folder / "other_host")
    port, loop, ready = free_port(), asyncio.new_event_loop(), threading.Event()

    class Takes(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, given: str) -> bool:
            return (username, given) == ("deploy", password)

    def answer(process: Any) -> None:
        process.stdout.write(f"ran {process.command}\n")
        process.exit(0)

    over = asyncio.Event()

    async def serve() -> None:
        keys = [str(folder / "other_host")]
        async with asyncssh.listen("127.0.0.1", port, server_factory=Takes, server_host_keys=keys, process_factory=answer):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield port, (folder / "other_host.pub").read_text().strip()
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


class Hosts:
    def __init__(self, server: Sshd, running: Gateway, port: int) -> None:
        self.server, self.gateway, self.port = server, running, port

    def said(self, connection: str) -> str:
        """What plain `ssh` says of a host that it does not get into."""
        command = ["sshpass", "-e", "ssh", *BY_PASSWORD, "-p", str(self.port), f"{connection}@127.0.0.1", "echo in"]
        done = subprocess.run(command, env={**os.environ, "SSHPASS": self.gateway.token()}, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (255, "")
        return done.stderr

    def run(self, connection: str, command: str = "echo in") -> str:
        async def act() -> str:
            token = self.gateway.token()
            async with asyncssh.connect(
                "127.0.0.1", self.port, known_hosts=None, username=connection, password=token, client_keys=None, config=None
            ) as logged_in:
                return str((await logged_in.run(command)).stdout)

        return asyncio.run(act())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    make_key(folder / "stranger")
    stranger, port = (folder / "stranger.pub").read_text().strip(), free_port()
    with sshd(certified=True) as server, by_password(folder, "hunter2hunter2") as (other, other_key):
        password = {"type": "ssh", "address": f"127.0.0.1:{other}", "user": "deploy", "host_keys": [other_key], "password": "file:@HOME@/secrets/password"}
        connections: dict[str, dict[str, object]] = {
            "key": server.target(key=f"file:{server.client_key}"),
            "minted": server.target(),
            "password": password,
            "wrong-password": {**password, "password": "file:@HOME@/secrets/wrong"},
            "wrong-key": server.target(key=f"file:{folder}/stranger"),
            "by-authority": server.target(host_keys=[], host_authorities=[server.host_authority]),
            "false-host": server.target(host_keys=[stranger]),
            "false-authority": server.target(host_keys=[], host_authorities=[stranger]),
            "other-name": server.target(host_keys=[], host_authorities=[server.host_authority], address=f"localhost:{server.port}"),
        }
        secrets = {"password": "hunter2hunter2", "wrong": "hunter3hunter3"}
        sections = {"listen.ssh": {"address": f"127.0.0.1:{port}"}}
        with gateway(connections=connections, policy=POLICY, sections=sections, secrets_by_name=secrets) as running:
            yield Hosts(server, running, port)


@pytest.mark.parametrize("connection", ["key", "minted", "by-authority"])
def test_the_gateway_gets_in_by_a_key_or_a_certificate_of_the_session_and_believes_a_pinned_key_or_authority(hosts: Hosts, connection: str) -> None:
    assert hosts.run(connection) == "in\n"
    session = next(each["session"] for each in reversed(hosts.gateway.entries()) if each["kind"] == "session.start")
    names_the_session = f'"ostiary:{session}:ana"' in hosts.server.log()
    assert names_the_session is (connection != "key"), "only a certificate names the person in the host's own log"


def test_the_gateway_gets_in_by_a_password_that_no_client_ever_sees(hosts: Hosts) -> None:
    assert hosts.run("password") == "ran echo in\n"
    assert not [path for path, content in hosts.gateway.written() if b"hunter2hunter2" in content and path.parent.name != "secrets"]


@pytest.mark.parametrize("connection", ["false-host", "false-authority", "other-name"])
def test_a_host_that_nobody_named_is_not_talked_to_and_the_client_hears_why(hosts: Hosts, connection: str) -> None:
    before = hosts.server.log().count("Accepted")
    assert "it shows a host key that the configuration does not name" in hosts.said(connection)
    assert hosts.server.log().count("Accepted") == before, "no credential was shown to it"
    login = next(each for each in reversed(hosts.gateway.entries()) if each["kind"] == "login")
    assert "host key" in json.dumps(login)


@pytest.mark.parametrize("connection", ["wrong-password", "wrong-key"])
def test_a_host_that_does_not_take_the_credential_is_said_to_and_no_secret_is_told(hosts: Hosts, connection: str) -> None:
    said = hosts.said(connection)
    assert "the target" in said
    assert "hunter3" not in said


# --- RFC 4253, 7 ------------------------------------------------------------------------------------------------------


def packet(payload: bytes) -> bytes:
    pad = 8 - (len(payload) + 5) % 8 + 8
    return (len(payload) + pad + 1).to_bytes(4, "big") + bytes([pad]) + payload + bytes(pad)


def read_packet(stream: Any) -> bytes:
    head = stream.read(5)
    if len(head) < 5:
        return b""
    size = int.from_bytes(head[:4], "big")
    return bytes(stream.read(size - 1)[: size - 1 - head[4]])


def lists(payload: bytes) -> list[str]:
    found, at = [], 17
    for _ in range(10):
        size = int.from_bytes(payload[at : at + 4], "big")
        found.append(payload[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return found


def kexinit(*names: str) -> bytes:
    return bytes([KEXINIT]) + bytes(16) + b"".join(len(each).to_bytes(4, "big") + each.encode() for each in names) + bytes(5)


def offer(kex: str) -> bytes:
    cipher, mac = "aes128-gcm@openssh.com", "hmac-sha2-256-etm@openssh.com"
    return kexinit(kex, "ssh-ed25519,ssh-ed25519-cert-v01@openssh.com", cipher, cipher, mac, mac, "none", "none", "", "")


def assert_modern(said: list[str], mark: str) -> None:
    assert mark in said[0].split(",")
    for each in (*said[:6], *(f"{compression}," for compression in said[6:8] if compression != "none")):
        assert not [weak for weak in WEAK if weak in f"{each},".replace("ssh-rsa-cert", "ssh-rsa")], each
    assert said[6:8] == ["none", "none"]


def test_what_clients_are_offered_is_modern_and_marked_as_strict(hosts: Hosts) -> None:
    with socket.create_connection(("127.0.0.1", hosts.port), 10) as sock, sock.makefile("rb") as stream:
        assert stream.readline().startswith(b"SSH-2.0-Ostiary")
        sock.sendall(b"SSH-2.0-x\r\n")
        payload = read_packet(stream)
    assert payload[0] == KEXINIT
    assert_modern(lists(payload), "kex-strict-s-v00@openssh.com")


@pytest.mark.parametrize("inserted", ["before", "after"])
def test_terrapin_a_message_slipped_into_a_strict_key_exchange_ends_it(hosts: Hosts, inserted: str) -> None:
    """CVE-2023-48795: in a strict exchange KEXINIT is the first message, and no other comes between. Without the mark, RFC 4253 lets it pass."""

    def answers(kex: str) -> list[int]:
        with socket.create_connection(("127.0.0.1", hosts.port), 10) as sock, sock.makefile("rb") as stream:
            sock.settimeout(10)
            stream.readline()
            ignore = packet(bytes([IGNORE]) + bytes(4))
            said = [packet(offer(kex)), ignore] if inserted == "after" else [ignore, packet(offer(kex))]
            # An ephemeral key of X25519: whoever still listens answers it.
            exchange = packet(bytes([30]) + (32).to_bytes(4, "big") + bytes([9]) + bytes(31))
            sock.sendall(b"SSH-2.0-x\r\n" + b"".join(said) + exchange)
            found: list[int] = []
            with contextlib.suppress(OSError):
                while (payload := read_packet(stream)) and payload[0] != 31:
                    found.append(payload[0])
                return [*found, 31] if payload else found
            return found

    assert 31 in answers("curve25519-sha256"), "the exchange goes on"
    assert 31 not in answers("curve25519-sha256,kex-strict-c-v00@openssh.com")


def test_what_hosts_are_asked_for_is_modern_and_marked_as_strict(hosts: Hosts) -> None:
    async def act() -> list[str]:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-fake\r\n")
            await reader.readline()
            size = int.from_bytes(await reader.readexactly(4), "big")
            heard.set_result(await reader.readexactly(size))
            writer.close()

        found = load(str(hosts.gateway.config)).connections["key"]
        assert isinstance(found, SshConnection)
        port = free_port()
        connection = msgspec.structs.replace(found, upstream=msgspec.structs.replace(found.upstream, port=port))
        async with await asyncio.start_server(answer, "127.0.0.1", port):
            with pytest.raises(NotAdmitted):
                await open_ssh(connection, Secret(hosts.server.client_key.read_text()), "x")
        return lists((await heard)[1:])

    assert_modern(asyncio.run(act()), "kex-strict-c-v00@openssh.com")


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF, 1 << 20, 0, 3])
def test_ssh_061_a_packet_of_no_sensible_size_is_the_end(hosts: Hosts, size: int) -> None:
    before = hosts.gateway.resident_bytes()
    with socket.create_connection(("127.0.0.1", hosts.port), 10) as sock, sock.makefile("rb") as stream:
        stream.readline()
        sock.sendall(b"SSH-2.0-x\r\n" + size.to_bytes(4, "big") + b"\x08" + bytes(64))
        with contextlib.suppress(OSError):
            while read_packet(stream):
                pass
    assert hosts.gateway.resident_bytes() - before < 16 << 20
    assert hosts.run("key") == "in\n"


def test_ssh_061_a_client_that_wants_new_keys_all_the_time_gets_them_and_others_go_on(hosts: Hosts) -> None:
    async def act() -> str:
        options: dict[str, Any] = {"known_hosts": None, "username": "key", "password": hosts.gateway.token(), "client_keys": None, "config": None}
        async with asyncssh.connect("127.0.0.1", hosts.port, rekey_bytes=2048, **options) as connection:
            return str((await connection.run("seq 20000")).stdout)

    assert asyncio.run(act()) == "".join(f"{number}\n" for number in range(1, 20001))
    assert hosts.run("key") == "in\n"
