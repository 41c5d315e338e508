"""The other workers of this gateway: a cancel that came to one of them is handed to the one whose session it is for.

PostgreSQL sends a cancel over a connection of its own, which the kernel gives to any worker. The number in its key says whose it is
(`Neighbours.number`), so it goes over a local socket in the state folder (0700, and only this user's processes are heard) to that worker
alone. Whether the key was right nobody is told: the connection is closed once it was seen to, in either case.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from ostiary.store.commons import MAX_WORKERS
from ostiary.store.link import short

MAX_KEY: Final = 256
"""Bytes of a secret key: PostgreSQL 18, 54.7, CancelRequest."""
MAX_AT_ONCE: Final = 256
SECONDS: Final = 5.0
_NUMBER: Final = struct.Struct("!I")

Cancel = Callable[[int, bytes], Awaitable[None]]


class Neighbours:
    """One worker among the others."""

    def __init__(self, folder: Path, worker: int, workers: int) -> None:
        """`worker`: which one this is, from 1."""
        self._folder = folder
        self._worker = worker
        self._workers = workers
        self._server: asyncio.Server | None = None
        self._cancel: Cancel | None = None
        self._open = 0

    def cancels(self, cancel: Cancel) -> None:
        """Who sees to cancels of this worker's sessions."""
        self._cancel = cancel

    def number(self) -> int:
        """A process id for a cancel key of this worker's, which names it: 1 to 2^31 - 1."""
        if self._workers == 1:
            return secrets.randbits(31) or 1
        return (secrets.randbits(25) or 1) * MAX_WORKERS + self._worker - 1

    def is_elsewhere(self, number: int) -> bool:
        """Whether a cancel key names another worker."""
        return self._workers > 1 and number % MAX_WORKERS + 1 != self._worker

    async def start(self) -> None:
        """Hear what the others hand over. A socket that a killed predecessor left is replaced."""
        if self._workers == 1:
            return
        name = _name(self._worker)
        with contextlib.suppress(FileNotFoundError):
            (self._folder / name).unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short(self._folder, name) as path:
            sock.bind(path)
        (self._folder / name).chmod(0o600)
        self._server = await asyncio.start_unix_server(self._heard, sock=sock, limit=_NUMBER.size + MAX_KEY)

    async def close(self) -> None:
        """Hear no more."""
        if self._server is not None:
            self._server.close()

    async def hand_over(self, number: int, key: bytes) -> None:
        """Hand a cancel to the worker that it names, and wait until that has seen to it. Nobody is told what came of it."""
        worker = number % MAX_WORKERS + 1
        if worker > self._workers or len(key) > MAX_KEY:
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(SECONDS):
                with short(self._folder, _name(worker)) as path:
                    reader, writer = await asyncio.open_unix_connection(path)
                try:
                    if _is_ours(writer):
                        writer.write(_NUMBER.pack(number) + key)
                        writer.write_eof()
                        await reader.read(1)
                finally:
                    writer.close()

    async def _heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not _is_ours(writer) or self._open >= MAX_AT_ONCE:
            writer.close()
            return
        self._open += 1
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(SECONDS):
                    said = await _whole(reader)
                    if said is not None and self._cancel is not None:
                        await self._cancel(_NUMBER.unpack_from(said)[0], said[_NUMBER.size :])
        finally:
            self._open -= 1
            writer.close()


async def _whole(reader: asyncio.StreamReader) -> bytes | None:
    """All that comes; None: it is no cancel."""
    said = b""
    while data := await reader.read(_NUMBER.size + MAX_KEY + 1):
        said += data
        if len(said) > _NUMBER.size + MAX_KEY:
            return None
    return said if len(said) > _NUMBER.size else None


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end is a process of this user."""
    sock = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(uid == os.getuid())


def _name(worker: int) -> str:
    return f"worker-{worker}.sock"
