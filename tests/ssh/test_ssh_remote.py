"""Remote forwards: the target listens for a client only where policy says so, and whoever comes there is decided on and counted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
import pytest

from ostiary.model.catalogue import NO_CATALOGUE
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh.forwards import ForwardRelay
from ostiary.protocols.ssh.operations import Ground
from tests.ssh.conftest import BY_PASSWORD, Lab
from tests.ssh.test_ssh_sessions import connected, of, replayed, until

BOTH = "127.0.0.1"


@contextlib.asynccontextmanager
async def shouting(port: int) -> AsyncIterator[None]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async with await asyncio.start_server(answer, BOTH, port):
        yield


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> bytes:
    writer.write(text)
    writer.write_eof()
    found = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return found


def ended(lab: Lab, session: str) -> dict[str, list[str]]:
    """Tags of outcomes by the name of their operation."""
    until(lambda: of(lab, session, "session.end"), "the session's end is on record")
    names = {each["id"]: each["op"]["name"] for each in of(lab, session, "intent")}
    found: dict[str, list[str]] = {}
    for each in of(lab, session, "outcome"):
        found.setdefault(names.pop(each["ref"]), []).append(each["result"].get("tag", ""))
    assert not names, "every intent has its outcome"
    return found


def test_the_target_listens_for_a_client_and_whoever_comes_is_counted_until_it_is_cancelled(lab: Lab) -> None:
    async def act() -> None:
        async with shouting(lab.echo_port), await connected(lab, groups=["operators"]) as connection:
            listener = await connection.forward_remote_port(BOTH, lab.listen_port, BOTH, lab.echo_port)
            for number in range(2):
                assert await said(*await asyncio.open_connection(BOTH, lab.listen_port), b"hello%d" % number) == b"HELLO%d" % number
            listener.close()
            await listener.wait_closed()
            with pytest.raises(OSError):
                for _ in range(200):
                    await asyncio.sleep(0.05)
                    _, writer = await asyncio.open_connection(BOTH, lab.listen_port)
                    writer.close()

    asyncio.run(act())
    session = lab.last("session.start")["session"]
    tags = ended(lab, session)
    assert tags["tcpip-forward"][0].endswith("connections came")
    assert tags["forwarded-tcpip"][:2] == ["6 bytes there, 6 back"] * 2
    first = next(each for each in of(lab, session, "intent") if each["op"]["name"] == "tcpip-forward")
    assert (first["op"]["action"], first["op"]["objects"][0]["name"]) == ("opaque", f"{BOTH}:{lab.listen_port}")
    assert f"> forwarded-tcpip {BOTH}:{lab.listen_port} from {BOTH}:" in replayed(lab, session)


def test_a_permit_for_local_forwards_is_none_for_a_listener_and_no_other_place_is_listened_on(lab: Lab) -> None:
    async def act(host: str, port: int, **claims: Any) -> None:
        async with await connected(lab, **claims) as connection:
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port(host, port, BOTH, 9)
            assert (await connection.run("echo on")).stdout == "on\n"

    for host, port in ((BOTH, lab.echo_port), ("", lab.listen_port), ("0.0.0.0", lab.listen_port), ("*", lab.listen_port), (BOTH, 0)):
        asyncio.run(act(host, port, groups=["operators"]))
        assert lab.last("deny")["op"]["name"] == "tcpip-forward"
    asyncio.run(act(BOTH, lab.listen_port))
    assert lab.last("deny")["op"]["name"] == "tcpip-forward"
    with pytest.raises(OSError):
        socket.create_connection((BOTH, lab.listen_port), 5)


def test_a_socket_with_a_name_is_listened_on_where_policy_lets_it_be_written(lab: Lab) -> None:
    path = lab.home / "on.sock"

    async def act() -> None:
        async with shouting(lab.echo_port), await connected(lab, groups=["operators"]) as connection:
            await connection.forward_remote_path_to_port(str(path), BOTH, lab.echo_port)
            assert await said(*await asyncio.open_unix_connection(str(path)), b"hello") == b"HELLO"
            for other in ("/run/evil.sock", f"{lab.srv}/x.sock", f"{lab.home}/../x.sock"):
                with pytest.raises(asyncssh.ChannelListenError):
                    await connection.forward_remote_path_to_port(other, BOTH, lab.echo_port)

    asyncio.run(act())
    tags = ended(lab, lab.last("session.start")["session"])
    assert tags["forwarded-streamlocal"] == ["5 bytes there, 5 back"]
    assert tags["streamlocal-forward"] == ["1 connections came"]


def test_ssh_minus_r_works_as_it_does_without_a_gateway(lab: Lab) -> None:
    async def act() -> bytes:
        command = ["sshpass", "-e", "ssh", *BY_PASSWORD, "-o", "ExitOnForwardFailure=yes", "-R", f"{BOTH}:{lab.listen_port}:{BOTH}:{lab.echo_port}"]
        command += ["-p", str(lab.port), "web@127.0.0.1", "echo there; sleep 60"]
        async with shouting(lab.echo_port):
            client = await asyncio.create_subprocess_exec(
                *command, env=lab.environment(groups=["operators"]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
            try:
                assert client.stdout is not None
                assert await asyncio.wait_for(client.stdout.readline(), 60) == b"there\n"
                return await said(*await asyncio.open_connection(BOTH, lab.listen_port), b"x" * 300_000)
            finally:
                client.terminate()
                await client.wait()

    assert asyncio.run(act()) == b"X" * 300_000
    assert ended(lab, lab.last("session.start")["session"])["forwarded-tcpip"] == ["300000 bytes there, 300000 back"]


def test_whoever_comes_when_the_client_does_not_take_them_is_sent_away(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            await connection.forward_remote_port(BOTH, lab.listen_port, BOTH, 9)  # nobody is there
            with contextlib.suppress(ConnectionResetError):
                assert await said(*await asyncio.open_connection(BOTH, lab.listen_port), b"hello") == b""

    asyncio.run(act())
    assert len(ended(lab, lab.last("session.start")["session"])["forwarded-tcpip"]) == 1


@pytest.mark.parametrize(
    ("host", "port", "place"),
    [("", 80, "*:80"), ("*", 0, "*:0"), ("LOCALHOST", 1, "localhost:1"), ("::1", 9, "::1:9"), ("0x7f.1", 80, None), ("a b", 80, None), (BOTH, 70000, None)],
)
def test_where_a_listener_stands_has_one_spelling(host: str, port: int, place: str | None) -> None:
    relay = ForwardRelay(Ground(connection="web", home=None, protected=()))
    body = m.string(host.encode()) + m.u32(port)
    (ask,) = relay.asks(m.encode(m.Request("tcpip-forward", body)), NO_CATALOGUE)
    facts = ask.operation.facts
    assert [each.name for each in facts.resources] == ([place] if place else [])
    assert (facts.objection is None) == (place is not None)
