"""Connections to an HTTP service that are kept open, and given to one exchange at a time."""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import Final, cast

from ostiary.driver.lane import LogWorld
from ostiary.model.errors import NotAdmitted, Reason

KEEP_SECONDS: Final = 20.0
"""How long a connection lies idle before it is closed: below what services usually keep (nginx 75, Node 5, Apache 5 seconds)."""
MAX_WAITING: Final = 1024


class Listens(LogWorld):
    """Who hears what a service sends: an exchange, which is the world of its path."""

    def target_sent(self, data: bytes) -> None:
        """Bytes came."""
        raise NotImplementedError

    def target_closed(self) -> None:
        """The service has closed its end."""
        raise NotImplementedError

    def target_full(self, *, full: bool) -> None:
        """Too much waits to be sent to the service, or no longer."""
        raise NotImplementedError


class TargetLink:
    """One connection to a service, as an `asyncio.Protocol` (though no subclass of it): given to one exchange at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.taker: Listens | None = None
        self.is_used = False
        """It has carried an exchange before: the service may be about to close it."""
        self.idle_since = 0.0
        self._readable = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is up."""
        self.transport = cast(asyncio.Transport, transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Bytes came. Without anybody who asked, they are nobody's answer."""
        taker = self.taker  # held here: it may be let go of while it listens
        if taker is not None:
            taker.target_sent(data)
        else:
            self.close()

    def eof_received(self) -> bool:
        """The service sends no more: the connection closes."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The service, or a broken line, ended it."""
        del exc  # why is the same to us
        taker, self.taker = self.taker, None
        if taker is not None:
            taker.target_closed()

    def pause_writing(self) -> None:
        """Too much waits."""
        if self.taker is not None:
            self.taker.target_full(full=True)

    def resume_writing(self) -> None:
        """It was sent."""
        if self.taker is not None:
            self.taker.target_full(full=False)

    def is_open(self) -> bool:
        """Whether it can be used."""
        return self.transport is not None and not self.transport.is_closing()

    def is_silent(self) -> bool:
        """Whether nothing has come that nobody asked for: not even what the loop has not read yet. It would be taken for the next answer."""
        return not self._readable.poll(0)

    def close(self) -> None:
        """Close it at once."""
        self.taker = None
        if self.transport is not None:
            self.transport.abort()


class Pool:
    """The connections to one service: at most so many, those that lie idle, and who waits for one."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.opened = 0
        """Connections that are there, or are being made."""
        self._idle: list[TargetLink] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self, now: float) -> TargetLink | None:
        """An idle connection, the one used last; None where there is none."""
        while self._idle:
            link = self._idle.pop()
            if now - link.idle_since < KEEP_SECONDS and link.is_open() and link.is_silent():
                return link
            self.drop(link)
        return None

    async def take_or_room(self, seconds: float) -> TargetLink | None:
        """An idle connection, or None once there is room for another. Raises `NotAdmitted` where neither is in that time."""
        loop = asyncio.get_running_loop()
        while (link := self.take(loop.time())) is None and self.opened >= self.most:
            if len(self._waiting) >= MAX_WAITING:
                raise NotAdmitted(Reason.TARGET_UNREACHABLE, "too many requests wait for it")
            waiter = loop.create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout(seconds):
                    await waiter
            except TimeoutError:
                raise NotAdmitted(Reason.TARGET_UNREACHABLE, "all connections to it are in use") from None
        return link

    def give_back(self, link: TargetLink, keeps: bool, now: float) -> None:
        """An exchange is done with it. `keeps`: nothing lies in it, and the service said that it lives on."""
        link.taker = None
        if keeps and link.is_open():
            link.is_used = True
            link.idle_since = now
            self._idle.append(link)
            self.wake()
        else:
            self.drop(link)

    def drop(self, link: TargetLink) -> None:
        """Close one."""
        link.close()
        self.opened -= 1
        self.wake()

    def wake(self) -> None:
        """There is one, or room for one: the next who waits may look."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """Close what lies idle."""
        while self._idle:
            self.drop(self._idle.pop())
