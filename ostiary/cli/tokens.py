"""`ostiary token` and `ostiary connect`: a gateway token for a person's or a job's own, and clients started with it."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostiary.cli.asking import answers
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, complete_connection, load
from ostiary.cli.output import Output, emit_json, say

if TYPE_CHECKING:
    from ostiary.cli.binding import Binding
    from ostiary.config.types import Config
    from ostiary.model.secrets import Secret

SubjectToken = Annotated[
    str,
    typer.Option(
        "--from",
        envvar="OSTIARY_SUBJECT_TOKEN_FROM",
        help="Where the issuer's token is: env:NAME, file:/path, - for standard input; aws: the AWS credentials here prove who it is.",
    ),
]
ActorToken = Annotated[
    str | None,
    typer.Option("--actor", envvar="OSTIARY_ACTOR_TOKEN_FROM", help="Where the token of an agent that acts for it is."),
]
Api = Annotated[
    str | None,
    typer.Option(
        "--api", envvar="OSTIARY_API", help="URL of the gateway's API; that of the configuration if not given."
    ),
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", envvar="OSTIARY_CA_FILE", help="PEM file to trust instead of the system's.")
]
Purpose = Annotated[str, typer.Option(help="What it is for, in a sentence; recorded as said.")]
Ticket = Annotated[str, typer.Option(help="A ticket's number; recorded as said.")]
Details = Annotated[
    Path | None, typer.Option(help="JSON file with authorization_details (RFC 9396): the mandate of this token.")
]
Account = Annotated[
    str | None, typer.Option(help="A service account to use, if the workload's own token proves that it may.")
]
ClientCert = Annotated[
    Path | None,
    typer.Option(
        "--client-cert",
        envvar="OSTIARY_CLIENT_CERT",
        help="PEM file with a client certificate: the token is bound to it, and good on TLS connections with it alone.",
    ),
]
ClientKey = Annotated[
    Path | None, typer.Option("--client-key", envvar="OSTIARY_CLIENT_KEY", help="PEM file with its private key.")
]
SUBJECT_TOKEN = "env:OSTIARY_SUBJECT_TOKEN"  # noqa: S105 - where it is, not what it is


def token(
    connections: Annotated[
        list[str] | None,
        typer.Argument(
            help="Connections that it is for; those that policy allows if none is named.",
            autocompletion=complete_connection,
        ),
    ] = None,
    subject: SubjectToken = SUBJECT_TOKEN,
    actor: ActorToken = None,
    api: Api = None,
    ca_file: CaFile = None,
    purpose: Purpose = "",
    ticket: Ticket = "",
    details: Details = None,
    account: Account = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Exchange an issuer's token for a gateway token, and print it: fit to be the password of `psql`."""
    certificate = certificate_in(client_cert, client_key)
    granted = exchanged(
        config, api, subject, actor, connections or [], purpose, ticket, details, account, ca_file, certificate=certificate
    )
    if output is Output.JSON:
        emit_json(
            {"access_token": granted.token.reveal(), "expires_in": granted.seconds, "connections": connections or []}
        )
        return
    sys.stdout.write(granted.token.reveal() + "\n")
    say(f"good for {granted.seconds // 60} minutes")


