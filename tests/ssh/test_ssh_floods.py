"""Peers that take more than their share: what one of them may make the gateway hold, or do, has a bound, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import SSHPacket

from ostiary.driver.ssh_variables import MAX_BYTES, MAX_VARIABLES, few_variables
from ostiary.protocols.ssh import messages as m
from ostiary.testing.waiting import until
from ostiary.upstream.ssh_wire import MAX_OWED, Turn, Wire
from tests.ssh.conftest import Lab

PATIENCE = 120
HUGE = (1 << 32) - 1


async def connected(lab: Lab, **options: Any) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        "127.0.0.1", lab.port, known_hosts=None, username="web", password=lab.gateway.token(groups=["operators"]), client_keys=None, config=None, **options
    )


async def settled(lab: Lab, least: int) -> int:
    """Bytes that the gateway has taken in addition, once that does not grow any more, or is far too much."""
    before = -1
    for _ in range(60):
        await asyncio.sleep(0.25)
        now = lab.gateway.resident_bytes() - least
        if abs(now - before) < 1 << 20 or now > 400 << 20:
            break
        before = now
    return lab.gateway.resident_bytes() - least


async def others_go_on(lab: Lab) -> bool:
    async with await connected(lab) as connection:
        return (await asyncio.wait_for(connection.run("echo others go on"), PATIENCE)).stdout == "others go on\n"


def test_a_client_that_promises_to_read_everything_and_reads_nothing_makes_the_host_wait(lab: Lab) -> None:
    async def act() -> int:
        connection: Any = await connected(lab)
        process = await connection.create_process("seq 60000000", encoding=None, window=HUGE)
        assert await process.stdout.readexactly(1000)
        connection._transport.pause_reading()
        taken = await settled(lab, least)
        assert await others_go_on(lab)
        connection.abort()
        return taken

    least = lab.gateway.resident_bytes()
    assert asyncio.run(act()) < 64 << 20


class Answers:
    """In asyncssh's place: says much to whatever it hears."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        del data
        self.transport.write(bytes(256 * 1024))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc


@contextlib.asynccontextmanager
async def wired(turn: Turn) -> AsyncIterator[tuple[Wire, socket.socket]]:
    """One side of a session, and its peer's socket."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    wire = Wire(ours, turn)
    transport, _ = await wire.create_connection(Answers, "", 0)
    yield wire, theirs
    theirs.close()
    transport.abort()


async def drained(theirs: socket.socket, is_enough: Callable[[], bool]) -> None:
    """Read until it is."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        while not is_enough():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(theirs, 1 << 20), 0.1)


def test_while_one_side_does_not_take_what_is_sent_the_other_is_not_read() -> None:
    async def act() -> None:
        turn = Turn()
        async with wired(turn) as (client, theirs), wired(turn) as (target, _):
            client._transport.write(bytes(4 << 20))
            await asyncio.to_thread(until, lambda: not target._transport.is_reading(), "the other side is not read")
            assert client._transport.is_reading(), "who does not read may write"
            await drained(theirs, target._transport.is_reading)

    asyncio.run(act())


def test_who_asks_all_the_time_and_hears_no_answer_is_not_heard_any_more_until_they_do() -> None:
    async def act() -> None:
        async with wired(Turn()) as (client, theirs):
            loop = asyncio.get_running_loop()
            for _ in range(200):
                if not client._transport.is_reading():
                    break
                await loop.sock_sendall(theirs, b"?")
                await asyncio.sleep(0.01)
            assert not client._transport.is_reading()
            assert client._transport.get_write_buffer_size() < 2 * MAX_OWED
            await drained(theirs, client._transport.is_reading)

    asyncio.run(act())


def test_nobody_waits_for_a_side_that_has_gone() -> None:
    async def act() -> None:
        turn = Turn()
        async with wired(turn) as (client, _), wired(turn) as (target, _):
            client._transport.write(bytes(4 << 20))
            await asyncio.to_thread(until, lambda: not target._transport.is_reading(), "the other side is not read")
            client._transport.abort()
            await asyncio.to_thread(until, target._transport.is_reading, "it is read again")
            assert turn.wires == [target]

    asyncio.run(act())


def test_a_flood_of_variables_is_not_kept(lab: Lab) -> None:
    async def act() -> str | None:
        async with await connected(lab) as connection:
            many = {f"LC_{number}": "x" * 1000 for number in range(4000)}
            return str((await asyncio.wait_for(connection.run("echo runs", env=many), PATIENCE)).stdout)

    assert asyncio.run(act()) == "runs\n"


@pytest.mark.parametrize(("size", "kept"), [(10, MAX_VARIABLES), (MAX_BYTES // 4, 3)])
def test_as_many_variables_are_kept_as_sshd_keeps_and_no_more_than_have_room(size: int, kept: int) -> None:
    taken: list[Any] = []
    channel: Any = SimpleNamespace(_process_env_request=lambda packet: taken.append(packet) or True)
    few_variables(channel)
    packet = SSHPacket(m.string(b"LC_X") + m.string(bytes(size)))
    answers = [channel._process_env_request(packet) for _ in range(300)]
    assert answers == [True] * kept + [False] * (300 - kept)
    assert len(taken) == kept


def test_packets_of_a_byte_are_not_written(lab: Lab) -> None:
    """Or a megabyte of output were a million packets, and nobody else had a turn."""

    async def act() -> None:
        async with await connected(lab) as connection:
            with pytest.raises(asyncssh.ChannelOpenError, match="packets of less than 256 bytes"):
                await asyncio.wait_for(connection.create_process("seq 1000000", max_pktsize=1), PATIENCE)
            assert await others_go_on(lab)
        server = await asyncio.start_server(speak, "127.0.0.1", lab.echo_port)
        async with server, await connected(lab) as connection:
            reader, _ = await asyncio.wait_for(connection.open_connection("127.0.0.1", lab.echo_port, max_pktsize=1), PATIENCE)
            assert len(await asyncio.wait_for(reader.read(), PATIENCE)) < 1 << 20

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(bytes(65536))
                await writer.drain()

    asyncio.run(act())
