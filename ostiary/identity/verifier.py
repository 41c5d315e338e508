"""Claims in, `VerifiedIdentity` out: picks who can judge a token by its `iss`, and asks them.

Many sessions show the same token, and that its signature holds is the dearest part of letting one in. So a token that was verified is
remembered, by its hash, with what it proved. What is remembered cannot go stale: it hangs on the token's bytes, on the very key object
that verified it, and on configuration that lives as long as the verifier. All else is looked at each time, in the order in which it is
the first time: whether that key is still the issuer's (and the issuer's keys still fresh), whether the token has begun, and not expired;
the key or certificate that it is bound to, revocation and standing, whether it is a delegation, for which connections it is. Where
groups were asked for, they are asked for anew. A token that was refused is not remembered.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from ostiary.identity.dpop import KeyProofs
from ostiary.identity.gateway import GatewayTokens
from ostiary.identity.issuers import Issuer, check_issuers
from ostiary.identity.jose import parse_compact, quoted
from ostiary.identity.jwks import cache_for
from ostiary.identity.overage import GroupSource
from ostiary.identity.standing import Standing
from ostiary.identity.tokens import IssuerTokens, Proved, Remembered
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Claims, VerifiedIdentity

MAX_REMEMBERED: Final = 1024
"""Tokens; what is remembered of one takes a few KiB, and 50 where it has a thousand groups."""


class Verifier:
    """The tokens of the gateway and of every configured issuer. For one event loop."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        gateway: GatewayTokens | None,
        standing: Standing,
        clock: Callable[[], float] = time.monotonic,
        groups: Mapping[str, GroupSource] = MappingProxyType({}),
        proofs: KeyProofs | None = None,
    ) -> None:
        """`groups`: who asks for groups that an issuer leaves out of its tokens, by issuer. `proofs`: which of them were used is known there."""
        configured = tuple(issuers)
        check_issuers(configured, gateway.issuer if gateway is not None else None)
        self._gateway = gateway
        self._standing = standing
        self.proofs = KeyProofs() if proofs is None else proofs
        self._remembered: dict[bytes, Remembered] = {}
        """By the SHA-256 of the token; the oldest first."""
        self.issuers = {issuer.issuer: IssuerTokens(issuer, cache_for(issuer, clock), groups.get(issuer.issuer)) for issuer in configured}

    @property
    def own_issuer(self) -> str | None:
        """The gateway's own issuer, where it has one."""
        return None if self._gateway is None else self._gateway.issuer

    async def verify(self, claims: Claims, now: float) -> VerifiedIdentity:
        """Who shows `claims.token` for `claims.connection`, at `now` in seconds since 1970.

        Raises `NotAdmitted`. The caller hears its `reason` at most; `detail` is for the log.
        """
        token, tilde, proof = claims.token.reveal().partition("~")
        # A tilde stands in no token: behind it comes the proof of the key that the token is bound to.
        read = self.proofs.read(proof, "CONNECT", f"ostiary:{claims.connection}", token, now) if tilde else None
        key = claims.key if read is None else read.key
        proved = await self.verify_token(token, now, key=key, certificate=claims.certificate)
        if read is not None:
            self.proofs.spend(read, now)
        if claims.key is not None and proved.identity.auth.key != claims.key:
            raise NotAdmitted(Reason.BAD_TOKEN, "the token is not bound to the key that was proved")
        if proved.is_delegation:
            raise NotAdmitted(Reason.BAD_TOKEN, "a delegation opens no session: exchange it with the actor's own token")
        identity = proved.identity
        if identity.audience and claims.connection not in identity.audience:
            raise NotAdmitted(Reason.WRONG_AUDIENCE, "the token is for other connections")
        return identity

    def check(self, who: VerifiedIdentity) -> None:
        """Raise `NotAdmitted` where `who` was stopped."""
        self._standing.check(who)

    async def verify_token(
        self, token: str, now: float, *, key: str | None = None, certificate: str | None = None
    ) -> Proved:
        """What `token` proves, whatever connection it is for. Raises `NotAdmitted`.

        `key`: the thumbprint of the key that whoever shows it has proved, and `certificate` what stands for that of their TLS connection; a
        token that is bound needs the one that it is bound to.
        """
        if not token:
            raise NotAdmitted(Reason.NO_TOKEN)
        proved = await self._proved(token, now)
        if proved.identity.auth.key not in (None, key, certificate):
            raise NotAdmitted(
                Reason.BAD_TOKEN,
                "bound to a key, and shown without proof of it",
                "use `ostiary connect --bound`, which makes a key; or connect with the client certificate that it was got with",
            )
        self._standing.check(proved.identity)
        return proved

    async def _proved(self, token: str, now: float) -> Proved:
        name = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        before = self._remembered.get(name)
        jws = parse_compact(token) if before is None else before.jws
        iss, gateway = jws.claims.get("iss"), self._gateway
        fresh: Remembered | None
        if gateway is not None and iss == gateway.issuer:
            proved = None if before is None else gateway.again(before, now)
            if proved is None:
                proved, fresh = gateway.examine(jws if before is None else parse_compact(token), now)
                self._remember(name, fresh, now)
            return proved
        issuer = self.issuers.get(iss) if isinstance(iss, str) else None
        if issuer is None:
            raise NotAdmitted(Reason.UNKNOWN_ISSUER, quoted(iss))
        proved = None if before is None else await issuer.again(before, now)
        if proved is None:
            proved, fresh = await issuer.examine(jws if before is None else parse_compact(token), now)
            self._remember(name, fresh, now)
        return proved

    def _remember(self, name: bytes, fresh: Remembered | None, now: float) -> None:
        held = self._remembered
        held.pop(name, None)
        if fresh is None:
            return
        if len(held) >= MAX_REMEMBERED:
            for each in [each for each, one in held.items() if one.proved.identity.expires <= now]:
                del held[each]
        while len(held) >= MAX_REMEMBERED:
            del held[next(iter(held))]
        held[name] = fresh
