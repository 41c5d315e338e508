"""What may be written in `ostiary.toml`: one struct a section, one field a setting.

The docstring under a field is its documentation: `python -m ostiary.config.reference` prints `docs/configuration.md`
from this file, and a test fails where a setting has none. A field without a default is required. What a type cannot
say (that a file exists, that plaintext stays on loopback) is checked in `ostiary.config.checks`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ostiary.config.identities import (
    Admin,
    AwsIdentities,
    Client,
    GroupsSource,
    Issuer,
    JobWebhook,
    Misuse,
    Saml,
    Scim,
    Tokens,
)
from ostiary.config.recordings import Recordings
from ostiary.config.words import (
    LOOPBACK,
    Address,
    ClassName,
    Condition,
    Count,
    Name,
    Path,
    Quorum,
    Seconds,
    Section,
    Text,
    is_loopback,
    split_address,
)
from ostiary.model.connections import AwsCredentialKind, Connection, CredentialKind, Durability, Recording, Strategy
from ostiary.model.identity import Kind
from ostiary.model.operations import Action

__all__ = [
    "LOOPBACK",
    "Address",
    "Admin",
    "AwsIdentities",
    "ClassName",
    "Client",
    "Condition",
    "Count",
    "GroupsSource",
    "Issuer",
    "JobWebhook",
    "Misuse",
    "Name",
    "Path",
    "Quorum",
    "Saml",
    "Scim",
    "Seconds",
    "Section",
    "Text",
    "Tokens",
    "is_loopback",
    "split_address",
]
"""Read here too: sections are one file's to whoever reads a configuration."""


class Gateway(Section, frozen=True):
    """The gateway itself."""

    name: Name
    """Name of this gateway in the log's origin and in tokens: lower-case letters, digits, `-` and `_`."""
    state_dir: Path
    """Folder for the log, recordings, keys and index. Made by `ostiary init`; only the gateway's user may read it."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Processes that serve clients, side by side (SO_REUSEPORT): one for each core that the gateway may have. Each has a log of its own, and takes the memory of one."""
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$")] = "info"
    """Least level of the gateway's own diagnostics on stderr (not the audit log): `debug`, `info`, `warning`, `error`."""
    log_format: Annotated[str, Meta(pattern="^(text|json)$")] = "text"
    """How diagnostics are written: `text` for people, `json` for machines."""


class Listener(Section, frozen=True, kw_only=True):
    """Where one protocol's clients come in."""

    address: Address
    """`host:port` to listen on. Without TLS only loopback is allowed."""
    tls_cert: Path | None = None
    """PEM file with the listener's certificate chain, leaf first. Set it together with `tls_key`."""
    tls_key: Path | None = None
    """PEM file with the private key of `tls_cert`, readable by the gateway's user only."""
    client_ca: Path | None = None
    """PEM file with the authorities whose certificates clients may show: a token that was bound to one (RFC 8705) is good with it alone."""
    login_seconds: Seconds = 10.0
    """Seconds from accept to the end of login (TLS included) before the connection is cut."""
    idle_seconds: Annotated[float, Meta(ge=0, le=604_800)] = 0.0
    """Seconds without a message from the client after which a session ends; 0: never for idleness alone."""
    max_sessions: Count = 500
    """Sessions open at once on this listener; one more is refused."""
    max_logins: Count = 100
    """Connections that have not finished login at once; one more is refused."""
    danger_plaintext: bool = False
    """Allow logins without TLS from elsewhere than loopback, and where `tls_cert` is set: tokens cross the network readable."""

    @property
    def host(self) -> str:
        """The host part of `address`."""
        return split_address(self.address)[0]

    @property
    def port(self) -> int:
        """The port of `address`; 0: any free one."""
        return split_address(self.address)[1]


class PostgresListener(Listener, frozen=True, kw_only=True):
    """Where PostgreSQL clients come in."""

    address: Address = "127.0.0.1:15432"
    """`host:port` to listen on. Without TLS only loopback is allowed."""


