"""An issuer's token in, a `VerifiedIdentity` out: every claim that is believed is checked here, and no other is read.

The order is: read strictly, find the issuer's key, verify the signature, then the claims (RFC 8725, 3; RFC 7519, 4.1;
OpenID Connect Core, 3.1.3.7). Anything that is missing, of another type, or not understood is a refusal: a token never
loses a restriction on its way in. The caller hears one generic sentence; the `NotAdmitted` says the rest to the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ostiary.identity.bound import bound_to
from ostiary.identity.chain import acting_from, display_name, group_of, mandate_from, text_of
from ostiary.identity.issuers import ClaimPath, Condition, Issuer
from ostiary.identity.jose import Jws, PinnedKey, bad_token
from ostiary.identity.jwks import KeyCache
from ostiary.identity.overage import GroupSource, is_overage
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import (
    Actor,
    Authentication,
    Initiator,
    Kind,
    Mandate,
    VerifiedIdentity,
    identity_digest,
)

MAX_GROUPS: Final = 1000
MAX_AUDIENCES: Final = 64
MAX_EMAIL: Final = 254
"""RFC 5321, 4.5.3.1.3, less the angle brackets."""
NOT_LOGINS: Final = frozenset({"refresh", "offline", "logout"})
"""What the claim `typ`, where an issuer writes one, says of tokens that are not for us: Keycloak's."""
LATEST: Final = 1 << 40
"""Seconds since 1970; far beyond any honest date, and exact in every reader."""


@dataclass(frozen=True, slots=True)
class Proved:
    """A verified token: who it proves, and the claims that only a token exchange looks at."""

    identity: VerifiedIdentity
    may_act: object
    """RFC 8693, 4.4, unread; None: absent."""
    own: bool
    """Whether the gateway minted it."""
    is_delegation: bool = False
    """It lets the actor that it names ask for a token, and opens no session by itself."""
    claims: Mapping[str, Any] = field(default_factory=dict)
    """All of an issuer's claims; empty for the gateway's own."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A token whose signature held: what of it does not change while its key is the same (`Verifier`)."""

    jws: Jws
    """Without what was signed, and without the signature: nobody can show it anywhere."""
    key: PinnedKey
    proved: Proved


def remembered(jws: Jws, key: PinnedKey, proved: Proved) -> Remembered:
    """What to remember of a token that `key` has just verified."""
    return Remembered(replace(jws, signing_input=b"", signature=b""), key, proved)


def prove(
    *,
    issuer: str,
    subject: str,
    kind: Kind,
    name: str,
    email: str | None,
    groups: frozenset[str],
    acting: tuple[Actor, ...],
    initiator: Initiator | None,
    task: str | None,
    mandate: Mandate | None,
    auth: Authentication,
    expires: int,
    audience: frozenset[str],
    account: str | None = None,
    purpose: str = "",
    ticket: str = "",
) -> VerifiedIdentity:
    """The one place that builds a `VerifiedIdentity`; callers have verified a signature over every field."""
    digest = identity_digest({
        "issuer": issuer,
        "subject": subject,
        "kind": kind.value,
        "name": name,
        "email": email,
        "groups": sorted(groups),
        "acting": acting,
        "initiator": initiator,
        "task": task,
        "mandate": mandate,
        "method": auth.method,
        "key": auth.key,
        "audience": sorted(audience),
        "account": account,
    })  # fmt: skip
    return VerifiedIdentity(
        issuer=issuer,
        subject=subject,
        kind=kind,
        name=name,
        email=email,
        groups=groups,
        acting=acting,
        initiator=initiator,
        task=task,
        mandate=mandate,
        auth=auth,
        expires=expires,
        audience=audience,
        account=account,
        purpose=purpose,
        ticket=ticket,
        digest=digest,
    )


