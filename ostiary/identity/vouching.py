"""Whether people are still there: their issuer is asked again, with the refresh token of their last login.

A delegation outlives the login in which it was given, and a service account outlives every login of its owner, so somebody has to notice
when a person has left. SCIM tells where it is set up; this asks where it is not. Only `invalid_grant` (RFC 6749, 5.2) is a no: then whoever
it is stops as SCIM would stop them, at once and with all that hangs on them. A no that was said here is taken back by the next login
that the issuer lets through; one of an administrator's, or SCIM's, is not.

An issuer that cannot be asked says nothing, and is asked again. Refresh tokens are kept encrypted, one a person, for as long as something
hangs on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
import structlog

from ostiary.identity.oidc import Login, Provided
from ostiary.identity.records import Ended, Records, Refused
from ostiary.model.errors import NotAdmitted, OstiaryError, Reason
from ostiary.model.secrets import Secret
from ostiary.vault.keys import NoSuchKey, WrongKey
from ostiary.vault.ring import KeyRing

TICK_SECONDS: Final = 1.0
MAX_AT_ONCE: Final = 500
"""People of one issuer who are asked about in one round."""
LOGIN_SECONDS: Final = 24 * 3600
"""How long after a login something of it may still be good: no gateway token lasts longer."""
BY: Final = "issuer"
"""Who made a stop, as the news has it."""
WHY: Final = "their issuer does not vouch for them any more"

Told = Callable[[str, tuple[str, str], str], Awaitable[object]]
"""Puts on record: what happened, to whom, and a detail."""

_log = structlog.get_logger("ostiary")


class _Kept(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    key: str
    sealed: bytes


class Vouching:
    """Lives in the control process."""

    def __init__(
        self,
        records: Records,
        logins: Mapping[str, tuple[Login, float]],
        keys: KeyRing,
        told: Told,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`logins`: by issuer, with every how many seconds it is asked about somebody."""
        self._records = records
        self._logins = logins
        self._keys = keys
        self._told = told
        self._clock = clock

    async def returned(self, provided: Provided) -> None:
        """Somebody has just proved at their issuer who they are: they stand again, if it was the issuer's no that stopped them.

        Raises `StoreFailed`, `LogFailed`.
        """
        who = provided.proved.identity
        if who.acting:
            return
        if provided.refresh is not None and who.issuer in self._logins:
            await self._keep(who.issuer, who.subject, provided.refresh, None)
        if self._records.stopped_by(who.issuer, who.subject) == BY:
            # On record before it is so. They do not stand again where the identity provider has disabled them meanwhile.
            await self._told("person.returned", (who.issuer, who.subject), "their issuer vouches for them again")
            with contextlib.suppress(Refused):
                await self._records.release(who.issuer, who.subject, by=BY)

    async def watch(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.look()
            except OstiaryError as exc:
                _log.error("it could not be seen who is still there", error=str(exc))

    async def look(self) -> None:
        """Ask about everybody whose time it is."""
        await asyncio.gather(*(self._look(login, seconds) for login, seconds in self._logins.values()))

    async def _look(self, login: Login, seconds: float) -> None:
        for kept in await self._due(login.issuer, seconds):
            try:
                fresh = await login.is_good_still(self._open(kept))
            except (WrongKey, NoSuchKey) as exc:
                _log.warning("it is not asked any more whether somebody is still there", issuer=kept.iss, subject=kept.sub, error=str(exc))
                await self._forget(kept)
                continue
            except NotAdmitted as exc:
                _log.warning("an issuer cannot be asked who is still there", issuer=login.issuer, error=str(exc))
                return
            if fresh is not None:
                await self._keep(kept.iss, kept.sub, fresh, kept)
            elif await self._is_kept(kept):
                await self._lost(kept.iss, kept.sub)
                await self._forget(kept)

    async def _lost(self, iss: str, sub: str) -> None:
        now = int(self._clock())
        ended = await self._records.stop(iss, sub, Reason.LOST_OWNER, WHY, now, by=BY)
        if ended is not None:
            await self._told("person.lost", (iss, sub), _said(ended))

    # --- what is kept ---

    def _open(self, kept: _Kept) -> Secret:
        return Secret(self._keys.find(kept.key).unwrap(kept.sealed, _bound(kept.iss, kept.sub)).decode())

    async def _keep(self, iss: str, sub: str, refresh: Secret, was: _Kept | None) -> None:
        """Keep a refresh token: of a login, or in the place of the one that was spent, if no login came between."""
        key, now = self._keys.current, int(self._clock())
        sealed = key.wrap(refresh.reveal().encode(), _bound(iss, sub))

        def work(connection: sqlite3.Connection) -> None:
            if was is None:
                connection.execute(
                    "INSERT OR REPLACE INTO refreshes (iss, sub, key, sealed, seen, checked) VALUES (?, ?, ?, ?, ?, ?)",
                    (iss, sub, key.id, sealed, now, now),
                )
            else:
                connection.execute(
                    "UPDATE refreshes SET key = ?, sealed = ?, checked = ? WHERE iss = ? AND sub = ? AND sealed = ?",
                    (key.id, sealed, now, iss, sub, was.sealed),
                )

        await self._records.change_people(work)

    async def _is_kept(self, kept: _Kept) -> bool:
        """Whether it is the newest; not where they have logged in meanwhile: then what came of it says nothing."""

        def work(connection: sqlite3.Connection) -> bool:
            which = "SELECT 1 FROM refreshes WHERE iss = ? AND sub = ? AND sealed = ?"
            return connection.execute(which, (kept.iss, kept.sub, kept.sealed)).fetchone() is not None

        return bool(await self._records.change_people(work))

    async def _forget(self, kept: _Kept) -> None:
        def work(connection: sqlite3.Connection) -> None:
            which = "DELETE FROM refreshes WHERE iss = ? AND sub = ? AND sealed = ?"
            connection.execute(which, (kept.iss, kept.sub, kept.sealed))

        await self._records.change_people(work)

    async def _due(self, iss: str, seconds: float) -> list[_Kept]:
        now = self._clock()

        def work(connection: sqlite3.Connection) -> list[_Kept]:
            connection.execute(_OVER, {"iss": iss, "now": int(now), "warm": int(now) - LOGIN_SECONDS})
            rows = connection.execute(
                "SELECT iss, sub, key, sealed FROM refreshes WHERE iss = ? AND checked <= ? ORDER BY checked LIMIT ?",
                (iss, now - seconds, MAX_AT_ONCE),
            )
            return [_Kept(*row) for row in rows]

        found: list[_Kept] = await self._records.change_people(work)
        return found


_OVER: Final = """DELETE FROM refreshes WHERE iss = :iss AND seen < :warm
    AND NOT EXISTS (SELECT 1 FROM delegations d WHERE d.iss = refreshes.iss AND d.sub = refreshes.sub AND d.ended IS NULL AND d.expires > :now)
    AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.owner_iss = refreshes.iss AND a.owner_sub = refreshes.sub AND a.ended IS NULL
                    AND a.expires > :now)"""
"""Nothing hangs on these people any more."""


def keys_needed(connection: sqlite3.Connection) -> dict[str, int]:
    """How many refresh tokens are under which key-encryption key, by its id."""
    return dict(connection.execute("SELECT key, count(*) FROM refreshes GROUP BY key"))


def _bound(iss: str, sub: str) -> bytes:
    return f"refresh:{len(iss)}:{iss}{sub}".encode("utf-8", "surrogatepass")


def _said(ended: Ended) -> str:
    return f"{WHY}; ended {len(ended.delegations)} delegations and {len(ended.accounts)} accounts"
