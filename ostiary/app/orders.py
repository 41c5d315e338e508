"""What the supervisor tells its children: when it starts one, over a piece of memory, and later over their sockets.

A child reads neither the configuration nor the policies itself. So all children run with the same, and one that is started again runs
with what is in force, whatever stands in the files by then.

Policies are loaded anew in two steps: every worker loads what the supervisor has read (`Prepare`) and says what came of it; only where
all of them have the same is it taken (`Take`), else nobody takes it (`Leave`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from ostiary.config.load import parse
from ostiary.config.types import Config
from ostiary.model.errors import OstiaryError
from ostiary.policy.policies import Policies
from ostiary.store.commons import Commons

MAX_WORD: Final = 1 << 16
"""Bytes of one thing that supervisor or child say."""
MAX_FAULT: Final = 4096


class Orders(msgspec.Struct, frozen=True):
    """What a child starts with."""

    path: str
    """Of the configuration, for messages and for what stands beside it."""
    config: bytes
    policies: dict[str, str]
    """The policies in force: what each file is called, to its text."""
    worker: int = 0
    """Which of the workers it is, from 1; 0: none."""

    def settings(self) -> Config:
        """The configuration."""
        return parse(self.config, Path(self.path))


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """A child serves: what it listens on, by name."""

    listens: dict[str, str]


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Load these policies, and do not use them yet. With a descriptor of their texts."""

    number: int


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    """What came of it: their digest, or a fault."""

    number: int
    digest: str
    fault: str = ""


class Take(msgspec.Struct, frozen=True, tag="take"):
    """Use what was prepared: all the others have it, too."""

    number: int


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Do not use it, and put on record why."""

    number: int
    why: str


Word = Ready | Prepare | Prepared | Take | Leave
_words: Final = msgspec.json.Decoder(Word)


def say(link: socket.socket, word: Word, fd: int | None = None) -> None:
    """Tell the other end. Raises `OSError` where it has gone."""
    data = msgspec.json.encode(word)
    if fd is None:
        link.send(data)
    else:
        socket.send_fds(link, [data], [fd])


def hear(link: socket.socket) -> tuple[Word | None, int | None]:
    """What the other end says, with a descriptor if there is one; None: it has gone. Raises `BlockingIOError` where it says nothing now."""
    try:
        data, fds, _, _ = socket.recv_fds(link, MAX_WORD, 1)
    except BlockingIOError:
        raise
    except OSError:
        return None, None
    return (_words.decode(data) if data else None), next(iter(fds), None)


def written(data: bytes) -> int:
    """A descriptor of memory that holds `data`."""
    fd = os.memfd_create("ostiary-orders", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    return fd


def read(fd: int) -> bytes:
    """What memory holds; closes the descriptor."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


class Post:
    """A child's way to its supervisor, and what it started with."""

    def __init__(self, orders: Orders, commons: Commons, link: socket.socket, started: Callable[[], None]) -> None:
        """`started`: called once, when the child is ready."""
        self.orders = orders
        self.commons = commons
        self._link = link
        self._started = started
        self._load: Callable[[Mapping[str, str]], Policies] | None = None
        self._take: Callable[[Policies], None] = lambda _: None
        self._leave: Callable[[str], None] = lambda _: None
        self._prepared: tuple[int, Policies] | None = None
        self._early: tuple[int, dict[str, str]] | None = None
        """What was to be prepared before this child could."""

    def ready(self, listens: Mapping[str, str]) -> None:
        """Say that this child serves."""
        say(self._link, Ready(dict(listens)))
        self._started()

    def reloads(
        self, load: Callable[[Mapping[str, str]], Policies], take: Callable[[Policies], None], leave: Callable[[str], None]
    ) -> None:
        """How policies are loaded anew here: `load` makes them of texts, `take` uses them, `leave` says why others are not used."""
        self._load, self._take, self._leave = load, take, leave
        if self._early is not None:
            self._prepare(*self._early)

    def heed(self) -> bool:
        """Do what the supervisor says; False: it has gone."""
        try:
            word, fd = hear(self._link)
        except BlockingIOError:
            return True  # woken for nothing
        match word:
            case None:
                return False
            case Prepare():
                self._prepare(word.number, {} if fd is None else msgspec.json.decode(read(fd), type=dict[str, str]))
            case Take() if self._prepared is not None and self._prepared[0] == word.number:
                self._take(self._prepared[1])
            case Leave():
                self._leave(word.why)
            case _:
                pass
        return True

    def _prepare(self, number: int, texts: dict[str, str]) -> None:
        if self._load is None:
            self._early = number, texts
            return
        try:
            fresh = self._load(texts)
        except OstiaryError as exc:
            told = Prepared(number, "", (str(exc) or type(exc).__name__)[:MAX_FAULT])
        else:
            self._prepared = number, fresh
            told = Prepared(number, fresh.digest)
        with contextlib.suppress(OSError):
            say(self._link, told)
