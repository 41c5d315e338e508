"""The targets that this worker knows: what is shared by all sessions on one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from ostiary.catalogue import Catalogue
from ostiary.driver.side import Side
from ostiary.driver.spawn import spawn
from ostiary.model.connections import Connection
from ostiary.model.secrets import Secret
from ostiary.protocols.postgres.understanding import Knowledge

IDLE_SECONDS: Final = 1.0
"""How long the side connection outlives the last session. PostgreSQL's DROP DATABASE waits for five."""


class Destination:
    """One connection's target."""

    def __init__(
        self, connection: Connection, password: Callable[[], Secret | None], record: Callable[[str], None]
    ) -> None:
        self.connection = connection
        self.password = password
        """Reads the credential anew each time, so that a rotated one is used at once."""
        self._record = record
        self.catalogue = Catalogue(connection, self._open_side, spawn)
        self.knowledge = Knowledge(connection.protect)
        """What statements mean on this target, shared by its sessions."""
        self._sessions = 0


    @property
    def sessions(self) -> int:
        """How many sessions there are, or are being opened."""
        return self._sessions

    def enter(self) -> None:
        """A session begins."""
        self._sessions += 1

    def leave(self) -> None:
        """A session has ended. After the last one the side connection is not kept: it would stand in the way of DROP DATABASE."""
        self._sessions -= 1
        if not self._sessions:
            asyncio.get_running_loop().call_later(IDLE_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        if not self._sessions:
            spawn(self.catalogue.rest(), f"catalogue of {self.connection.name}")

    async def _open_side(self) -> Side:
        """Dial the side connection: an act of the gateway's own, so it is on record first."""
        self._record(self.connection.name)
        return await Side.open(self.connection, self.password())


class Destinations:
    """All of them, by the connection's name."""

    def __init__(
        self,
        connections: Mapping[str, Connection],
        password: Callable[[Connection], Secret | None],
        record: Callable[[str], None],
    ) -> None:
        """`record` notes that the gateway itself opens a connection to the target of that name."""
        self._known = {name: Destination(c, partial(password, c), record) for name, c in connections.items()}

    def find(self, name: str) -> Destination | None:
        """The target of the connection of that name."""
        return self._known.get(name)

    async def close(self) -> None:
        """Close the side connections."""
        for destination in self._known.values():
            await destination.catalogue.close()
