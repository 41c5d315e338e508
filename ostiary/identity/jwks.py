"""An issuer's keys: fetched, bounded, cached, and refreshed without letting callers drive the fetching.

Theory of operation
-------------------
`KeyCache.find` answers from memory. It fetches when it has nothing, when the set is older than `fresh`, or when a
token names a key that is not in the set (a rotation), the last at most once in 30 seconds: a caller can invent key ids
as fast as it likes. One fetch runs at a time; those who need its answer wait for it, those who can do without go on.

While the issuer cannot be reached, the last good set serves until it is `stale` seconds old; after that logins of this
issuer fail (`ISSUER_UNREACHABLE`). A key set that arrives whole is believed, also when it is empty: that is how an
issuer withdraws keys. One that does not parse is an error like any other.

Fetching: https (http to this machine only), no redirects at all, no proxy from the environment, no content encoding
(a bomb), at most 256 KiB and 100 keys, ten seconds in all.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx

from ostiary.identity.issuers import Issuer, is_safe_url, may_be_near
from ostiary.identity.jose import Jws, PinnedKey, UnusableKey, bad_token, pin, strict_object
from ostiary.model.errors import NotAdmitted, Reason

MAX_DOCUMENT: Final = 256 * 1024
"""Bytes of a key set or discovery document."""
MAX_KEYS: Final = 100
FETCH_SECONDS: Final = 10.0
UNKNOWN_KID_SECONDS: Final = 30.0
"""Least time between two fetches while there are keys to work with."""
RETRY_SECONDS: Final = 1.0
"""Least time between two fetches while there are none."""


class FetchFailed(Exception):
    """The keys could not be had. The sentence is for the log."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The usable keys of one set."""

    keys: tuple[PinnedKey, ...]
    unusable: tuple[str, ...]
    """Why each of the others is not used; for the operator's log."""

    def find(self, jws: Jws) -> PinnedKey | None:
        """The key that `jws` names; one that names none is served only if a single key fits its algorithm."""
        if jws.kid is not None:
            return next((key for key in self.keys if key.kid == jws.kid), None)
        fitting = [key for key in self.keys if key.alg == jws.alg]
        return fitting[0] if len(fitting) == 1 else None


def ring_from(document: bytes, allowed: tuple[str, ...]) -> KeyRing:
    """A JWK set (RFC 7517, 5) as pinned keys; raises `FetchFailed` if it is no bounded JWK set.

    A key that we cannot use is left out, as RFC 7517, 5 says. Two different keys under one `kid` are both left out:
    which of them was meant cannot be decided.
    """
    if len(document) > MAX_DOCUMENT:
        raise FetchFailed("key set larger than 256 KiB")
    try:
        found = strict_object(document).get("keys")
    except ValueError as error:
        raise FetchFailed(f"key set is not strict JSON: {error}") from None
    if not isinstance(found, list) or len(found) > MAX_KEYS:
        raise FetchFailed("not a set of at most 100 keys")
    usable: dict[tuple[str | None, str], PinnedKey] = {}
    unusable: list[str] = []
    by_kid: dict[str, set[tuple[str, str]]] = {}
    for index, jwk in enumerate(found):
        if isinstance(jwk, dict) and isinstance(jwk.get("kid"), str):
            # Counted before it is known to be usable: a duplicate that we could not read is a duplicate still.
            marks = by_kid.setdefault(jwk["kid"], set())
            marks.add((str(jwk.get("kty")), str([jwk.get(part) for part in ("alg", "crv", "n", "e", "x", "y", "k")])))
        try:
            key = pin(jwk, allowed)
        except UnusableKey as error:
            unusable.append(f"key {index}: {error}")
            continue
        usable[(key.kid, key.thumbprint)] = key
    twice = {kid for kid, marks in by_kid.items() if len(marks) > 1}
    unusable.extend(f"kid stands for several keys: {kid[:64]!a}" for kid in sorted(twice))
    return KeyRing(tuple(key for key in usable.values() if key.kid not in twice), tuple(unusable))


class Source(Protocol):
    """Where a key set comes from."""

    async def fetch(self) -> bytes:
        """The JWK set as sent, at most 256 KiB; raises `FetchFailed`."""
        ...


class FileSource:
    """A key set in a local file, for issuers that cannot be reached from here."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def fetch(self) -> bytes:
        """Read the file; it is small and local, so it is read in place."""
        try:
            with self._path.open("rb") as file:
                return file.read(MAX_DOCUMENT + 1)
        except OSError as error:
            raise FetchFailed(f"jwks_file: {error.strerror}") from None


class HttpSource:
    """A key set at `jwks_url`, or where the issuer's discovery document says."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    async def fetch(self) -> bytes:
        """Fetch the key set, through discovery where no URL is configured."""
        try:
            verify = trust(self._issuer.ca_file)
            async with (
                asyncio.timeout(FETCH_SECONDS),
                httpx.AsyncClient(follow_redirects=False, trust_env=False, verify=verify, timeout=5.0) as client,
            ):
                url = self._issuer.jwks_url or await self._discover(client)
                return await fetch_document(client, url)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            raise FetchFailed(type(error).__name__) from None

    async def _discover(self, client: httpx.AsyncClient) -> str:
        """OpenID Connect Discovery 1.0, 4: the document must name the very issuer that was asked (4.3)."""
        issuer = self._issuer.issuer
        raw = await fetch_document(client, issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            found = strict_object(raw)
        except ValueError:
            raise FetchFailed("discovery document is not strict JSON") from None
        if found.get("issuer") != issuer:
            raise FetchFailed("discovery document names another issuer")
        url = found.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url):
            raise FetchFailed("discovery document gives no https jwks_uri")
        if may_be_near(urlsplit(url).hostname) and not may_be_near(urlsplit(issuer).hostname):
            raise FetchFailed("discovery document points a remote issuer's keys at this machine")
        return url


