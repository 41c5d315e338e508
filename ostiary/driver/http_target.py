"""An HTTP service as its sessions share it: what requests to it mean, what is protected, and connections kept open."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections import deque
from typing import Final, Protocol, cast

import structlog

from ostiary.driver.targets import Destination, Resolve, means
from ostiary.masking.documents import Rules
from ostiary.model.connections import HttpConnection
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.protocols.http.operations import Understanding
from ostiary.store.commons import Commons
from ostiary.upstream.http_credentials import Shown
from ostiary.upstream.reach import dial, explain
from ostiary.upstream.tls import client_context

ALPN: Final = "http/1.1"
KEEP_SECONDS: Final = 20.0
"""How long a connection lies idle before it is closed: below what services usually keep (nginx 75, Node 5, Apache 5 seconds)."""
MAX_WAITING: Final = 1024

_log = structlog.get_logger("ostiary")


class Listens(Protocol):
    """Who hears what a service sends."""

    def target_sent(self, data: bytes) -> None:
        """Bytes came."""
        ...

    def target_closed(self) -> None:
        """The service has closed its end."""
        ...

    def target_full(self, *, full: bool) -> None:
        """Too much waits to be sent to the service, or no longer."""
        ...


class TargetLink(asyncio.Protocol):
    """One connection to a service: given to one exchange at a time."""

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
        if self.taker is not None:
            self.taker.target_sent(data)
        else:
            self.close()

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

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self.transport is not None and not self.transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come that nobody asked for: not even what the loop has not read yet. It would be taken for the next answer."""
        return not self._readable.poll(0)

    def close(self) -> None:
        """Close it at once."""
        self.taker = None
        if self.transport is not None:
            self.transport.abort()


class HttpDestination(Destination):
    """One HTTP service."""

    connection: HttpConnection

    def __init__(self, connection: HttpConnection, resolve: Resolve) -> None:
        super().__init__(connection)
        self.understanding = Understanding(connection)
        self._resolve = resolve
        self._rules: Rules | None = None
        self.shown = Shown(connection.upstream.credential, resolve)
        self._idle: list[TargetLink] = []
        self._open = 0
        self._most = connection.upstream.max_connections
        self._waiting: deque[asyncio.Future[None]] = deque()

    def share(self, commons: Commons) -> None:
        """See `Destination.share`. Each worker keeps a pool of its own, of its share of the connections."""
        super().share(commons)
        self.divide(commons.workers)
        if commons.is_shared:
            self.shown.share(commons.notes(self.connection.name))

    def divide(self, workers: int) -> None:
        """Open no more than one worker's share of the connections."""
        self._most = max(1, self.connection.upstream.max_connections // workers)

    def rules(self) -> Rules:
        """What is protected. The key of hashes and tokens is read once. Raises `NotAdmitted` where it cannot be read."""
        if self._rules is None:
            try:
                self._rules = Rules(self.connection.protect, means(self.connection, self._resolve))
            except ConfigError as exc:  # where the key is kept is the operator's to know
                _log.error("the mask_key of a service cannot be read", error=str(exc))
                raise NotAdmitted(Reason.TARGET_UNREACHABLE, "its mask_key cannot be read") from None
        return self._rules

    def take(self) -> TargetLink | None:
        """An idle connection, the one used last; None where there is none."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            link = self._idle.pop()
            if link.is_open and now - link.idle_since < KEEP_SECONDS and link.is_silent:
                return link
            self._drop(link)
        return None

    async def open(self) -> TargetLink:
        """A connection: an idle one, a new one, or the next that is given back. Raises `NotAdmitted`."""
        upstream = self.connection.upstream
        while (link := self.take()) is None and self._open >= self._most:
            if len(self._waiting) >= MAX_WAITING:
                raise NotAdmitted(Reason.TARGET_UNREACHABLE, "too many requests wait for it")
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout(upstream.reply_seconds):
                    await waiter
            except TimeoutError:
                raise NotAdmitted(Reason.TARGET_UNREACHABLE, "all connections to it are in use") from None
        if link is not None:
            return link
        self._open += 1
        try:
            return await self._dial()
        except BaseException:
            self._open -= 1
            self._wake()
            raise

    async def _dial(self) -> TargetLink:
        upstream = self.connection.upstream
        link = TargetLink()
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(upstream.connect_timeout):
                context = client_context(upstream, ALPN)
                sock = await dial(upstream)
                await asyncio.get_running_loop().create_connection(
                    lambda: link, sock=sock, ssl=context,
                    server_hostname=None if context is None else upstream.host,
                    ssl_handshake_timeout=None if context is None else upstream.connect_timeout,
                )  # fmt: skip
        except BaseException as error:
            if link.transport is not None:
                link.transport.abort()
            elif sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()
            if not isinstance(error, Exception):
                raise
            explain(error, upstream)
        return link

    def give_back(self, link: TargetLink, *, keeps: bool) -> None:
        """An exchange is done with it. `keeps`: nothing lies in it, and the service said that it lives on."""
        link.taker = None
        if keeps and link.is_open:
            link.is_used = True
            link.idle_since = asyncio.get_running_loop().time()
            self._idle.append(link)
            self._wake()
        else:
            self._drop(link)

    def _drop(self, link: TargetLink) -> None:
        link.close()
        self._open -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def close(self) -> None:
        """Close what lies idle."""
        while self._idle:
            self._drop(self._idle.pop())
