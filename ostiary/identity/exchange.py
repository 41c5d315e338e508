"""RFC 8693: one token, or two, in; a narrower gateway token out. Nothing here can widen.

The rules, in one place:

* the subject and its attributes come from the subject token alone, and its chain is kept whole: an agent cannot drop
  `act` and appear as the person;
* with an actor token, the actor goes in front of the chain, if the subject token's `may_act` names it;
* a delegation is a subject token that is good for nothing without the actor that it names;
* a service account is put on by a workload whose own token proves that it is entitled to it; the subject stays the workload;
* the audience is a part of what every token given permits; so is the mandate;
* the new token ends when the first of them ends, and is revoked with any of them;
* a token that is bound to a key can only become one that is bound to the same key.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ostiary.identity.chain import common_mandate, delegate, mandate_from, narrow_mandate
from ostiary.identity.gateway import Bounds, MayAct, Minted, TokenSigner
from ostiary.identity.issuers import Condition
from ostiary.identity.tokens import Proved, holds
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Kind, Mandate, VerifiedIdentity

MAX_DELEGATION_SECONDS: Final = 7 * 24 * 3600


class TargetRefused(NotAdmitted):
    """The connections asked for are unknown, or not within what the tokens are for: RFC 8693, 2.2.2."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.WRONG_AUDIENCE, detail)


class DetailsRefused(NotAdmitted):
    """The `authorization_details` asked for cannot be granted: RFC 9396, 5."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.BAD_TOKEN, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A service account, as far as an exchange needs to know it."""

    name: str
    issuer: str
    """Whose workloads may use it."""
    conditions: Mapping[str, Condition]
    """What their tokens must say."""
    connections: frozenset[str]
    """What it is for; empty: what policy allows."""

    @property
    def token(self) -> str:
        """What stands for it in the family of the tokens made under it."""
        return account_token(self.name)


def account_token(name: str) -> str:
    """Id hash that stands for a service account: revoking it ends all that was made under it."""
    return hashlib.sha256(f"account:{name}".encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What whoever exchanges a token asks for, and says."""

    connections: frozenset[str] = frozenset()
    """Empty: as many as the tokens given permit."""
    details: Sequence[Mapping[str, Any]] | None = None
    """The request's `authorization_details`."""
    account: Account | None = None
    key: str | None = None
    """Thumbprint of the key that the request proved: the new token is bound to it."""
    purpose: str = ""
    ticket: str = ""
    seconds: int | None = None
    """Lifetime, if something beside the tokens ends earlier."""


def exchange(
    signer: TokenSigner,
    subject: Proved,
    actor: Proved | None,
    wanted: Wanted,
    *,
    known: frozenset[str],
    now: float,
) -> Minted:
    """A gateway token. `known` are the gateway's connections. Raises `NotAdmitted`."""
    who = subject.identity
    if subject.is_delegation and actor is None:
        raise NotAdmitted(Reason.BAD_TOKEN, "a delegation was shown without the token of the actor that it names")
    if actor is not None and actor.is_delegation:
        raise NotAdmitted(Reason.BAD_TOKEN, "a delegation says nothing about who shows it")
    acting, held, audience = who.acting, who.mandate, who.audience
    if actor is not None:
        acting = delegate(who, subject.may_act, actor.identity)
        held = common_mandate(held, actor.identity.mandate)
        audience = _common_audience(audience, actor.identity.audience)
    if wanted.account is not None:
        _check_account(wanted.account, subject, actor)
        audience = _common_audience(audience, wanted.account.connections)
    bounds = Bounds(
        acting=acting,
        audience=_audience(audience, wanted.connections, known),
        mandate=_asked(held, wanted.details),
        account=None if wanted.account is None else wanted.account.name,
        account_token=None if wanted.account is None else wanted.account.token,
        key=_key(wanted.key, *(each.identity for each in (subject, actor) if each is not None)),
        purpose=wanted.purpose,
        ticket=wanted.ticket,
        seconds=wanted.seconds,
    )
    return signer.mint(who, bounds, now=now, actor=None if actor is None else actor.identity)


def give(
    signer: TokenSigner,
    subject: Proved,
    to: MayAct,
    wanted: Wanted,
    *,
    known: frozenset[str],
    seconds: int,
    now: float,
) -> Minted:
    """A delegation by whoever `subject` proves, to the actor named. Raises `NotAdmitted`.

    What an agent holds it can give on to another, narrower or equal, and no further than its own token lasts.
    """
    who = subject.identity
    if subject.is_delegation:
        raise NotAdmitted(Reason.BAD_TOKEN, "a delegation is given on by the actor that it names, with its own token")
    if (to.iss, to.sub) in {(who.issuer, who.subject), *((actor.iss, actor.sub) for actor in who.acting)}:
        raise NotAdmitted(Reason.BAD_TOKEN, "whoever acts already cannot be given the same again")
    if not 60 <= seconds <= MAX_DELEGATION_SECONDS:
        raise DetailsRefused(f"a delegation lasts from a minute to {MAX_DELEGATION_SECONDS // 86400} days")
    mandate = _asked(who.mandate, wanted.details)
    if mandate is None or mandate.connections is None or mandate.actions is None:
        raise DetailsRefused("a delegation names its connections and its actions")
    bounds = Bounds(
        acting=who.acting,
        audience=_audience(who.audience, frozenset(mandate.connections), known),
        mandate=mandate,
        account=who.account,
        purpose=wanted.purpose,
        ticket=wanted.ticket,
    )
    return signer.mint_delegation(who, bounds, to, now=now, seconds=seconds)


def _check_account(account: Account, subject: Proved, actor: Proved | None) -> None:
    if actor is not None or subject.own or subject.identity.kind is not Kind.WORKLOAD:
        raise NotAdmitted(Reason.BAD_TOKEN, "a service account is used by a workload, with its issuer's own token")
    if subject.identity.issuer != account.issuer:
        raise NotAdmitted(Reason.BAD_TOKEN, f"the account {account.name} is for workloads of another issuer")
    for name, condition in account.conditions.items():
        if not holds(dict(subject.claims), name, condition):
            raise NotAdmitted(Reason.BAD_TOKEN, f"the account {account.name} is for workloads with another {name}")


def _key(proved: str | None, *identities: VerifiedIdentity) -> str | None:
    for who in identities:
        if who.auth.key is not None and who.auth.key != proved:
            raise NotAdmitted(Reason.BAD_TOKEN, "a token that is bound to a key was shown without proof of it")
    return proved


def _audience(held: frozenset[str], asked: frozenset[str], known: frozenset[str]) -> frozenset[str]:
    if not asked <= known:
        raise TargetRefused("an unknown connection was asked for")
    if held and not asked <= held:
        raise TargetRefused("a connection was asked for that the token is not for")
    return asked or held


def _common_audience(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    if not one or not other:
        return one or other
    if not one & other:
        raise TargetRefused("the two tokens have no connection in common")
    return one & other


def _asked(held: Mandate | None, details: Sequence[Mapping[str, Any]] | None) -> Mandate | None:
    if details is None:
        return held
    # The id ties events together, so it is ours: whoever asks cannot join its events to somebody else's task.
    if any("id" in item for item in details):
        raise DetailsRefused("the id of a mandate is not the caller's to choose")
    try:
        return narrow_mandate(held, mandate_from(list(details), fallback_id=f"mandate-{secrets.token_hex(8)}"))
    except NotAdmitted as error:
        raise DetailsRefused(error.detail) from None