class SshListener(Listener, frozen=True):
    """Where SSH clients come in. The keys about TLS, and `danger_plaintext`, mean nothing here: SSH encrypts by itself."""

    address: Address = "127.0.0.1:15422"
    """`host:port` to listen on."""
    host_key: Path | None = None
    """Private host key, in OpenSSH's form, readable by the gateway's user only; else the one that `ostiary init` made."""
    login_seconds: Seconds = 120.0
    """Seconds from accept to the end of login, in which a person may have to open a page and confirm a code."""
    rekey_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 1 << 30
    """Bytes after which new keys are negotiated: RFC 4253, 9."""
    max_channels: Annotated[int, Meta(ge=1, le=1000)] = 64
    """Channels open at once in one session; one more is refused."""


class HttpListener(Listener, frozen=True, kw_only=True):
    """Where HTTP clients come in: services of type `http` are reached by `Host` or by path."""

    address: Address = "127.0.0.1:15481"
    """`host:port` to listen on, apart from the API's. Without TLS only loopback is allowed."""
    names: tuple[Text, ...] = ()
    """Values of `Host` by which clients may call this listener itself, for services under a path; its address always is one."""
    head_seconds: Seconds = 10.0
    """Seconds from a request's first byte to the end of its head before the connection is cut."""
    body_seconds: Seconds = 60.0
    """Seconds without a byte of a body that is under way before the connection is cut."""
    keep_seconds: Seconds = 75.0
    """Seconds that a connection may lie idle between requests."""
    session_seconds: Seconds = 900.0
    """Seconds without a request after which the session of a token on a connection ends; the next request begins a new one."""
    max_connections: Count = 2000
    """Client connections at once; one more is closed."""


class AwsListener(HttpListener, frozen=True, kw_only=True):
    """Where the `aws` command and AWS's SDKs come in: their endpoint URL. Which connection they mean, their keys say."""

    address: Address = "127.0.0.1:15482"
    """`host:port` to listen on. Without TLS only loopback is allowed."""
    names: tuple[Text, ...] = ()
    """Values of `Host` by which clients may call this listener, if not by its address. A bucket may stand before each: `BUCKET.NAME`."""


class Listen(Section, frozen=True):
    """One listener for each protocol."""

    postgresql: PostgresListener | None = None
    """Where PostgreSQL clients connect."""
    ssh: SshListener | None = None
    """Where SSH clients connect."""
    http: HttpListener | None = None
    """Where HTTP clients connect."""
    aws: AwsListener | None = None
    """Where clients of AWS connect."""


class Api(Section, frozen=True):
    """The HTTP API: health, metrics, token exchange, sessions."""

    address: Address = "127.0.0.1:15480"
    """`host:port` to listen on. Without TLS only loopback is allowed."""
    tls_cert: Path | None = None
    """PEM file with the API's certificate chain, leaf first. Set it together with `tls_key`."""
    tls_key: Path | None = None
    """PEM file with the private key of `tls_cert`."""
    url: Text | None = None
    """How clients reach the API, if not by `address`: for example `https://ostiary.example.com`. Names the issuer in tokens."""
    mtls_address: Address | None = None
    """`host:port` of the API for clients with a certificate. Tokens that are got here are bound to that (RFC 8705). Needs `tls_cert` and `client_ca`."""
    mtls_url: Text | None = None
    """How clients reach that, if not by `mtls_address`."""
    client_ca: Path | None = None
    """PEM file with the authorities whose certificates clients may show at `mtls_address`."""
    danger_plaintext: bool = False
    """Allow the API on an address that is not loopback without TLS: tokens cross the network readable."""

    @property
    def host(self) -> str:
        """The host part of `address`."""
        return split_address(self.address)[0]

    @property
    def port(self) -> int:
        """The port of `address`; 0: any free one."""
        return split_address(self.address)[1]

    @property
    def base_url(self) -> str:
        """How clients reach the API, without a slash at the end."""
        if self.url is not None:
            return self.url.rstrip("/")
        return f"{'https' if self.tls_cert else 'http'}://{self.address}"

    @property
    def mtls_base_url(self) -> str | None:
        """How clients with a certificate reach the API, without a slash at the end; None: they do not."""
        if self.mtls_address is None:
            return None
        return f"https://{self.mtls_address}" if self.mtls_url is None else self.mtls_url.rstrip("/")


