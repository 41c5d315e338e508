"""The sections of `ostiary.toml` about who is believed: issuers, SAML, clients, SCIM, cloud principals, misuse, administrators."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ostiary.config.words import Condition, Path, Quorum, Seconds, Section, Text
from ostiary.model.identity import Kind


class GroupsSource(Section, frozen=True, kw_only=True):
    """Where groups are asked for that an issuer leaves out of a token (Entra's overage): `getMemberObjects` of Microsoft Graph, or what answers alike."""

    url: Text
    """Where, with `{id}` for the person's: `https://graph.microsoft.com/v1.0/directoryObjects/{id}/getMemberObjects`. The address in a token is never used."""
    id_claim: Text = "oid"
    """Claim with that id."""
    token_url: Text
    """Where an access token for it is had: `https://login.microsoftonline.com/TENANT/oauth2/v2.0/token`."""
    client_id: Text
    """Our client id there. It needs no more than `GroupMember.Read.All`."""
    client_secret: Text
    """Where our client secret there is kept: `file:/path` or `env:NAME`."""
    scope: str = "https://graph.microsoft.com/.default"
    """Scope that is asked for there; `""`: none."""
    only: tuple[Text, ...] = ()
    """Groups that are kept of what is told: name every group that a policy names, those that it forbids something to, too. None named: all are, and a
    person with too many for a token (about 300) is refused."""
    ca_file: Path | None = None
    """PEM file with the certificate authorities to trust at both, instead of the system's."""


class Issuer(Section, frozen=True):
    """An identity provider whose tokens are trusted."""

    issuer: Text
    """The exact `iss` of its tokens."""
    audience: Text | tuple[Text, ...]
    """The `aud` that its tokens for this gateway carry; of several, one must be there."""
    kind: Kind = Kind.HUMAN
    """What its subjects are: `human`, `workload` (CI jobs, service accounts) or `agent`."""
    algorithms: tuple[
        Annotated[str, Meta(pattern="^(EdDSA|Ed25519|ES256|ES384|ES512|RS256|RS384|RS512|PS256|PS384|PS512)$")], ...
    ] = (
        "EdDSA",
        "ES256",
        "RS256",
    )
    """Signature algorithms accepted from it. Symmetric algorithms and `none` are never accepted."""
    discovery: bool = False
    """Find its keys through `<issuer>/.well-known/openid-configuration`. Set this, or `jwks_url`, or `jwks_file`."""
    jwks_url: Text | None = None
    """URL of its keys (a JWK set). `https` only, except on loopback."""
    jwks_file: Path | None = None
    """File with its keys (a JWK set), for issuers without a URL."""
    ca_file: Path | None = None
    """PEM file with the certificate authorities to trust for `discovery` and `jwks_url`, instead of the system's."""
    jwks_seconds: Seconds = 600.0
    """Seconds after which its keys are fetched again. An unknown key id fetches at once, at most every few seconds."""
    jwks_stale_seconds: Annotated[float, Meta(ge=0, le=604_800)] = 86_400.0
    """Seconds for which known keys are still used while the issuer cannot be reached; then its logins fail."""
    token_types: tuple[str, ...] = ("", "jwt")
    """Values of the `typ` header that its logins have, in lower case; `""` is an absent one. `at+jwt` for access tokens."""
    authorized_parties: tuple[Text, ...] = ()
    """Values of `azp` accepted beside our own audience (OpenID Connect Core, 3.1.3.7); `*`: any, where a workload's own id stands there."""
    leeway_seconds: Annotated[float, Meta(ge=0, le=300)] = 30.0
    """Seconds by which its clock may differ from ours."""
    max_token_seconds: Seconds = 86_400.0
    """Seconds between `iat` and `exp` beyond which its tokens are refused."""
    required_claims: dict[str, Condition] = {}
    """Claims that a token must carry, each with exactly this value or one of a list, for issuers that serve many tenants: `{ project_id = "42" }`."""
    name_claim: Text = "name"
    """Claim with the display name."""
    email_claim: Text = "email"
    """Claim with the e-mail address; used only where `email_verified` is true."""
    require_verified_email: bool = True
    """Refuse a token whose `email_verified` is there and not true; without this, only the address is dropped."""
    groups_claim: str | tuple[Text, ...] = "groups"
    """Claim with the groups, a list of strings; a list of names on the way down to it: `["realm_access", "roles"]`; `""`: its groups are not used."""
    groups_source: GroupsSource | None = None
    """Where groups are asked for that are left out of a token; without it such a token is refused. Asked at the token endpoint alone. With `groups_claim = "groups"`."""
    kind_claim: Text | None = None
    """Claim that says `human`, `workload` or `agent`, for an issuer of several kinds; `kind` where it is absent."""
    task_claim: Text | None = None
    """Claim with the id of one run, delegation or mandate: it ties the events of the run together."""
    initiator_claim: Text | None = None
    """Claim with the person who started a workload, for example `actor` or `user_login`."""
    initiator_name_claim: Text | None = None
    """Claim with that person's display name."""
    initiator_proved: bool = False
    """Whether this issuer proves the initiator (true), or names only an owner (false)."""
    initiator_proof: dict[str, Condition] = {}
    """And only where these claims hold too: `{ run_attempt = "1" }` leaves out re-runs that somebody else started."""
    actor_kind: Kind = Kind.AGENT
    """What the actors in its tokens' `act` claims are."""
    actor_issuers: tuple[Text, ...] = ()
    """Other issuers that it may name inside `act`; its own is always fine."""
    login_client_id: Text | None = None
    """Our client id there, for `ostiary login`: its ID tokens carry it as `aud`. Needs `discovery`."""
    login_client_secret: Text | None = None
    """Where our client secret there is kept, if it wants one: `file:/path` or `env:NAME`."""
    login_scopes: tuple[Text, ...] = ("openid", "profile", "email")
    """Scopes asked for at a login. Many issuers give a refresh token only for `offline_access`."""
    login_check_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 900.0
    """How often the issuer is asked, with the refresh token of their last login, whether somebody is still there on whom delegations, accounts
    or fresh tokens hang. A no ends all of it at once. 0: never."""
    purpose_claim: Text | None = None
    """Claim with what the token is for, in a sentence; recorded as said."""
    ticket_claim: Text | None = None
    """Claim with a ticket's number; recorded as said."""
    subject_prefix: Text | None = None
    """What every subject must begin with: `system:serviceaccount:prod:`, or `spiffe://prod.example/`."""
    preset: Annotated[str, Meta(pattern="^(github|gitlab|kubernetes|spiffe|entra|gcp)$")] | None = None
    """Defaults for an issuer of this sort, each of which a setting here overrides: `github`, `gitlab`, `kubernetes`, `spiffe`, `entra` or `gcp`."""


class Saml(Section, frozen=True):
    """A SAML 2.0 identity provider at which people log in with a browser."""

    issuer: Text
    """Its entity id, exactly: the `Issuer` of its assertions."""
    sso_url: Text
    """Where it takes requests (HTTP-Redirect). `https` only, except on loopback."""
    cert_file: Path
    """PEM file with the certificates that its assertions may be signed with; two while it changes from one to the other."""
    audience: Text | None = None
    """Our entity id there; `<api url>/saml/metadata` if not set."""
    subject_attribute: Text | None = None
    """Attribute that names the person; the NameID if not set."""
    name_attribute: Text = "displayName"
    """Attribute with the display name."""
    email_attribute: Text = "mail"
    """Attribute with the e-mail address."""
    groups_attribute: Text = "groups"
    """Attribute with the groups."""


class Client(Section, frozen=True):
    """An agent or a workload that proves itself to the gateway with a key of its own (`private_key_jwt`)."""

    id: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9:._/@-]{0,126}$")]
    """Its client id: the subject of its tokens, and what a delegation names."""
    kind: Kind = Kind.AGENT
    """What it is: `agent` or `workload`."""
    name: Text | None = None
    """What people are shown; its id where this is not set."""
    jwks_file: Path | None = None
    """File with its public keys (a JWK set)."""
    jwks_url: Text | None = None
    """URL of its public keys. `https` only, except on loopback."""
    redirect_uris: tuple[Text, ...] = ()
    """Where a person's browser is sent after they consented, exactly as written. Without one it cannot ask in a browser."""


