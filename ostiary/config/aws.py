"""Checks of what is written of an AWS account."""

from __future__ import annotations

import re
from typing import Any, Final

from ostiary.config.masks import Refer
from ostiary.config.types import AwsKey, AwsTarget, PostgresTarget, Protect
from ostiary.model.connections import (
    AwsConnection,
    AwsCredential,
    AwsCredentialKind,
    CredentialKind,
    HttpCredential,
    HttpUpstream,
    ProtectedField,
    RdsIam,
    Strategy,
)
from ostiary.model.errors import ConfigError

_ATTRIBUTE: Final = re.compile(r"dynamodb:([A-Za-z0-9_.-]{3,255})/([^/*]{1,255})")
_FIELD: Final = re.compile(
    r"([a-z0-9-]+:[A-Za-z0-9]+) ((?:json:(?:/[^/]+)+|xml:(?:/{1,2}(?:[A-Za-z_][\w.-]*|\*))+))"
)
_NONE: Final = HttpCredential(kind=CredentialKind.NONE, secret=None, header="Authorization", user="", token_url="", scope="")
FIELD_STRATEGIES: Final = frozenset({Strategy.REDACT, Strategy.LAST4, Strategy.NULL})
"""What a mask can leave of a field of an answer."""
STS_SUFFIXES: Final = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-us-gov": "amazonaws.com"}


def aws_address(target: AwsTarget) -> str:
    """Where the account is, if nobody says: AWS's own endpoints, of which this is the one that roles are assumed at."""
    return target.address or f"sts.{target.regions[0] if target.regions else '-'}.{STS_SUFFIXES[target.partition]}:443"


def aws_connection(
    key: str, target: AwsTarget, general: dict[str, Any], reach: dict[str, Any], refer: Refer
) -> AwsConnection:
    """Freeze one account; `refer` parses a reference to a secret."""
    if not target.regions:
        raise ConfigError(f"{key}.regions", "is empty: nobody could use the connection")
    fixed = bool(target.address)
    place = f"{reach['host']}:{reach['port']}" if fixed else ""
    return AwsConnection(
        upstream=HttpUpstream(
            host_header=place,
            base_path="",
            credential=_NONE,
            reply_seconds=target.reply_seconds,
            max_connections=target.max_connections,
            **reach,
        ),
        hosts=frozenset(),
        prefix="",
        routes=(),
        only_routes=False,
        protect=(),
        pass_types=frozenset(target.pass_types),
        pass_headers=frozenset(),
        max_request_bytes=target.max_request_bytes,
        approval_seconds=target.approval_seconds,
        actor_headers=False,
        account_id=target.account_id,
        partition=target.partition,
        regions=target.regions,
        aws_credential=_credential(f"{key}.identity", target.identity, refer),
        fixed=fixed,
        unsigned_payload=target.unsigned_payload,
        foreign_buckets=frozenset(target.foreign_buckets),
        danger_hands_out=frozenset(target.danger_hands_out),
        hidden=tuple(_hidden(key, place, how) for place, how in target.protect.items()),
        **general,
    )


def rds_iam(key: str, target: PostgresTarget, refer: Refer) -> RdsIam:
    """Freeze how a database is logged in to with IAM."""
    written = target.rds_iam
    if written is None:
        raise AssertionError("asked for where it stands")
    if target.password is not None:
        raise ConfigError(f"{key}.password", "means nothing beside rds_iam: remove one")
    if target.tls == "disable":
        raise ConfigError(f"{key}.tls", "`disable` is not possible with rds_iam: whoever reads a token can log in with it")
    suffix = STS_SUFFIXES["aws-cn" if written.region.startswith("cn-") else "aws"]
    sts = written.sts or f"https://sts.{written.region}.{suffix}"
    return RdsIam(region=written.region, credential=_credential(f"{key}.rds_iam", written, refer), sts=sts)


def _credential(key: str, written: AwsKey, refer: Refer) -> AwsCredential:
    kind = written.kind
    if kind is AwsCredentialKind.STATIC and not written.access_key:
        raise ConfigError(f"{key}.access_key", "is missing, and `static` needs it")
    if kind is AwsCredentialKind.STATIC and written.secret is None:
        raise ConfigError(f"{key}.secret", "is missing, and `static` needs one: file:/path or env:NAME")
    if kind is AwsCredentialKind.WEB_IDENTITY and (written.token is None or not written.role):
        raise ConfigError(f"{key}.token", "and role are both needed by `web-identity`: file:/path, and the role's ARN")
    return AwsCredential(
        kind=kind,
        access_key=written.access_key,
        secret=None if written.secret is None else refer(f"{key}.secret", written.secret),
        token=None if written.token is None else refer(f"{key}.token", written.token),
        role=written.role,
        external_id=written.external_id,
        session_seconds=written.session_seconds,
    )


def _hidden(key: str, place: str, how: Protect) -> tuple[str, ProtectedField]:
    if how.mask not in FIELD_STRATEGIES:
        able = ", ".join(sorted(FIELD_STRATEGIES))
        raise ConfigError(f'{key}.protect."{place}".mask', f"`{how.mask}` is not made of answers of AWS; there are {able}")
    attribute = _ATTRIBUTE.fullmatch(place)
    if attribute is not None:
        return f"dynamodb:{attribute[1]}", ProtectedField(attribute[2], how.cls, how.mask)
    field = _FIELD.fullmatch(place)
    if field is None:
        raise ConfigError(
            f'{key}.protect."{place}"', 'write it as "dynamodb:TABLE/ATTRIBUTE", or as "SERVICE:Operation json:/a/*/b"'
        )
    return field[1], ProtectedField(field[2], how.cls, how.mask)