class Audit(Section, frozen=True):
    """The log."""

    durability: Durability = Durability.STRICT
    """When an intent counts as durable, for connections that do not say: `strict` (synced to disk: survives a power cut) or `buffered` (survives a killed process, not a power cut)."""
    tail_dir: Path = "/dev/shm"  # noqa: S108 - the tail is meant to be in memory; the file is made 0600 and exclusive
    """Folder on a memory file system for the tail that carries entries to the disk."""
    tail_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 34)] = 64 << 20
    """Bytes of the tail, a power of two. When it is full, new operations wait for the disk, and then are refused."""
    stall_ms: Annotated[int, Meta(ge=10, le=60_000)] = 100
    """Milliseconds that a `strict` operation waits for the disk, and any operation for room, before it is refused."""
    unsigned_seconds: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    """Most seconds that an entry may stand in the log before a signed checkpoint covers it."""
    witness_policy: Path | None = None
    """File (C2SP tlog-policy) that names the witnesses to ask for cosignatures, each with its URL, and the quorum."""
    witness_lag_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """Seconds without a quorum of witnesses after which nothing new is let through; `0`: the log goes on, and says so."""
    keep_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    """Days that entries and recordings are kept: `ostiary audit prune` removes what is older and on no hold. Not set: everything is kept."""


class Policy(Section, frozen=True):
    """What is allowed. Nothing is, until a policy permits it."""

    files: tuple[Path, ...]
    """Cedar policy files, in any order; a relative path is looked up beside the configuration file."""


class Webhook(Section, frozen=True):
    """Where questions, answers and alerts are told."""

    url: Text
    """URL that gets a POST of JSON for each. `https` only, except on loopback."""
    secret: Text
    """Where the key of the signature is kept (`file:/path` or `env:NAME`): `Ostiary-Signature: t=TIME,v1=HMAC-SHA-256(TIME.BODY)`."""


class SlackPerson(Section, frozen=True):
    """Who a Slack user is here."""

    issuer: Text
    """Issuer of the person's own login."""
    subject: Text
    """Its `sub`."""
    name: Text
    """Name of the person, for the record."""
    groups: tuple[Text, ...]
    """Groups for which this person's answers in Slack count."""


class Slack(Section, frozen=True):
    """Questions in a Slack channel, with buttons where the whole of a question can be shown there."""

    webhook: Text
    """Where the channel's incoming webhook URL is kept: `file:/path` or `env:NAME`."""
    signing_secret: Text
    """Where the app's signing secret is kept. Requests without a valid signature of the last five minutes are refused."""
    people: dict[str, SlackPerson] = {}
    """Slack user ids, and who they are: nobody else's click counts."""


