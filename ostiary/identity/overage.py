"""Groups that an issuer leaves out of its tokens, asked for at a place that the operator named. Microsoft calls it overage.

Entra puts up to 200 groups into a token; where somebody has more it says so instead (`_claim_names` with `groups`, or `hasgroups`), and where to
ask. That address is not used: whoever could write it could have us asked anything, with our credential. What is asked is the `getMemberObjects`
of Microsoft Graph (https://learn.microsoft.com/graph/api/directoryobject-getmemberobjects), or whatever answers in the same way, at the
configured address, as a client of the configured token endpoint (RFC 6749, 4.4).

An unknown answer is not an empty one: what cannot be asked, or is not whole, refuses the login.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from ostiary.config import types as config
from ostiary.identity.chain import group_of
from ostiary.identity.issuers import is_safe_url
from ostiary.identity.jose import bad_token, strict_object
from ostiary.identity.jwks import FetchFailed, bounded_body, trust
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.secrets import Secret

MAX_ANSWER: Final = 1 << 20
"""Bytes: 11,000 groups, which is the most that Graph tells of a user, are 450 KiB."""
MAX_TOLD: Final = 12_000
MAX_AT_ONCE: Final = 8
SECONDS: Final = 10.0
EARLY_SECONDS: Final = 60.0
"""How long before its end an access token is not used any more."""
_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


def is_overage(claims: Mapping[str, Any]) -> bool:
    """Whether the issuer says that groups are left out."""
    return bool(claims.get("_claim_names")) or "_claim_sources" in claims or claims.get("hasgroups") not in (None, False)


class GroupSource:
    """Asks for the groups of one issuer's people. For one event loop."""

    def __init__(self, settings: config.GroupsSource, key: str, secret: Callable[[], Secret]) -> None:
        for name in ("url", "token_url"):
            url = getattr(settings, name)
            if not is_safe_url(url.replace("{id}", "x")):
                raise ConfigError(f"{key}.{name}", "must be https (http only to this machine)")
        if settings.url.count("{id}") != 1:
            raise ConfigError(f"{key}.url", "says with {id} where the object's id stands, once")
        self._settings = settings
        self._secret = secret
        self._only = frozenset(settings.only)
        self._token = Secret("")
        self._until = float("-inf")
        self._places = asyncio.Semaphore(MAX_AT_ONCE)

    async def groups(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Every group of whoever verified `claims` are of, or those of them that are configured. Raises `NotAdmitted`."""
        names = claims.get("_claim_names")
        if names is not None and (not isinstance(names, dict) or set(names) != {"groups"}):
            bad_token("more than groups is left out of the token")
        if "groups" in claims:
            bad_token("groups stand in the token, and are said to be left out")
        who = claims.get(self._settings.id_claim)
        if not isinstance(who, str) or _ID.fullmatch(who) is None:
            bad_token("groups are left out of the token, and it does not say whose they are")
        try:
            async with asyncio.timeout(SECONDS), self._places, self._client() as client:
                found = await self._ask(client, who)
        except ConfigError as error:  # the secret is read each time, so that it can be changed; and may be gone
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, f"groups cannot be asked for: {error}") from None
        except (FetchFailed, httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError, OSError) as error:
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, f"groups cannot be asked for: {type(error).__name__}") from None
        return found & self._only if self._only else found

    async def _ask(self, client: httpx.AsyncClient, who: str) -> frozenset[str]:
        token = await self._access(client)
        url = self._settings.url.replace("{id}", who)
        headers = {"authorization": f"Bearer {token.reveal()}"}
        status, body = await _send(client, url, headers, json={"securityEnabledOnly": False})
        if status == 404:
            bad_token("groups are left out of the token, and there is nobody of that id")
        if status == 401:
            self._until = float("-inf")
        if status != 200:
            raise FetchFailed(f"status {status}")
        told = strict_object(body)
        value = told.get("value")
        if "@odata.nextLink" in told or not isinstance(value, list) or len(value) > MAX_TOLD:
            raise FetchFailed("not one whole list of groups")
        return frozenset(group_of(group) for group in value)

    async def _access(self, client: httpx.AsyncClient) -> Secret:
        """Our own access token there: RFC 6749, 4.4."""
        if time.monotonic() < self._until:
            return self._token
        settings = self._settings
        form = {"grant_type": "client_credentials", "client_id": settings.client_id, "client_secret": self._secret().reveal()}
        if settings.scope:
            form["scope"] = settings.scope
        status, body = await _send(client, settings.token_url, {}, data=form)
        found = strict_object(body) if status == 200 else {}
        token, seconds = found.get("access_token"), found.get("expires_in", 0)
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or type(seconds) is not int:
            raise FetchFailed(f"no access token (status {status})")
        self._token, self._until = Secret(token), time.monotonic() + min(seconds, 86_400) - EARLY_SECONDS
        return self._token

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(follow_redirects=False, trust_env=False, verify=trust(self._settings.ca_file), timeout=5.0)


async def _send(client: httpx.AsyncClient, url: str, headers: dict[str, str], **sent: Any) -> tuple[int, bytes]:
    """Status and body, bounded. Raises `FetchFailed`."""
    asked = headers | {"accept": "application/json", "accept-encoding": "identity"}
    async with client.stream("POST", url, headers=asked, **sent) as response:
        return response.status_code, await bounded_body(response, MAX_ANSWER)
