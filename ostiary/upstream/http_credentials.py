"""What an HTTP service is shown: header lines made from the configured credential, and from nothing of the caller's."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Final

import httpx
import structlog

from ostiary.model.connections import CredentialKind, HttpCredential
from ostiary.model.errors import NotAdmitted, OstiaryError, Reason
from ostiary.model.secrets import Secret, SecretRef
from ostiary.store.commons import Notes

KEEP_SECONDS: Final = 5.0
"""How long a secret that was read is used before it is read again, so that a rotated one is used soon."""
EARLY_SECONDS: Final = 60.0
"""How long before its end a fetched token is fetched anew."""
FETCH_SECONDS: Final = 10.0
MAX_TOKEN_SECONDS: Final = 3600.0
ROTATED_SECONDS: Final = 86_400.0
"""How long a secret that was rotated is taken to be good: services keep an old one for a while."""
MAX_TOLD: Final = 8
"""What was shown before is remembered up to so many values."""

_log = structlog.get_logger("ostiary")


class Shown:
    """The credential of one connection."""

    def __init__(self, credential: HttpCredential, resolve: Callable[[SecretRef], Secret]) -> None:
        self._credential = credential
        self._resolve = resolve
        self.is_none = credential.kind is CredentialKind.NONE
        """Nothing is shown, ever."""
        self._lines = b""
        self._told: dict[bytes, float] = {}
        """What the service was told, and until when that may be good there."""
        self._notes: Notes | None = None
        self._until = -1.0
        self._fetching = asyncio.Lock()

    def share(self, notes: Notes) -> None:
        """Tell the other workers what the service is told, and hear it of them."""
        self._notes = notes

    def ready(self) -> bytes | None:
        """The header lines, if they can be had at once; None: `fetch` them."""
        if self.is_none or time.monotonic() < self._until:
            return self._lines
        if self._credential.kind is CredentialKind.CLIENT_CREDENTIALS:
            return None
        self._lines = self._static()
        self._until = time.monotonic() + KEEP_SECONDS
        return self._lines

    def told(self) -> tuple[bytes, ...]:
        """What the service was told and may still take for good: no answer may hand it on."""
        if self.is_none:
            return ()
        now = time.monotonic()
        if self._notes is not None:
            return tuple(dict.fromkeys(self._notes.read(now)))
        return tuple(each for each, until in self._told.items() if now < until)

    def _tell(self, *values: str, seconds: float) -> None:
        """These are shown from now on. Of what was shown before, as much is remembered as may still be good."""
        now = time.monotonic()
        kept = [(each, until) for each, until in self._told.items() if now < until][-MAX_TOLD:]
        self._told = dict(kept) | {value.encode(): now + seconds for value in values}
        if self._notes is not None:
            try:
                self._notes.write(self._told)
            except ValueError as exc:
                raise NotAdmitted(Reason.TARGET_UNREACHABLE, f"the connection's credential is {exc}") from None

    def _static(self) -> bytes:
        held = self._credential
        value = self._secret().reveal().strip()
        self._tell(value, seconds=ROTATED_SECONDS)
        match held.kind:
            case CredentialKind.BEARER:
                return _line("Authorization", f"Bearer {value}")
            case CredentialKind.BASIC:
                pair = base64.b64encode(f"{held.user}:{value}".encode()).decode()
                self._tell(value, pair, seconds=ROTATED_SECONDS)
                return _line("Authorization", f"Basic {pair}")
            case _:
                return _line(held.header, value)

    def _secret(self) -> Secret:
        if self._credential.secret is None:
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "the connection has no credential")
        try:
            return self._resolve(self._credential.secret)
        except OstiaryError as exc:  # where it is kept is the operator's to know, and not the caller's
            _log.error("the credential of a service cannot be read", error=str(exc))
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "the connection's credential cannot be read") from None

    async def fetch(self) -> bytes:
        """Fetch a token, once for all who wait for it. Raises `NotAdmitted`."""
        async with self._fetching:
            return self._lines if time.monotonic() < self._until else await self._fetch()

    async def _fetch(self) -> bytes:
        """RFC 6749, 4.4: client credentials."""
        held = self._credential
        form = {"grant_type": "client_credentials"} | ({"scope": held.scope} if held.scope else {})
        try:
            async with httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as client:
                answer = await client.post(held.token_url, data=form, auth=(held.user, self._secret().reveal().strip()))
            body = answer.json() if answer.status_code == 200 else {}
            token, seconds = str(body["access_token"]), float(body.get("expires_in", 300))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "its token endpoint did not give a token") from None
        self._lines = _line("Authorization", f"Bearer {token}")
        self._tell(token, seconds=max(seconds, MAX_TOKEN_SECONDS))
        seconds = min(seconds, MAX_TOKEN_SECONDS)
        self._until = time.monotonic() + max(seconds - EARLY_SECONDS, seconds / 2)
        return self._lines

def _line(name: str, value: str) -> bytes:
    if not value.isprintable() or not value.isascii():
        raise NotAdmitted(Reason.TARGET_UNREACHABLE, "the connection's credential cannot stand in a header")
    return f"{name}: {value}\r\n".encode()
