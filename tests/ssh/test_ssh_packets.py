"""Packets of channel data on their short way: whichever way they are cut, under new keys, and spoiled, they end as asyncssh ends them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Self

import asyncssh
import pytest

from ostiary.protocols.ssh import messages as m
from ostiary.upstream.ssh import quiet
from ostiary.upstream.ssh_packets import CHANNEL_DATA, SMALL, WINDOW_ADJUST, Gcm, Incoming, Padding, write, write_all
from ostiary.upstream.ssh_wire import Turn, Wire

PATIENCE = 60
BULK = bytes(range(256)) * (64 << 4)
"""256 KB."""


class Cut(Wire):
    """What is read comes in pieces."""

    size = 1
    spoils = False

    def data_received(self, data: bytes) -> None:
        if self.spoils:
            data = data[:-1] + bytes([data[-1] ^ 1])
        for at in range(0, len(data), self.size):
            super().data_received(data[at : at + self.size])


class Echoes(asyncssh.SSHServerSession[bytes]):
    """Says what it hears, by the short way."""

    def connection_made(self, chan: Any) -> None:
        self.chan = chan

    def shell_requested(self) -> bool:
        return True

    def data_received(self, data: bytes, datatype: int | None) -> None:
        assert datatype is None
        write(self.chan, data)

    def eof_received(self) -> bool:
        self.chan.write_eof()
        return False


class Anybody(asyncssh.SSHServer):
    """Lets everybody in."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        quiet(conn)

    def begin_auth(self, username: str) -> bool:
        del username
        return False

    def session_requested(self) -> Echoes:
        return Echoes()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Pair:
    """asyncssh as a client of asyncssh behind a `Wire`."""

    def __init__(self, size: int, **options: Any) -> None:
        self.options = options
        self.size = size

    async def __aenter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        for each in (ours, theirs):
            each.setblocking(False)
        self.server = Anybody()
        self.wire = Cut(ours, Turn())
        self.wire.size = self.size
        made = asyncssh.run_server(
            None, tunnel=self.wire, server_factory=lambda: self.server, config=None, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            encoding=None, line_editor=False, window=1 << 20, **self.options,
        )  # fmt: skip
        dialled = asyncssh.connect(
            sock=theirs, known_hosts=None, config=None, username="web", client_keys=None, encryption_algs=["aes128-gcm@openssh.com"], encoding=None
        )
        _, self.client = await asyncio.gather(made, dialled)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.abort()
        await asyncio.wait_for(self.client.wait_closed(), PATIENCE)

    async def echoed(self, sent: bytes) -> bytes:
        process = await self.client.create_process(encoding=None)
        process.stdin.write(sent)
        process.stdin.write_eof()
        return bytes(await asyncio.wait_for(process.stdout.read(), PATIENCE))