def connect(
    name: Annotated[str, typer.Argument(help="The connection.", autocompletion=complete_connection)],
    command: Annotated[
        list[str] | None,
        typer.Argument(help="What to run, after `--`; psql if nothing is named.", metavar="[-- CMD]..."),
    ] = None,
    subject: SubjectToken = SUBJECT_TOKEN,
    actor: ActorToken = None,
    api: Api = None,
    gateway: Annotated[
        str | None,
        typer.Option(
            "--gateway",
            envvar="OSTIARY_GATEWAY",
            help="host:port of the PostgreSQL listener; that of the configuration if not given.",
        ),
    ] = None,
    ca_file: CaFile = None,
    purpose: Purpose = "",
    ticket: Ticket = "",
    details: Details = None,
    account: Account = None,
    bound: Annotated[
        bool,
        typer.Option("--bound", help="Bind the token to a key of this command's own (DPoP), for one connection made at once."),
    ] = False,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> int:
    """Run a client on a connection, logged in: `ostiary connect orders-db`, `ostiary connect orders-db -- pg_dump -s`.

    The token reaches the client in a password file that only this user can read (PGPASSFILE), never on a command line.
    Ends with the client's exit code.
    """
    host, port, tls = listener(config, gateway)
    certificate = certificate_in(client_cert, client_key)
    if certificate is not None and not tls:
        raise typer.BadParameter("--client-cert is shown in TLS, and the listener has none")
    binding = None
    if bound:
        from ostiary.cli.binding import Binding

        if certificate is not None:
            raise typer.BadParameter("--bound and --client-cert both bind the token: give one of them")
        binding = Binding()
    granted = exchanged(
        config, api, subject, actor, [name], purpose, ticket, details, account, ca_file, binding, certificate=certificate
    )
    secret = granted.token
    if binding is not None:
        from ostiary.model.secrets import Secret

        secret = Secret(binding.for_connection(secret.reveal(), name))
    environment = {
        "PGHOST": host,
        "PGPORT": str(port),
        "PGDATABASE": name,
        "PGUSER": _login_name(),
        "PGSSLMODE": "verify-full" if tls else "disable",
    }
    if tls and ca_file is not None:
        environment["PGSSLROOTCERT"] = str(ca_file.absolute())
    if certificate is not None:
        environment |= {"PGSSLCERT": certificate[0], "PGSSLKEY": certificate[1]}
    return _run(command or ["psql"], environment, secret)


def end_job(
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Say, as the last thing that a CI job does, that it is over: what was made for it is good no more."""
    from ostiary.api.client import ask

    url = api if api is not None else load(config).api.base_url
    with answers(url):
        found = ask(url, "POST", "/v1/jobs/end", subject_token(url, subject), ca_file=None if ca_file is None else str(ca_file))
    if output is Output.JSON:
        emit_json({"task": found.get("task")})
        return
    say(f"the job {found.get('task')} is over")


def exchanged(
    config: Path,
    api: str | None,
    subject: str,
    actor: str | None,
    connections: list[str],
    purpose: str,
    ticket: str,
    details: Path | None,
    account: str | None,
    ca_file: Path | None,
    binding: Binding | None = None,
    *,
    certificate: tuple[str, str] | None = None,
    keys: bool = False,
) -> Any:
    """Exchange an issuer's token for the gateway's own; `keys`: for keys to AWS that stand for one."""
    from ostiary.api.client import aws_keys, exchange

    url = api if api is not None else load(config).api.base_url
    trusted, nonce = None if ca_file is None else str(ca_file), None
    if subject == "aws":
        from ostiary.cli.aws_identity import presigned
        from ostiary.model.secrets import Secret

        shown, nonce = presigned(url, trusted)
        token = Secret(shown)
    else:
        token = subject_token(url, subject)
    asked: dict[str, Any] = {
        "actor_token": None if actor is None else held_at("--actor", actor),
        "connections": connections,
        "details": None if details is None else read_details(details),
        "purpose": purpose,
        "ticket": ticket,
        "account": account,
        "ca_file": trusted,
        "nonce": nonce,
    }
    with answers(url):
        if keys:
            return aws_keys(url, token, **asked)
        proof = None if binding is None else binding.for_exchange(url)
        return exchange(url, token, proof=proof, certificate=certificate, **asked)


def certificate_in(cert: Path | None, key: Path | None) -> tuple[str, str] | None:
    """The client certificate to bind to, as absolute paths; `BadParameter` for half of one."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise typer.BadParameter("--client-cert and --client-key go together")
    return str(cert.absolute()), str(key.absolute())


def subject_token(url: str, place: str) -> Secret:
    """The token that is exchanged: the one named, else the one in the environment, else that of `ostiary login`."""
    from ostiary.cli.held import held

    if place == SUBJECT_TOKEN and "OSTIARY_SUBJECT_TOKEN" not in os.environ:
        if (kept := held(url)) is not None:
            return kept
        raise typer.BadParameter(
            "you are not logged in: run `ostiary login`; or put an issuer's token into the environment as"
            " OSTIARY_SUBJECT_TOKEN, or say where it is with --from file:/path, or --from - for standard input"
        )
    return held_at("--from", place)


def held_at(option: str, place: str) -> Secret:
    """Return the token at `place`. Never one that stands on the command line, where every process can read it."""
    from ostiary.model.secrets import Secret
    from ostiary.vault.references import parse_ref, resolve

    if place == "-":
        text = sys.stdin.readline(64 * 1024).strip()
        if not text:
            raise typer.BadParameter(f"{option} -: standard input holds no token")
        return Secret(text)
    if place.startswith("file:") and not place.startswith("file:/"):
        place = f"file:{Path(place[5:]).absolute()}"
    return resolve(parse_ref(place, option))


def read_details(path: Path) -> list[dict[str, Any]]:
    """The `authorization_details` in a file."""
    import msgspec

    from ostiary.model.errors import ConfigError

    try:
        return msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    except msgspec.DecodeError as exc:
        raise ConfigError("--details", f"{path} is not a JSON list of objects: {exc}") from None


def listener(config: Path, gateway: str | None) -> tuple[str, int, bool]:
    """Return (host, port, whether it speaks TLS) of the listener that clients use."""
    from ostiary.config.words import is_loopback, split_address
    from ostiary.model.errors import ConfigError

    if gateway is not None:
        try:
            host, port = split_address(gateway)
        except ValueError as exc:
            raise ConfigError("--gateway", str(exc)) from None
        return host, port, not is_loopback(host)
    settings: Config = load(config)
    listener = settings.listen.postgresql
    if listener is None:
        raise ConfigError(
            "listen.postgresql", "is missing, so there is nothing to connect to; or name --gateway host:port"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)  # noqa: S104 - compared, not bound
    return host, listener.port, listener.tls_cert is not None


def _login_name() -> str:
    """Return a name for PGUSER: a claim, recorded as said, and never decided on."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "me"


def _run(command: list[str], environment: dict[str, str], secret: Secret) -> int:
    """Run `command` with the token in a private password file, which is gone when it ends."""
    import signal
    import subprocess
    import tempfile

    escaped = secret.reveal().replace("\\", "\\\\").replace(":", "\\:")
    with tempfile.TemporaryDirectory(prefix="ostiary-", dir=_private_folder()) as folder:
        # TemporaryDirectory makes it 0700; the file is 0600 because libpq ignores any other.
        passfile = Path(folder) / "pgpass"
        descriptor = os.open(passfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"*:*:*:*:{escaped}\n")
        kept = {name: value for name, value in os.environ.items() if name not in _OURS}
        try:
            child = subprocess.Popen(command, env=kept | environment | {"PGPASSFILE": str(passfile)})  # noqa: S603 - theirs
        except OSError as exc:
            say(f"ostiary: {command[0]}: {exc.strerror}")
            return 127 if isinstance(exc, FileNotFoundError) else 126
        # Ctrl-C and friends are the client's: it is in our process group and hears them itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
        code = child.wait()
    return code if code >= 0 else 128 - code


_OURS = frozenset({"PGPASSWORD", "PGSERVICE", "PGHOSTADDR", "OSTIARY_SUBJECT_TOKEN", "OSTIARY_ACTOR_TOKEN"})
"""What would send the client elsewhere, or what it must not see: it needs the gateway's token, not the issuer's."""


def _private_folder() -> str | None:
    """Return a folder in memory where there is one, so that the token never lies on a disk."""
    for place in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108 - a folder of our own, 0700, inside it
        if place and Path(place).is_dir() and os.access(place, os.W_OK):
            return place
    return None
