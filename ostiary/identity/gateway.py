"""The gateway's own tokens: RFC 9068 access tokens, minted from a verified identity and never from anything else.

A gateway token carries everything that policy and the log need, so that opening a session is one Ed25519 verification
and no question to anybody. It says no more than the token it was made from: same subject, same chain (or one with the
actor of an exchange in front), same or narrower audience and mandate, and it never outlives its parent.

`iss` is the gateway; the issuer that proved the person stands in the `ostiary` claim with what RFC 9068 has no name
for. `family` lists the tokens that this one descends from: revoking one of them revokes it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ostiary.identity.chain import check_chain, details_of, mandate_from
from ostiary.identity.jose import MAX_TOKEN, Jws, bad_token, sign_compact
from ostiary.identity.jwks import KeyRing
from ostiary.identity.keys import ALGORITHM, TokenKey
from ostiary.identity.tokens import Proved, check_times, prove, token_id
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Actor, Authentication, Initiator, Kind, Mandate, VerifiedIdentity

TYPE: Final = "at+jwt"
"""RFC 9068, 2.1: `typ`; no ID token has it, so neither passes for the other."""
MAX_MINUTES: Final = 24 * 60
MAX_FAMILY: Final = 16
"""Exchanges in a row. Each chain link needs at most one, and there are never more than eight."""


class OriginClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `ostiary` claim."""

    iss: str
    kind: Kind
    actors: list[Kind]
    """Kinds of the links of `act`, in its order."""
    names: list[str]
    initiator: Initiator | None
    task: str | None
    connections: list[str] | None
    """The audience; None: those that policy allows."""
    family: list[str]


class ActClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """RFC 8693, 4.1."""

    iss: str
    sub: str
    act: ActClaim | None = None


class GatewayClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The claims of a gateway token: RFC 9068, 2.2."""

    iss: str
    aud: str
    sub: str
    client_id: str
    jti: str
    iat: int
    exp: int
    auth_time: int
    name: str
    ostiary: OriginClaim
    email: str | None = None
    groups: list[str] = []
    act: ActClaim | None = None
    authorization_details: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Minted:
    """A fresh gateway token and what it will prove."""

    token: str
    identity: VerifiedIdentity

    def __repr__(self) -> str:
        return f"Minted(<token>, {self.identity.auth.token})"


class TokenSigner:
    """Mints gateway tokens. Lives in the control process only."""

    def __init__(self, key: TokenKey, *, issuer: str, audience: str, minutes: int) -> None:
        if not 1 <= minutes <= MAX_MINUTES:
            raise ValueError("token lifetime must be 1 to 1440 minutes")
        self.key = key
        self.issuer = issuer
        self.audience = audience
        self._seconds = minutes * 60

    def mint(
        self,
        parent: VerifiedIdentity,
        *,
        now: float,
        acting: tuple[Actor, ...],
        audience: frozenset[str],
        mandate: Mandate | None,
        actor: VerifiedIdentity | None = None,
    ) -> Minted:
        """A token for `parent`'s subject, `acting` for it, bounded by `audience` and `mandate`.

        The caller has narrowed those (`ostiary.identity.exchange`), with the token of `actor` where there was one; what
        is held here is that nothing outlives either, that both are of its family, and that the chain is sound. Raises
        `NotAdmitted`.
        """
        check_chain((parent.issuer, parent.subject), acting)
        parents = (parent,) if actor is None else (parent, actor)
        ends = min(int(now) + self._seconds, *(each.expires for each in parents))
        if ends <= now:
            raise NotAdmitted(Reason.EXPIRED_TOKEN, "nothing is left of its lifetime")
        family = list(dict.fromkeys(token for each in parents for token in (*each.auth.family, each.auth.token)))
        if len(family) > MAX_FAMILY:
            bad_token("exchanged too often")
        jti = secrets.token_urlsafe(18)
        claims = GatewayClaims(
            iss=self.issuer,
            aud=self.audience,
            sub=parent.subject,
            client_id=acting[0].sub if acting else parent.subject,
            jti=jti,
            iat=int(now),
            exp=ends,
            auth_time=parent.auth.at,
            name=parent.name,
            ostiary=OriginClaim(
                iss=parent.issuer,
                kind=parent.kind,
                actors=[actor.kind for actor in acting],
                names=[actor.name for actor in acting],
                initiator=parent.initiator,
                task=parent.task if parent.task is not None or mandate is None else mandate.id,
                connections=sorted(audience) or None,
                family=family,
            ),
            email=parent.email,
            groups=sorted(parent.groups),
            act=_nested(acting),
            authorization_details=None if mandate is None else details_of(mandate),
        )
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": self.key.kid}
        built: dict[str, object] = msgspec.to_builtins(claims)
        token = sign_compact(header, built, self.key.key)
        if len(token) > MAX_TOKEN:
            bad_token("too many groups or too large a mandate for a token of 16 KiB")
        return Minted(token, _identity(claims, built, token_id(Jws(ALGORITHM, None, TYPE, built, b"", b""))))


class GatewayTokens:
    """Verifies gateway tokens with public keys. What a worker holds."""

    def __init__(self, ring: KeyRing, *, issuer: str, audience: str) -> None:
        self.issuer = issuer
        self._ring = ring
        self._audience = audience

    def verify(self, jws: Jws, now: float) -> Proved:
        """`jws` as proved at `now` (seconds since 1970), or `NotAdmitted`. Whether it was revoked is the verifier's to say."""
        if jws.typ != TYPE:
            bad_token("typ is not at+jwt")
        key = self._ring.find(jws)
        if key is None or jws.kid is None:
            bad_token("signed with a key that is not the gateway's")
        key.check(jws)
        try:
            claims = msgspec.convert(jws.claims, GatewayClaims)
        except msgspec.ValidationError:
            bad_token("claims of another version of the gateway")
        if claims.iss != self.issuer:
            raise NotAdmitted(Reason.UNKNOWN_ISSUER, "iss is not this gateway")
        if claims.aud != self._audience:
            raise NotAdmitted(Reason.WRONG_AUDIENCE, "aud is not this gateway")
        check_times(jws.claims, now, leeway=5, longest=MAX_MINUTES * 60)
        token = token_id(jws)
        return Proved(identity=_identity(claims, jws.claims, token), may_act=None, own=True)


def _nested(acting: tuple[Actor, ...]) -> ActClaim | None:
    claim: ActClaim | None = None
    for actor in reversed(acting):
        claim = ActClaim(iss=actor.iss, sub=actor.sub, act=claim)
    return claim


def _identity(claims: GatewayClaims, raw: dict[str, Any], token: str) -> VerifiedIdentity:
    """What the signed `claims` prove; called for tokens whose signature was verified, or made, just now."""
    acting: list[Actor] = []
    link, origin = claims.act, claims.ostiary
    labels = list(zip(origin.actors, origin.names, strict=False))
    while link is not None:
        if len(acting) == len(labels):
            bad_token("act does not fit its labels")
        kind, name = labels[len(acting)]
        acting.append(Actor(iss=link.iss, sub=link.sub, kind=kind, name=name))
        link = link.act
    if not len(acting) == len(origin.actors) == len(origin.names):
        bad_token("act does not fit its labels")
    check_chain((origin.iss, claims.sub), acting)
    return prove(
        issuer=origin.iss,
        subject=claims.sub,
        kind=origin.kind,
        name=claims.name,
        email=claims.email,
        groups=frozenset(claims.groups),
        acting=tuple(acting),
        initiator=origin.initiator,
        task=origin.task,
        mandate=mandate_from(raw.get("authorization_details"), fallback_id=f"mandate-{token[:24]}"),
        auth=Authentication(
            method="gateway-token", token=token, key=None, at=claims.auth_time, family=tuple(origin.family)
        ),
        expires=claims.exp,
        audience=frozenset(origin.connections or ()),
    )
