"""`python -m bench.relay PORT HOST PORT`: the least that a proxy in Python can do. It hands on what comes, unread.

What it costs is what sockets and the event loop cost; whatever stands between its figures and the gateway's is the gateway's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop

from bench.ways import Way, wait_for
from ostiary.testing.peers import free_port


class Half(asyncio.Protocol):
    """One side of a connection; what comes in goes out at the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class has no base in common
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is not None and other.transport is not None:
            other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class Client(Half):
    """The side that came; what it says is kept until the other has been dialled."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._to = (host, port)
        self._said = b""
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        _, other = await asyncio.get_running_loop().create_connection(Half, *self._to)
        self.other, other.other = other, self
        self.data_received(self._said)
        if self.transport is None or self.transport.is_closing():
            self.connection_lost(None)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._said += data
        elif data:
            super().data_received(data)


async def serve(port: int, host: str, target: int) -> None:
    """Relay until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Client(host, target), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


@contextlib.contextmanager
def relay(to: Way, name: str = "relay") -> Iterator[Way]:
    """A bare relay before what `to` leads to."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.relay", str(port), to.host, str(to.port)], cwd=Path(__file__).parents[1])
    try:
        wait_for(port)
        yield Way(name, "127.0.0.1", port, to.user, to.password, to.database, process.pid, to.binaries, to.sslmode)
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
