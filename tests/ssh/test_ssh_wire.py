"""What stands between a socket and asyncssh: packets come out whole whichever way they are cut, and what came together goes on together."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import asyncssh
import pytest
from asyncssh.crypto import GCMCipher
from asyncssh.encryption import GCMEncryption
from hypothesis import given
from hypothesis import strategies as st

from ostiary.driver.ssh_door import CLIENT_WINDOW
from ostiary.upstream.ssh_packets import CHANNEL_DATA, SMALL, Gcm
from ostiary.upstream.ssh_wire import MAX_PACKET, PIECE, Turn, Wire

KEY, IV = bytes(range(16)), bytes([255]) * 12
LETTERS = str.maketrans("0123456789", "abcdefghij")
"""So that no detector has a say."""
HEADER = (40).to_bytes(4, "big")


class Hears:
    """In asyncssh's place."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.heard: list[bytes] = []
        self.carried: list[int] = []
        self.lost = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.turn.is_on
        self.heard.append(bytes(data))
        self.turn.later(lambda: self.carried.append(len(self.heard)))

    def eof_received(self) -> None:
        self.heard.append(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost.set()


def test_what_one_read_holds_is_taken_in_whole_before_any_of_it_goes_on() -> None:
    sent = os.urandom(5 * PIECE + 7)

    async def act() -> Hears:
        turn = Turn()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        wire = Wire(ours, turn)
        _, inner = await wire.create_connection(lambda: Hears(turn), "", 0)
        wire.data_received(sent)
        assert not turn.is_on
        theirs.close()
        await asyncio.wait_for(inner.lost.wait(), 10)
        return inner

    inner = asyncio.run(act())
    assert b"".join(inner.heard) == sent
    assert max(map(len, inner.heard)) <= PIECE
    assert inner.carried == [6] * 6, "nothing goes on before the last piece was taken in"


def test_what_fails_as_it_goes_on_does_not_leave_the_turn_open() -> None:
    turn, done = Turn(), []

    def fails() -> None:
        raise RuntimeError

    turn.is_on = True
    turn.later(fails)
    turn.later(lambda: done.append(1))
    with pytest.raises(RuntimeError):
        turn.end()
    assert not turn.is_on
    turn.end()
    assert done == [1], "and what stood behind it goes on with the next"


@given(st.lists(st.binary(min_size=1, max_size=2 * SMALL), min_size=1, max_size=8))
def test_packets_are_those_of_rfc_5647_in_both_directions(payloads: list[bytes]) -> None:
    ours, theirs = Gcm.new("aes128-gcm", KEY, IV), GCMEncryption(GCMCipher("aes128-gcm", KEY, IV))
    back, forth = Gcm.new("aes128-gcm", KEY, IV), GCMEncryption(GCMCipher("aes128-gcm", KEY, IV))
    for number, payload in enumerate(payloads):
        packet = bytes([4, CHANNEL_DATA]) + payload + bytes(-(len(payload) + 2) % 16)
        header = len(packet).to_bytes(4, "big")
        whole = b"".join(theirs.encrypt_packet(number, header, packet))
        assert b"".join(ours.encrypt_packet(number, header, packet)) == whole
        assert taken(back, number, whole) == packet == taken(forth, number, whole)


@pytest.mark.parametrize("at", [0, 3, 4, 20, -17, -16, -1])
def test_a_packet_that_was_changed_anywhere_is_none(at: int) -> None:
    whole = bytearray(b"".join(Gcm(KEY, IV).encrypt_packet(0, HEADER, bytes(40))))
    assert taken(Gcm(KEY, IV), 0, bytes(whole)) == bytes(40)
    whole[at] ^= 1
    assert taken(Gcm(KEY, IV), 0, bytes(whole)) is None


def test_no_two_packets_have_one_nonce_and_the_counter_wraps_as_it_should() -> None:
    cipher = Gcm(KEY, IV)
    first, second = (b"".join(cipher.encrypt_packet(0, HEADER, bytes(40))) for _ in range(2))
    assert first != second
    assert second == b"".join(Gcm(KEY, IV[:4] + bytes(8)).encrypt_packet(0, HEADER, bytes(40)))


def taken(cipher: Gcm | GCMEncryption, number: int, whole: bytes) -> bytes | None:
    """A packet as asyncssh has it taken apart."""
    found = cipher.decrypt_packet(number, whole[:16], whole[16:-16], 4, whole[-16:])
    return None if found is None else bytes(found)


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr"])
def test_every_byte_comes_through_in_order_in_every_cipher(lab: Any, cipher: str) -> None:
    """Larger than a window, and than a packet of any size, there and back."""
    sent = "".join(f"{number}\n" for number in range(400_000)).translate(LETTERS).encode()
    assert len(sent) > CLIENT_WINDOW > 4 * MAX_PACKET

    async def act() -> bytes:
        options: dict[str, Any] = {"known_hosts": None, "username": "web", "password": lab.gateway.token(), "client_keys": None, "config": None}
        async with asyncssh.connect("127.0.0.1", lab.port, encryption_algs=[cipher], **options) as connection:
            return bytes((await connection.run("cat", input=sent, encoding=None)).stdout)

    assert asyncio.run(act()) == sent


