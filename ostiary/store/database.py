"""The control process's state: one SQLite file, one thread that touches it, transactions as functions.

Theory of operation
-------------------
The control process alone opens the file, and holds a lock on it, so there is one writer and nobody to wait for. Every transaction is
a function that gets the connection; it runs whole on one thread, in the order asked, and is committed and synced when it
returns, or leaves no trace when it raises. Whoever awaits it learns of success only after the disk has it (`synchronous=FULL`).

What is kept is divided into *areas* (news, identity, approvals): each brings its tables as a list of steps, and the file
remembers how far each has come. A file made by a newer version is refused, not guessed at.

Bounded: at most `MAX_WAITING` transactions wait; one more is refused at once, as on a full disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ostiary.model.errors import OstiaryError

MAX_WAITING: Final = 1024
"""Transactions that wait for the one thread; each takes about a millisecond, so this is a second's worth."""

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]


class StoreFailed(OstiaryError):
    """State cannot be read or written. Whatever depended on it has not happened."""


@dataclass(frozen=True, slots=True)
class Area:
    """The tables of one part of the gateway."""

    name: str
    steps: tuple[Sequence[str], ...]
    """Each step is a list of SQL statements. A step that was released is never changed: add another one."""


class Database:
    """The open file. Every method that waits must be called on one event loop."""

    def __init__(self, connection: sqlite3.Connection, executor: ThreadPoolExecutor, lock: int) -> None:
        self._connection = connection
        self._executor = executor
        self._lock = lock
        self._waiting = 0

    @classmethod
    def open(cls, path: Path, areas: Sequence[Area]) -> Database:
        """Open, or make, the file at `path` (0600) and bring its tables to where this version wants them.

        Raises `StoreFailed`: it is in use, damaged, or was made by a newer version.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        lock = -1
        try:
            lock = _lock(path)
            connection = executor.submit(_open, path, areas).result()
        except BaseException:
            executor.shutdown()
            if lock >= 0:
                os.close(lock)
            raise
        return cls(connection, executor, lock)

    async def transact(self, work: Work[Result]) -> Result:
        """Run `work` as one transaction; its result, once that is on the disk.

        `work` must not await, and must not keep the connection. What it raises comes back after the rollback; errors of
        the database come back as `StoreFailed`.
        """
        if self._waiting >= MAX_WAITING:
            raise StoreFailed("too many changes wait for the disk; try again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, _transact, self._connection, work)
        except RuntimeError as exc:
            if "shutdown" in str(exc):
                raise StoreFailed("the gateway is shutting down") from None
            raise
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Finish what waits, and close."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._connection.close)
        self._executor.shutdown()
        os.close(self._lock)


def read(path: Path, work: Work[Result]) -> Result | None:
    """Run `work` on a file as it is, in use or not, without changing it; None: there is no file, or it lacks what is asked for.

    Raises `StoreFailed` where it cannot be read.
    """
    if not path.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return work(connection)
    except sqlite3.OperationalError as exc:
        if "no such table" in str(exc):
            return None
        raise StoreFailed(f"{path} cannot be read: {exc}") from None
    except sqlite3.Error as exc:
        raise StoreFailed(f"{path} cannot be read: {exc}") from None


def _lock(path: Path) -> int:
    """Hold `path`.lock, so that two control processes never share a state folder."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StoreFailed(f"{path} cannot be opened: {exc.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StoreFailed(f"{path} is in use by another gateway; stop that one first") from None
    return descriptor


def _open(path: Path, areas: Sequence[Area]) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        _check(connection, path)
        for area in areas:
            _transact(connection, partial(_migrate, area=area))
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        raise StoreFailed(f"{path} cannot be used: {exc}") from None
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise StoreFailed(f"{path} is damaged ({said}); restore it from a backup")


def _migrate(connection: sqlite3.Connection, area: Area) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS areas (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT")
    found = connection.execute("SELECT version FROM areas WHERE name = ?", (area.name,)).fetchone()
    version = 0 if found is None else int(found[0])
    if version > len(area.steps):
        raise StoreFailed(f"the state of {area.name} was made by a newer version of the gateway; run that one")
    for step in area.steps[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(
        "INSERT INTO areas VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET version = excluded.version",
        (area.name, len(area.steps)),
    )


def _transact(connection: sqlite3.Connection, work: Work[Result]) -> Result:
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.Error as exc:
        raise StoreFailed(f"state cannot be written: {exc}") from None
    return result
