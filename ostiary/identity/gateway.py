"""The gateway's own tokens: RFC 9068 access tokens, minted from a verified identity and never from anything else.

A gateway token carries everything that policy and the log need, so that opening a session is one Ed25519 verification
and no question to anybody. It says no more than the token it was made from: same subject, same chain (or one with the
actor of an exchange in front), same or narrower audience and mandate, and it never outlives its parent.

`iss` is the gateway; the issuer that proved the person stands in the `ostiary` claim with what RFC 9068 has no name
for. `family` lists the tokens that this one descends from: revoking one of them revokes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ostiary.identity.bound import Confirmation, bound_to, confirmation
from ostiary.identity.chain import check_chain, details_of, mandate_from
from ostiary.identity.jose import MAX_TOKEN, Jws, bad_token, sign_compact
from ostiary.identity.jwks import KeyRing
from ostiary.identity.keys import ALGORITHM, TokenKey
from ostiary.identity.standing import jobs_of
from ostiary.identity.tokens import Proved, Remembered, check_times, prove, remembered, token_id
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Actor, Authentication, Initiator, Job, Kind, Mandate, VerifiedIdentity

TYPE: Final = "at+jwt"
"""RFC 9068, 2.1: `typ`; no ID token has it, so neither passes for the other."""
DELEGATION: Final = "ostiary-delegation+jwt"
"""`typ` of a delegation, so that it never passes for a token that opens sessions."""
MAX_MINUTES: Final = 24 * 60
MAX_DELEGATION: Final = 31 * 24 * 3600
"""Seconds that a delegation may last."""
MAX_FAMILY: Final = 16
"""Exchanges in a row. Each chain link needs at most one, and there are never more than eight."""


class OriginClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
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
    jobs: list[Job] = []
    account: str | None = None
    purpose: str = ""
    ticket: str = ""


class ActClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """RFC 8693, 4.1."""

    iss: str
    sub: str
    act: ActClaim | None = None


class MayAct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """RFC 8693, 4.4: who may ask for a token with this one as its subject."""

    iss: str
    sub: str


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a fresh token is narrowed to, and what else it carries."""

    acting: tuple[Actor, ...]
    audience: frozenset[str]
    mandate: Mandate | None
    account: str | None = None
    account_token: str | None = None
    """Id hash of the service account: revoking that revokes what was made under it."""
    key: str | None = None
    """What it is bound to: see `ostiary.identity.bound`."""
    purpose: str = ""
    ticket: str = ""
    seconds: int | None = None
    """Lifetime, if shorter than usual."""


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
    may_act: MayAct | None = None
    cnf: Confirmation | None = None
    """RFC 7800, 3.1: the key or certificate that whoever shows the token has to prove."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A fresh gateway token and what it will prove."""

    token: str
    identity: VerifiedIdentity

    def __repr__(self) -> str:
        return f"Minted(<token>, {self.identity.auth.token})"