class Approvals(Section, frozen=True):
    """Questions for people, connections granted for a time, and breaking the glass."""

    wait_seconds: Seconds = 900.0
    """Seconds for which a question waits for its answers, and an answer for its use."""
    in_transaction_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    """Seconds for which a statement may wait inside a transaction, whose locks it holds; 0: it is refused there, and repeated once approved."""
    max_open: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Questions of one identity that may wait at once; more are refused."""
    max_per_hour: Annotated[int, Meta(ge=1, le=100_000)] = 60
    """Questions that one identity may ask within an hour; more are refused."""
    login_seconds: Seconds = 43_200.0
    """Seconds since a person logged in, after which their answers do not count until they log in again."""
    grant_groups: tuple[Quorum, ...] = ()
    """Groups that grant a connection for a time (`ostiary approvals request`), with how many of each: `["dba:2", "security"]`. None: nobody does."""
    grant_minutes: Annotated[int, Meta(ge=1, le=1440)] = 60
    """Most minutes for which a connection is granted. Its sessions end then."""
    break_glass_groups: tuple[Text, ...] = ()
    """Groups whose people may pass every approval on a connection for a while, with a reason and a later review. None: nobody may."""
    break_glass_minutes: Annotated[int, Meta(ge=1, le=240)] = 30
    """Minutes for which the glass is broken."""
    review_groups: tuple[Text, ...] = ()
    """Groups that review it afterwards. Until somebody has, the same person breaks no glass again."""
    webhooks: tuple[Webhook, ...] = ()
    """Who else is told."""
    slack: Slack | None = None
    """A Slack channel that is asked."""


class Budget(Section, frozen=True):
    """How much of something may be had in a window of time."""

    name: Name
    """Name of the budget, in refusals and on record."""
    of: Annotated[str, Meta(pattern="^(operations|deletes|rows|bytes)$")]
    """What is counted: `operations`, `deletes` (operations that delete), `rows` (of databases) and `bytes` of results."""
    most: Annotated[int, Meta(ge=0, le=2**53)]
    """How many."""
    per: Annotated[str, Meta(pattern="^(second|session|day)$")]
    """In what: a `second`, a `session`, or a `day` (UTC)."""
    by: Annotated[str, Meta(pattern="^(identity|mandate)$")] = "identity"
    """Who shares it: all sessions of an `identity` (its subject, whoever acts for it), or all under one `mandate`."""
    connections: tuple[Text, ...] = ()
    """On which connections; none named: on all."""
    kinds: tuple[Kind, ...] = ()
    """Only where such a one is involved, as subject or actor: `["agent"]`."""
    groups: tuple[Text, ...] = ()
    """Only for people of these groups."""


class Alert(Section, frozen=True):
    """A rule over what is on record, and what it does."""

    name: Name
    """Name of the rule, on record and in messages."""
    when: Annotated[str, Meta(pattern="^(refusals|first-use|volume|masked)$")]
    """What sets it off: `refusals` in a row, `first-use` of a table or the like by somebody, a `volume` of rows above their usual, or protected values read `masked` in bulk."""
    do: tuple[Annotated[str, Meta(pattern="^(notify|demand-approval|end-session|isolate)$")], ...] = ("notify",)
    """What it does: `notify` (webhooks, Slack), `demand-approval` of everything that they do, `end-session`, `isolate` whoever is at the keyboard, everywhere."""
    count: Annotated[int, Meta(ge=1, le=2**53)] = 5
    """How many refusals or masked values set it off; for `volume` the least rows within an hour."""
    within_seconds: Seconds = 600.0
    """Seconds within which refusals or masked values are counted together."""
    factor: Annotated[float, Meta(gt=1, le=1_000_000)] = 10.0
    """For `volume`: how many times the usual rows of an hour."""
    classes: tuple[Text, ...] = ()
    """For `masked`: which data classes and detectors count; none named: all."""
    approvers: tuple[Quorum, ...] = ()
    """For `demand-approval`: groups, with how many of each: `["dba:2"]`."""
    demand_minutes: Annotated[int, Meta(ge=1, le=1440)] = 60
    """For `demand-approval`: for how long."""
    connections: tuple[Text, ...] = ()
    """On which connections; none named: on all."""
    kinds: tuple[Kind, ...] = ()
    """Only where such a one is involved, as subject or actor: `["agent"]`."""
    groups: tuple[Text, ...] = ()
    """Only for people of these groups."""


class Protect(Section, frozen=True):
    """How one column, or one field, is protected."""

    cls: ClassName = msgspec.field(name="class")
    """Data class of it, as policy names it: `pci`, `pii`, …"""
    mask: Strategy = Strategy.REDACT
    """What is left of a value: `redact` (all characters become `*`), `last4`, `partial` (the ends stay, as `classes` says), `hash` (keyed), `token` (keyed, of the same form), or `null`. Values that are no text become NULL, but for hashes and tokens of `int`, `bigint` and `uuid`."""


class ProtectRule(Protect, frozen=True, kw_only=True):
    """Columns that are protected by what they are called."""

    columns: Text
    """Regular expression (RE2) that the whole of `schema.table.column` must match: `public\\..*\\.(e_?mail|phone)`. A column named in `protect` is left to it."""


class Class(Section, frozen=True, kw_only=True):
    """A data class of a connection."""

    first: Annotated[int, Meta(ge=0, le=64)] = 0
    """Characters that `mask = "partial"` leaves at the beginning; never more than half of a value stays."""
    last: Annotated[int, Meta(ge=0, le=64)] = 4
    """And at the end."""
    infer: bool = False
    """Let everybody who may read it filter, join, sort and group by it, though it comes back masked. Otherwise policy must permit `infer`."""


class OwnDetector(Section, frozen=True, kw_only=True):
    """A detector of your own."""

    pattern: Text
    """Regular expression (RE2): all that it matches is masked. It captures nothing (write `(?:…)`) and matches no empty text; `^` and `$` are the ends of a value."""
    cls: ClassName | None = msgspec.field(name="class", default=None)
    """Data class of what it finds, as policy names it; the detector's own name if it is not set."""


