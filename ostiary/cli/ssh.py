"""`ostiary ssh-cert` and `ostiary ssh-config`: what a vanilla OpenSSH client needs to log in without a password."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from ostiary.cli.asking import answers
from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.login import api_url
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, complete_connection
from ostiary.cli.output import Output, emit_json, say
from ostiary.cli.tokens import (
    SUBJECT_TOKEN,
    Account,
    ActorToken,
    Api,
    CaFile,
    Details,
    Purpose,
    SubjectToken,
    Ticket,
    exchanged,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Connections = Annotated[
    list[str], typer.Argument(help="The connections that it is for.", autocompletion=complete_connection)
]
Key = Annotated[Path, typer.Option(help="Private key, Ed25519 or ECDSA; made if it is not there.")]
DEFAULT_KEY = Path("~/.ssh/ostiary")


def ssh_cert(
    connections: Connections,
    key: Key = DEFAULT_KEY,
    source: Annotated[
        list[str] | None, typer.Option(help="Network that it may be used from (192.0.2.0/24); any if not given.")
    ] = None,
    subject: SubjectToken = SUBJECT_TOKEN,
    actor: ActorToken = None,
    api: Api = None,
    ca_file: CaFile = None,
    purpose: Purpose = "",
    ticket: Ticket = "",
    details: Details = None,
    account: Account = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Get a short-lived SSH certificate, KEY-cert.pub. It ends with the token that it is made from, and is revoked with it."""
    from ostiary.api.client import ask

    private = key.expanduser()
    public = _public_key(private)
    url = api_url(api, config)
    granted = exchanged(config, api, subject, actor, connections, purpose, ticket, details, account, ca_file)
    body = {"public_key": public, "connections": connections, "sources": source or []}
    trust = None if ca_file is None else str(ca_file)
    try:
        with answers(url):
            answer = ask(url, "POST", "/v1/ssh/certificates", granted.token, body=body, ca_file=trust)
        certificate, expires = str(answer["certificate"]), int(answer["expires"])
    except (KeyError, TypeError, ValueError):
        raise CommandFailed(ExitCode.PROTOCOL, f"{url} does not answer as a gateway does") from None
    place = private.with_name(f"{private.name}-cert.pub")
    _write(place, certificate + "\n", 0o644)
    if output is Output.JSON:
        emit_json({"certificate": str(place), "key": str(private), "expires": expires, "connections": connections})
        return
    say(f"{place} is good for {max(1, granted.seconds // 60)} minutes, on {' '.join(connections)}")


def ssh_config(
    connections: Connections,
    key: Key = DEFAULT_KEY,
    gateway: Annotated[
        str | None,
        typer.Option(
            "--gateway", envvar="OSTIARY_SSH_GATEWAY", help="host:port of the SSH listener, as clients reach it."
        ),
    ] = None,
    suffix: Annotated[str, typer.Option(help="Put behind each connection's name to make the name of its host.")] = "",
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Print the lines for ~/.ssh/config, and keep beside KEY whom to believe about the gateway's host key."""
    from ostiary.api.client import about_ssh
    from ostiary.config.words import split_address
    from ostiary.model.errors import ConfigError

    url = api_url(api, config)
    try:
        with answers(url, more="; is there a [listen.ssh]?"):
            told = about_ssh(url, ca_file=None if ca_file is None else str(ca_file))
        host, port = split_address(gateway or str(told["address"]))
    except (KeyError, ValueError) as exc:
        raise ConfigError("--gateway", str(exc)) from None
    if gateway is None and host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = urlsplit(url).hostname or host
    private = key.expanduser().absolute()
    known = private.with_name(f"{private.name}.known_hosts")
    if isinstance(authority := told.get("host_authority"), str):
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(known, f"@cert-authority {host if port == 22 else f'[{host}]:{port}'} {authority}\n", 0o644)
    else:
        say("the listener has a host key of its own: ask its operator for it")
    if output is Output.JSON:
        emit_json({"host": host, "port": port, "key": str(private), "known_hosts": str(known), "connections": connections})
        return
    sys.stdout.write("\n".join(_stanza(connections, suffix, host, port, private, known)) + "\n")


def _stanza(connections: Sequence[str], suffix: str, host: str, port: int, key: Path, known: Path) -> list[str]:
    """ssh_config(5). What is not named here stays as the user has it, but for what would send a login elsewhere."""
    lines: list[str] = []
    for name in connections:
        lines += [
            f"Host {name}{suffix}",
            f"  HostName {host}",
            f"  Port {port}",
            f"  User {name}",
            f'  IdentityFile "{key}"',
            f'  CertificateFile "{key}-cert.pub"',
            "  IdentitiesOnly yes",
            f'  UserKnownHostsFile "{known}"',
            "  StrictHostKeyChecking yes",
            "  ProxyCommand none",
            "  ForwardAgent no",
            "  ForwardX11 no",
            "",
        ]
    return lines[:-1]


def _public_key(private: Path) -> str:
    """The public half of a key, as a line; both are made if they are not there."""
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    beside = private.with_name(f"{private.name}.pub")
    try:
        if beside.exists():
            return beside.read_text().strip()
        if not private.exists():
            private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Ed25519PrivateKey.generate()
            pem = made.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption())
            _write(private, pem.decode(), 0o600)
        found: Any = ser.load_ssh_private_key(private.read_bytes(), None)
        line: str = found.public_key().public_bytes(ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH).decode()
        _write(beside, line + " ostiary\n", 0o644)
    except (OSError, ValueError, TypeError) as exc:
        raise CommandFailed(
            ExitCode.STORAGE,
            f"{private} cannot be used ({exc}); name another key, or put its public half into {beside}",
        ) from None
    return line


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file as a whole."""
    import os

    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as exc:
        raise CommandFailed(ExitCode.STORAGE, f"{path}: {exc.strerror}") from None
