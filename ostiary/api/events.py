"""What the API asks to have recorded. If it cannot be, nothing is issued and nothing is promised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from ostiary.model.errors import Reason
from ostiary.model.identity import Said, VerifiedIdentity


class TokenEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asked for a token, or to have one revoked, or showed one that was not accepted."""

    action: str
    """`token.exchange`, `token.revoke`."""
    said: Said
    """The address of the peer, and what it merely claims."""
    who: VerifiedIdentity | None
    """The identity of the token minted (its `auth.family` names the ones it came from) or revoked; None: not proved."""
    connections: tuple[str, ...]
    """What the token was asked for, as asked."""
    reason: Reason | None
    """Why not; None: it was done."""
    detail: str
    """For the log alone; never told to the caller."""


Record = Callable[[TokenEvent], Awaitable[None]]
"""Makes an event durable, and returns then. Raises if it cannot (`LogFailed`)."""