class Target(Section, frozen=True, kw_only=True):
    """A target that callers may reach by its name. `type` says what else is written of it."""

    type: Text
    """Protocol of the target."""
    address: Address
    """`host:port` of the target."""
    tls: Annotated[str, Meta(pattern="^(verify-full|verify-ca|disable)$")] = "verify-full"
    """TLS to the target: `verify-full` (certificate and host name are checked), `verify-ca` (certificate only), or `disable` (loopback only)."""
    ca_file: Path | None = None
    """PEM file with the certificate authorities to trust, instead of the system's."""
    cert_file: Path | None = None
    """PEM file with a client certificate for the target. Set it together with `key_file`."""
    key_file: Path | None = None
    """PEM file with the private key of `cert_file`."""
    connect_seconds: Seconds = 10.0
    """Seconds for dial, TLS and login together."""
    labels: dict[
        Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_./-]{0,62}$")], Annotated[str, Meta(min_length=1, max_length=63)]
    ] = {}
    """Labels that policy can name: `{ env = "prod" }` is `Ostiary::Label::"env=prod"`."""
    durability: Durability | None = None
    """`strict` or `buffered`, if it differs from `audit.durability`."""
    recording: Recording = Recording.FULL
    """`full` keeps what was asked and what came back, encrypted; `events` keeps the log's entries alone."""
    detect: tuple[Text, ...] = ("card", "email", "iban", "ssn", "secret")
    """Detectors that run over every text value of what comes back, errors and notices too; `[]`: none. National ids are off unless they are named."""
    detectors: dict[ClassName, OwnDetector] = {}
    """Detectors of your own, by name; they are on."""
    max_sessions: Count = 100
    """Sessions open at once on this connection; one more is refused."""
    danger_plaintext: bool = False
    """Allow `tls = "disable"` to a target that is not on loopback: the credential and all data cross the network readable."""


class PostgresTarget(Target, frozen=True, kw_only=True):
    """A PostgreSQL database."""

    database: Text
    """Database on the target. A connection is exactly one database."""
    user: Text
    """Account that the gateway logs in with."""
    password: Text | None = None
    """Where the account's password is kept, never the password: `file:/path` or `env:NAME`."""
    rds_iam: RdsIam | None = None
    """Log in to RDS or Aurora with IAM instead of a password. Needs TLS, as RDS does."""
    protect: dict[str, Protect] = {}
    """Protected columns: `"schema.table.column" = { class = "…", mask = "…" }`. A part with a dot or capitals is written in double quotes, as in SQL."""
    protect_rules: tuple[ProtectRule, ...] = ()
    """Protected columns by their names: `[[connections.shop.protect_rules]]`. The first that matches holds."""
    classes: dict[ClassName, Class] = {}
    """What holds of all columns of a data class, by its name."""
    mask_key: Text | None = None
    """Where the key of hashes and tokens is kept, never the key: `file:/path` or `env:NAME`; at least 16 bytes. With another key all of them change."""
    sql_comment: bool = False
    """Put a comment behind each statement that names who acts, for whom, the task and the session, for the database's own log and `pg_stat_activity`."""
    catalogue_seconds: Seconds = 30.0
    """Seconds within which an open session notices changes to tables, views and functions made outside the gateway. A new one knows them."""


