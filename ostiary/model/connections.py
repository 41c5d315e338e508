"""A connection: a named target, exactly one database, host, account or service.

What every target has is in `Connection` and `Upstream`; each kind of target adds what it alone has, in a subclass of each. The
gate, the policy and the log look at the general ones; a protocol's own code names its own.
"""

from __future__ import annotations

import enum
from typing import ClassVar

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
    """What a mask leaves of a text value. Values of other types become NULL, but for hashes and tokens of numbers and UUIDs."""

    REDACT = "redact"
    """Every character becomes `*`; length kept."""
    LAST4 = "last4"
    """All but the last four characters become `*`."""
    PARTIAL = "partial"
    """All but some characters at the ends become `*`: how many stay is the data class's."""
    HASH = "hash"
    """A keyed hash: the same value of a class has the same one."""
    TOKEN = "token"  # noqa: S105 - no password
    """A made-up value of the same form, that hangs on the value and the key: digits for digits, letters for letters."""
    NULL = "null"
    """SQL NULL."""


class Protected(msgspec.Struct, frozen=True):
    """One protected column, as the operator named it."""

    schema: str
    table: str
    column: str
    data_class: str
    strategy: Strategy


class ColumnRule(msgspec.Struct, frozen=True):
    """Columns that are protected by what they are called."""

    pattern: str
    """RE2, matched against the whole of `schema.table.column`."""
    data_class: str
    strategy: Strategy


class DataClass(msgspec.Struct, frozen=True):
    """What holds of all columns of a data class."""

    name: str
    first: int
    """Characters that `partial` leaves at the beginning."""
    last: int
    """And at the end."""
    infer: bool
    """Callers may filter, join, sort and group by it."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Where a target is, and how its certificate is checked."""

    host: str
    port: int
    tls: str
    """`verify-full`, `verify-ca`, or `disable` (loopback only, unless `danger_plaintext`)."""
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    connect_timeout: float
    """Seconds for dial, TLS and login together."""


class PostgresUpstream(Upstream, frozen=True, kw_only=True):
    """How the gateway gets into a database."""

    database: str
    user: str
    password: SecretRef | None


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A named target, of any kind."""

    type: ClassVar[str]
    """Which protocol it speaks, as the configuration, policy and the log name it."""

    name: str
    upstream: Upstream
    labels: tuple[str, ...]
    """`key=value`, sorted."""
    durability: Durability
    recording: Recording
    detect: frozenset[str]
    """Detectors that run over every text value: names from `ostiary.masking.detectors.DETECTORS`."""
    max_sessions: int

    @property
    def classes(self) -> frozenset[str]:
        """The data classes of what is protected here."""
        raise NotImplementedError

    @property
    def inferable(self) -> frozenset[str]:
        """Those of them by which callers may filter, join, sort and group, whatever policy says."""
        return frozenset()

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """Every credential that it needs."""
        raise NotImplementedError

    @property
    def place(self) -> str:
        """What of the target it is: the database, the account, the service; empty where the address says it all."""
        raise NotImplementedError

    @property
    def account(self) -> str:
        """Whom the target takes the gateway for; empty where that is not a name."""
        raise NotImplementedError


class PostgresConnection(Connection, frozen=True, kw_only=True):
    """One PostgreSQL database."""

    type: ClassVar[str] = "postgresql"

    upstream: PostgresUpstream
    protect: tuple[Protected, ...]
    rules: tuple[ColumnRule, ...] = ()
    data_classes: tuple[DataClass, ...] = ()
    mask_key: SecretRef | None = None
    """What hashes and tokens are made with."""
    catalogue_seconds: float
    """How old the catalogue snapshot may be before DDL made elsewhere is looked for, in seconds."""

    @property
    def classes(self) -> frozenset[str]:
        """The data classes of its protected columns."""
        return frozenset([each.data_class for each in self.protect] + [rule.data_class for rule in self.rules])

    @property
    def inferable(self) -> frozenset[str]:
        """Those of them by which callers may filter, join, sort and group."""
        return frozenset(each.name for each in self.data_classes if each.infer)

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """The account's password, and the key of hashes and tokens."""
        return tuple(each for each in (self.upstream.password, self.mask_key) if each is not None)

    @property
    def place(self) -> str:
        """The database."""
        return self.upstream.database

    @property
    def account(self) -> str:
        """The database role."""
        return self.upstream.user


class ProtectedPath(msgspec.Struct, frozen=True):
    """One protected path of a host: what is read from it is masked whole."""

    pattern: str
    """A canonical path; `*` stands for any run of characters."""
    data_class: str


class SshUpstream(Upstream, frozen=True, kw_only=True):
    """How the gateway gets into a host: exactly one of `password`, `key` and `authority`."""

    user: str
    password: SecretRef | None
    key: SecretRef | None
    """Private key, in OpenSSH's or PEM form."""
    authority: SecretRef | None
    """Private key that signs a certificate for each session: its key id names the person and the session."""
    host_keys: tuple[str, ...]
    """Public keys that the host may show, as in `known_hosts`: `ssh-ed25519 AAAA…`."""
    host_authorities: tuple[str, ...]
    """Public keys of authorities whose host certificates are believed."""


class SshConnection(Connection, frozen=True, kw_only=True):
    """One account on one host."""

    type: ClassVar[str] = "ssh"

    upstream: SshUpstream
    home: str | None
    accept_env: tuple[str, ...]
    keep_files: bool
    masks_files: bool
    """The detectors look at content of files that are transferred."""
    protect: tuple[ProtectedPath, ...]

    @property
    def classes(self) -> frozenset[str]:
        """The data classes of its protected paths."""
        return frozenset(each.data_class for each in self.protect)

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """The one credential."""
        upstream = self.upstream
        return tuple(each for each in (upstream.password, upstream.key, upstream.authority) if each is not None)

    @property
    def place(self) -> str:
        """The address says it all."""
        return ""

    @property
    def account(self) -> str:
        """The account on the host."""
        return self.upstream.user
