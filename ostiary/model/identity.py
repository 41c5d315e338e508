"""Who acts: what was proved about them, and, kept apart, what they merely said."""

from __future__ import annotations

import enum
import hashlib
from typing import Final

import msgspec

from ostiary.model.secrets import Secret

MAX_CHAIN: Final = 8
"""Depth of an acting chain. RFC 8693, 4.1 sets none; real chains are person, agent, sub-agent, tool."""


class Kind(enum.StrEnum):
    """What sort of actor an identity is."""

    HUMAN = "human"
    WORKLOAD = "workload"
    AGENT = "agent"


class Actor(msgspec.Struct, frozen=True):
    """One link of the acting chain: RFC 8693, 4.1 (`act`)."""

    iss: str
    sub: str
    kind: Kind
    name: str


class Initiator(msgspec.Struct, frozen=True):
    """The person who started a workload, as far as its token proves one: `proved` False names the owner only."""

    sub: str
    name: str
    proved: bool


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much may be done under one mandate in all, over every session; `None` leaves that open."""

    id: str
    """The mandate that it stands in. One that was narrowed spends from its own and from all that it was made of."""
    calls: int | None = None
    """Operations."""
    rows: int | None = None
    """Rows that come back."""
    bytes: int | None = None
    """Bytes that come back."""
    objects: int | None = None
    """Different things touched: tables, files, buckets."""


class Mandate(msgspec.Struct, frozen=True):
    """What a session declared that it will need: RFC 9396 `authorization_details`. Policy never grants more.

    An empty tuple permits nothing of its kind; `None` leaves that dimension open.
    """

    id: str
    connections: tuple[str, ...] | None
    actions: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    budgets: tuple[Budget, ...] = ()
    """Each of them holds."""


class Job(msgspec.Struct, frozen=True):
    """One run of a CI system that had a part in what is shown: as an actor for somebody else."""

    iss: str
    id: str
    """The run's `task`."""
    at: int
    """When the token that it showed was made, in seconds since 1970: a run that is started again has the same id."""


class Authentication(msgspec.Struct, frozen=True):
    """How an identity was proved."""

    method: str
    """`gateway-token`, `oidc`."""
    token: str
    """Hex SHA-256 of the token's id (`jti`), or of the token where it has none. Never the token."""
    key: str | None
    """What the token is bound to, if anything: the RFC 7638 thumbprint of a key, or `x5t#S256:` and that of a certificate (RFC 8705)."""
    at: int
    """When the person or workload authenticated, in seconds since 1970 (`auth_time`, else `iat`)."""
    family: tuple[str, ...] = ()
    """Id hashes of the tokens that this one was exchanged from, oldest first: revoking one of them revokes it."""
    jobs: tuple[Job, ...] = ()
    """The runs among the actors: what they do for somebody ends with each of them."""


class VerifiedIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that someone authenticated. Minted only in `ostiary.identity`."""

    issuer: str
    subject: str
    kind: Kind
    name: str
    email: str | None
    groups: frozenset[str]
    acting: tuple[Actor, ...]
    """The actors that act for the subject, the one at the keyboard first (as `act` nests them); empty: nobody."""
    initiator: Initiator | None
    task: str | None
    """The proved id that ties the events of one run together: delegation, mandate or CI run."""
    mandate: Mandate | None
    auth: Authentication
    expires: int
    """Seconds since 1970; a session ends when its identity does."""
    audience: frozenset[str]
    """Connections that the token is for; empty: those that policy allows."""
    account: str | None = None
    """The service account that a workload was proved to be entitled to use; None: it comes as itself."""
    purpose: str = ""
    """What whoever got the token said that it is for. Said, and never decided on."""
    ticket: str = ""
    digest: bytes
    """SHA-256 over everything above that policy can see: see `identity_digest`."""


def identity_digest(fields: dict[str, object]) -> bytes:
    """SHA-256 over the canonical form of what policy can see of an identity: the key of cached decisions."""
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).digest()


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the client merely claims. Recorded as said, never decided on as if it were proved."""

    address: str
    """`host:port` of the peer, or `local`."""
    user: str = ""
    application: str = ""
    purpose: str = ""
    ticket: str = ""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a login message says: the connection it wants, the token it shows, and what it claims."""

    connection: str
    token: Secret
    said: Said
    key: str | None = None
    """RFC 7638 thumbprint of the key that the protocol itself has proved; the token must be bound to it. None: it proves none."""
    certificate: str | None = None
    """`x5t#S256:` and the thumbprint of the certificate that the client showed in TLS; the token may be bound to it. None: it showed none."""