@pytest.mark.parametrize(("size", "sent"), [(1, BULK[: 8 * SMALL]), (19, BULK), (SMALL + 1, BULK * 8), (1 << 20, BULK * 8)])
@pytest.mark.parametrize("rekeys", [False, True])
def test_what_is_cut_anywhere_comes_out_whole_under_new_keys_too(size: int, sent: bytes, rekeys: bool) -> None:
    async def act() -> bytes:
        async with Pair(size, **({"rekey_bytes": len(sent) // 4} if rekeys else {})) as pair:
            return await pair.echoed(sent)

    assert asyncio.run(act()) == sent


def test_a_packet_that_was_changed_on_the_way_ends_the_connection() -> None:
    async def act() -> tuple[bytes, Exception | None]:
        async with Pair(1 << 20) as pair:
            process = await pair.client.create_process(encoding=None)
            process.stdin.write(b"heard")
            said = await asyncio.wait_for(process.stdout.readexactly(5), PATIENCE)
            pair.wire.spoils = True
            process.stdin.write(b"not heard")
            return said, await asyncio.wait_for(pair.server.lost, PATIENCE)

    said, exc = asyncio.run(act())
    assert said == b"heard"
    assert isinstance(exc, asyncssh.MACError)


@pytest.mark.parametrize(
    ("number", "parts"),
    [
        (99, (m.string(b"for no channel"),)),
        (0, (m.u32(2 << 20), b"longer than it is")),
        (0, (m.string(b"with something behind"), b"\0")),
        (0, (m.string(bytes(1 << 20)),)),
        (0, (b"\0",)),
    ],
)
def test_data_that_is_not_as_it_should_be_ends_the_connection_as_asyncssh_ends_it(number: int, parts: tuple[bytes, ...]) -> None:
    async def act() -> Exception | None:
        async with Pair(1 << 20) as pair:
            await pair.client.create_process(encoding=None)
            pair.client.send_packet(CHANNEL_DATA, m.u32(number), *parts)
            return await asyncio.wait_for(pair.server.lost, PATIENCE)

    assert isinstance(asyncio.run(act()), asyncssh.ProtocolError)


def test_pieces_go_out_in_as_few_packets_as_they_fit_into_and_in_order() -> None:
    async def act() -> tuple[bytes, list[int]]:
        async with Pair(1 << 20) as pair:
            process = await pair.client.create_process(encoding=None)
            (channel,) = pair.wire._inner._channels.values()
            sizes: list[int] = []
            theirs = process.channel._session.data_received
            process.channel._session.data_received = lambda data, kind: (sizes.append(len(data)), theirs(data, kind))  # type: ignore[method-assign, assignment]
            write_all(channel, [BULK[:20000], memoryview(BULK)[20000:50000], b"", BULK[50000:70001]])
            return bytes(await asyncio.wait_for(process.stdout.readexactly(70001), PATIENCE)), sizes

    came, sizes = asyncio.run(act())
    assert came == BULK[:70001]
    assert sizes == [32768, 32768, 70001 - 65536]


def test_a_window_that_is_made_larger_lets_out_what_waited_for_it() -> None:
    async def act() -> bytes:
        async with Pair(1 << 20) as pair:
            process = await pair.client.create_process(encoding=None)
            (channel,) = pair.wire._inner._channels.values()
            channel._send_window = 3
            write(channel, b"held back")
            assert channel._send_window == 0
            pair.client.send_packet(WINDOW_ADJUST, m.u32(process.channel._send_chan), m.u32(100))
            return bytes(await asyncio.wait_for(process.stdout.readexactly(9), PATIENCE))

    assert asyncio.run(act()) == b"held back"


def test_more_than_the_window_ends_the_connection() -> None:
    async def act() -> Exception | None:
        async with Pair(1 << 20) as pair:
            process = await pair.client.create_process(encoding=None)
            channel: Any = process.channel
            assert channel is not None
            session = next(iter(pair.wire._inner._channels.values()))
            session.pause_reading()
            for _ in range(5):
                pair.client.send_packet(CHANNEL_DATA, m.u32(0), m.string(BULK[:32768] * 7))
            return await asyncio.wait_for(pair.server.lost, PATIENCE)

    assert isinstance(asyncio.run(act()), asyncssh.ProtocolError)


def test_a_packet_is_decrypted_once_whoever_takes_it() -> None:
    cipher = Gcm(bytes(16), bytes(12))
    cipher.ahead = b"\4\2looked at"
    assert cipher.decrypt_packet(0, b"", b"", 4, b"") == b"\4\2looked at"
    assert cipher.ahead is None
    assert cipher.nonce() == bytes(12), "and no number was used up for it"


def test_padding_is_random_and_never_the_same_again() -> None:
    padding = Padding()
    taken = [padding.take(16) for _ in range(2000)]
    assert len(set(taken)) == len(taken)
    assert {len(each) for each in taken} == {16}


def test_before_anybody_is_in_all_is_asyncsshs_to_read() -> None:
    class Connection:
        _auth_complete = False

    assert Incoming(Connection()).take(b"SSH-2.0-x\r\n") is False
