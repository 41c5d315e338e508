"""The control process: the HTTP API. It mints tokens, and keeps a log of its own."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from ostiary.alerts import engine as alerts
from ostiary.api.app import Deps, create_app, server
from ostiary.api.devices import TOPIC as DEVICES
from ostiary.api.devices import Devices
from ostiary.api.events import TokenEvent
from ostiary.api.ssh import SshAuthority
from ostiary.app.alerting import Controls
from ostiary.app.common import AUDIENCE, on_signals, open_own_log, verifier
from ostiary.app.worker import no_core_dumps
from ostiary.approvals import tables
from ostiary.approvals.words import TOPIC
from ostiary.audit.log import Log
from ostiary.config.types import Config, Scim, SshListener
from ostiary.driver.spawn import spawn
from ostiary.identity import records, ssh
from ostiary.identity.aws import AwsLogin
from ostiary.identity.aws_keys import load_or_create as load_aws_keys
from ostiary.identity.clients import Client, Clients
from ostiary.identity.gateway import TokenSigner
from ostiary.identity.issuers import Issuer, issuer_configured
from ostiary.identity.keys import load_or_create_token_key, older_keys
from ostiary.identity.oidc import Login
from ostiary.identity.records import Records
from ostiary.identity.saml import SamlLogin
from ostiary.identity.standing import REVOKED, Standing, stop_body
from ostiary.identity.verifier import Verifier
from ostiary.identity.vouching import Vouching
from ostiary.listener.accept import bind
from ostiary.model.connections import AwsConnection
from ostiary.model.errors import ConfigError, Reason
from ostiary.model.identity import Said
from ostiary.store import news
from ostiary.store.database import Database
from ostiary.store.link import Answer, LinkServer
from ostiary.store.news import NewsBoard
from ostiary.vault.keeping import newest_key
from ostiary.vault.references import parse_ref, resolve

WRITER: Final = "control"
MIN_SCIM_TOKEN: Final = 32
AREAS: Final = (news.AREA, records.AREA, tables.AREA, alerts.AREA)
"""What is kept between two starts."""


def _connections(config: Config, state: Path) -> dict[str, Any]:
    """Which connections there are, which of them are AWS accounts, and what makes the keys for those."""
    names = frozenset(name for name, each in config.connections.items() if isinstance(each, AwsConnection))
    keys = load_aws_keys(state / "keys" / "aws.key") if names else None
    return {"connections": frozenset(config.connections), "aws_accounts": names, "aws_keys": keys}


async def run(config: Config, ready: Callable[[Mapping[str, str]], None], stop: asyncio.Event) -> None:
    """Serve the API until `stop`."""
    no_core_dumps()
    state = Path(config.gateway.state_dir)
    log, sealing = open_own_log(config, WRITER)
    database = Database.open(state / "control.db", AREAS)
    board = NewsBoard(database)
    await board.load()
    standing = Standing()
    for told in board.since(0):
        standing.heard(told)
    board.listen(standing.heard)
    kept = Records(database, board)
    controls = await Controls.open(config, database, board, kept, log, standing)
    devices = Devices()
    link = LinkServer(board, answers(controls, board, devices), spawn)
    await link.start(state)
    key_path = state / "keys" / "token.key"
    key = load_or_create_token_key(key_path)

    record = partial(record_token, log)

    async def revoke(token: str, until: int) -> None:
        await board.tell(REVOKED, token, stop_body(Reason.REVOKED_TOKEN, ""), until)

    issuers = [issuer_configured(section, f"issuers[{n}]") for n, section in enumerate(config.issuers)]
    own = config.api.base_url
    audiences = frozenset({own, f"{own}/oauth/token", f"{own}/v1/token"})
    believes = verifier(config, standing)
    found = logins(config, issuers, believes)
    vouching = Vouching(kept, asked_again(config, found), newest_key(state / "keys"), partial(_told, record))
    app = create_app(
        Deps(
            verifier=believes,
            signer=TokenSigner(
                key, issuer=own, audience=AUDIENCE, minutes=config.tokens.minutes, older=older_keys(key_path)
            ),
            revoke=revoke,
            **_connections(config, state),
            record=record,
            registry=CollectorRegistry(), actor_keys=(load_or_create_token_key(state / "keys" / "actor.key").public_jwk(),),
            records=kept, saw=controls.office.saw,
            clients=Clients(
                [Client(section, f"clients[{n}]") for n, section in enumerate(config.clients)],
                issuer=own,
                audiences=audiences,
            ),
            base_url=own,
            logins=found, returned=vouching.returned, aws=aws_login(config),
            admin_groups=frozenset(config.admin.groups),
            admin_issuer=config.admin.issuer,
            scim_token=None if config.scim is None else scim_token(config.scim),
            scim_issuer="" if config.scim is None else config.scim.issuer,
            scim_subject="externalId" if config.scim is None else config.scim.subject,
        ),
        controls.routes(believes),
        None if config.listen.ssh is None else ssh_authority(config.listen.ssh, state / "keys"),
        devices,
    )
    http, sock = listening(config, app)
    host, port = sock.getsockname()[:2]
    serving = spawn(http.serve(sockets=[sock]), "api")
    watching = spawn(vouching.watch(), "vouching")
    on_signals(stop, lambda: None)
    while not http.started and not serving.done():  # noqa: ASYNC110 - uvicorn sets a flag, and no event
        await asyncio.sleep(0.01)
    if http.started:
        ready({"api": f"{host}:{port}"})
        await stop.wait()
    watching.cancel()
    http.should_exit = True
    await serving
    await controls.close()
    await link.close()
    await database.close()
    await sealing.close()


async def record_token(log: Log, event: TokenEvent) -> None:
    """Make what became of a token durable. Raises `LogFailed`."""
    entry = log.encoder.login(
        log.ids.next(), time.time_ns(), time.monotonic_ns(),
        said=event.said, connection=" ".join(event.connections), who=event.who,
        reason="" if event.reason is None else event.reason.name, detail=f"{event.action} {event.detail}".strip(),
    )  # fmt: skip
    await log.writer.wait_durable(log.writer.append(entry))


def listening(config: Config, app: Starlette) -> tuple[uvicorn.Server, socket.socket]:
    """Return the API's server and the socket that it is to serve."""
    tls = config.api
    http = server(
        app,
        host=tls.host,
        port=tls.port,
        tls_cert=None if tls.tls_cert is None else str(tls.tls_cert),
        tls_key=None if tls.tls_key is None else str(tls.tls_key),
    )
    http.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # ours are set when it serves
    return http, bind(tls.host, tls.port, shared=False)


