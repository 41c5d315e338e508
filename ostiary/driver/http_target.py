"""An HTTP service as its sessions share it: what requests to it mean, what is protected, and connections kept open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final, cast

import structlog

from ostiary.driver.http_pool import Pool, TargetLink
from ostiary.driver.targets import Destination, Resolve, means
from ostiary.masking.documents import Rules
from ostiary.masking.http import Released
from ostiary.model.connections import HttpConnection
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.protocols.http.messages import Heads
from ostiary.protocols.http.operations import Understanding
from ostiary.store.commons import Commons
from ostiary.upstream.http_credentials import Shown
from ostiary.upstream.reach import dial, explain
from ostiary.upstream.tls import client_context

ALPN: Final = "http/1.1"

_log = structlog.get_logger("ostiary")


class HttpDestination(Destination):
    """One HTTP service."""

    connection: HttpConnection

    def __init__(self, connection: HttpConnection, resolve: Resolve) -> None:
        super().__init__(connection)
        self.understanding = Understanding(connection)
        self.heads = Heads()
        self.released = Released()
        self._resolve = resolve
        self._rules: Rules | None = None
        self.shown = Shown(connection.upstream.credential, resolve)
        self.pool = Pool(connection.upstream.max_connections)

    def share(self, commons: Commons) -> None:
        """See `Destination.share`. Each worker keeps a pool of its own, of its share of the connections."""
        super().share(commons)
        self.divide(commons.workers)
        if commons.is_shared:
            self.shown.share(commons.notes(self.connection.name))

    def divide(self, workers: int) -> None:
        """Open no more than one worker's share of the connections."""
        self.pool.most = max(1, self.connection.upstream.max_connections // workers)

    def rules(self) -> Rules:
        """What is protected. The key of hashes and tokens is read once. Raises `NotAdmitted` where it cannot be read."""
        if self._rules is None:
            try:
                self._rules = Rules(self.connection.protect, means(self.connection, self._resolve))
            except ConfigError as exc:  # where the key is kept is the operator's to know
                _log.error("the mask_key of a service cannot be read", error=str(exc))
                raise NotAdmitted(Reason.TARGET_UNREACHABLE, "its mask_key cannot be read") from None
        return self._rules

    async def open(self) -> TargetLink:
        """A connection: an idle one, a new one, or the next that is given back. Raises `NotAdmitted`."""
        pool = self.pool
        link = await pool.take_or_room(self.connection.upstream.reply_seconds)
        if link is not None:
            return link
        pool.opened += 1
        try:
            return await self._dial()
        except BaseException:
            pool.opened -= 1
            pool.wake()
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
                    lambda: cast(asyncio.Protocol, link), sock=sock, ssl=context,
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

    async def close(self) -> None:
        """Close what lies idle."""
        self.pool.close()