class IssuerTokens:
    """Verifies the tokens of one configured issuer."""

    def __init__(self, issuer: Issuer, keys: KeyCache, source: GroupSource | None = None) -> None:
        """`source`: asks for groups that are left out of a token; None: such a token is refused."""
        self.issuer = issuer
        self.keys = keys
        self._source = source

    async def again(self, before: Remembered, now: float) -> Proved | None:
        """What a token proves that was verified before; None: verify it. Raises `NotAdmitted`.

        All that can come out otherwise than it did is looked at: whether its key is still published, by an issuer that can be believed
        without being asked, and what the clock has to say. Its claims are the same bytes under the same configuration.
        """
        jws, claims = before.jws, before.jws.claims
        if await self.keys.find(jws) is not before.key:
            return None
        _, issued = check_times(claims, now, self.issuer.leeway_seconds, self.issuer.max_lifetime_seconds)
        return before.proved if _authenticated(claims, issued, now) == before.proved.identity.auth.at else None

    async def verify(self, jws: Jws, now: float) -> Proved:
        """`jws` as proved at `now` (seconds since 1970), or `NotAdmitted`."""
        return (await self.examine(jws, now))[0]

    async def examine(self, jws: Jws, now: float) -> tuple[Proved, Remembered | None]:
        """Verify, and say what to remember of it. None: groups were asked for, and are asked for anew each time."""
        if jws.alg not in self.issuer.algorithms:
            bad_token("algorithm is not allowed for this issuer")
        if jws.typ not in self.issuer.token_types:
            bad_token("typ is not one that this issuer's logins have")
        key = await self.keys.find(jws)
        key.check(jws)
        if not is_overage(jws.claims):
            proved = self._believe(jws, now, None)
            return proved, remembered(jws, key, proved)
        if self._source is None:
            bad_token("groups are left out of the token (overage) and cannot be resolved here: exchange it at the token endpoint")
        self._believe(jws, now, frozenset())  # nobody is asked about a token that is refused anyway
        return self._believe(jws, now, await self._source.groups(jws.claims)), None

    def _believe(self, jws: Jws, now: float, told: frozenset[str] | None) -> Proved:
        """`told`: the groups that were asked for; None: they stand in the token."""
        claims, issuer = jws.claims, self.issuer
        if claims.get("iss") != issuer.issuer:
            raise NotAdmitted(Reason.UNKNOWN_ISSUER, "iss is not the issuer whose key signed")
        if "events" in claims or str(claims.get("typ")).lower() in NOT_LOGINS:
            # RFC 8417, 4.8; OpenID Connect Back-Channel Logout, 2.4: signed with the same key, for us, about somebody. Many have no `typ` of their own.
            bad_token("it tells of an event, or renews a login, and is none")
        expires, issued = check_times(claims, now, issuer.leeway_seconds, issuer.max_lifetime_seconds)
        self._check_audience(claims)
        # RFC 7800, 3.1; RFC 9449, 7.1: whoever merely holds a bound token has not proved the key. The verifier asks for the proof.
        key = bound_to(claims["cnf"]) if "cnf" in claims else None
        for name, condition in issuer.require.items():
            if not holds(claims, name, condition):
                bad_token(f"trust condition on {name} does not hold")
        subject = text_of(claims.get("sub"), "sub")
        if issuer.subject_prefix is not None and not subject.startswith(issuer.subject_prefix):
            bad_token("its subject does not begin as this issuer's must")
        if "act" in claims and claims["act"] is None:
            bad_token("act is not an object")
        acting = acting_from(
            claims.get("act"),
            subject=(issuer.issuer, subject),
            issuer=issuer.issuer,
            trusted=issuer.actor_issuers,
            kind=issuer.actor_kind,
        )
        token = token_id(jws)
        details = _present(claims, "authorization_details")
        mandate = mandate_from(details, fallback_id=f"mandate-{token[:24]}", issuer=issuer.issuer)
        identity = prove(
            issuer=issuer.issuer,
            subject=subject,
            kind=self._kind(claims),
            name=display_name(claims.get(issuer.name_claim), subject),
            email=self._email(claims),
            groups=self._groups(claims) if told is None else _not_too_many(told),
            acting=acting,
            initiator=self._initiator(claims),
            task=self._task(claims, mandate, acting, token),
            mandate=mandate,
            auth=Authentication(method="oidc", token=token, key=key, at=_authenticated(claims, issued, now)),
            expires=expires,
            audience=frozenset(),
            purpose=display_name(claims.get(issuer.purpose_claim or ""), ""),
            ticket=display_name(claims.get(issuer.ticket_claim or ""), ""),
        )
        return Proved(identity=identity, may_act=claims.get("may_act"), own=False, claims=claims)

    def _kind(self, claims: dict[str, Any]) -> Kind:
        name = self.issuer.kind_claim
        if name is None or name not in claims:
            return self.issuer.kind
        if claims[name] not in [kind.value for kind in Kind]:
            bad_token("its kind is neither human, workload nor agent")
        return Kind(claims[name])

    def _check_audience(self, claims: dict[str, Any]) -> None:
        """RFC 7519, 4.1.3; OpenID Connect Core, 3.1.3.7 (3 to 5)."""
        ours = self.issuer.audiences
        named = audiences_of(claims.get("aud"))
        if not named & set(ours):
            raise NotAdmitted(Reason.WRONG_AUDIENCE, "aud does not name this gateway")
        party = claims.get("azp")
        if party is None and len(named) == 1 and not ("azp" in claims or self.issuer.authorized_parties):
            return
        if party not in (*self.issuer.authorized_parties, *ours) and "*" not in self.issuer.authorized_parties:
            raise NotAdmitted(Reason.WRONG_AUDIENCE, "azp is missing or somebody else")

    def _email(self, claims: dict[str, Any]) -> str | None:
        if self.issuer.email_claim not in claims:
            return None
        verified = claims.get("email_verified")
        if verified is not True:
            if verified is not None and self.issuer.require_verified_email:
                bad_token("email_verified is not true")
            return None
        email = text_of(claims[self.issuer.email_claim], "email")
        if len(email) > MAX_EMAIL or "@" not in email:
            bad_token("email is not an address")
        return email

    def _groups(self, claims: dict[str, Any]) -> frozenset[str]:
        path = self.issuer.groups_claim
        if path is None:
            return frozenset()
        found = claim_at(claims, path)
        if found is None:
            return frozenset()
        if not isinstance(found, list) or len(found) > MAX_GROUPS:
            bad_token(f"groups is not a list of at most {MAX_GROUPS}")
        return frozenset(group_of(group) for group in found)

    def _initiator(self, claims: dict[str, Any]) -> Initiator | None:
        """Proved only when every configured condition holds: a re-run or a schedule has an owner, not an initiator."""
        if self.issuer.initiator_claim is None:
            return None
        found = claims.get(self.issuer.initiator_claim)
        if found is None:
            return None
        sub = text_of(str(found) if type(found) is int else found, "the initiator")
        name = display_name(claims.get(self.issuer.initiator_name_claim or ""), sub)
        proof = self.issuer.initiator_proof
        proved = self.issuer.initiator_proved and all(holds(claims, claim, wanted) for claim, wanted in proof.items())
        # GitHub's apps act under `name[bot]`: nobody's hand, whatever the run's event says.
        return Initiator(sub=sub, name=name, proved=proved and not sub.endswith("[bot]"))

    def _task(
        self, claims: dict[str, Any], mandate: Mandate | None, acting: tuple[Actor, ...], token: str
    ) -> str | None:
        """A CI run, a mandate, or the delegation that the token itself is, in this order."""
        if self.issuer.task_claim is not None:
            found = claims.get(self.issuer.task_claim)
            return text_of(str(found) if type(found) is int else found, "the task")
        if mandate is not None:
            return mandate.id
        return f"delegation-{token[:24]}" if acting else None


