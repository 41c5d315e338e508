"""The `ssh` cases of the corpus, before a real OpenSSH server under the corpus' own profile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest

from ostiary.model.catalogue import NO_CATALOGUE
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh.forwards import ForwardRelay
from ostiary.protocols.ssh.operations import Ground
from tests.ssh.conftest import Lab

CORPUS = Path(__file__).parents[1] / "attacks" / "attacks.jsonl"


def cases() -> list[dict[str, Any]]:
    found = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    return [case for case in found if case["protocol"] == "ssh" and case.get("steps")]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["id"])
def test_a_command_of_the_corpus_never_reaches_the_host(lab: Lab, case: dict[str, Any]) -> None:
    for step in case["steps"]:
        command = step.get("command") or eval(step["python"])
        text = command.replace("/srv/", f"{lab.srv}/").replace("/s??/", f"{lab.srv}/")
        before, ran = len(lab.entries("deny")), len(lab.entries("intent"))
        done = run(lab, text)
        assert done.exit_status == 126, done
        assert b"FLAG{" not in (done.stdout or b"") + (done.stderr or b"")
        assert len(lab.entries("deny")) == before + 1
        assert len(lab.entries("intent")) == ran
        assert lab.last("deny")["stmt"]["len"] == len(text.encode())


async def connected(lab: Lab, **claims: Any) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        "127.0.0.1", lab.port, known_hosts=None, username="web", password=lab.gateway.token(**claims), client_keys=None, config=None
    )


def run(lab: Lab, text: str, **claims: Any) -> asyncssh.SSHCompletedProcess:
    async def act() -> asyncssh.SSHCompletedProcess:
        async with await connected(lab, **claims) as connection:
            return await connection.run(text, encoding=None)

    return asyncio.run(act())


def test_ssh_035_a_terminal_name_that_is_more_than_a_name_is_refused(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            done = await connection.run("id", term_type="xterm\nx", encoding=None)
            assert done.exit_status == 126

    asyncio.run(act())


@pytest.mark.parametrize("host", ["169.254.169.254", "127.0.0.1", "0x7f000001", "2130706433", "::ffff:127.0.0.1", "localhost"])
def test_ssh_036_038_a_forward_leads_only_where_policy_says(lab: Lab, host: str) -> None:
    async def act() -> None:
        async with await connected(lab) as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection(host, lab.echo_port)
            assert (await connection.run("echo on")).stdout == "on\n"

    asyncio.run(act())
    assert lab.last("deny")["op"]["name"] == "direct-tcpip"


def test_a_permitted_forward_carries_and_is_counted(lab: Lab) -> None:
    async def act() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", lab.echo_port)
        async with server, await connected(lab, groups=["operators"]) as connection:
            reader, writer = await connection.open_connection("127.0.0.1", lab.echo_port)
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"HELLO"
            writer.close()
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", lab.echo_port + 1)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    asyncio.run(act())
    (intent,) = [e for e in lab.entries("intent") if e["op"]["name"] == "direct-tcpip"]
    (outcome,) = [e for e in lab.entries("outcome") if e["ref"] == intent["id"]]
    assert outcome["result"]["tag"] == "5 bytes there, 5 back"


def test_ssh_040_042_043_sockets_agents_displays_tunnels_and_listeners_are_refused(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_unix_connection("/var/run/docker.sock")
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("", 0, "127.0.0.1", 9)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_tun()
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_tap()

    asyncio.run(act())
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", lab.port, "web", lab.gateway.token(groups=["operators"]), look_for_keys=False, allow_agent=False)
    with client:
        transport = client.get_transport()
        assert transport is not None
        channel = transport.open_session()
        channel.request_forward_agent(lambda _: None)
        with pytest.raises(paramiko.SSHException):
            channel.request_x11(auth_cookie="00" * 16)
    refused = {e["op"]["name"] for e in lab.entries("deny")}
    assert {"direct-streamlocal", "tcpip-forward", "tun", "auth-agent-req", "x11-req"} <= refused
    done = lab.ssh("env", options=("-A", "-X"), groups=["staff"])
    assert b"SSH_AUTH_SOCK" not in done.stdout
    assert b"DISPLAY" not in done.stdout


def test_ssh_046_extensions_that_are_not_spoken_are_refused(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab) as connection, connection.start_sftp_client() as sftp:
            assert not sftp.supports_remote_copy
            with pytest.raises(asyncssh.SFTPError):
                await sftp.link(str(lab.srv / "flag"), str(lab.home / "linked"))
            with pytest.raises(asyncssh.SFTPError):
                await sftp.posix_rename(str(lab.srv / "flag"), str(lab.home / "moved"))
            with pytest.raises(asyncssh.SFTPError):
                await sftp.setstat(str(lab.srv / "flag"), asyncssh.SFTPAttrs(permissions=0o777), follow_symlinks=False)
            with pytest.raises(asyncssh.SFTPError):
                await sftp.statvfs(str(lab.srv))

    asyncio.run(act())
    assert not (lab.home / "linked").exists()


def test_attributes_of_an_open_file_are_decided_and_on_record(lab: Lab) -> None:
    changed = asyncssh.SFTPAttrs(permissions=0o600)

    async def act() -> None:
        async with await connected(lab) as connection, connection.start_sftp_client() as sftp:
            async with sftp.open(str(lab.home / "kept"), "w") as file:
                await file.write("x")
                await file.setstat(changed)
            async with sftp.open(str(lab.home / "kept")) as file:
                with pytest.raises(asyncssh.SFTPError):
                    await file.setstat(changed)
            handler = sftp._handler
            handle = await handler.open(str(lab.home / "kept").encode(), 2, asyncssh.SFTPAttrs())
            closing = asyncio.ensure_future(handler.close(handle))
            changing = asyncio.ensure_future(handler.fsetstat(handle, asyncssh.SFTPAttrs(permissions=0o777)))
            with pytest.raises(asyncssh.SFTPError):
                await changing
            await closing

    asyncio.run(act())
    asked = lab.entries("intent", name="fsetstat")
    assert json.dumps(asked[0]["op"]).count(str(lab.home / "kept")) == 1
    assert (lab.home / "kept").stat().st_mode & 0o777 == 0o600
    outcomes = {e["ref"]: e["result"]["status"] for e in lab.entries("outcome")}
    assert {outcomes[e["id"]] for e in asked[1:]} <= {"error"}, "a handle that was closed may stand for another file"


@pytest.mark.parametrize("text", ["scp -t @SRV@", "scp -f @SRV@/flag", "rsync --server --sender -e.x . @SRV@/flag", "scp -rt @SRV@"])
def test_ssh_048_transfers_by_exec_are_judged_as_files(lab: Lab, text: str) -> None:
    assert run(lab, text.replace("@SRV@", str(lab.srv))).exit_status == 126


def test_ssh_044_a_link_leads_where_its_text_does_from_where_it_stands(lab: Lab) -> None:
    deep = lab.home / "one" / "two"
    deep.mkdir(parents=True)
    (lab.home / "short").symlink_to(deep)  # `short/..` is `one`, not `home`

    for target in ("../../srv/flag", f"{lab.home}/short/../../../srv/flag", "short/../../../srv/flag", str(lab.srv / "flag"), "/none/x"):
        lab.sftp(f"-symlink {target} {lab.home}/led\n-rename {lab.home}/note.txt {lab.home}/short/../../../srv/moved")
        assert not (lab.home / "led").is_symlink(), target
    assert [each.name for each in lab.srv.iterdir()] == ["flag"]
    lab.sftp(f"symlink ../note.txt {lab.home}/one/up")
    assert (lab.home / "one" / "up").read_text().startswith("ssn")


@pytest.mark.parametrize("path", ["/var//run/x", "/var/./run/x", "/var/run/x/", "var/run/x", "/var/run/../x"])
def test_a_socket_has_one_spelling(path: str) -> None:
    relay = ForwardRelay(Ground(connection="web", home=None, protected=()))
    request = m.request("direct-streamlocal@openssh.com", path.encode())
    (ask,) = relay.asks(request, NO_CATALOGUE)
    assert ask.operation.facts.objection is not None


def test_ssh_050_a_shell_after_a_refused_command_is_decided_anew(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab) as connection:
            assert (await connection.run(f"cat {lab.srv}/flag")).exit_status == 126
            process = await connection.create_process(term_type="xterm")
            with contextlib.suppress(BrokenPipeError):  # it may be closed already
                process.stdin.write("id\n")
            shell = await process.wait()
            assert shell.exit_status == 126
            assert "uid=" not in str(shell.stdout)

    asyncio.run(act())
    assert lab.last("deny")["op"]["name"] == "shell"


def test_ssh_051_a_subsystem_that_is_not_listed_is_refused(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process(subsystem="netconf")
            await process.wait()
            assert process.exit_status == 126

    asyncio.run(act())


def test_ssh_052_a_flood_of_window_changes_is_dropped(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process(term_type="xterm")
            for n in range(5000):
                process.change_terminal_size(80 + n % 50, 24)
            process.stdin.write("echo al''ive; exit\n")
            assert "alive" in await process.stdout.read()

    asyncio.run(act())


def raw(lab: Lab, *payloads: bytes) -> bytes:
    """Speak to the gateway without keys: nothing but a disconnect may come of it."""
    with socket.create_connection(("127.0.0.1", lab.port), 10) as sock:
        sock.settimeout(10)
        got = sock.recv(4096)
        assert got.startswith(b"SSH-2.0-Ostiary")
        sock.sendall(b"SSH-2.0-x\r\n")
        for payload in payloads:
            pad = 8 - (len(payload) + 5) % 8 + 8
            sock.sendall((len(payload) + pad + 1).to_bytes(4, "big") + bytes([pad]) + payload + bytes(pad))
        said = b""
        try:
            while more := sock.recv(65536):
                said += more
        except OSError:
            pass
        return said


def test_ssh_056_channels_before_login_are_the_end(lab: Lab) -> None:
    opening = bytes([90]) + (7).to_bytes(4, "big") + b"session" + bytes(4) + (1 << 20).to_bytes(4, "big") * 2
    before = len(lab.entries("session.start"))
    raw(lab, opening)
    assert len(lab.entries("session.start")) == before


def test_ssh_058_059_062_a_key_or_a_foreign_certificate_lets_nobody_in(lab: Lab) -> None:
    authority, key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    forged = authority.generate_user_certificate(key, "ana", principals=["web"])

    async def act(**shown: Any) -> None:
        await asyncssh.connect("127.0.0.1", lab.port, known_hosts=None, username="web", config=None, agent_path=None, **shown)

    for shown in ({"client_keys": [key]}, {"client_keys": [(key, forged)]}, {"client_keys": None, "password": "", "preferred_auth": ["password"]}):
        with pytest.raises(asyncssh.PermissionDenied):
            asyncio.run(act(**shown))


def test_ssh_061_weak_ciphers_and_compression_are_not_offered(lab: Lab) -> None:
    async def act(**options: Any) -> None:
        await asyncssh.connect(
            "127.0.0.1", lab.port, known_hosts=None, username="web", password=lab.gateway.token(), client_keys=None, config=None, **options
        )

    for options in ({"encryption_algs": ["chacha20-poly1305@openssh.com"]}, {"encryption_algs": ["aes128-cbc"]}, {"compression_algs": ["zlib"]}):
        with pytest.raises((asyncssh.Error, ValueError)):
            asyncio.run(act(**options))


@pytest.mark.parametrize(("text", "out"), [("ls -la @SRV@", b"flag"), ('echo "the flag of cat"', b"the flag of cat\n")])
def test_ssh_064_065_what_must_be_allowed_is(lab: Lab, text: str, out: bytes) -> None:
    done = run(lab, text.replace("@SRV@", str(lab.srv)))
    assert done.exit_status == 0
    assert out in (done.stdout or b"")  # type: ignore[operator]


def test_a_command_that_is_not_utf8_is_refused_on_record(lab: Lab) -> None:
    before = len(lab.entries("deny"))
    done = lab.ssh("cat /srv/caf\udce9")
    assert done.returncode == 126
    assert b"not UTF-8" in done.stderr
    (denied,) = lab.entries("deny")[before:]
    assert denied["op"]["name"] == "exec"
