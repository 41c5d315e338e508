"""Who acts, told to an HTTP service: `X-Ostiary-…` headers that no caller can set, and an assertion that proves them.

`X-Ostiary-Assertion` is a JWS (EdDSA) by a key that is for this alone; its public half is served by the API at
`/.well-known/actor-jwks.json`. It is good for a minute and names its connection, so a service cannot use it elsewhere.
"""

from __future__ import annotations

import json
from typing import Final

from ostiary.driver.admission import Begun
from ostiary.identity.jose import sign_compact
from ostiary.identity.keys import ALGORITHM, TokenKey
from ostiary.model.connections import HttpConnection
from ostiary.model.identity import VerifiedIdentity

TYPE: Final = "ostiary-actor+jwt"
"""`typ`: it passes for no other token."""
GOOD_SECONDS: Final = 60
ANEW_SECONDS: Final = 20


class ActorLines:
    """The header lines of one session: signed now and then, not for each request."""

    def __init__(self, begun: Begun, connection: str, key: TokenKey) -> None:
        self._who: VerifiedIdentity = begun.admitted.who
        self._session = begun.session
        self._connection = connection
        self._key = key
        self._lines = b""
        self.until = 0.0
        """Seconds since 1970; what was signed last is shown until then."""

    @classmethod
    def made(cls, begun: Begun, connection: HttpConnection, key: object) -> ActorLines | None:
        """For a session; None where the connection does not tell its service, or there is no key to sign with."""
        return cls(begun, connection.name, key) if connection.actor_headers and isinstance(key, TokenKey) else None

    def lines(self, now: float) -> bytes:
        """The header lines, as of `now` in seconds since 1970."""
        if now >= self.until:
            self._lines = self._signed(int(now))
            self.until = now + ANEW_SECONDS
        return self._lines

    def _signed(self, now: int) -> bytes:
        who = self._who
        acting = [{"iss": actor.iss, "sub": actor.sub, "kind": actor.kind.value} for actor in who.acting]
        claims: dict[str, object] = {
            "iss": "ostiary", "aud": self._connection, "sub": who.subject, "sub_iss": who.issuer, "kind": who.kind.value,
            "acting": acting, "session": self._session, "iat": now, "exp": now + GOOD_SECONDS,
        }  # fmt: skip
        token = sign_compact({"alg": ALGORITHM, "typ": TYPE, "kid": self._key.kid}, claims, self._key.key)
        actor = who.acting[0].sub if who.acting else who.subject
        return (
            f"X-Ostiary-Subject: {_ascii(who.subject)}\r\nX-Ostiary-Actor: {_ascii(actor)}\r\n"
            f"X-Ostiary-Session: {self._session}\r\nX-Ostiary-Assertion: {token}\r\n"
        ).encode()


def _ascii(text: str) -> str:
    """A name as it may stand in a header: what is not plain is spelled out as in JSON, so nothing ends the line."""
    return json.dumps(text[:256])[1:-1] if not (text.isascii() and text.isprintable()) else text[:256]