class SshTarget(Target, frozen=True, kw_only=True):
    """An account on a host, over SSH. The keys about TLS mean nothing here."""

    user: Text
    """Account that the gateway logs in with."""
    key: Text | None = None
    """Where the account's private key is kept: `file:/path` or `env:NAME`. Set this, or `authority`, or `password`."""
    authority: Text | None = None
    """Where the private key of a user certificate authority is kept that the host trusts (`TrustedUserCAKeys`): each session logs in with a certificate of its own, whose key id names the person, who acts for them, and the session."""
    password: Text | None = None
    """Where the account's password is kept, never the password: `file:/path` or `env:NAME`."""
    host_keys: tuple[Text, ...] = ()
    """Public keys that the host may show: `["ssh-ed25519 AAAA…"]`. No key is ever accepted unseen: set this, or `host_authorities`."""
    host_authorities: tuple[Text, ...] = ()
    """Public keys of authorities whose host certificates are believed, if they name the host of `address`."""
    home: Text | None = None
    """The account's home on the host. With it, policy sees a relative path of a command as an absolute one; else as `~/…`."""
    accept_env: tuple[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\\*?$")], ...] = ("LANG", "LC_*")
    """Environment variables that clients may send, `*` at the end for any ending; others are dropped."""
    files: Annotated[str, Meta(pattern="^(clear|mask|refuse)$")] = "clear"
    """Content of files that are transferred: `clear` as it is (who may read which file is for policy to say); `mask`: the detectors look at what SFTP reads, if it is text, and transfers that cannot be looked into (old `scp`, `rsync`, `git`) must be permitted by name; `refuse`: as `mask`, and a file in which they find something is not read on, so that its download fails."""
    keep_files: bool = False
    """Keep what is uploaded and downloaded in the recording, not only its size and SHA-256."""
    protect: dict[Text, Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]{0,62}$")]] = {}
    """Protected paths and their data class: `{ "*/.env" = "secrets" }`. What a command prints of one is masked whole; moving it needs `unmask`."""


class Credential(Section, frozen=True, kw_only=True):
    """What the gateway shows an HTTP service."""

    kind: CredentialKind = CredentialKind.BEARER
    """`bearer` (RFC 6750), `header` (a header of its own), `basic` (RFC 7617), `client-credentials` (OAuth 2.0, RFC 6749, 4.4), or `none`."""
    secret: Text | None = None
    """Where the token, key, password or client secret is kept, never the secret: `file:/path` or `env:NAME`."""
    header: Annotated[str, Meta(pattern="^[A-Za-z0-9-]{1,64}$")] = "Authorization"
    """With `header`: the header that carries it."""
    user: Annotated[str, Meta(max_length=256)] = ""
    """With `basic` the user, with `client-credentials` the client id."""
    token_url: Annotated[str, Meta(max_length=2048)] = ""
    """With `client-credentials`: where a token is fetched. `https`, except on loopback."""
    scope: Annotated[str, Meta(max_length=1024)] = ""
    """With `client-credentials`: the scope that is asked for."""


class Route(Section, frozen=True, kw_only=True):
    """What requests of one shape do, in policy's words. The first that matches holds."""

    match: Annotated[str, Meta(pattern="^([A-Z][A-Z-]{0,31}|[*]) /[^ ]*$")]
    """Method (`*`: any) and path: `POST /invoices/{id}/void`; `{name}` is one segment, `{name...}` at the end the rest."""
    action: Action
    """`read`, `write`, `delete`, `define`, `administer`, `execute`, `transfer` or `opaque`."""
    name: Text | None = None
    """The operation's name in policy and log; the `match` if it is not set."""
    websocket: bool = False
    """The route is about WebSockets that are opened there, with `GET`, and about nothing else. A WebSocket that no route describes is refused."""


class HttpTarget(Target, frozen=True, kw_only=True):
    """An HTTP service."""

    hosts: tuple[Text, ...] = ()
    """Values of `Host` by which callers name it: `["billing.example.com"]`."""
    prefix: Annotated[str, Meta(pattern="^(/[A-Za-z0-9._-]+)*$")] | None = None
    """Path on the listener's own host by which callers name it; `/NAME` where neither this nor `hosts` is set."""
    host_header: Text | None = None
    """What stands in `Host` towards the service, if not its address."""
    base_path: Annotated[str, Meta(pattern="^(/[A-Za-z0-9._~-]+)*$")] = ""
    """What is put before every path towards the service."""
    credential: Credential = msgspec.field(default_factory=lambda: Credential(kind=CredentialKind.NONE))
    """What the service is shown. Without it, nothing but a client certificate, if there is one."""
    routes: tuple[Route, ...] = ()
    """What requests do, where their method does not tell."""
    only_routes: bool = False
    """Refuse requests that no route describes."""
    protect: dict[str, Protect] = {}
    """Protected fields of answers: `"json:/customers/*/ssn"` (JSON Pointer with `*` and `**`) or `"xml://customer/@ssn"` (elements, `//`, `@attribute`)."""
    classes: dict[ClassName, Class] = {}
    """What `mask = "partial"` leaves of the fields of a data class, by its name: `first` and `last`."""
    mask_key: Text | None = None
    """Where the key of hashes and tokens is kept, never the key: `file:/path` or `env:NAME`; at least 16 bytes. The same key as a database's makes the same hash of the same text and class."""
    pass_types: tuple[Text, ...] = ()
    """Media types that pass unmasked although masking is on: `["application/zip"]`. What cannot be looked through is refused else."""
    pass_headers: tuple[Text, ...] = ()
    """Request headers that pass although they look like somebody's identity."""
    reply_seconds: Seconds = 60.0
    """Seconds of silence from the service after which it is given up."""
    max_connections: Count = 100
    """Connections to the service at once; a request that finds none free waits."""
    max_request_bytes: Annotated[int, Meta(ge=0, le=1 << 46)] = 1 << 32
    """Bytes of a request's body; more is refused."""
    max_message_bytes: Annotated[int, Meta(ge=125, le=1 << 26)] = 1 << 20
    """Bytes of one message of a WebSocket, either way; a larger one ends it."""
    approval_seconds: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    """Seconds for which a request is held that waits for an approval; then its client is told to repeat it. 0: at once. Stay below what clients wait for."""
    actor_headers: bool = True
    """Tell the service who acts: `X-Ostiary-Subject`, `-Actor`, `-Session`, and `X-Ostiary-Assertion`, which is signed."""


class AwsKey(Section, frozen=True, kw_only=True):
    """What the gateway itself is, to AWS."""

    kind: AwsCredentialKind = AwsCredentialKind.STATIC
    """`static` (a key of its own), `web-identity` (a token in a file, as IAM roles for service accounts have), or `instance` (the machine's role, IMDSv2)."""
    access_key: Annotated[str, Meta(max_length=128)] = ""
    """With `static`: the access key id."""
    secret: Text | None = None
    """With `static`: where the secret access key is kept, never the key: `file:/path` or `env:NAME`."""
    token: Text | None = None
    """With `web-identity`: where the token is: `file:/path`."""
    role: Annotated[str, Meta(pattern="^(arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+)?$")] = ""
    """ARN of a role that each session assumes: its session name, source identity and tags are the person's, so CloudTrail shows them. `web-identity` needs one."""
    external_id: Annotated[str, Meta(max_length=1224)] = ""
    """External id that the role's trust policy asks for."""
    session_seconds: Annotated[int, Meta(ge=900, le=43200)] = 3600
    """Seconds that an assumed role is asked for."""


class RdsIam(AwsKey, frozen=True, kw_only=True):
    """Logging in to RDS or Aurora with IAM: the password is a token for `rds-db:connect`, signed anew for each session, good for 15 minutes."""

    region: Annotated[str, Meta(pattern="^[a-z]{2}(-[a-z]+)+-[0-9]$")]
    """The database's region."""
    sts: Annotated[str, Meta(pattern=r"^(https://[A-Za-z0-9.-]+(:[0-9]+)?|http://127\.0\.0\.1:[0-9]+)?$")] = ""
    """Where a role is assumed, instead of STS's own endpoint in the region: a VPC endpoint's URL."""


class AwsTarget(Target, frozen=True, kw_only=True):
    """An AWS account."""

    address: Annotated[str, Meta(max_length=320)] = ""
    """`host:port` at which all services are, instead of AWS's own endpoints: a test's, or a proxy's."""
    account_id: Annotated[str, Meta(pattern="^[0-9]{12}$")]
    """The account: twelve digits. ARNs are written with it, and buckets of other accounts are refused."""
    regions: tuple[Annotated[str, Meta(pattern="^[a-z]{2}(-[a-z]+)+-[0-9]$")], ...] = ("us-east-1",)
    """Regions that callers may use. Global services sign for `us-east-1`, or for their partition's first."""
    partition: Annotated[str, Meta(pattern="^(aws|aws-cn|aws-us-gov)$")] = "aws"
    """`aws`, `aws-cn` or `aws-us-gov`."""
    identity: AwsKey = msgspec.field(default_factory=AwsKey)
    """What the gateway signs with. Callers never see it."""
    unsigned_payload: bool = True
    """Take content of S3 objects whose signature leaves the body out, as SDKs send it over TLS. Nothing else may ever be unsigned."""
    foreign_buckets: tuple[Text, ...] = ()
    """Buckets of other accounts that may be used. Of all others the account must be the owner (`x-amz-expected-bucket-owner`)."""
    protect: dict[str, Protect] = {}
    """Protected fields of answers, besides what AWS itself calls a secret: `"dynamodb:TABLE/ATTRIBUTE"`, or `"SERVICE:Operation json:/a/*/b"` and `"SERVICE:Operation xml://b"`."""
    pass_types: tuple[Text, ...] = ()
    """Media types of S3 objects that pass unmasked although detectors are on: `["application/zip", "binary/octet-stream"]`."""
    reply_seconds: Seconds = 60.0
    """Seconds of silence from a service after which it is given up."""
    max_connections: Count = 100
    """Connections to one endpoint at once; a request that finds none free waits."""
    max_request_bytes: Annotated[int, Meta(ge=0, le=1 << 46)] = 1 << 33
    """Bytes of a request's body; more is refused."""
    approval_seconds: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    """Seconds for which a call is held that waits for an approval; then its client is told to try again, and does. 0: at once."""
    danger_hands_out: tuple[Annotated[str, Meta(pattern="^[a-z0-9-]+:[A-Za-z0-9]+$")], ...] = ()
    """Calls whose answers are credentials, and that are passed on all the same: `["ecr:GetAuthorizationToken"]`. What they hand out works past the gateway."""


TARGETS: Final[dict[str, type[Target]]] = {"postgresql": PostgresTarget, "http": HttpTarget, "ssh": SshTarget, "aws": AwsTarget}
"""Kinds of target by the `type` that the file names: each takes the keys of `Target` and its own, and no other."""


class File(Section, frozen=True, kw_only=True):
    """The whole file."""

    gateway: Gateway
    listen: Listen = msgspec.field(default_factory=Listen)
    api: Api = msgspec.field(default_factory=Api)
    audit: Audit = msgspec.field(default_factory=Audit)
    recordings: Recordings = msgspec.field(default_factory=Recordings)
    policy: Policy
    approvals: Approvals = msgspec.field(default_factory=Approvals)
    budgets: tuple[Budget, ...] = ()
    alerts: tuple[Alert, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    tokens: Tokens = msgspec.field(default_factory=Tokens)
    saml: tuple[Saml, ...] = ()
    clients: tuple[Client, ...] = ()
    scim: Scim | None = None
    aws_identities: AwsIdentities | None = None
    admin: Admin = msgspec.field(default_factory=Admin)
    misuse: Misuse = msgspec.field(default_factory=Misuse)
    job_webhooks: tuple[JobWebhook, ...] = ()
    connections: dict[str, Target] = {}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that a gateway runs with. Every path in it is absolute."""

    path: str
    gateway: Gateway
    listen: Listen
    api: Api
    audit: Audit
    recordings: Recordings
    policy: Policy
    approvals: Approvals
    budgets: tuple[Budget, ...]
    alerts: tuple[Alert, ...]
    issuers: tuple[Issuer, ...]
    tokens: Tokens
    saml: tuple[Saml, ...]
    clients: tuple[Client, ...]
    scim: Scim | None
    aws_identities: AwsIdentities | None
    admin: Admin
    misuse: Misuse
    job_webhooks: tuple[JobWebhook, ...]
    connections: dict[str, Connection]
    danger_keys: tuple[str, ...]
    digest: str
    """Hex SHA-256 of the file's bytes, for the log's `config` entry. References stand in it, secrets do not."""

    def dangers(self) -> tuple[str, ...]:
        """Return the dotted keys of the `danger_` options that are on: said at start and in the log."""
        return self.danger_keys
