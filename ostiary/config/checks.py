"""What types cannot say about a configuration: that plaintext stays on loopback, that files are there, that names fit.

`freeze` turns the file's shape into the `Config` that the gateway runs with. Not checked here, because it needs the
world: that a secret resolves (`ostiary.vault`), that a policy validates (`ostiary.policy`), that a target answers
(`ostiary connections test`).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import re2

from ostiary.config.aws import aws_address, aws_connection, rds_iam
from ostiary.config.http import check_places, check_rows, check_url, http_connection
from ostiary.config.masks import data_classes, detectors, mask_key
from ostiary.config.presets import OPEN_TO_ALL
from ostiary.config.recordings import recordings
from ostiary.config.trust import groups_source, job_webhooks, misuse
from ostiary.config.types import (
    Admin,
    Alert,
    Api,
    Approvals,
    Audit,
    AwsIdentities,
    AwsTarget,
    Budget,
    Client,
    Config,
    File,
    HttpTarget,
    Issuer,
    Listener,
    PostgresTarget,
    Protect,
    ProtectRule,
    Saml,
    Scim,
    Section,
    SshListener,
    SshTarget,
    Target,
)
from ostiary.config.words import is_loopback, split_address
from ostiary.config.workers import check_workers
from ostiary.model.connections import (
    ColumnRule,
    Connection,
    PostgresConnection,
    PostgresUpstream,
    Protected,
    ProtectedPath,
    SshConnection,
    SshUpstream,
)
from ostiary.model.errors import ConfigError
from ostiary.model.secrets import SecretRef

Door = TypeVar("Door", Listener, Api)

AWS_ISSUER: Final = "https://sts.amazonaws.com"

_PART: Final = re.compile(r'\s*(?:"((?:[^"\0]|"")+)"|([^\s".]+))\s*')
_PUBLIC_KEY: Final = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( .*)?")
_ENV: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONNECTION: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def freeze(written: File, file: Path, digest: str) -> Config:
    """Check `written` as a whole, make its paths absolute and its connections model values."""
    folder = file.parent
    _check_addresses(written)
    doors: dict[str, Listener] = {}
    for name, each in _listeners(written).items():
        key = f"listen.{name}"
        doors[name] = ssh_door(key, each, folder) if isinstance(each, SshListener) else _door(key, each, folder)
    listen = msgspec.structs.replace(written.listen, **doors)
    if not written.policy.files:
        raise ConfigError("policy.files", "is empty, so nothing would be permitted; name at least one Cedar file")
    connections = {name: _connection(name, target, written, folder) for name, target in written.connections.items()}
    check_places(connections)
    check_rows(written.budgets, connections)
    check_workers(written)
    return Config(
        path=str(file),
        gateway=msgspec.structs.replace(written.gateway, state_dir=str(folder / written.gateway.state_dir)),
        listen=listen,
        api=_door("api", _check_api(written.api), folder),
        audit=_audit(written.audit, folder),
        recordings=recordings(written.recordings, folder, secret_ref),
        policy=msgspec.structs.replace(written.policy, files=_policy_files(written.policy.files, folder)),
        approvals=_approvals(written.approvals, folder),
        budgets=_named("budgets", written.budgets, written),
        alerts=_alerts(written),
        issuers=_issuers(written.issuers, folder),
        tokens=written.tokens,
        saml=_saml(written, folder),
        clients=_clients(written.clients, folder),
        scim=_scim(written, folder),
        aws_identities=_aws_identities(written, folder),
        admin=_admin(written),
        misuse=misuse(written.misuse),
        job_webhooks=job_webhooks(written, lambda where, text: secret_ref(where, text, folder)),
        connections=connections,
        danger_keys=tuple(sorted(_dangers("", written))),
        digest=digest,
    )


def _address(key: str, address: str) -> tuple[str, int]:
    try:
        return split_address(address)
    except ValueError as exc:
        raise ConfigError(key, str(exc)) from None


def _listeners(written: File) -> dict[str, Listener]:
    listen = written.listen
    return {name: each for name in listen.__struct_fields__ if (each := getattr(listen, name)) is not None}


def _check_addresses(written: File) -> None:
    taken: dict[tuple[str, int], str] = {}
    doors: list[tuple[str, Listener | Api]] = [("api", written.api)]
    doors += [(f"listen.{name}", each) for name, each in _listeners(written).items()]
    for key, door in doors:
        address = _address(f"{key}.address", door.address)
        if address[1] and address in taken:
            raise ConfigError(f"{key}.address", f"is the same as {taken[address]}.address; each needs its own port")
        taken[address] = key
    if (mtls := written.api.mtls_address) is not None and (place := _address("api.mtls_address", mtls))[1] and place in taken:
        raise ConfigError("api.mtls_address", f"is the same as {taken[place]}.address; each needs its own port")


def _file(key: str, path: str, folder: Path) -> str:
    full = folder / path
    if not full.is_file():
        raise ConfigError(key, f"there is no file {full}; correct the path, or make the file")
    return str(full)


def _optional_file(key: str, path: str | None, folder: Path) -> str | None:
    return None if path is None else _file(key, path, folder)


def _pair(key: str, first: tuple[str, str | None], second: tuple[str, str | None]) -> None:
    for (name, value), (other, beside) in ((first, second), (second, first)):
        if value is None and beside is not None:
            raise ConfigError(f"{key}.{name}", f"is missing, while {other} is set; set both, or neither")


def _door(key: str, door: Door, folder: Path) -> Door:
    """Check what listens: TLS files in pairs, and no plaintext off this machine unless somebody wrote danger."""
    _pair(key, ("tls_cert", door.tls_cert), ("tls_key", door.tls_key))
    if door.tls_cert is None and not door.danger_plaintext and not is_loopback(door.host):
        raise ConfigError(
            f"{key}.tls_cert",
            f"is missing, and {door.address} is not on loopback: tokens would cross the network readable. Set tls_cert"
            f" and tls_key, or listen on 127.0.0.1, or set {key}.danger_plaintext = true",
        )
    if door.client_ca is not None and door.tls_cert is None:
        raise ConfigError(f"{key}.client_ca", "asks for certificates in TLS, and there is none: set tls_cert and tls_key")
    return msgspec.structs.replace(
        door,
        tls_cert=_optional_file(f"{key}.tls_cert", door.tls_cert, folder),
        tls_key=_optional_file(f"{key}.tls_key", door.tls_key, folder),
        client_ca=_optional_file(f"{key}.client_ca", door.client_ca, folder),
    )


def _check_api(api: Api) -> Api:
    if api.url is not None:
        check_url("api.url", api.url, danger=api.danger_plaintext)
    _pair("api", ("mtls_address", api.mtls_address), ("client_ca", None if api.client_ca is None else str(api.client_ca)))
    if api.mtls_url is not None:
        check_url("api.mtls_url", api.mtls_url, danger=False)
        if api.mtls_address is None:
            raise ConfigError("api.mtls_address", "is missing, while mtls_url is set")
    return api


def _audit(audit: Audit, folder: Path) -> Audit:
    tail = folder / audit.tail_dir
    if not tail.is_dir():
        raise ConfigError("audit.tail_dir", f"there is no folder {tail}; name one on a memory file system")
    if audit.tail_bytes & (audit.tail_bytes - 1):
        raise ConfigError("audit.tail_bytes", "must be a power of two: 67108864 is 64 MiB")
    witnesses = _optional_file("audit.witness_policy", audit.witness_policy, folder)
    if audit.witness_lag_seconds and witnesses is None:
        raise ConfigError("audit.witness_lag_seconds", "needs witness_policy: there is no witness to wait for")
    return msgspec.structs.replace(audit, tail_dir=str(tail), witness_policy=witnesses)


def _approvals(approvals: Approvals, folder: Path) -> Approvals:
    """Check who is told, and that what is broken is reviewed by somebody. Secrets stay references, with whole paths."""
    webhooks = []
    for index, webhook in enumerate(approvals.webhooks):
        key = f"approvals.webhooks[{index}]"
        check_url(f"{key}.url", webhook.url)
        secret = str(secret_ref(f"{key}.secret", webhook.secret, folder))
        webhooks.append(msgspec.structs.replace(webhook, secret=secret))
    if approvals.break_glass_groups and not approvals.review_groups:
        raise ConfigError(
            "approvals.review_groups", "is empty, while glass may be broken: name the groups that review it afterwards"
        )
    slack = approvals.slack
    if slack is not None:
        slack = msgspec.structs.replace(
            slack,
            webhook=str(secret_ref("approvals.slack.webhook", slack.webhook, folder)),
            signing_secret=str(secret_ref("approvals.slack.signing_secret", slack.signing_secret, folder)),
        )
    return msgspec.structs.replace(approvals, webhooks=tuple(webhooks), slack=slack)


Rule = TypeVar("Rule", Budget, Alert)


def _named(key: str, rules: tuple[Rule, ...], written: File) -> tuple[Rule, ...]:
    """Check that each has a name of its own, and that the connections that it is about are there."""
    names: set[str] = set()
    for index, rule in enumerate(rules):
        if rule.name in names:
            raise ConfigError(f"{key}[{index}].name", "is the name of another one; give each its own")
        names.add(rule.name)
        for connection in rule.connections:
            if connection not in written.connections:
                raise ConfigError(f"{key}[{index}].connections", "names a connection that is not configured")
    return rules


def _alerts(written: File) -> tuple[Alert, ...]:
    for index, alert in enumerate(_named("alerts", written.alerts, written)):
        if "demand-approval" in alert.do and not alert.approvers:
            raise ConfigError(f"alerts[{index}].approvers", "is empty, while approval is demanded: name the groups that give it")
    return written.alerts


def _policy_files(files: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    full = tuple(_file(f"policy.files[{index}]", path, folder) for index, path in enumerate(files))
    for index, path in enumerate(full):
        if path in full[:index]:
            raise ConfigError(f"policy.files[{index}]", "names a file a second time; keep one")
    return full


def _issuers(issuers: tuple[Issuer, ...], folder: Path) -> tuple[Issuer, ...]:
    seen: dict[str, int] = {}
    made = []
    for index, issuer in enumerate(issuers):
        key = f"issuers[{index}]"
        if issuer.issuer in seen:
            raise ConfigError(f"{key}.issuer", f"is the same as issuers[{seen[issuer.issuer]}].issuer; merge the two")
        seen[issuer.issuer] = index
        ways = [issuer.discovery, issuer.jwks_url is not None, issuer.jwks_file is not None]
        if sum(ways) != 1:
            raise ConfigError(key, "must say in exactly one way where its keys are: discovery, jwks_url or jwks_file")
        if not issuer.algorithms:
            raise ConfigError(f"{key}.algorithms", "is empty, so no token could be verified; name at least one")
        if issuer.preset in OPEN_TO_ALL and not issuer.required_claims:
            raise ConfigError(
                f"{key}.required_claims",
                f"is empty: anybody can get a token of {issuer.issuer}; say whose is meant, as in"
                ' { repository = "shop/deploy" }',
            )
        if issuer.login_client_id is not None and not issuer.discovery:
            raise ConfigError(f"{key}.login_client_id", "needs discovery = true: that is where its login page is found")
        if issuer.discovery:
            check_url(f"{key}.issuer", issuer.issuer)
        if issuer.jwks_url is not None:
            check_url(f"{key}.jwks_url", issuer.jwks_url)
        made.append(
            msgspec.structs.replace(
                issuer,
                jwks_file=_optional_file(f"{key}.jwks_file", issuer.jwks_file, folder),
                ca_file=_optional_file(f"{key}.ca_file", issuer.ca_file, folder),
                login_client_secret=None
                if issuer.login_client_secret is None
                else _secret(f"{key}.login_client_secret", issuer.login_client_secret, folder),
                groups_source=groups_source(f"{key}.groups_source", issuer, partial(_secret, folder=folder), partial(_file, folder=folder)),
            )
        )
    return tuple(made)


def _saml(written: File, folder: Path) -> tuple[Saml, ...]:
    made = []
    taken = {issuer.issuer for issuer in written.issuers}
    for index, each in enumerate(written.saml):
        key = f"saml[{index}]"
        if each.issuer in taken:
            raise ConfigError(f"{key}.issuer", "is an issuer that is configured already; each needs its own name")
        taken.add(each.issuer)
        check_url(f"{key}.sso_url", each.sso_url)
        made.append(msgspec.structs.replace(each, cert_file=_file(f"{key}.cert_file", each.cert_file, folder)))
    return tuple(made)


def _clients(clients: tuple[Client, ...], folder: Path) -> tuple[Client, ...]:
    made = []
    for index, client in enumerate(clients):
        key = f"clients[{index}]"
        if client.id == "ostiary" or any(client.id == other.id for other in clients[:index]):
            raise ConfigError(f"{key}.id", f"{client.id} is taken; each client needs its own id")
        for number, uri in enumerate(client.redirect_uris):
            check_url(f"{key}.redirect_uris[{number}]", uri)
        made.append(
            msgspec.structs.replace(client, jwks_file=_optional_file(f"{key}.jwks_file", client.jwks_file, folder))
        )
    return tuple(made)


def _known_issuer(key: str, issuer: str, written: File) -> None:
    if issuer not in [each.issuer for each in written.issuers]:
        raise ConfigError(key, "is none of [[issuers]]; name one of them, exactly as it is written there")


def _scim(written: File, folder: Path) -> Scim | None:
    scim = written.scim
    if scim is None:
        return None
    _known_issuer("scim.issuer", scim.issuer, written)
    return msgspec.structs.replace(scim, token=_secret("scim.token", scim.token, folder))


def _aws_identities(written: File, folder: Path) -> AwsIdentities | None:
    aws = written.aws_identities
    if aws is None:
        return None
    if any(each.issuer == AWS_ISSUER for each in written.issuers):
        raise ConfigError("aws_identities", f"has the issuer {AWS_ISSUER} to itself; take it out of [[issuers]]")
    for number, endpoint in enumerate(aws.endpoints):
        key = f"aws_identities.endpoints[{number}]"
        check_url(key, endpoint)
        if urlsplit(endpoint).path or urlsplit(endpoint).query:
            raise ConfigError(key, "is a scheme and a host alone, without a slash at the end")
    return msgspec.structs.replace(aws, ca_file=_optional_file("aws_identities.ca_file", aws.ca_file, folder))


def _secret(key: str, text: str, folder: Path) -> str:
    ref = secret_ref(key, text, folder)
    return f"{ref.scheme}:{ref.place}"


def _admin(written: File) -> Admin:
    if written.admin.issuer is not None:
        _known_issuer("admin.issuer", written.admin.issuer, written)
    return written.admin


def _connection(name: str, target: Target, written: File, folder: Path) -> Connection:
    key = f"connections.{name}"
    if not _CONNECTION.fullmatch(name):
        raise ConfigError(
            key, "a connection's name holds letters, digits, `-`, `_` and `.`, at most 63, for clients to type"
        )
    general: dict[str, Any] = {
        "name": name,
        "labels": tuple(sorted(f"{label}={value}" for label, value in target.labels.items())),
        "durability": target.durability or written.audit.durability,
        "recording": target.recording,
        "detect": detectors(key, target.detect, target.detectors),
        "max_sessions": target.max_sessions,
    }
    reach = _reach(key, target, folder)
    match target:
        case PostgresTarget():
            return _postgres(key, target, general, reach, folder)
        case SshTarget():
            return ssh_connection(key, target, general, reach, folder)
        case AwsTarget():
            return aws_connection(key, target, general, reach, lambda where, text: secret_ref(where, text, folder))
        case HttpTarget():
            return http_connection(key, target, general, reach, lambda where, text: secret_ref(where, text, folder))
        case _:
            raise ConfigError(f"{key}.type", "is not a kind of target that this gateway speaks to")


def _reach(key: str, target: Target, folder: Path) -> dict[str, Any]:
    """What an `Upstream` of any kind is made of."""
    host, port = _address(f"{key}.address", aws_address(target) if isinstance(target, AwsTarget) else target.address)
    if not port:
        raise ConfigError(f"{key}.address", "needs the target's port, from 1 to 65535")
    if target.tls == "disable" and not target.danger_plaintext and not is_loopback(host):
        raise ConfigError(
            f"{key}.tls",
            f"`disable` is allowed to loopback only, and {host} is not: the credential and all data would cross the"
            f" network readable. Use verify-full, or set {key}.danger_plaintext = true",
        )
    _pair(key, ("cert_file", target.cert_file), ("key_file", target.key_file))
    return {
        "host": host,
        "port": port,
        "tls": target.tls,
        "ca_file": _optional_file(f"{key}.ca_file", target.ca_file, folder),
        "cert_file": _optional_file(f"{key}.cert_file", target.cert_file, folder),
        "key_file": _optional_file(f"{key}.key_file", target.key_file, folder),
        "connect_timeout": target.connect_seconds,
    }


def _postgres(
    key: str, target: PostgresTarget, general: dict[str, Any], reach: dict[str, Any], folder: Path
) -> PostgresConnection:
    upstream = PostgresUpstream(
        database=target.database,
        user=target.user,
        password=None if target.password is None else secret_ref(f"{key}.password", target.password, folder),
        rds_iam=None if target.rds_iam is None else rds_iam(key, target, lambda where, text: secret_ref(where, text, folder)),
        **reach,
    )
    masks = [each.mask for each in (*target.protect.values(), *target.protect_rules)]
    return PostgresConnection(
        upstream=upstream,
        protect=_protected(key, target.protect),
        rules=_rules(key, target.protect_rules),
        data_classes=data_classes(target.classes),
        mask_key=mask_key(key, target.mask_key, masks, lambda where, text: secret_ref(where, text, folder)),
        catalogue_seconds=target.catalogue_seconds, sql_comment=target.sql_comment,
        **general,
    )


def ssh_door(key: str, door: SshListener, folder: Path) -> SshListener:
    """An SSH listener: it has a host key, and no TLS."""
    if door.tls_cert or door.tls_key or door.client_ca or door.danger_plaintext:
        raise ConfigError(f"{key}.tls_cert", "TLS means nothing here: SSH encrypts by itself. Leave it out")
    return msgspec.structs.replace(door, host_key=_optional_file(f"{key}.host_key", door.host_key, folder))


def ssh_connection(
    key: str, target: SshTarget, general: dict[str, Any], reach: dict[str, Any], folder: Path
) -> SshConnection:
    """An account on a host: one way in, and a host whose key is known."""
    if target.tls != "verify-full" or target.ca_file or target.cert_file or target.danger_plaintext:
        raise ConfigError(f"{key}.tls", "means nothing for SSH, which encrypts by itself. Leave it out")
    ways = {"key": target.key, "authority": target.authority, "password": target.password}
    if sum(way is not None for way in ways.values()) != 1:
        raise ConfigError(f"{key}.key", "set exactly one way to log in: key, authority or password")
    if not target.host_keys and not target.host_authorities:
        raise ConfigError(
            f"{key}.host_keys",
            "is missing: a host is never believed unseen. Write the line that `ssh-keyscan` prints for it, checked by"
            " another way, without the host's name; or the key of the authority that signs its certificate in"
            " host_authorities",
        )
    for name in ("host_keys", "host_authorities"):
        for index, line in enumerate(getattr(target, name)):
            if not _PUBLIC_KEY.fullmatch(line.strip()):
                raise ConfigError(f"{key}.{name}[{index}]", "is no public key; write it as `ssh-ed25519 AAAA…`")
    if target.home is not None and not target.home.startswith("/"):
        raise ConfigError(f"{key}.home", "must be an absolute path on the host")
    reach["tls"] = "ssh"

    def ref(name: str) -> SecretRef | None:
        way = ways[name]
        return None if way is None else secret_ref(f"{key}.{name}", way, folder)

    upstream = SshUpstream(
        user=target.user,
        password=ref("password"),
        key=ref("key"),
        authority=ref("authority"),
        host_keys=target.host_keys,
        host_authorities=target.host_authorities,
        **reach,
    )
    return SshConnection(
        upstream=upstream,
        home=target.home,
        accept_env=target.accept_env,
        keep_files=target.keep_files,
        masks_files=target.files != "clear",
        refuses_files=target.files == "refuse",
        protect=tuple(ProtectedPath(pattern, cls) for pattern, cls in target.protect.items()),
        **general,
    )


def secret_ref(key: str, text: str, folder: Path) -> SecretRef:
    """Parse `file:/path` or `env:NAME`. What is neither could be the secret itself, so it is never quoted."""
    scheme, colon, place = text.partition(":")
    if colon and scheme == "env" and _ENV.fullmatch(place):
        return SecretRef("env", place)
    if colon and scheme == "file" and place:
        return SecretRef("file", _file(key, place, folder))
    raise ConfigError(
        key,
        "is not a reference. A secret never stands in the configuration: put it into a file only the gateway's user can"
        " read and write file:/path/to/it, or into the environment and write env:NAME",
    )


def _protected(key: str, protect: dict[str, Protect]) -> tuple[Protected, ...]:
    made: dict[tuple[str, str, str], Protected] = {}
    for written, how in protect.items():
        parts = column_name(written)
        place = f'{key}.protect."{written}"'
        if parts is None:
            raise ConfigError(place, "write it as schema.table.column; a part with dots or capitals in double quotes")
        if parts in made:
            raise ConfigError(place, "names a column a second time; keep one")
        made[parts] = Protected(*parts, how.cls, how.mask)
    return tuple(made.values())


def _rules(key: str, rules: tuple[ProtectRule, ...]) -> tuple[ColumnRule, ...]:
    made = []
    for number, rule in enumerate(rules):
        try:
            re2.compile(rule.columns)
        except re2.error as exc:
            raise ConfigError(f"{key}.protect_rules[{number}].columns", f"is no regular expression of RE2: {exc}") from None
        made.append(ColumnRule(rule.columns, rule.cls, rule.mask))
    return tuple(made)


def column_name(text: str) -> tuple[str, str, str] | None:
    """Split `schema.table.column` as SQL reads it: unquoted parts fold to lower case, `""` in quotes is one quote.

    None if it is not exactly three parts. (PostgreSQL, 4.1.1: Identifiers and Key Words.)
    """
    parts: list[str] = []
    at = 0
    while (found := _PART.match(text, at)) is not None:
        quoted, bare = found.groups()
        parts.append(quoted.replace('""', '"') if quoted is not None else bare.lower())
        at = found.end()
        if at == len(text):
            return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None
        if text[at] != ".":
            return None
        at += 1
    return None


def _dangers(key: str, value: Any) -> list[str]:
    if isinstance(value, Section):
        return [
            found
            for field in msgspec.structs.fields(value)
            for found in _dangers(f"{key}.{field.name}".lstrip("."), getattr(value, field.name))
        ]
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in _dangers(f"{key}.{name}", item)]
    return [key] if (value is True or (isinstance(value, tuple) and value)) and key.rpartition(".")[2].startswith("danger_") else []
