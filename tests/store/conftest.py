from __future__ import annotations

import contextlib

import pytest

from ostiary.driver.spawn import spawn
from ostiary.store.database import Database
from ostiary.store.link import Link, LinkServer
from ostiary.store.news import AREA, NewsBoard
from ostiary.testing.waiting import wait_until as until


class Control:
    """A control process's state and line, as a test drives it."""

    def __init__(self, folder, answers=None) -> None:
        self.folder = folder
        self.answers = answers or {}

    async def __aenter__(self):
        self.database = Database.open(self.folder / "control.db", [AREA])
        self.board = NewsBoard(self.database)
        await self.board.load()
        self.server = LinkServer(self.board, self.answers, spawn)
        await self.server.start(self.folder)
        return self

    async def __aexit__(self, *_):
        await self.server.close()
        await self.database.close()


@contextlib.asynccontextmanager
async def worker(folder):
    """A worker's end, and what it heard."""
    link = Link(folder, spawn)
    heard = []
    link.listen(heard.append)
    await link.start(10)
    try:
        yield link, heard
    finally:
        link.close()
        await until(lambda: link._line is None)


@pytest.fixture
def control(tmp_path):
    return lambda answers=None: Control(tmp_path, answers)
