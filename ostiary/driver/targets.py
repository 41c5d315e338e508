"""The targets that this worker knows: what is shared by all sessions on one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from ostiary.catalogue import Catalogue
from ostiary.driver.side import Side
from ostiary.driver.spawn import spawn
from ostiary.masking.plan import Means, Planner
from ostiary.model.connections import Connection, HttpConnection, PostgresConnection
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.secrets import Secret, SecretRef
from ostiary.protocols.postgres.understanding import Knowledge
from ostiary.store.commons import Commons, own_tally
from ostiary.store.numbers import Numbers
from ostiary.upstream.rds import password_of

Resolve = Callable[[SecretRef], Secret]
"""Reads a credential where it is kept."""

IDLE_SECONDS: Final = 1.0
"""How long the side connection outlives the last session. PostgreSQL's DROP DATABASE waits for five."""
SHORTEST_KEY: Final = 16
"""Bytes of the key of hashes and tokens: who can try out keys can try out values."""

Kind = TypeVar("Kind", bound="Destination")


class Destination:
    """One connection's target: how many sessions are on it. Each kind of target adds what its sessions share."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._all = own_tally()
        self._sessions = 0
        """This worker's."""

    def share(self, commons: Commons) -> None:
        """Count together with the other workers. Before any session begins."""
        self._all = commons.tally(f"sessions {self.connection.name}")

    @property
    def sessions(self) -> int:
        """How many sessions there are in all workers, or are being opened."""
        return self._all.total

    def enter(self) -> None:
        """A session begins. Raises `NotAdmitted` where another worker's took the last place just now."""
        if not self._all.enter(self.connection.max_sessions):
            raise NotAdmitted(Reason.TOO_MANY_SESSIONS, f"on {self.connection.name}")
        self._sessions += 1

    def leave(self) -> None:
        """A session has ended."""
        self._all.leave()
        self._sessions -= 1

    async def close(self) -> None:
        """Let go of what its sessions shared."""


def means(connection: PostgresConnection | HttpConnection, resolve: Resolve) -> Means:
    """What masks are made with on a connection. Raises `NotAdmitted` where the key cannot be read, or is too short."""
    key = b"" if connection.mask_key is None else resolve(connection.mask_key).reveal().encode()
    if connection.mask_key is not None and len(key) < SHORTEST_KEY:
        raise NotAdmitted(Reason.TARGET_UNREACHABLE, f"mask_key of {connection.name} is shorter than {SHORTEST_KEY} bytes")
    return Means(key, {each.name: (each.first, each.last) for each in connection.data_classes})


class PostgresDestination(Destination):
    """A database: its catalogue, read over a side connection, and what statements mean on it."""

    connection: PostgresConnection

    def __init__(self, connection: PostgresConnection, resolve: Resolve, record: Callable[[str], None]) -> None:
        """`record` notes that the gateway itself opens a connection to the target of that name."""
        super().__init__(connection)
        self._resolve = resolve
        self._record = record
        self.catalogue = Catalogue(connection, self._open_side, spawn)
        """Stale in all workers as soon as one of them saw DDL."""
        self.knowledge = Knowledge(connection.protect, connection.rules)
        """What statements mean on this target, shared by its sessions."""
        self.process_ids = Numbers(connection.name)
        self._planner: Planner | None = None

    def share(self, commons: Commons) -> None:
        """See `Destination.share`."""
        super().share(commons)
        if commons.is_shared:
            self.catalogue.share(commons.tally(f"generation {self.connection.name}"))
            self.process_ids.share(commons.table("numbers"), commons.number)

    async def password(self, who: VerifiedIdentity | None, session: str) -> Secret | None:
        """The credential, read or signed anew each time, so that a rotated one is used at once. `who`: for whom; None: for the gateway itself."""
        return await password_of(self.connection, self._resolve, who, session)

    def planner(self) -> Planner:
        """How results are masked here. The key of hashes and tokens is read once: with another all of them would change."""
        if self._planner is None:
            self._planner = Planner(means(self.connection, self._resolve))
        return self._planner

    def leave(self) -> None:
        """A session has ended. After the last one the side connection is not kept: it would stand in the way of DROP DATABASE."""
        super().leave()
        if not self._sessions:
            asyncio.get_running_loop().call_later(IDLE_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        if not self._sessions:
            spawn(self.catalogue.rest(), f"catalogue of {self.connection.name}")

    async def _open_side(self) -> Side:
        """Dial the side connection: an act of the gateway's own, so it is on record first."""
        self._record(self.connection.name)
        return await Side.open(self.connection, await self.password(None, "-"))

    async def close(self) -> None:
        """Close the side connection."""
        await self.catalogue.close()


class Destinations:
    """All of them, by the connection's name."""

    def __init__(self, known: Iterable[Destination]) -> None:
        self._known = {destination.connection.name: destination for destination in known}

    def find(self, name: str, kind: type[Kind]) -> Kind | None:
        """The target of the connection of that name, if it is of that kind."""
        found = self._known.get(name)
        return found if isinstance(found, kind) else None

    async def close(self) -> None:
        """Let go of everything that is shared."""
        for destination in self._known.values():
            await destination.close()
