"""For how long a session lasts: as its identity does, and as the grant does under which it was opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ostiary.approvals.desk import Granted
from ostiary.model.errors import NotAdmitted, Reason

Cut = Callable[[NotAdmitted], None]
"""Ends the session at once, and says why."""


class Lease:
    """One session's. Close it when the session is over."""

    def __init__(self, leases: Leases, grant: str, cut: Cut) -> None:
        self.grant = grant
        self.cut = cut
        self._leases = leases
        self._timers: list[asyncio.TimerHandle] = []

    def ends_at(self, when: float, reason: Reason) -> None:
        """Cut the session then. `when`: seconds since 1970."""
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(max(0.0, when - time.time()), self.cut, NotAdmitted(reason)))

    def close(self) -> None:
        """Nothing is left to end."""
        for timer in self._timers:
            timer.cancel()
        self._leases.closed(self)


class Leases:
    """Those of one worker's sessions."""

    def __init__(self) -> None:
        self._under: dict[str, set[Lease]] = {}
        """Grant id to the sessions that were opened under it."""

    def take(self, expires: float, held: Granted | None, cut: Cut) -> Lease:
        """Have `cut` called once the identity, or what was granted, is over. `expires`: seconds since 1970."""
        lease = Lease(self, "" if held is None else held.id, cut)
        lease.ends_at(expires, Reason.EXPIRED_TOKEN)
        if held is not None:
            lease.ends_at(held.until, Reason.GRANT_OVER)
            self._under.setdefault(held.id, set()).add(lease)
        return lease

    def closed(self, lease: Lease) -> None:
        """Forget it."""
        held = self._under.get(lease.grant)
        if held is not None:
            held.discard(lease)
            if not held:
                del self._under[lease.grant]

    def taken_back(self, grant: str) -> None:
        """End every session that was opened under this grant."""
        for lease in list(self._under.get(grant, ())):
            lease.cut(NotAdmitted(Reason.GRANT_REVOKED))
