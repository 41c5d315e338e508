"""The device flow (RFC 8628), as a listener sees it: show a code, wait for the person, get a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from ostiary.model.errors import NotAdmitted, OstiaryError, Reason
from ostiary.model.identity import Said
from ostiary.model.secrets import Secret

TOPIC: Final = "device"
POLL_SECONDS: Final = 2.0
_WHY: Final = {
    "access_denied": "you said no",
    "expired_token": "nobody confirmed the code in time",
    "invalid_grant": "the code is not good any more",
}

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Shown(msgspec.Struct, frozen=True):
    """A login that waits for its person."""

    code: str
    """What the listener asks with. The person types another one."""
    page: str
    user_code: str
    connection: str
    said: Said


class Devices:
    """Asks the control process, where people log in."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def begin(self, connection: str, said: Said) -> Shown | None:
        """Begin a login; None: nobody can log in this way here, or now."""
        try:
            told = await self._tell("begin", connection, said, "")
        except OstiaryError:
            return None
        if not told:
            return None
        return Shown(str(told["device_code"]), str(told["verification_uri"]), str(told["user_code"]), connection, said)

    async def wait(self, shown: Shown) -> Secret:
        """Wait until the person has said yes; their token. Raises `NotAdmitted`. Who calls this sets the end of it."""
        while True:
            try:
                told = await self._tell("poll", shown.connection, shown.said, shown.code)
            except OstiaryError as exc:
                raise NotAdmitted(Reason.BAD_TOKEN, str(exc)) from None
            state = str(told.get("state", ""))
            if state == "done":
                return Secret(str(told["token"]))
            if state not in {"authorization_pending", "slow_down"}:
                raise NotAdmitted(Reason.NO_TOKEN, _WHY.get(state, "the login was not confirmed"))
            await asyncio.sleep(POLL_SECONDS)

    async def drop(self, shown: Shown) -> None:
        """Nobody waits for it any more."""
        try:
            await self._tell("drop", shown.connection, shown.said, shown.code)
        except OstiaryError:
            return  # it ends by itself

    async def _tell(self, do: str, connection: str, said: Said, code: str) -> dict[str, Any]:
        body = {
            "do": do,
            "connection": connection,
            "address": said.address,
            "application": said.application,
            "code": code,
        }
        return await self._ask(TOPIC, body)