class Scim(Section, frozen=True):
    """Where an identity provider tells who was disabled: SCIM 2.0 at `/scim/v2`."""

    issuer: Text
    """The issuer, one of `[[issuers]]`, whose people it tells of."""
    token: Text
    """Where its bearer token is kept: `file:/path` or `env:NAME`. At least 32 characters."""
    subject: Annotated[str, Meta(pattern="^(externalId|userName|id)$")] = "externalId"
    """Which attribute holds the `sub` of the issuer's tokens: `externalId` or `userName`."""


class AwsIdentities(Section, frozen=True):
    """AWS principals may log in: a role or a user signs `sts:GetCallerIdentity` for this gateway, and AWS is asked who signed."""

    accounts: Annotated[tuple[Annotated[str, Meta(pattern="^[0-9]{12}$")], ...], Meta(min_length=1, max_length=1000)]
    """Ids of the accounts that they may be of."""
    roles: tuple[Text, ...] = ()
    """Names of the roles that may come. Without it every role and user of these accounts may, and policy says what they may do."""
    endpoints: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=64)] = ("https://sts.amazonaws.com",)
    """Where AWS is asked: `https://sts.amazonaws.com`, or those of regions, `https://sts.eu-west-1.amazonaws.com`. No others ever are."""
    ca_file: Path | None = None
    """PEM file with the certificate authorities to trust there, instead of the system's."""


