"""Policies loaded anew in a worker, once the supervisor has seen that all workers can (`ostiary.app.orders`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

import structlog

from ostiary.app.common import record
from ostiary.audit.log import Log
from ostiary.driver.admission import Gate, Reception
from ostiary.driver.spawn import spawn
from ostiary.model.errors import LogFailed
from ostiary.policy.policies import Policies

AGAIN_SECONDS: Final = 0.1

_log = structlog.get_logger("ostiary")


class Reloading:
    """Takes policies into use, on record."""

    def __init__(self, reception: Reception, gates: Iterable[Gate], log: Log) -> None:
        self._reception = reception
        self._gates = tuple(gates)
        self._log = log
        self._turn = asyncio.Lock()

    def take(self, fresh: Policies) -> None:
        """Use these from now on."""
        spawn(self._take(fresh), "reload")

    def leave(self, why: str) -> None:
        """Put on record that policies could not be loaded anew."""
        _log.error("policies were not loaded; the old ones stay in force", error=why)
        refused = {"action": "reload", "policy": self._reception.policies.digest, "refused": self._log.encoder.free(why)}
        spawn(self._told(refused), "reload")

    async def _told(self, said: dict[str, Any]) -> None:
        try:
            await record(self._log, "config", {"config": said})
        except LogFailed as exc:
            _log.error("that policies were not loaded is not on record", error=str(exc))

    async def _take(self, fresh: Policies) -> None:
        """Where the log takes nothing now no operation is let through either, under whichever policies, and it is tried again.

        It stands in the log before anything that is decided under them, so nothing is durable that was decided under policies that are not.
        """
        async with self._turn:
            while not self._append({"action": "reload", "policy": fresh.digest, "was": self._reception.policies.digest}):  # noqa: ASYNC110 - no event
                await asyncio.sleep(AGAIN_SECONDS)
            self._reception.policies = fresh
            for each in self._gates:
                each.use(fresh)
        _log.info("policies loaded", digest=fresh.digest)

    def _append(self, said: dict[str, Any]) -> bool:
        log = self._log
        try:
            log.writer.append(log.encoder.entry("config", log.ids.next(), time.time_ns(), time.monotonic_ns(), {"config": said}))
        except LogFailed as exc:
            _log.error("policies cannot be loaded now; they will be", error=str(exc))
            return False
        return True
