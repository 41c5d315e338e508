"""Keeps the catalogue of one target at hand: as fresh as promised, or not at all.

Theory of operation
-------------------
`current` answers at once, from memory, and says None where what is in memory may be stale: after `invalidate` (DDL ran
through the gateway), and when nobody has looked for `catalogue_seconds`. Then `refresh` must be awaited. So that
sessions hardly ever wait, half of the time before that, `current` starts a look in the background, where it was given
the means (`spawn`). A look at a target where nothing was committed meanwhile is one small query; else one for stamps over the
catalogues follows (some 10 ms at the target), and only what they say has changed is read again (`read.py`).

A session begins with a look of its own, so what was changed before it began, by whomever and over which way, it knows. Those
who begin at the same time share one.

An invalidation while a reading is under way makes that reading worthless, as it may have begun before the DDL was
committed: the generation counter holds that. Where there are several workers they count together (`share`), so DDL in one makes what
all of them know stale.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any, Final

from ostiary.catalogue.read import Known, Link, look
from ostiary.model.catalogue import Snapshot
from ostiary.model.connections import PostgresConnection
from ostiary.model.errors import NotAdmitted, OstiaryError, Reason
from ostiary.store.commons import Tally

DEADLINE: Final = 30.0
"""Seconds for one reading, dialling included. 10,000 tables take about one."""
MAX_READINGS: Final = 8
"""In a row, while DDL keeps coming."""
Spawn = Callable[[Coroutine[Any, Any, None], str], object]
"""Runs a coroutine beside everything else, under a name."""

FAULTS: Final = (OSError, OstiaryError, TimeoutError, ValueError, KeyError, TypeError)
"""The last three: a target that answers with something else than was asked."""


class Catalogue:
    """What one target says of itself. One a connection and worker; to be used from one event loop."""

    def __init__(
        self, connection: PostgresConnection, open_link: Callable[[], Awaitable[Link]], spawn: Spawn | None = None
    ) -> None:
        """`open_link` dials the side connection; `spawn` runs a look in the background."""
        self._connection = connection
        self._open_link = open_link
        self._link: Link | None = None
        self._lock = asyncio.Lock()
        self._known: Known | None = None
        self._snapshot: Snapshot | None = None
        """That of what is known."""
        self._limit = connection.catalogue_seconds
        self._looked = 0.0
        self._generation = 0
        self._read_generation = -1
        self._spawn = spawn
        self._looking = False
        self._shared: Tally | None = None

    def share(self, generation: Tally) -> None:
        """Hear of DDL in other workers, and tell them of it. Before anything is read."""
        self._shared = generation

    def _now(self) -> int:
        """The generation."""
        return self._generation if self._shared is None else self._shared.total

    def current(self) -> Snapshot | None:
        """The snapshot, or None where it may be stale: then await `refresh`."""
        if self._read_generation != (self._generation if self._shared is None else self._shared.total):
            return None
        age = monotonic() - self._looked
        if age > self._limit:
            return None
        if age > self._limit / 2 and not self._looking and self._spawn is not None:
            self._looking = True
            self._spawn(self._look_ahead(), f"catalogue of {self._connection.name}")
        return self._snapshot

    def invalidate(self) -> None:
        """DDL ran: what is known may be wrong."""
        if self._shared is None:
            self._generation += 1
        else:
            self._shared.add(1)

    async def refresh(self, since: float = 0.0) -> Snapshot:
        """A snapshot that is fresh, and not older than `since` (`time.monotonic`): whoever waits meanwhile shares it.

        Raises `NotAdmitted` where the target cannot be read.
        """
        async with self._lock:
            if self._known is not None and self._looked >= since and self._is_fresh():
                return self._known.snapshot
            try:
                async with asyncio.timeout(DEADLINE):
                    return await self._read_somehow()
            except FAULTS as error:
                await self._hang_up()
                raise NotAdmitted(
                    Reason.CATALOGUE_UNAVAILABLE,
                    type(error).__name__,
                    "the operator should look at the connection's address, credential and role",
                ) from error

    def _is_fresh(self) -> bool:
        return self._read_generation == self._now() and monotonic() - self._looked <= self._limit / 2

    async def _read_somehow(self) -> Snapshot:
        """A link that was kept may have died unnoticed: then once more, over a new one."""
        if self._link is not None:
            try:
                return await self._read()
            except FAULTS:
                await self._hang_up()
        return await self._read()

    async def _read(self) -> Snapshot:
        for _ in range(MAX_READINGS):
            generation, began = self._now(), monotonic()
            known = await look(await self._linked(), self._known)
            self._known, self._snapshot, self._looked, self._read_generation = known, known.snapshot, began, generation
            if generation == self._now():
                return known.snapshot
        raise TimeoutError

    async def _linked(self) -> Link:
        if self._link is None or self._link.is_closed:
            self._link = await self._open_link()
        return self._link

    async def _look_ahead(self) -> None:
        try:
            await self.refresh()
        except NotAdmitted:
            pass  # whoever needs it will hear of it
        finally:
            self._looking = False

    async def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    async def rest(self) -> None:
        """Close the side connection until it is needed again, but not under a reading."""
        async with self._lock:
            await self._hang_up()

    async def close(self) -> None:
        """Close the side connection."""
        await self._hang_up()