def answers(controls: Controls, board: NewsBoard, devices: Devices) -> dict[str, Answer]:
    """Who answers which of the workers' questions."""
    return {TOPIC: controls.office.hear, "revoke": partial(revoke_misused, board), DEVICES: devices.hear}


def ssh_authority(settings: SshListener, keys: Path) -> SshAuthority:
    """What signs the certificates of SSH's users, and what clients are told of the listener."""
    vouched: dict[str, str] = {}
    if settings.host_key is None:
        vouched["host_authority"] = (keys / f"{ssh.HOST_AUTHORITY}.pub").read_text().strip()
    return SshAuthority(ssh.load_authority(keys), {"address": settings.address} | vouched)


def logins(config: Config, issuers: list[Issuer], believes: Verifier) -> tuple[Login | SamlLogin, ...]:
    """The issuers at which people can log in with a browser."""
    found: list[Login] = []
    for section, issuer in zip(config.issuers, issuers, strict=True):
        if section.login_client_id is not None:
            place = section.login_client_secret
            secret = partial(resolve, parse_ref(place, "login_client_secret")) if place is not None else (lambda: None)
            found.append(
                Login(
                    issuer,
                    believes.issuers[issuer.issuer],
                    client_id=section.login_client_id,
                    client_secret=secret,
                    scopes=section.login_scopes,
                )
            )
    saml = (SamlLogin(section, config.api.base_url, f"saml[{n}]") for n, section in enumerate(config.saml))
    return (*found, *saml)


def aws_login(config: Config) -> AwsLogin | None:
    """Who asks AWS about its principals, where they may log in."""
    settings = config.aws_identities
    if settings is None:
        return None
    return AwsLogin(
        audience=config.api.base_url,
        accounts=frozenset(settings.accounts),
        roles=frozenset(settings.roles),
        endpoints=settings.endpoints,
        ca_file=None if settings.ca_file is None else str(settings.ca_file),
    )


def asked_again(config: Config, found: Iterable[Login | SamlLogin]) -> dict[str, tuple[Login, float]]:
    """The issuers that are asked whether people are still there, with how often."""
    seconds = {section.issuer: section.login_check_seconds for section in config.issuers}
    return {each.issuer: (each, seconds[each.issuer]) for each in found if isinstance(each, Login) and seconds[each.issuer] > 0}


async def _told(record: Callable[[TokenEvent], Awaitable[None]], action: str, whom: tuple[str, str], detail: str) -> None:
    """Put on record what came of asking an issuer."""
    said = f"{whom[1]} of {whom[0]}: {detail}"
    await record(TokenEvent(action=action, said=Said(address="local"), who=None, connections=(), reason=None, detail=said))


async def revoke_misused(board: NewsBoard, body: dict[str, Any]) -> dict[str, Any]:
    """Answer a worker that asks for the end of a misused credential."""
    token, until = str(body["token"]), int(body["until"])
    await board.tell(REVOKED, token, stop_body(Reason.MISUSED_TOKEN, str(body["why"])), until)
    return {}


def scim_token(settings: Scim) -> str:
    """Hex SHA-256 of the identity provider's bearer token: the API holds no more of it."""
    token = resolve(parse_ref(settings.token, "scim.token")).reveal()
    if len(token) < MIN_SCIM_TOKEN:
        raise ConfigError("scim.token", f"is shorter than {MIN_SCIM_TOKEN} characters: it could be guessed")
    return hashlib.sha256(token.encode()).hexdigest()