@cache
def trust(ca_file: str | None) -> ssl.SSLContext:
    """Trust for `ca_file`, else the system's roots; read once, for it costs 25 ms and the loop waits."""
    return ssl.create_default_context(cafile=ca_file)


async def fetch_document(client: httpx.AsyncClient, url: str) -> bytes:
    """Fetch a JSON document of at most 256 KiB over https, following no redirect. Raises `FetchFailed`."""
    if not is_safe_url(url):
        raise FetchFailed("not an https URL")
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code != 200:
            raise FetchFailed(f"HTTP status {response.status_code}")
        return await bounded_body(response, MAX_DOCUMENT)


async def bounded_body(response: httpx.Response, most: int) -> bytes:
    """A streamed answer's body of at most `most` bytes; no more of it is ever held. Raises `FetchFailed`."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchFailed("content encodings are not accepted")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            raise FetchFailed(f"the answer is too large: more than {most >> 10} KiB")
    return bytes(body)


class KeyCache:
    """The keys of one issuer, for one event loop. See the head of this file."""

    def __init__(
        self,
        source: Source,
        algorithms: tuple[str, ...],
        *,
        fresh: float,
        stale: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._algorithms = algorithms
        self._fresh = fresh
        self._stale = max(stale, fresh)
        self._clock = clock
        self._ring: KeyRing | None = None
        self._fetched = 0.0
        self._tried: float | None = None
        self._attempts = 0
        """Fetches that came to an end, good or bad."""
        self._cut_short = False
        """Whether the last fetch was cancelled before its end."""
        self._lock = asyncio.Lock()
        self.last_error = ""
        """Why the last fetch failed; empty: it did not. For the operator's log and metrics."""

    @property
    def unusable(self) -> tuple[str, ...]:
        """Why some keys of the current set are not used."""
        return self._ring.unusable if self._ring is not None else ()

    async def find(self, jws: Jws) -> PinnedKey:
        """The pinned key that `jws` says it was signed with.

        Raises `NotAdmitted`: `ISSUER_UNREACHABLE` without a set that is young enough, `BAD_TOKEN` for an unknown key.
        """
        if not self._is_fresh() and not (self._usable() is not None and self._lock.locked()):
            await self._refresh()
        ring = self._usable()
        if ring is None:
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, self.last_error)
        key = ring.find(jws)
        if key is None and jws.kid is not None:
            await self._refresh()
            ring = self._usable()
            key = ring.find(jws) if ring is not None else None
        if key is None:
            bad_token("signed with a key that the issuer does not publish")
        return key

    def _is_fresh(self) -> bool:
        return self._ring is not None and self._clock() - self._fetched <= self._fresh

    def _usable(self) -> KeyRing | None:
        return self._ring if self._ring is not None and self._clock() - self._fetched <= self._stale else None

    async def _refresh(self) -> None:
        """Fetch once, if it is time to; one caller at a time, and those behind it share its answer or its failure."""
        seen = self._attempts
        async with self._lock:
            if self._attempts != seen:
                return
            if self._cut_short and self._usable() is None:
                # The caller in front hung up while it fetched. That is no failure of the issuer, so whoever comes next
                # tries again, after a breath: dropped connections must not set the pace of fetching.
                await asyncio.sleep(RETRY_SECONDS)
            elif not self._is_time():
                return
            self._tried, self._cut_short = self._clock(), True
            try:
                ring = ring_from(await self._source.fetch(), self._algorithms)
            except FetchFailed as error:
                self.last_error = str(error)
            else:
                self._ring, self._fetched, self.last_error = ring, self._tried, ""
            self._cut_short = False
            self._attempts += 1

    def _is_time(self) -> bool:
        pause = RETRY_SECONDS if self._usable() is None else UNKNOWN_KID_SECONDS
        return self._tried is None or self._clock() - self._tried >= pause


def cache_for(issuer: Issuer, clock: Callable[[], float] = time.monotonic) -> KeyCache:
    """The key cache that `issuer`'s configuration asks for."""
    source: Source = FileSource(Path(issuer.jwks_file)) if issuer.jwks_file is not None else HttpSource(issuer)
    return KeyCache(
        source, issuer.algorithms, fresh=issuer.keys_fresh_seconds, stale=issuer.keys_stale_seconds, clock=clock
    )
