"""Claims in, `VerifiedIdentity` out: picks who can judge a token by its `iss`, and asks them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from ostiary.identity.dpop import KeyProofs
from ostiary.identity.gateway import GatewayTokens
from ostiary.identity.issuers import Issuer, check_issuers
from ostiary.identity.jose import parse_compact, quoted
from ostiary.identity.jwks import cache_for
from ostiary.identity.overage import GroupSource
from ostiary.identity.standing import Standing
from ostiary.identity.tokens import IssuerTokens, Proved
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Claims, VerifiedIdentity


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
        jws = parse_compact(token)
        iss = jws.claims.get("iss")
        if self._gateway is not None and iss == self._gateway.issuer:
            proved = self._gateway.verify(jws, now)
        else:
            issuer = self.issuers.get(iss) if isinstance(iss, str) else None
            if issuer is None:
                raise NotAdmitted(Reason.UNKNOWN_ISSUER, quoted(iss))
            proved = await issuer.verify(jws, now)
        if proved.identity.auth.key not in (None, key, certificate):
            raise NotAdmitted(
                Reason.BAD_TOKEN,
                "bound to a key, and shown without proof of it",
                "use `ostiary connect --bound`, which makes a key; or connect with the client certificate that it was got with",
            )
        self._standing.check(proved.identity)
        return proved
