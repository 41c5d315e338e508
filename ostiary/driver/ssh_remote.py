"""Remote forwards: listeners on the target, and whoever comes to them.

The target listens because the client asked and policy permitted it; each connection that comes in is an operation of its own, decided
when it comes. The target's end of it is accepted only once the client's is open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import asyncssh

from ostiary.driver.ssh_sides import ClientSide, TargetSide
from ostiary.protocols.ssh import messages as m
from ostiary.upstream.ssh import WINDOW
from ostiary.upstream.ssh_wire import MAX_PACKET

if TYPE_CHECKING:
    from ostiary.driver.ssh_channel import ChannelDriver

Came = Callable[[bytes], Awaitable["ChannelDriver"]]
"""Decides on a connection that came in, and opens the client's end of it. Raises `ChannelOpenError`."""


class Listening(asyncssh.SSHListener):
    """A listener on the target. The client's connection closes it when the client cancels; to its driver it is a channel on which nothing flows."""

    def __init__(self, inner: asyncssh.SSHListener, gone: Callable[[Exception | None], None]) -> None:
        super().__init__()
        self._inner: asyncssh.SSHListener | None = inner
        self._gone = gone

    def get_port(self) -> int:
        """Which port it is."""
        return 0 if self._inner is None else self._inner.get_port()

    def is_closing(self) -> bool:
        """Whether it listens no more."""
        return self._inner is None

    def abort(self) -> None:
        """Listen no more."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()

    def close(self) -> None:
        """Listen no more, and say so: the client cancelled it."""
        if self._inner is not None:
            self.abort()
            self._gone(None)

    async def wait_closed(self) -> None:
        """It is closed at once, as far as the client is concerned."""


async def listen(start: m.Request, target: asyncssh.SSHClientConnection, driver: ChannelDriver, came: Came) -> Listening:
    """Have the target listen as `start` says: RFC 4254, 7.1, or OpenSSH, PROTOCOL 2.4. Raises `asyncssh.Error`."""
    reader = m.Reader(start.body)

    async def answered(kind: str, body: bytes) -> Any:
        driver.count_one()
        return TargetSide(await came(m.encode(m.Request(kind, body))))

    if start.name == "tcpip-forward":
        host, port = reader.text(), reader.u32()
        found: list[asyncssh.SSHListener] = []

        def tcp(origin: str, origin_port: int) -> Any:
            # asyncssh answers those who come before it has the listener, so the port is the one that the target gave.
            body = m.string(host.encode()) + m.u32(found[0].get_port()) + m.string(origin.encode()) + m.u32(origin_port)
            return answered("forwarded-tcpip", body)

        found.append(await target.create_server(cast(Any, tcp), host, port, window=WINDOW, max_pktsize=MAX_PACKET))
        return Listening(found[0], driver.target_gone)
    path = reader.text()

    def unix() -> Any:
        return answered("forwarded-streamlocal@openssh.com", m.string(path.encode()))

    return Listening(await target.create_unix_server(cast(Any, unix), path, window=WINDOW, max_pktsize=MAX_PACKET), driver.target_gone)


async def reach(start: m.Request, client: asyncssh.SSHServerConnection, side: ClientSide) -> None:
    """Open the client's end for whoever came: RFC 4254, 7.2, or OpenSSH, PROTOCOL 2.4. Raises `asyncssh.Error`."""
    reader = m.Reader(start.body)
    if start.name == "auth-agent@openssh.com":
        await client.create_agent_channel().open(lambda: side)
    elif start.name == "x11":
        await client.create_x11_connection(lambda: side, reader.text(), reader.u32())
    elif start.name == "forwarded-tcpip":
        host, port, origin, origin_port = reader.text(), reader.u32(), reader.text(), reader.u32()
        await client.create_connection(lambda: side, host, port, origin, origin_port)
    else:
        await client.create_unix_connection(lambda: side, reader.text())
