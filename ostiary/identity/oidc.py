"""A person's login at their issuer, in a browser: OpenID Connect, authorization code with PKCE. We are the relying party.

`begin` gives the address to send the browser to, and an `Attempt` to keep; `finish` takes what came back. State, nonce and code verifier
are ours, made for one attempt and used once: a code of somebody else's attempt fails on the nonce, one that was taken on its way fails on
the verifier.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx

from ostiary.identity.issuers import Issuer, is_safe_url, may_be_near
from ostiary.identity.jose import bad_token, encode_base64url, parse_compact, strict_object
from ostiary.identity.jwks import FetchFailed, bounded_body, fetch_document, trust
from ostiary.identity.tokens import IssuerTokens, Proved
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.secrets import Secret

MAX_ANSWER: Final = 256 * 1024
FETCH_SECONDS: Final = 10.0
DISCOVERY_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One login that was begun."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Provided:
    """What a login gave: who it is, and the issuer's refresh token, if it gave one."""

    proved: Proved
    refresh: Secret | None


class Login:
    """Logins at one issuer."""

    def __init__(
        self,
        issuer: Issuer,
        tokens: IssuerTokens,
        *,
        client_id: str,
        client_secret: Callable[[], Secret | None],
        scopes: tuple[str, ...],
    ) -> None:
        self.issuer = issuer.issuer
        self._issuer = issuer
        self._tokens = tokens
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = scopes
        self._known: dict[str, Any] = {}
        self._known_at = float("-inf")

    async def begin(self, redirect_uri: str) -> tuple[str, Attempt]:
        """Where to send the browser. Raises `NotAdmitted` (`ISSUER_UNREACHABLE`)."""
        endpoint = (await self._metadata())["authorization_endpoint"]
        attempt = Attempt(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            redirect_uri=redirect_uri,
        )
        challenge = encode_base64url(hashlib.sha256(attempt.verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}", attempt

    async def finish(self, attempt: Attempt, code: str, iss: str | None, now: float) -> Provided:
        """Trade the code in, and verify the ID token. Raises `NotAdmitted`.

        `iss`: the response's (RFC 9207); where it stands there it must be this issuer's, so no other's code is traded here.
        """
        if iss is not None and iss != self.issuer:
            bad_token("the response of a login names another issuer")
        if iss is None and (await self._metadata()).get("authorization_response_iss_parameter_supported") is True:
            # RFC 9207, 2.4: left out, it is somebody else's response.
            bad_token("the response of a login names no issuer, and this one's do")
        found = await self._ask(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": attempt.redirect_uri,
                "code_verifier": attempt.verifier,
            }
        )
        token = found.get("id_token")
        if not isinstance(token, str):
            bad_token("the issuer gave no ID token")
        jws = parse_compact(token)
        nonce = jws.claims.get("nonce")
        # OpenID Connect Core, 3.1.3.7 (11).
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), attempt.nonce.encode()):
            bad_token("the ID token is of another login (nonce)")
        refresh = found.get("refresh_token")
        proved = await self._tokens.verify(jws, now)
        if proved.identity.auth.key is not None:
            bad_token("the ID token is bound to a key, which nobody proves at a login")
        return Provided(proved, Secret(refresh) if isinstance(refresh, str) else None)

    async def is_good_still(self, refresh: Secret) -> Secret | None:
        """Ask the issuer whether the person may still log in; the refresh token to use next time, None: they may not.

        RFC 6749, 5.2: only `invalid_grant` says so. An issuer that cannot be asked says nothing, and raises `NotAdmitted`.
        """
        try:
            found = await self._ask({"grant_type": "refresh_token", "refresh_token": refresh.reveal()})
        except GrantRefused:
            return None
        fresh = found.get("refresh_token")
        return Secret(fresh) if isinstance(fresh, str) else refresh

    async def _metadata(self) -> dict[str, Any]:
        if time.monotonic() - self._known_at < DISCOVERY_SECONDS:
            return self._known
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            async with self._client() as client:
                found = strict_object(await fetch_document(client, url))
        except (FetchFailed, ValueError, httpx.HTTPError, TimeoutError, OSError) as error:
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, type(error).__name__) from None
        if found.get("issuer") != self.issuer:
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, "discovery document names another issuer")
        for name in ("authorization_endpoint", "token_endpoint"):
            url = found.get(name, "")
            if not isinstance(url, str) or not is_safe_url(url):
                raise NotAdmitted(Reason.ISSUER_UNREACHABLE, f"discovery document gives no https {name}")
            if may_be_near(urlsplit(url).hostname) and not may_be_near(urlsplit(self.issuer).hostname):
                raise NotAdmitted(Reason.ISSUER_UNREACHABLE, f"discovery document points {name} at this machine")
        self._known, self._known_at = found, time.monotonic()
        return found

    async def _ask(self, form: dict[str, str]) -> dict[str, Any]:
        endpoint = (await self._metadata())["token_endpoint"]
        secret = self._own_secret()
        body = form | {"client_id": self._client_id}
        if secret is not None:
            body["client_secret"] = secret.reveal()
        try:
            async with asyncio.timeout(FETCH_SECONDS), self._client() as client:
                status, answer = await _post(client, endpoint, body)
            found = strict_object(answer)
        except (FetchFailed, httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError, OSError) as error:
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, type(error).__name__) from None
        if status == 200:
            return found
        if found.get("error") == "invalid_grant":
            raise GrantRefused(Reason.BAD_TOKEN, "the issuer refused the code or token")
        raise NotAdmitted(Reason.ISSUER_UNREACHABLE, f"the issuer answered {status}")

    def _own_secret(self) -> Secret | None:
        try:
            return self._client_secret()
        except ConfigError as error:  # it is read each time, so that it can be changed; and may be gone
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, f"the secret to ask it with: {error}") from None

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            follow_redirects=False, trust_env=False, verify=trust(self._issuer.ca_file), timeout=5.0
        )


async def _post(client: httpx.AsyncClient, url: str, form: dict[str, str]) -> tuple[int, bytes]:
    """Status and body, bounded. Raises `FetchFailed`."""
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    async with client.stream("POST", url, data=form, headers=headers) as response:
        return response.status_code, await bounded_body(response, MAX_ANSWER)


class GrantRefused(NotAdmitted):
    """The issuer says that the grant is not, or no longer, good."""
