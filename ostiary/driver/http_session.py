"""The session of HTTP: a token on a connection, whose exchanges share one record."""

from __future__ import annotations

import time

from ostiary.approvals.desk import Desk
from ostiary.driver.admission import Begun
from ostiary.driver.http_actor import ActorLines
from ostiary.driver.http_exchange import Exchange
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.lane import Counting
from ostiary.driver.leases import Lease
from ostiary.masking.http import ReplyMasker
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.restraints import Restraint
from ostiary.protocols.http.relay import HttpRelay


class HttpSession:
    """A token on a connection."""

    def __init__(
        self, begun: Begun, destination: HttpDestination, actor: ActorLines | None, now: float, desk: Desk, counting: Counting
    ) -> None:
        self.begun = begun
        self.lease: Lease | None = None
        self.admitted = begun.admitted
        self.who: VerifiedIdentity = begun.admitted.who
        self.journal = begun.journal
        self.id = begun.session
        self.label = f"exchange of {begun.session}"
        self.destination = destination
        self.used = now
        self.counting = counting
        self.restraint: Restraint | None = None
        self.granted = begun.granted
        self.desk = desk
        self.under_way: set[Exchange] = set()
        self._actor = actor

    def masker(self, relay: HttpRelay) -> ReplyMasker:
        """See `ostiary.driver.http_exchange.Session`."""
        del relay  # what is protected is the same for every request
        connection = self.destination.connection
        masker = ReplyMasker(connection.detect, self.destination.rules(), connection.pass_types)
        masker.conceals = self.destination.shown.told
        return masker

    def service(self, relay: HttpRelay) -> HttpDestination:
        """There is one."""
        del relay
        return self.destination

    def ready(self) -> bytes | None:
        """The configured credential, if it can be had at once."""
        return self.destination.shown.ready()

    async def fetch(self) -> bytes:
        """The configured credential."""
        return await self.destination.shown.fetch()

    def lines(self, relay: HttpRelay, shown: bytes) -> bytes:
        """The credential, and header lines that tell the service who acts, signed."""
        del relay
        return shown if self._actor is None else shown + self._actor.lines(time.time())
