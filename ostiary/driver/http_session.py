"""The session of HTTP: a token on a connection, whose exchanges share one record."""

from __future__ import annotations

import time
from typing import Final

from ostiary.approvals.desk import Desk
from ostiary.driver.admission import Begun
from ostiary.driver.http_actor import ActorLines
from ostiary.driver.http_exchange import Session
from ostiary.driver.http_pool import Pool
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.lane import Counting
from ostiary.driver.leases import Lease
from ostiary.masking.detectors import wanted
from ostiary.masking.documents import Rules
from ostiary.masking.http import ReplyMasker
from ostiary.model.identity import VerifiedIdentity
from ostiary.protocols.http.relay import HttpRelay

_time: Final = time.time


class HttpSession(Session):
    """A token on a connection."""

    def __init__(
        self, begun: Begun, destination: HttpDestination, actor: ActorLines | None, now: float, desk: Desk, counting: Counting
    ) -> None:
        super().__init__(begun.journal, begun.admitted, destination, desk, counting, f"exchange of {begun.session}")
        self.begun = begun
        self.lease: Lease | None = None
        self.who: VerifiedIdentity = begun.admitted.who
        self.expires: float = self.who.expires
        self.id = begun.session
        self.used = now
        self.granted = begun.granted
        self._actor = actor
        self._actor_lines = b""
        self._actor_until = 0.0
        self._shows = destination.shown
        self._shows_nothing = destination.shown.is_none
        self._pool = destination.pool
        self._rules: Rules | None = None
        self._released = destination.released
        self._conceals = None if destination.shown.is_none else destination.shown.told
        self._bits = wanted(destination.connection.detect)
        self._detect, self._passes = destination.connection.detect, destination.connection.pass_types

    def masker(self, relay: HttpRelay) -> ReplyMasker:
        """See `ostiary.driver.http_exchange.Session`."""
        del relay  # what is protected is the same for every request
        if self._rules is None:
            self._rules = self.destination.rules()
        masker = ReplyMasker(self._detect, self._rules, self._passes, self._bits)
        masker.conceals = self._conceals
        masker.released = self._released
        return masker

    def pool(self, relay: HttpRelay) -> Pool:
        """There is one."""
        del relay
        return self._pool

    def service(self, relay: HttpRelay) -> HttpDestination:
        """There is one."""
        del relay
        return self.destination

    def ready(self) -> bytes | None:
        """The configured credential, if it can be had at once."""
        return b"" if self._shows_nothing else self._shows.ready()

    async def fetch(self) -> bytes:
        """The configured credential."""
        return await self._shows.fetch()

    def lines(self, relay: HttpRelay, shown: bytes) -> bytes:
        """The credential, and header lines that tell the service who acts, signed."""
        del relay
        actor = self._actor
        if actor is None:
            return shown
        now = _time()
        if now >= self._actor_until:
            self._actor_lines, self._actor_until = actor.lines(now), actor.until
        return shown + self._actor_lines if shown else self._actor_lines
