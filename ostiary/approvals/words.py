"""What worker and control process say to each other of questions, and how long things may be."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from ostiary.model.identity import Initiator, Kind, VerifiedIdentity

TOPIC: Final = "approvals"
"""Of the questions of a worker to the control process, and of the news about what became of them."""
GRANTS: Final = "grants"
"""Topic of the news about connections granted for a time; the key is `grant_key`."""
GLASS: Final = "break-glass"
REVOKED: Final = "revoked"
"""What the log says of a grant, or of a broken glass, that somebody took back."""
MAX_SHOWN: Final = 64 * 1024
"""Bytes of statement and parameters that an approver is shown. What is larger is not offered: nobody reads it whole."""
MAX_REASON: Final = 1000
"""Characters of a reason that somebody gives."""


class State(enum.StrEnum):
    """Where a question is. The log stores these names; never reuse one."""

    OPEN = "open"
    APPROVED = "approved"
    """Its quorum is complete, and it was not used yet."""
    DENIED = "denied"
    USED = "used"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    """Whoever asked called it off."""
    ORPHANED = "orphaned"
    """The session that asked is over."""


LIVE: Final = (State.OPEN, State.APPROVED)


class Link(msgspec.Struct, frozen=True):
    """One actor of a chain, as a question carries it."""

    iss: str
    sub: str
    kind: Kind
    name: str


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, or who answered: as it was proved, without being a proof."""

    iss: str
    sub: str
    kind: Kind
    name: str
    email: str | None
    groups: tuple[str, ...]
    acting: tuple[Link, ...]
    initiator: Initiator | None
    token: str
    """Hash of the token's id, so that its revocation reaches what was done with it."""
    family: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Issuer and subject."""
        return self.iss, self.sub


def party(who: VerifiedIdentity) -> Party:
    """Take down an identity."""
    return Party(
        iss=who.issuer, sub=who.subject, kind=who.kind, name=who.name, email=who.email, groups=tuple(sorted(who.groups)),
        acting=tuple(Link(each.iss, each.sub, each.kind, each.name) for each in who.acting), initiator=who.initiator,
        token=who.auth.token, family=who.auth.family,
    )  # fmt: skip


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question as the worker puts it. Nothing in it is a secret but what is sealed."""

    id: str
    digest: str
    """`ostiary.model.approvals.binding`, hex."""
    asker: Party
    connection: str
    session: str
    """Empty: a request that stands for itself, and may be repeated by the same identity."""
    worker: str
    """Which worker's, and of which boot: what it asked dies with it."""
    needed: tuple[tuple[str, int], ...]
    policies: tuple[str, ...]
    message: str
    action: str
    name: str
    objects: tuple[str, ...]
    head: str
    """The normalised statement without literals, past the detectors: what may be seen outside."""
    sealed: bytes
    """Statement and parameters, encrypted under the gateway's key for this digest."""
    said: str
    """Purpose and ticket, as the client says them."""


class Contents(msgspec.Struct, frozen=True):
    """What is sealed."""

    statement: bytes
    formats: tuple[int, ...] | None
    values: tuple[bytes | None, ...]
