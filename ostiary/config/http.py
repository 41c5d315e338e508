"""Checks of what is written of an HTTP service."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ostiary.config.types import Credential, HttpTarget, is_loopback
from ostiary.model.connections import (
    Connection,
    CredentialKind,
    HttpConnection,
    HttpCredential,
    HttpRoute,
    HttpUpstream,
    ProtectedField,
    Strategy,
)
from ostiary.model.errors import ConfigError
from ostiary.model.operations import Action
from ostiary.model.secrets import SecretRef

_FIELD: Final = re.compile(r"(?:json:(?:/[^/]+)+|xml:(?:/{1,2}(?:[A-Za-z_][\w.-]*|\*))+(?:/{1,2}@[A-Za-z_][\w.-]*)?)")
_TEMPLATE: Final = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()+,=:@-]+|\{[a-z_][a-z0-9_]*\}))*(?:/(?:\{[a-z_][a-z0-9_]*\.\.\.\})?)?")
_MEDIA: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
ROUTE_ACTIONS: Final = frozenset(Action) - {Action.CONNECT, Action.UNMASK}
FIELD_STRATEGIES: Final = frozenset({Strategy.REDACT, Strategy.LAST4, Strategy.NULL})
"""What a mask can leave of a field of JSON or XML."""

Refer = Callable[[str, str], SecretRef]


def http_connection(
    key: str, target: HttpTarget, general: dict[str, Any], reach: dict[str, Any], refer: Refer
) -> HttpConnection:
    """Freeze one service; `refer` parses a reference to a secret."""
    prefix = target.prefix if target.prefix is not None else "" if target.hosts else f"/{general['name']}"
    default_port = {"disable": 80}.get(reach["tls"], 443)
    place = f"[{reach['host']}]" if ":" in reach["host"] else reach["host"]
    named = place if reach["port"] == default_port else f"{place}:{reach['port']}"
    for index, host in enumerate(target.hosts):
        if not _HOST.fullmatch(host):
            raise ConfigError(f"{key}.hosts[{index}]", "must be a host name without a port")
    for index, media in enumerate(target.pass_types):
        if not _MEDIA.fullmatch(media):
            raise ConfigError(f"{key}.pass_types[{index}]", "must be a media type in lower case: application/zip")
    return HttpConnection(
        upstream=HttpUpstream(
            host_header=target.host_header or named,
            base_path=target.base_path,
            credential=_credential(f"{key}.credential", target.credential, refer),
            reply_seconds=target.reply_seconds,
            max_connections=target.max_connections,
            **reach,
        ),
        hosts=frozenset(host.lower().rstrip(".") for host in target.hosts),
        prefix=prefix,
        routes=tuple(_routes(key, target)),
        only_routes=target.only_routes,
        protect=tuple(_fields(key, target)),
        pass_types=frozenset(target.pass_types),
        pass_headers=frozenset(name.lower() for name in target.pass_headers),
        max_request_bytes=target.max_request_bytes,
        approval_seconds=target.approval_seconds,
        actor_headers=target.actor_headers,
        **general,
    )


def _credential(key: str, written: Credential, refer: Refer) -> HttpCredential:
    kind = written.kind
    if kind is not CredentialKind.NONE and written.secret is None:
        raise ConfigError(f"{key}.secret", f"is missing, and `{kind.value}` needs one: file:/path or env:NAME")
    if kind in (CredentialKind.BASIC, CredentialKind.CLIENT_CREDENTIALS) and not written.user:
        raise ConfigError(f"{key}.user", f"is missing, and `{kind.value}` needs it")
    if kind is CredentialKind.CLIENT_CREDENTIALS:
        check_url(f"{key}.token_url", written.token_url)
    return HttpCredential(
        kind=kind,
        secret=None if written.secret is None else refer(f"{key}.secret", written.secret),
        header=written.header,
        user=written.user,
        token_url=written.token_url,
        scope=written.scope,
    )


def _routes(key: str, target: HttpTarget) -> list[HttpRoute]:
    made = []
    for index, route in enumerate(target.routes):
        method, _, template = route.match.partition(" ")
        if not _TEMPLATE.fullmatch(template):
            raise ConfigError(
                f"{key}.routes[{index}].match", "must be a method and a path of plain segments and {names}: GET /orders/{id}"
            )
        if route.action not in ROUTE_ACTIONS:
            raise ConfigError(f"{key}.routes[{index}].action", f"`{route.action.value}` is not what a request does")
        made.append(HttpRoute(method=method, template=template, action=route.action.value, name=route.name or route.match))
    return made


def _fields(key: str, target: HttpTarget) -> list[ProtectedField]:
    for place, how in target.protect.items():
        if how.mask not in FIELD_STRATEGIES:
            able = ", ".join(sorted(FIELD_STRATEGIES))
            raise ConfigError(f'{key}.protect."{place}".mask', f"`{how.mask}` is for columns of databases; in HTTP there are {able}")
        if not _FIELD.fullmatch(place):
            raise ConfigError(f'{key}.protect."{place}"', "write it as json:/a/*/b or as xml:/a/b, xml://b, xml://a/@b")
    return [ProtectedField(place, how.cls, how.mask) for place, how in target.protect.items()]


def check_places(connections: Mapping[str, Connection]) -> None:
    """No two services may be reached by the same host or path, nor one by nothing."""
    taken: dict[str, str] = {}
    for name, connection in connections.items():
        if not isinstance(connection, HttpConnection):
            continue
        if not connection.prefix and not connection.hosts:
            raise ConfigError(f"connections.{name}.prefix", "is empty, and no hosts are named: nobody could reach it")
        for place in (*connection.hosts, *([connection.prefix] if connection.prefix else [])):
            if place in taken:
                raise ConfigError(f"connections.{name}", f"is reached by {place}, as {taken[place]} is; keep one of the two")
            taken[place] = name


def check_url(key: str, url: str, *, danger: bool = False) -> None:
    """`url` must be https, or on loopback, and hold no credential."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(key, "is not a URL; write it as https://host/path") from None
    if parts.scheme not in {"https", "http"} or not host:
        raise ConfigError(key, "is not a URL; write it as https://host/path")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(key, "holds a user or a password; a URL in the configuration must not")
    if parts.scheme == "http" and not danger and not is_loopback(host):
        raise ConfigError(key, "must be https: over http anybody on the way could change the answer")


