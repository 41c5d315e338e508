"""Between a socket and asyncssh, on either side: what is read from the socket is handed on so that it costs little, in the ciphers that are fast here.

asyncssh takes what was read apart by copying all that is left of it, twice for each packet. So it gets pieces of about a packet's size. What the packets of one read
hold for a channel is kept until the last of them was taken (`Turn`), and goes through the line at once: a stretch of 256 KB instead of eight of 32. Nothing waits for anything
that is not there yet, so a keystroke is on its way as soon as it would be else. Packets of channel data take a shorter way than asyncssh's own (`ssh_packets.py`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from asyncssh.connection import SSHConnection

from ostiary.upstream.ssh_packets import SMALL, Incoming

PIECE: Final = 64 * 1024
"""Bytes that asyncssh is given at once: some two packets of the size that everybody sends (RFC 4253, 6.1)."""
MAX_PACKET: Final = 128 * 1024
"""Bytes of a channel in one packet, of those that come: four times what everybody takes, half of what OpenSSH's packets hold at most (PACKET_MAX_SIZE)."""
MAX_UNWRITTEN: Final = 256 * 1024
"""Bytes that are written at once: packets are handed to the socket together. With more that a peer has not taken, nobody who sends it something is read."""
MAX_OWED: Final = 4 * 1024 * 1024
"""Bytes that a peer has not taken, with which it is not read itself: what it asks is answered, and the answers are kept for it. It has to be more than what stops the
other side, for who writes much may read nothing meanwhile."""


class Turn:
    """What came in one read of a socket, or what could be read once the other side took something: it is taken in as a whole, then it is carried on."""

    __slots__ = ("_later", "is_on", "stirred_at", "wires")

    def __init__(self) -> None:
        self.is_on = False
        self.wires: list[Wire] = []
        """The sockets of the session: the client's, and the target's once it is dialled."""
        self._later: list[Callable[[], None]] = []
        self.stirred_at = 0.0
        """When something came on a channel last, by the loop's clock."""

    def later(self, carry_on: Callable[[], None]) -> None:
        """Have it called when all of it was taken in."""
        self._later.append(carry_on)

    def take(self, take_in: Callable[[], None]) -> None:
        """Call what takes it in."""
        if self.is_on:
            take_in()
            return
        self.is_on = True
        try:
            take_in()
        finally:
            self.end()

    def end(self) -> None:
        """All of it was taken in."""
        try:
            while self._later:
                self._later.pop(0)()
        finally:
            self.is_on = False


class Wire:
    """A socket that is connected, for asyncssh to speak over: its `tunnel`. An `asyncio.Protocol` in all but name."""

    def __init__(self, sock: socket.socket, turn: Turn) -> None:
        self._sock = sock
        self._turn = turn
        self._inner: Any = None
        self._incoming: Incoming | None = None
        self._transport: Any = None
        self._why: set[Any] = set()
        """Why it is not read."""
        turn.wires.append(self)

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
        """Put the connection that asyncssh makes over the socket."""
        del host, port
        self._inner = factory()
        if isinstance(self._inner, SSHConnection):
            self._incoming = Incoming(self._inner)
            self._inner._send = self.send  # type: ignore[method-assign]  # noqa: SLF001 - asyncssh's own hands it to the transport
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: cast(asyncio.Protocol, self), sock=self._sock)
        return transport, self._inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(MAX_UNWRITTEN)
        if self._why:
            self._transport.pause_reading()
        self._inner.connection_made(transport)

    def send(self, data: bytes) -> None:
        """Send it now, if nothing waits to be sent: a transport would do so once all that is to be done in this turn of the loop is done."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not transport.get_write_buffer_size():
            try:
                sent = self._sock.send(data)
            except OSError:  # it takes nothing now, or never again: the transport will know
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def pause_writing(self) -> None:
        """The peer does not take what is sent, whatever window it gave: the other side is read no more."""
        for each in self._turn.wires:
            if each is not self:
                each.wait(self, on=True)

    def resume_writing(self) -> None:
        """It does again."""
        for each in self._turn.wires:
            each.wait(self, on=False)

    def wait(self, why: Wire, *, on: bool) -> None:
        """Read the socket no more, or again."""
        waited = bool(self._why)
        (self._why.add if on else self._why.discard)(why)
        if self._transport is None or self._transport.is_closing() or waited == bool(self._why):
            return
        if on:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._take(data)
        if self._transport.get_write_buffer_size() > MAX_OWED:
            self.wait(self, on=True)

    def _take(self, data: bytes) -> None:
        if len(data) <= SMALL:  # a keystroke, as a rule
            if self._incoming is None or not self._incoming.take(data):
                self._inner.data_received(data)
            return
        turn = self._turn
        turn.is_on = True
        try:
            if self._incoming is not None and self._incoming.take(data):
                return
            view = memoryview(data)
            for at in range(0, len(data), PIECE):
                self._inner.data_received(view[at : at + PIECE])
        finally:
            turn.end()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.resume_writing()  # nobody waits for who has gone
        self._turn.wires.remove(self)
        self._inner.connection_lost(exc)


def unlogged(handler: Any) -> None:
    """Have asyncssh not describe each packet for a log that is never written (`set_log_level`): it does so before it looks whether it is."""
    handler.log_sent_packet = handler.log_received_packet = _nothing


def _nothing(*_: object) -> None:
    """Say nothing."""
