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


class Detector(msgspec.Struct, frozen=True):
    """A detector of the operator's own."""

    pattern: str
    """RE2: see `ostiary.model.patterns`."""
    data_class: str


Look = frozenset[str | Detector]
"""What is looked for: built-in detectors and national ids by their names, and the operator's own."""


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
    rds_iam: RdsIam | None = None
    """What signs a token to log in with, instead of a password."""


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
    detect: Look
    """Detectors that run over every text value: names of `ostiary.masking.detectors`, and the operator's own."""
    max_sessions: int

    @property
    def detected(self) -> frozenset[str]:
        """The data classes of its detectors."""
        return frozenset(each if isinstance(each, str) else each.data_class for each in self.detect)

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
    sql_comment: bool = False
    """Whether each statement carries a comment that names who acts."""

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
        iam = self.upstream.rds_iam
        signs = () if iam is None else (iam.credential.secret, iam.credential.token)
        return tuple(each for each in (self.upstream.password, self.mask_key, *signs) if each is not None)

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
    refuses_files: bool
    """A file in which they find something is not read on."""
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


class CredentialKind(enum.StrEnum):
    """How an HTTP service is shown who calls."""

    NONE = "none"
    """Not at all, or by the client certificate of the connection."""
    HEADER = "header"
    BEARER = "bearer"
    BASIC = "basic"
    CLIENT_CREDENTIALS = "client-credentials"
    """OAuth 2.0 client credentials: RFC 6749, 4.4."""


class HttpCredential(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway shows an HTTP service; the caller's own never gets there."""

    kind: CredentialKind
    secret: SecretRef | None
    header: str
    user: str
    token_url: str
    scope: str


class HttpRoute(msgspec.Struct, frozen=True, kw_only=True):
    """What a request of that method to a path of that shape does, in policy's words."""

    method: str
    """`*`: any."""
    template: str
    """`/invoices/{id}/void`; `{name}` is one segment, `{name...}` at the end the rest."""
    action: str
    """The value of an `Action`."""
    name: str
    websocket: bool
    """It is about WebSockets that are opened there, and about nothing else."""


class ProtectedField(msgspec.Struct, frozen=True):
    """One protected field of bodies, as the operator named it."""

    place: str
    """`json:/customers/*/ssn` or `xml:/customers/customer/@ssn`."""
    data_class: str
    strategy: Strategy


class HttpUpstream(Upstream, frozen=True, kw_only=True):
    """How the gateway reaches an HTTP service."""

    host_header: str
    """What stands in `Host` towards the service."""
    base_path: str
    """What comes before every path there; empty, or `/v2`."""
    credential: HttpCredential
    reply_seconds: float
    """Seconds of silence from the service before it is given up."""
    max_connections: int


class HttpConnection(Connection, frozen=True, kw_only=True):
    """One HTTP service."""

    type: ClassVar[str] = "http"

    upstream: HttpUpstream
    hosts: frozenset[str]
    """Values of `Host` by which callers name it, in lower case."""
    prefix: str
    """Path on the listener's own host by which callers name it: `/billing`; empty: by `hosts` only."""
    routes: tuple[HttpRoute, ...]
    only_routes: bool
    """Refuse what no route describes."""
    protect: tuple[ProtectedField, ...]
    pass_types: frozenset[str]
    """Media types that go through unmasked although masking is on, because the operator says so."""
    pass_headers: frozenset[str]
    """Request headers, in lower case, that go through although they look like an identity."""
    max_request_bytes: int
    approval_seconds: float
    """How long a request that waits for people is held before its client is told to repeat it; 0: it is told at once."""
    actor_headers: bool
    """Tell the service who acts, in signed `X-Ostiary-…` headers."""
    data_classes: tuple[DataClass, ...] = ()
    mask_key: SecretRef | None = None
    """What hashes and tokens are made with."""
    max_message_bytes: int = 1 << 20
    """Of a WebSocket's message."""

    @property
    def classes(self) -> frozenset[str]:
        """The data classes of its protected fields."""
        return frozenset(field.data_class for field in self.protect)

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """The credential that is shown to the service, and the key of hashes and tokens."""
        return tuple(each for each in (self.upstream.credential.secret, self.mask_key) if each is not None)

    @property
    def place(self) -> str:
        """The path that everything is under."""
        return self.upstream.base_path

    @property
    def account(self) -> str:
        """The user of basic authentication, or the OAuth client."""
        return self.upstream.credential.user

    @property
    def masks(self) -> bool:
        """Whether anything is looked for in what comes back."""
        return bool(self.detect or self.protect)


class AwsCredentialKind(enum.StrEnum):
    """What the gateway itself is, to AWS."""

    STATIC = "static"
    """A key of its own."""
    WEB_IDENTITY = "web-identity"
    """A token in a file, which its platform writes anew: IAM roles for service accounts."""
    INSTANCE = "instance"
    """The role of the machine that it runs on (IMDSv2)."""


class AwsCredential(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway gets into an account; the caller's keys never get there."""

    kind: AwsCredentialKind
    access_key: str
    secret: SecretRef | None
    """Of `static`: the secret access key."""
    token: SecretRef | None
    """Of `web-identity`: the token."""
    role: str
    """ARN of the role that each session assumes, in the name of who acts; empty: none."""
    external_id: str
    session_seconds: int


class RdsIam(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway logs in to RDS or Aurora with IAM."""

    region: str
    credential: AwsCredential
    sts: str
    """URL where a role is assumed."""


class AwsConnection(HttpConnection, frozen=True, kw_only=True):
    """One AWS account."""

    type: ClassVar[str] = "aws"

    account_id: str
    """Twelve digits."""
    partition: str
    """`aws`, `aws-cn` or `aws-us-gov`."""
    regions: tuple[str, ...]
    """Regions that callers may sign for; the first is where roles are assumed."""
    aws_credential: AwsCredential
    fixed: bool
    """All services are at the one address of `upstream`."""
    unsigned_payload: bool
    """Content of objects may come unsigned."""
    foreign_buckets: frozenset[str]
    """Buckets that belong to others, and may be used."""
    danger_hands_out: frozenset[str]
    """Calls that hand out credentials, and are passed on."""
    hidden: tuple[tuple[str, ProtectedField], ...]
    """(`service:Operation`, or `dynamodb:TABLE`; the field of its answer)."""

    @property
    def classes(self) -> frozenset[str]:
        """The data classes of its protected fields; `secret` is what AWS itself calls one."""
        return frozenset({"secret", *(field.data_class for _, field in self.hidden)})

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """What the gateway proves itself with."""
        held = self.aws_credential
        return tuple(each for each in (held.secret, held.token) if each is not None)

    @property
    def place(self) -> str:
        """The account."""
        return self.account_id

    @property
    def account(self) -> str:
        """The role that is assumed, or the key."""
        return self.aws_credential.role or self.aws_credential.access_key or self.aws_credential.kind.value

    @property
    def masks(self) -> bool:
        """There is always something that is looked for."""
        return True
