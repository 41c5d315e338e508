"""Checks of what is written of an HTTP service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ostiary.config.masks import Refer, data_classes, mask_key
from ostiary.config.types import Budget, Credential, HttpTarget
from ostiary.config.words import is_loopback
from ostiary.model.connections import (
    AwsConnection,
    Connection,
    CredentialKind,
    HttpConnection,
    HttpCredential,
    HttpRoute,
    HttpUpstream,
    ProtectedField,
)
from ostiary.model.errors import ConfigError
from ostiary.model.operations import Action

_FIELD: Final = re.compile(r"(?:json:(?:/[^/]+)+|xml:(?:/{1,2}(?:[A-Za-z_][\w.-]*|\*))+(?:/{1,2}@[A-Za-z_][\w.-]*)?)")
_TEMPLATE: Final = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()+,=:@-]+|\{[a-z_][a-z0-9_]*\}))*(?:/(?:\{[a-z_][a-z0-9_]*\.\.\.\})?)?")
_MEDIA: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
ROUTE_ACTIONS: Final = frozenset(Action) - {Action.CONNECT, Action.UNMASK}


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
    for name, each in target.classes.items():
        if each.infer:
            raise ConfigError(f"{key}.classes.{name}.infer", "means nothing in HTTP, where nobody filters by a field. Leave it out")
    for name in target.pass_headers:
        if name.lower().replace("_", "-").replace(".", "-").startswith("x-ostiary-"):
            raise ConfigError(f"{key}.pass_headers", f"`{name}` is the gateway's own to say: no caller may")
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
        data_classes=data_classes(target.classes),
        mask_key=mask_key(key, target.mask_key, [each.mask for each in target.protect.values()], refer),
        pass_types=frozenset(target.pass_types),
        pass_headers=frozenset(name.lower() for name in target.pass_headers),
        max_request_bytes=target.max_request_bytes,
        max_message_bytes=target.max_message_bytes,
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
        if route.websocket and method != "GET":
            raise ConfigError(f"{key}.routes[{index}].match", "is about a WebSocket, and those are opened with GET")
        named = route.name or route.match
        made.append(HttpRoute(method=method, template=template, action=route.action.value, name=named, websocket=route.websocket))
    return made


def _fields(key: str, target: HttpTarget) -> list[ProtectedField]:
    for place in target.protect:
        if not _FIELD.fullmatch(place):
            raise ConfigError(f'{key}.protect."{place}"', "write it as json:/a/*/b or as xml:/a/b, xml://b, xml://a/@b")
    return [ProtectedField(place, how.cls, how.mask) for place, how in target.protect.items()]


def check_places(connections: Mapping[str, Connection]) -> None:
    """No two services may be reached by the same host or path, nor one by nothing."""
    taken: dict[str, str] = {}
    for name, connection in connections.items():
        if not isinstance(connection, HttpConnection) or isinstance(connection, AwsConnection):
            continue
        if not connection.prefix and not connection.hosts:
            raise ConfigError(f"connections.{name}.prefix", "is empty, and no hosts are named: nobody could reach it")
        for place in (*connection.hosts, *([connection.prefix] if connection.prefix else [])):
            if place in taken:
                raise ConfigError(f"connections.{name}", f"is reached by {place}, as {taken[place]} is; keep one of the two")
            taken[place] = name


def check_rows(budgets: tuple[Budget, ...], connections: Mapping[str, Connection]) -> None:
    """No budget of rows may be for a service alone: there are none to count, so it would hold nobody."""
    for index, budget in enumerate(budgets):
        found = [name for name in budget.connections if isinstance(connections.get(name), HttpConnection)]
        if budget.of == "rows" and found:
            raise ConfigError(f"budgets[{index}].of", f"rows are not counted on {found[0]}, an HTTP service: count bytes or operations")


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