class TokenSigner:
    """Mints gateway tokens. Lives in the control process only."""

    def __init__(
        self, key: TokenKey, *, issuer: str, audience: str, minutes: int, older: Sequence[Mapping[str, str]] = ()
    ) -> None:
        if not 1 <= minutes <= MAX_MINUTES:
            raise ValueError("token lifetime must be 1 to 1440 minutes")
        self.key = key
        self.issuer = issuer
        self.audience = audience
        self._seconds = minutes * 60
        self._older = older

    def public_keys(self) -> list[dict[str, str]]:
        """The key that signs, and those that signed tokens which may still be good: RFC 7517, 5."""
        return [self.key.public_jwk(), *(dict(jwk) for jwk in self._older if jwk.get("kid") != self.key.kid)]

    def mint(
        self, parent: VerifiedIdentity, bounds: Bounds, *, now: float, actor: VerifiedIdentity | None = None
    ) -> Minted:
        """A token for `parent`'s subject within `bounds`.

        The caller has narrowed those (`ostiary.identity.exchange`), with the token of `actor` where there was one; what
        is held here is that nothing outlives either, that both are of its family, and that the chain is sound. Raises
        `NotAdmitted`.
        """
        parents = (parent,) if actor is None else (parent, actor)
        ends = min(int(now) + min(self._seconds, bounds.seconds or self._seconds), *(each.expires for each in parents))
        family = [token for each in parents for token in (*each.auth.family, each.auth.token)]
        jobs = [*parent.auth.jobs, *(() if actor is None else jobs_of(actor))]
        return self._sign(TYPE, parent, bounds, now=now, ends=ends, family=family, jobs=jobs, may_act=None)

    def mint_delegation(
        self, parent: VerifiedIdentity, bounds: Bounds, may_act: MayAct, *, now: float, seconds: int
    ) -> Minted:
        """A delegation: it lets `may_act` ask for tokens of `parent`'s subject within `bounds`.

        A person's own outlives the login in which it was given, as a written authority does, and ends by being revoked; one
        that an agent gives onward, or a job, ends with the token that they have.
        """
        ends = int(now) + seconds
        family: list[str] = []
        if parent.acting or parent.account is not None or parent.kind is not Kind.HUMAN:
            ends = min(ends, parent.expires)
            family = [*parent.auth.family, parent.auth.token]
        return self._sign(DELEGATION, parent, bounds, now=now, ends=ends, family=family, jobs=parent.auth.jobs, may_act=may_act)

    def _sign(
        self,
        typ: str,
        parent: VerifiedIdentity,
        bounds: Bounds,
        *,
        now: float,
        ends: int,
        family: list[str],
        jobs: Iterable[Job],
        may_act: MayAct | None,
    ) -> Minted:
        acting, mandate = bounds.acting, bounds.mandate
        check_chain((parent.issuer, parent.subject), acting)
        if ends <= now:
            raise NotAdmitted(Reason.EXPIRED_TOKEN, "nothing is left of its lifetime")
        if bounds.account_token is not None:
            family = [*family, bounds.account_token]
        family = list(dict.fromkeys(family))
        if len(family) > MAX_FAMILY:
            bad_token("exchanged too often")
        claims = GatewayClaims(
            iss=self.issuer,
            aud=self.audience,
            sub=parent.subject,
            client_id=acting[0].sub if acting else parent.subject,
            jti=secrets.token_urlsafe(18),
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
                connections=sorted(bounds.audience) or None,
                family=family,
                jobs=list(dict.fromkeys(jobs)),
                account=bounds.account or parent.account,
                purpose=bounds.purpose or parent.purpose,
                ticket=bounds.ticket or parent.ticket,
            ),
            email=parent.email,
            groups=sorted(parent.groups),
            act=_nested(acting),
            authorization_details=None if mandate is None else details_of(mandate),
            may_act=may_act,
            cnf=confirmation(bounds.key),
        )
        built: dict[str, object] = msgspec.to_builtins(claims)
        token = sign_compact({"alg": ALGORITHM, "typ": typ, "kid": self.key.kid}, built, self.key.key)
        if len(token) > MAX_TOKEN:
            bad_token("too many groups or too large a mandate for a token of 16 KiB")
        return Minted(token, _identity(claims, built, token_id(Jws(ALGORITHM, None, typ, built, b"", b""))))


class GatewayTokens:
    """Verifies gateway tokens with public keys. What a worker holds."""

    def __init__(self, ring: KeyRing, *, issuer: str, audience: str) -> None:
        self.issuer = issuer
        self._ring = ring
        self._audience = audience

    def again(self, before: Remembered, now: float) -> Proved | None:
        """What a token proves that was verified before; None: verify it. Raises `NotAdmitted`. See `IssuerTokens.again`."""
        if self._ring.find(before.jws) is not before.key:
            return None
        _in_time(before.jws, now)
        return before.proved

    def verify(self, jws: Jws, now: float) -> Proved:
        """`jws` as proved at `now` (seconds since 1970), or `NotAdmitted`. Whether it was revoked is the verifier's to say."""
        return self.examine(jws, now)[0]

    def examine(self, jws: Jws, now: float) -> tuple[Proved, Remembered]:
        """Verify, and say what to remember of it."""
        if jws.typ not in (TYPE, DELEGATION):
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
        delegated = jws.typ == DELEGATION
        _in_time(jws, now)
        if delegated is (claims.may_act is None):
            bad_token("may_act does not fit its typ")
        identity = _identity(claims, jws.claims, token_id(jws))
        may_act = None if claims.may_act is None else msgspec.to_builtins(claims.may_act)
        proved = Proved(identity=identity, may_act=may_act, own=True, is_delegation=delegated)
        return proved, remembered(jws, key, proved)


def _in_time(jws: Jws, now: float) -> None:
    check_times(jws.claims, now, leeway=5, longest=MAX_DELEGATION if jws.typ == DELEGATION else MAX_MINUTES * 60)


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
        mandate=mandate_from(raw.get("authorization_details"), fallback_id=f"mandate-{token[:24]}", own=True),
        auth=Authentication(
            method="gateway-token",
            token=token,
            key=None if claims.cnf is None else bound_to(raw.get("cnf")),
            at=claims.auth_time,
            family=tuple(origin.family),
            jobs=tuple(origin.jobs),
        ),
        expires=claims.exp,
        audience=frozenset(origin.connections or ()),
        account=origin.account,
        purpose=origin.purpose,
        ticket=origin.ticket,
    )
