"""Clients of the gateway's own authorization server: agents and workloads that prove themselves with a key. RFC 7523, 3.

There are no client secrets. A client signs a short assertion with its own key (`private_key_jwt`, OpenID Connect Core, 9), each
good once. The one client without a key is the command line, which is public: it gets a person's token only together with the
code verifier that it made (RFC 7636), on a loopback address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ostiary.config import types as config
from ostiary.identity.dpop import Once
from ostiary.identity.issuers import is_safe_url, issuer_from
from ostiary.identity.jose import parse_compact
from ostiary.identity.jwks import FileSource, HttpSource, KeyCache, Source
from ostiary.identity.tokens import Proved, audiences_of, check_times, prove, token_id
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.identity import Authentication, Kind

ASSERTION_SECONDS: Final = 300
"""Most seconds that an assertion may live."""
ALGORITHMS: Final = ("EdDSA", "ES256", "RS256", "PS256")
_LOOPBACK: Final = re.compile(r"http://(?:127(?:\.[0-9]{1,3}){3}|\[::1\])(?::([0-9]{1,5}))?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?", re.ASCII)


class Client:
    """One configured client."""

    def __init__(self, section: config.Client, key: str = "clients") -> None:
        self.id = section.id
        self.name = section.name or section.id
        self.kind = section.kind
        self.redirects = section.redirect_uris
        if (section.jwks_file is None) == (section.jwks_url is None):
            raise ConfigError(f"{key}.jwks_file", "give the client's public keys: jwks_file or jwks_url, one of them")
        if section.jwks_url is not None and not is_safe_url(section.jwks_url):
            raise ConfigError(f"{key}.jwks_url", "must be https (http only to this machine)")
        if section.kind is Kind.HUMAN:
            raise ConfigError(f"{key}.kind", "must be agent or workload: people log in at their issuer")
        for uri in self.redirects:
            if not is_safe_url(uri):
                raise ConfigError(f"{key}.redirect_uris", f"{uri} must be https (http only to this machine)")
        source: Source
        if section.jwks_file is not None:
            source = FileSource(Path(section.jwks_file))
        else:
            placeholder = {"issuer": section.id, "audience": "-", "kind": "workload", "algorithms": list(ALGORITHMS)}
            source = HttpSource(issuer_from(placeholder | {"jwks_url": section.jwks_url}))
        self.keys = KeyCache(source, ALGORITHMS, fresh=600, stale=3600)


class Clients:
    """Every client, and the assertions that were used."""

    def __init__(self, clients: Iterable[Client], *, issuer: str, audiences: frozenset[str], since: float = 0.0) -> None:
        """`issuer`: the gateway's; clients are its subjects. `audiences`: what an assertion may name as `aud`.

        `since`: when this process began to remember which were used, in seconds since 1970.
        """
        self._since = since
        self._clients = {client.id: client for client in clients}
        self._issuer = issuer
        self._audiences = audiences
        self._once = Once()

    def find(self, name: str) -> Client | None:
        """The client of this id."""
        return self._clients.get(name)

    async def authenticate(self, assertion: str, now: float) -> Proved:
        """Who `assertion` proves. Raises `NotAdmitted`."""
        jws = parse_compact(assertion)
        claims = jws.claims
        client = self._clients.get(claims["sub"]) if isinstance(claims.get("sub"), str) else None
        if client is None or claims.get("iss") != client.id:
            raise NotAdmitted(Reason.BAD_TOKEN, "the assertion is of no client that is known")
        key = await client.keys.find(jws)
        key.check(jws)
        expires, issued = check_times(claims, now, 30, ASSERTION_SECONDS)
        if (expires - ASSERTION_SECONDS if issued is None else issued) < self._since:
            raise NotAdmitted(Reason.BAD_TOKEN, "the assertion may be from before the gateway's start, and used then: make a new one, with iat")
        if not audiences_of(claims.get("aud")) <= self._audiences:
            # All of them: an assertion that is good elsewhere too could be replayed by that other place.
            raise NotAdmitted(Reason.WRONG_AUDIENCE, "the assertion is for somebody else")
        token = token_id(jws)
        if not isinstance(claims.get("jti"), str) or not self._once.use(f"{client.id} {claims['jti']}", expires, now):
            raise NotAdmitted(Reason.BAD_TOKEN, "the assertion has no jti, or was used before")
        identity = prove(
            issuer=self._issuer,
            subject=client.id,
            kind=client.kind,
            name=client.name,
            email=None,
            groups=frozenset(),
            acting=(),
            initiator=None,
            task=None,
            mandate=None,
            auth=Authentication(method="client-key", token=token, key=None, at=int(issued or now)),
            # What is made from it lasts as long as the gateway's tokens do: the key proved the client, not the assertion's minute.
            expires=int(now) + 24 * 3600,
            audience=frozenset(),
        )
        return Proved(identity=identity, may_act=None, own=False)


def is_loopback_redirect(uri: str) -> bool:
    """RFC 8252, 7.3 and 8.3: `http` to a loopback address, not to a name, on any port.

    Read as one pattern: what a URL library makes of spaces, line ends and zones of IPv6 is more than an address, and ends up in headers.
    """
    found = _LOOPBACK.fullmatch(uri)
    return found is not None and 0 < int(found[1] or 80) < 65536
