"""Connections that are open and ask nothing: bounded in number and in time, so that nobody holds the API's door shut with them.

A server counts connections against its limit whether anything was asked on them or not. So whoever says nothing, or half of a head, has
`HEAD_SECONDS` for it, as much as for a body (`ostiary.api.forms`); and where too many wait, the one that has waited longest makes room.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

HEAD_SECONDS: Final = 10.0
MAX_WAITING: Final = 128


def patient(base: Any) -> Any:
    """A protocol of uvicorn's, `base`, for one server: its connections that have not asked yet are counted together."""
    waiting: dict[Any, asyncio.TimerHandle] = {}

    class Patient(base):  # type: ignore[misc]  # which class it is, uvicorn says at run time
        """HTTP that waits for heads no longer than it must."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            """Somebody is there."""
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            """They said something; perhaps all of a head."""
            super().data_received(data)
            if self._is_asked():
                self._stop_waiting()

        def on_response_complete(self) -> None:
            """They were answered, and may ask again."""
            super().on_response_complete()
            if not self._is_asked():
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            """They are gone."""
            self._stop_waiting()
            super().connection_lost(exc)

        def _is_asked(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            if self in waiting or self.transport.is_closing():
                return
            while len(waiting) >= MAX_WAITING:
                next(iter(waiting))._give_up()  # noqa: SLF001 - one of these, too
            waiting[self] = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._give_up)

        def _stop_waiting(self) -> None:
            handle = waiting.pop(self, None)
            if handle is not None:
                handle.cancel()

        def _give_up(self) -> None:
            self._stop_waiting()
            self.transport.abort()

    return Patient
