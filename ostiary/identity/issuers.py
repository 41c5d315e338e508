"""Which issuers are trusted, for what, and on which conditions: the `[[issuers]]` of the configuration."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ostiary.config import types as config
from ostiary.identity.jose import ALGORITHMS
from ostiary.model.errors import ConfigError
from ostiary.model.identity import Kind

Condition = str | int | bool | tuple[str | int | bool, ...]
"""What a claim must be: exactly this value of this type, or one of several."""
ClaimPath = str | tuple[str, ...]
"""A claim's name, or the names on the way down to it (`["realm_access", "roles"]`)."""

MAX_ISSUERS: Final = 64


class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One trusted issuer. Keys come from `jwks_file`, else `jwks_url`, else OpenID discovery."""

    issuer: str
    """Compared exactly with `iss`: no trailing slash is added or removed (RFC 8725, 3.8)."""
    audience: str | tuple[str, ...]
    """Ours. One of them must stand in `aud`."""
    kind: Kind
    kind_claim: str | None = None
    """Claim that says `human`, `workload` or `agent`; `kind` where it is absent."""
    algorithms: tuple[str, ...]
    """RFC 8725, 3.1. Asymmetric ones only; see `ostiary.identity.jose.ALGORITHMS`."""
    jwks_url: str | None = None
    jwks_file: str | None = None
    ca_file: str | None = None
    """PEM bundle that the issuer's TLS certificate must chain to; None: the system's."""
    token_types: tuple[str, ...] = ("", "jwt")
    """Values of the `typ` header (RFC 8725, 3.11), lower case; "" is an absent one. `at+jwt` for access tokens."""
    authorized_parties: tuple[str, ...] = ()
    """Accepted in `azp` beside our own audiences (OpenID Connect Core, 3.1.3.7)."""
    groups_claim: ClaimPath | None = "groups"
    name_claim: str = "name"
    email_claim: str = "email"
    require_verified_email: bool = True
    """Refuse a token whose `email_verified` is anything but true. Without it the address is dropped."""
    require: dict[str, Condition] = {}
    """Trust conditions: every one must hold, a missing claim fails."""
    initiator_claim: str | None = None
    initiator_name_claim: str | None = None
    initiator_proved: bool = False
    """Whether this issuer proves who started a run; else the initiator is named as the owner only."""
    initiator_proof: dict[str, Condition] = {}
    """And only where these hold: `{ run_attempt = "1" }` leaves out re-runs."""
    task_claim: str | None = None
    subject_prefix: str | None = None
    purpose_claim: str | None = None
    ticket_claim: str | None = None
    actor_kind: Kind = Kind.AGENT
    actor_issuers: tuple[str, ...] = ()
    """Other issuers that this one may name inside `act`; its own is always fine."""
    leeway_seconds: float = 30
    """For `nbf` and `iat`. There is none for `exp`."""
    max_lifetime_seconds: float = 24 * 3600
    """A token that lives longer than this is refused."""
    keys_fresh_seconds: float = 600
    keys_stale_seconds: float = 24 * 3600
    """How old keys may get while the issuer cannot be reached; then its logins fail."""

    @property
    def audiences(self) -> tuple[str, ...]:
        """Our audiences, as a tuple."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience


def is_loopback(host: str | None) -> bool:
    """Whether `host` can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def may_be_near(host: str | None) -> bool:
    """Whether `host` is this machine or its link, in whatever spelling resolvers take: what nobody but the operator sends us to."""
    name = (host or "").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        try:
            found = ipaddress.ip_address(socket.inet_aton(name))  # 127.1, 0x7f000001, 2130706433
        except (OSError, UnicodeError):
            return False
    bare = getattr(found, "ipv4_mapped", None) or found
    return bool(bare.is_loopback or bare.is_unspecified or bare.is_link_local or bare.is_multicast)


def is_safe_url(url: str) -> bool:
    """`https`, or `http` to this machine; no credentials, no fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def issuer_configured(section: config.Issuer, key: str = "issuers") -> Issuer:
    """An `[[issuers]]` section of the configuration as a checked `Issuer`; raises `ConfigError`."""
    issuer = Issuer(
        issuer=section.issuer,
        audience=section.audience,
        kind=section.kind,
        kind_claim=section.kind_claim,
        algorithms=section.algorithms,
        jwks_url=section.jwks_url,
        jwks_file=None if section.jwks_file is None else str(section.jwks_file),
        ca_file=None if section.ca_file is None else str(section.ca_file),
        token_types=section.token_types,
        authorized_parties=section.authorized_parties,
        groups_claim=section.groups_claim or None,
        name_claim=section.name_claim,
        email_claim=section.email_claim,
        require_verified_email=section.require_verified_email,
        require=dict(section.required_claims),
        initiator_claim=section.initiator_claim,
        initiator_name_claim=section.initiator_name_claim,
        initiator_proved=section.initiator_proved,
        initiator_proof=dict(section.initiator_proof),
        actor_kind=section.actor_kind,
        actor_issuers=section.actor_issuers,
        task_claim=section.task_claim,
        subject_prefix=section.subject_prefix,
        purpose_claim=section.purpose_claim,
        ticket_claim=section.ticket_claim,
        leeway_seconds=section.leeway_seconds,
        max_lifetime_seconds=section.max_token_seconds,
        keys_fresh_seconds=section.jwks_seconds,
        keys_stale_seconds=section.jwks_stale_seconds,
    )
    check_issuer(issuer, key)
    return issuer


def issuer_from(table: Mapping[str, Any], key: str = "issuers") -> Issuer:
    """One `[[issuers]]` table as a checked `Issuer`; `ConfigError` names the key under `key`."""
    try:
        issuer = msgspec.convert(dict(table), Issuer)
    except msgspec.ValidationError as error:
        raise ConfigError(key, str(error)) from None
    check_issuer(issuer, key)
    return issuer


def check_issuer(issuer: Issuer, key: str = "issuers") -> None:
    """Raise `ConfigError` for an issuer that we cannot, or must not, run with."""
    if not issuer.issuer or not issuer.issuer.isprintable():
        raise ConfigError(f"{key}.issuer", "is empty or unprintable")
    if not issuer.audiences or not all(issuer.audiences):
        raise ConfigError(f"{key}.audience", "name at least one audience; without it any token of this issuer would do")
    unknown = sorted(set(issuer.algorithms) - ALGORITHMS)
    if unknown or not issuer.algorithms:
        raise ConfigError(f"{key}.algorithms", f"must be some of {sorted(ALGORITHMS)}; not accepted: {unknown}")
    if issuer.jwks_url is not None and issuer.jwks_file is not None:
        raise ConfigError(f"{key}.jwks_file", "give jwks_url or jwks_file, not both")
    if issuer.jwks_url is not None and not is_safe_url(issuer.jwks_url):
        raise ConfigError(f"{key}.jwks_url", "must be https (http only to this machine)")
    if issuer.jwks_url is None and issuer.jwks_file is None and not is_safe_url(issuer.issuer):
        raise ConfigError(f"{key}.issuer", "must be an https URL for discovery; else give jwks_url or jwks_file")
    for name in ("leeway_seconds", "max_lifetime_seconds", "keys_fresh_seconds", "keys_stale_seconds"):
        if getattr(issuer, name) < 0:
            raise ConfigError(f"{key}.{name}", "must not be negative")
    if issuer.leeway_seconds > 300:
        raise ConfigError(f"{key}.leeway_seconds", "more than 5 minutes hides a wrong clock")


def check_issuers(issuers: tuple[Issuer, ...], own: str | None) -> None:
    """Raise `ConfigError` for two issuers of one name, or one that has the gateway's own."""
    names = [issuer.issuer for issuer in issuers]
    if len(names) > MAX_ISSUERS:
        raise ConfigError("issuers", f"more than {MAX_ISSUERS}")
    if len(set(names)) != len(names):
        raise ConfigError("issuers", "two tables have the same issuer")
    if own is not None and own in names:
        raise ConfigError("issuers", "the gateway's own issuer cannot be configured as another's")
