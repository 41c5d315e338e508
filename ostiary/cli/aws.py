"""`ostiary aws` and `ostiary env`: keys that AWS's SDKs sign with, for one connection and for as long as a token is good."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, complete_connection, load
from ostiary.cli.output import emit_json
from ostiary.cli.tokens import (
    SUBJECT_TOKEN,
    ActorToken,
    Api,
    CaFile,
    Details,
    Purpose,
    SubjectToken,
    Ticket,
    exchanged,
)

Name = Annotated[str, typer.Argument(help="The connection, of type aws.", autocompletion=complete_connection)]
Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint", envvar="OSTIARY_AWS_ENDPOINT", help="URL of the AWS listener; that of the configuration if not given."
    ),
]


def aws(
    name: Name,
    subject: SubjectToken = SUBJECT_TOKEN,
    actor: ActorToken = None,
    api: Api = None,
    ca_file: CaFile = None,
    purpose: Purpose = "",
    ticket: Ticket = "",
    details: Details = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Print keys for a connection as AWS's `credential_process` wants them: JSON, fresh each time."""
    import datetime as dt

    keys = exchanged(config, api, subject, actor, [name], purpose, ticket, details, None, ca_file, keys=True)
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=keys.seconds)
    emit_json(
        {
            "Version": 1,
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret.reveal(),
            "SessionToken": keys.session_token.reveal(),
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


def env(
    name: Name,
    subject: SubjectToken = SUBJECT_TOKEN,
    actor: ActorToken = None,
    api: Api = None,
    endpoint: Endpoint = None,
    ca_file: CaFile = None,
    purpose: Purpose = "",
    ticket: Ticket = "",
    details: Details = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Print what a shell needs to use a connection: `eval "$(ostiary env aws-prod)"`. It holds a secret: do not keep it."""
    where = endpoint or _listener(config)
    keys = exchanged(config, api, subject, actor, [name], purpose, ticket, details, None, ca_file, keys=True)
    lines = {
        "AWS_ENDPOINT_URL": where,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret.reveal(),
        "AWS_SESSION_TOKEN": keys.session_token.reveal(),
    }
    if ca_file is not None:
        lines["AWS_CA_BUNDLE"] = str(ca_file.absolute())
    sys.stdout.write("".join(f"export {each}={shlex.quote(value)}\n" for each, value in lines.items()))


def _listener(config: Path) -> str:
    """URL of the configured AWS listener."""
    from ostiary.model.errors import ConfigError

    listener = load(config).listen.aws
    if listener is None:
        raise ConfigError("listen.aws", "is missing, so there is nothing to connect to; or name --endpoint URL")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listener.host, listener.host)  # noqa: S104 - compared, not bound
    named = listener.names[0] if listener.names else host
    return f"{'https' if listener.tls_cert else 'http'}://{named}:{listener.port}"
