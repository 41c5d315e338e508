"""RFC 8693: one token, or two, in; a narrower gateway token out. Nothing here can widen.

The rules, in one place:

* the subject and its attributes come from the subject token alone, and its chain is kept whole: an agent cannot drop
  `act` and appear as the person;
* with an actor token, the actor goes in front of the chain, if the subject token's `may_act` names it;
* the audience is a part of what every token given permits; so is the mandate;
* the new token ends when the first of them ends, and is revoked with any of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ostiary.identity.chain import common_mandate, delegate, mandate_from, narrow_mandate
from ostiary.identity.gateway import Minted, TokenSigner
from ostiary.identity.tokens import Proved
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Mandate


class TargetRefused(NotAdmitted):
    """The connections asked for are unknown, or not within what the tokens are for: RFC 8693, 2.2.2."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.WRONG_AUDIENCE, detail)


class DetailsRefused(NotAdmitted):
    """The `authorization_details` asked for cannot be granted: RFC 9396, 5."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.BAD_TOKEN, detail)


def exchange(
    signer: TokenSigner,
    subject: Proved,
    actor: Proved | None,
    *,
    connections: frozenset[str],
    known: frozenset[str],
    details: Sequence[Mapping[str, Any]] | None,
    now: float,
) -> Minted:
    """A gateway token for `connections` (empty: as many as the tokens given permit).

    `known` are the gateway's connections; `details` is the request's `authorization_details`. Raises `NotAdmitted`.
    """
    who = subject.identity
    acting = who.acting
    held, audience = who.mandate, who.audience
    if actor is not None:
        acting = delegate(who, subject.may_act, actor.identity)
        held = common_mandate(held, actor.identity.mandate)
        audience = _common_audience(audience, actor.identity.audience)
    if not connections <= known:
        raise TargetRefused("an unknown connection was asked for")
    if audience and not connections <= audience:
        raise TargetRefused("a connection was asked for that the token is not for")
    return signer.mint(
        who,
        now=now,
        acting=acting,
        audience=connections or audience,
        mandate=_asked(held, details),
        actor=None if actor is None else actor.identity,
    )


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