Reaction = Annotated[str, Meta(pattern="^(off|flag|approve|refuse|stop)$")]


class Misuse(Section, frozen=True):
    """What to do when a credential is used in an unusual way: `off`, `flag` (an entry in the log), `approve` (everything that is done with the credential takes approval for a while), `refuse`, or `stop` (end the credential and all its sessions)."""

    another_network: Reaction = "flag"
    """One credential from two networks (/24, /64) within ten minutes."""
    another_job: Reaction = "flag"
    """A service account used by another workload, or for another initiator, than before."""
    interactive_client: Reaction = "flag"
    """A workload's or an agent's credential shown by a program that a person sits at, as far as the program says what it is."""
    another_client: Reaction = "flag"
    """A workload's or an agent's credential shown by another sort of program than before."""
    ended_job: Reaction = "refuse"
    """A token used after its job ended, as far as that was told (`[[job_webhooks]]`, `ostiary end-job`). With `refuse` or `stop` its sessions end, too."""
    approvers: tuple[Quorum, ...] = ()
    """For `approve`: groups, with how many of each: `["security:1"]`."""
    approval_minutes: Annotated[int, Meta(ge=1, le=1440)] = 60
    """For `approve`: for how long."""


class JobWebhook(Section, frozen=True):
    """A CI system that tells when its jobs have ended, at `/v1/jobs/github` or `/v1/jobs/gitlab` of the API."""

    kind: Annotated[str, Meta(pattern="^(github|gitlab)$")]
    """`github` (the event `workflow_run`), or `gitlab` (the event for pipelines)."""
    issuer: Text
    """Whose jobs: one of `[[issuers]]`, with `task_claim`."""
    secret: Text
    """Where the webhook's secret is kept: `file:/path` or `env:NAME`. At least 16 characters."""


class Admin(Section, frozen=True):
    """Who may run the gateway through its API."""

    groups: tuple[Text, ...] = ()
    """People in one of these groups may create service accounts and isolate anybody. Nobody acts for them in this: no agent can."""
    issuer: Text | None = None
    """The issuer that these groups are of; any configured one if not set."""


class Tokens(Section, frozen=True):
    """The gateway's own tokens, minted from an issuer's."""

    minutes: Annotated[int, Meta(ge=1, le=1440)] = 60
    """Minutes that a gateway token is good for, never beyond the token that it was minted from."""
