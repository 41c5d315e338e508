"""DPoP: proof, with each use of a token, that whoever shows it holds the key that it is bound to. RFC 9449.

A proof is a JWS that brings its own public key, and says for which request, when, and (with a token) for which token it was made. It
is good once, and for a minute. Logins that are no HTTP requests use it too: the method is `CONNECT`, the target
`ostiary:CONNECTION`, and it follows the token behind a tilde.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ostiary.identity.jose import PublicKey, bad_token, encode_base64url, parse_proof, sign_compact
from ostiary.identity.tokens import date_of
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.store.once import SharedOnce

TYPE: Final = "dpop+jwt"
PROOF_SECONDS: Final = 60
EARLY_SECONDS: Final = 5
MAX_REMEMBERED: Final = 100_000
"""Proofs of the last minute; beyond it new ones are refused, for one that was forgotten could be shown again."""
MAX_JTI: Final = 256


class Once:
    """Remembers what may be used once, until it would be too old anyway."""

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._seen: dict[bytes, float] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._seen)

    def use(self, what: str, until: float, now: float) -> bool:
        """Whether this is the first use of `what`; it is remembered until then."""
        mark = hashlib.sha256(what.encode("utf-8", "surrogatepass")).digest()
        if len(self._seen) >= self._most:
            self._seen = {seen: end for seen, end in self._seen.items() if end > now}
            if len(self._seen) >= self._most:
                return False
        if self._seen.get(mark, 0) > now:
            return False
        self._seen[mark] = until
        return True


@dataclass(frozen=True, slots=True)
class KeyProof:
    """A proof that was read, and not used yet."""

    key: str
    """RFC 7638 thumbprint of the key that it proves."""
    jti: str
    until: float
    """When it is too old."""


class KeyProofs:
    """Checks proofs, and that none is used twice."""

    def __init__(self, once: Once | SharedOnce | None = None, *, since: float = 0.0) -> None:
        """`once`: remembers those that were used; None: in memory of its own. `since`: when that began, in seconds since 1970.

        What was made before it may have been used before it.
        """
        self._once = Once() if once is None else once
        self._since = since

    def __len__(self) -> int:
        return len(self._once)

    def read(self, proof: str, method: str, target: str, token: str | None, now: float) -> KeyProof:
        """Check what `proof` proves for this request (RFC 9449, 4.3). It counts once it was spent (`spend`): anybody can make proofs.

        `token`: the access token shown with it; None: none is. Raises `NotAdmitted`.
        """
        jws, key = parse_proof(proof)
        claims = jws.claims
        if jws.typ != TYPE:
            bad_token("the proof's typ is not dpop+jwt")
        if claims.get("htm") != method or _plain(claims.get("htu")) != target:
            bad_token("the proof is for another request")
        issued = date_of(claims, "iat")
        if issued is None or not max(now - PROOF_SECONDS, self._since) <= issued <= now + EARLY_SECONDS:
            bad_token("the proof is not of this minute, or from before the gateway's start")
        if claims.get("ath") != (None if token is None else token_hash(token)):
            bad_token("the proof is for another token")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI:
            bad_token("the proof has no jti")
        return KeyProof(key.thumbprint, jti, issued + PROOF_SECONDS + EARLY_SECONDS)

    def spend(self, proof: KeyProof, now: float) -> None:
        """Use a proof whose token is good. Raises `NotAdmitted` where it was used before."""
        if not self._once.use(f"{proof.key} {proof.jti}", proof.until, now):
            raise NotAdmitted(Reason.BAD_TOKEN, "the proof was used before")


def make_proof(
    key: PublicKey, alg: str, public: Mapping[str, object], method: str, target: str, token: str | None, now: float
) -> str:
    """A proof by `key`, whose public half is the JWK `public`. For clients."""
    claims: dict[str, object] = {"jti": secrets.token_urlsafe(12), "htm": method, "htu": target, "iat": int(now)}
    if token is not None:
        claims["ath"] = token_hash(token)
    return sign_compact({"typ": TYPE, "alg": alg, "jwk": dict(public)}, claims, key)


def token_hash(token: str) -> str:
    """`ath`: RFC 9449, 4.2."""
    return encode_base64url(hashlib.sha256(token.encode("ascii", "replace")).digest())


def _plain(htu: object) -> str | None:
    """RFC 9449, 4.3 (9): compared without query and fragment."""
    if not isinstance(htu, str):
        return None
    try:
        parts = urlsplit(htu)
    except ValueError:
        return None
    return htu if not parts.netloc else f"{parts.scheme}://{parts.netloc}{parts.path}"