def _not_too_many(groups: frozenset[str]) -> frozenset[str]:
    if len(groups) > MAX_GROUPS:
        bad_token(f"groups is not a list of at most {MAX_GROUPS}")
    return groups


def _present(claims: dict[str, Any], name: str) -> object:
    """A claim that restricts: null is not absence."""
    if name in claims and claims[name] is None:
        bad_token(f"{name} is null")
    return claims.get(name)


def audiences_of(aud: object) -> frozenset[str]:
    """RFC 7519, 4.1.3: one string, or an array of strings."""
    named = [aud] if isinstance(aud, str) else aud
    if not isinstance(named, list) or not 0 < len(named) <= MAX_AUDIENCES:
        raise NotAdmitted(Reason.WRONG_AUDIENCE, "aud is missing or not a list of strings")
    if not all(isinstance(name, str) and name for name in named):
        raise NotAdmitted(Reason.WRONG_AUDIENCE, "aud is missing or not a list of strings")
    return frozenset(named)


def date_of(claims: dict[str, Any], name: str) -> float | None:
    """RFC 7519, 2: a NumericDate in seconds; None: absent."""
    if name not in claims:
        return None
    value = claims[name]
    if type(value) not in (int, float) or not 0 <= value <= LATEST:
        bad_token(f"{name} is not a date")
    return float(value)


def check_times(claims: dict[str, Any], now: float, leeway: float, longest: float) -> tuple[int, float | None]:
    """RFC 7519, 4.1.4 to 4.1.6. Returns `exp` rounded down, and `iat`; raises `NotAdmitted`."""
    expires, begins, issued = (date_of(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None:
        bad_token("exp is missing")
    if now >= int(expires):
        raise NotAdmitted(Reason.EXPIRED_TOKEN, "exp has passed")
    if begins is not None and begins > now + leeway:
        bad_token("nbf is in the future")
    if issued is not None and issued > now + leeway:
        bad_token("iat is in the future")
    if expires - (now if issued is None else issued) > longest:
        bad_token("lives longer than this issuer's tokens may")
    return int(expires), issued


def _authenticated(claims: dict[str, Any], issued: float | None, now: float) -> int:
    stated = date_of(claims, "auth_time")
    return int(min(now, stated if stated is not None else issued if issued is not None else now))


def holds(claims: dict[str, Any], name: str, condition: Condition) -> bool:
    """Whether a claim has exactly the value, and the type, that a condition names (or one of several)."""
    if name not in claims:
        return False
    wanted = condition if isinstance(condition, tuple) else (condition,)
    return any(type(claims[name]) is type(value) and claims[name] == value for value in wanted)


def claim_at(claims: dict[str, Any], path: ClaimPath) -> object:
    """The claim at `path`; None: absent. Something else than an object on the way is a refusal."""
    names = (path,) if isinstance(path, str) else path
    found: Any = claims
    for name in names:
        if not isinstance(found, dict):
            bad_token("the groups claim is not where it should be")
        if name not in found:
            return None
        found = found[name]
    if found is None:
        bad_token("the groups claim is null")
    return found


def token_id(jws: Jws) -> str:
    """Hex SHA-256 of `jti`, or of the token where it has none."""
    jti = jws.claims.get("jti")
    if isinstance(jti, str) and jti:
        return hashlib.sha256(jti.encode("utf-8", "surrogatepass")).hexdigest()
    return hashlib.sha256(jws.signing_input).hexdigest()
