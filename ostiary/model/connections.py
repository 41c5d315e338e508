"""A connection: a named target, exactly one database (later: host, cluster, account, service)."""

from __future__ import annotations

import enum

import msgspec

from ostiary.model.secrets import SecretRef


class Durability(enum.StrEnum):
    """When an intent counts as durable. `audit-log.md` in the docs compares the two."""

    STRICT = "strict"
    """fdatasync came back: survives a power cut."""
    BUFFERED = "buffered"
    """Handed to the kernel: survives a killed process, not a power cut."""


class Recording(enum.StrEnum):
    """What is kept beside the log's entries."""

    FULL = "full"
    """Statements, parameters and results, encrypted."""
    EVENTS = "events"
    """The log's entries alone."""


class Strategy(enum.StrEnum):
    """What a mask leaves of a text value. Values of other types become NULL."""

    REDACT = "redact"
    """Every character becomes `*`; length kept."""
    LAST4 = "last4"
    """All but the last four characters become `*`."""
    NULL = "null"
    """SQL NULL."""


class Protected(msgspec.Struct, frozen=True):
    """One protected column, as the operator named it."""

    schema: str
    table: str
    column: str
    data_class: str
    strategy: Strategy


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Where the target is and how the gateway gets in."""

    host: str
    port: int
    database: str
    user: str
    password: SecretRef | None
    tls: str
    """`verify-full`, `verify-ca`, or `disable` (loopback only, unless `danger_plaintext`)."""
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    connect_timeout: float
    """Seconds for dial, TLS and login together."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A named target."""

    name: str
    type: str
    upstream: Upstream
    labels: tuple[str, ...]
    """`key=value`, sorted."""
    durability: Durability
    recording: Recording
    protect: tuple[Protected, ...]
    detect: frozenset[str]
    """Detectors that run over every text value: names from `ostiary.masking.detectors.DETECTORS`."""
    catalogue_seconds: float
    """How old the catalogue snapshot may be before DDL made elsewhere is looked for, in seconds."""
    max_sessions: int
