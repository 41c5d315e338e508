"""`python -m bench.relay PORT HOST PORT [STATE TAIL]`: the least that a proxy in Python can do. It hands on what comes, unread.

What it costs is what sockets and the event loop cost; whatever stands between its figures and the gateway's is the gateway's own.

With a state folder and one for the log's tail it also keeps the gateway's log: for whatever a client sends an intent before it goes
on, for whatever the target sends an outcome, written to the disk and signed as the gateway's are. The two entries are the same each
time, made once. What that costs is what a gateway would cost whose reading, judging and deciding took no time at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

from bench.ways import Way, wait_for
from ostiary.app.sealing import Sealing
from ostiary.audit.keys import ensure_origin, init_state
from ostiary.audit.log import Log, open_log
from ostiary.testing.peers import free_port

GATEWAY = "relay"
INTENT_BYTES, OUTCOME_BYTES = 1078, 572
"""What the gateway's entries for `pgbench -S` took on average, when they were counted (27 November 2026)."""
Note = Callable[[], object]


class Half(asyncio.Protocol):
    """One side of a connection; what comes in goes out at the other."""

    def __init__(self, note: Note | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Half | None = None
        self._note = note

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class has no base in common
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        other = self.other
        if self._note is not None:
            self._note()
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

    def __init__(self, host: str, port: int, log: Log | None) -> None:
        super().__init__(None if log is None else partial(log.writer.append, entry(log, "intent", INTENT_BYTES)))
        self._to = (host, port)
        self._made = Half if log is None else partial(Half, partial(log.writer.append, entry(log, "outcome", OUTCOME_BYTES)))
        self._said = b""
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        _, other = await asyncio.get_running_loop().create_connection(self._made, *self._to)
        self.other, other.other = other, self
        self.data_received(self._said)
        if self.transport is None or self.transport.is_closing():
            self.connection_lost(None)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._said += data
        elif data:
            super().data_received(data)


def entry(log: Log, kind: str, size: int) -> bytes:
    """An entry of a kind, and of so many bytes."""
    made = b""
    for filled in ("", "x" * size):
        members = {"filled": filled[: size - len(made)], **({"ref": log.ids.next()} if kind == "outcome" else {})}
        made = log.encoder.entry(kind, log.ids.next(), time.time_ns(), time.monotonic_ns(), members)
    return made


async def serve(port: int, host: str, target: int, state: str = "", tail: str = "") -> None:
    """Relay until killed; with a log where there are folders for it."""
    loop = asyncio.get_running_loop()
    log = open_log(Path(state), GATEWAY, "w0", scrub=str, loop=loop, tail_dir=Path(tail)) if state else None
    sealing = None if log is None else Sealing(log, 1.0)
    server = await loop.create_server(lambda: Client(host, target, log), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()
    del sealing


@contextlib.contextmanager
def relay(to: Way, name: str = "relay", *, logging: bool = False) -> Iterator[Way]:
    """A bare relay before what `to` leads to; or one that keeps a log."""
    port = free_port()
    command = [sys.executable, "-m", "bench.relay", str(port), to.host, str(to.port)]
    with contextlib.ExitStack() as folders:
        if logging:
            state = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="ostiary-relay-", ignore_cleanup_errors=True)))
            tail = folders.enter_context(tempfile.TemporaryDirectory(prefix="ostiary-relay-", dir="/dev/shm"))
            init_state(state, GATEWAY)
            ensure_origin(state, GATEWAY, "w0")
            command += [str(state), tail]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
        try:
            wait_for(port)
            yield Way(name, "127.0.0.1", port, to.user, to.password, to.database, process.pid, to.binaries, to.sslmode)
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:6]))
