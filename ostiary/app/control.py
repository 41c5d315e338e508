"""The control process: the HTTP API. It mints tokens, and keeps a log of its own."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn
from prometheus_client import CollectorRegistry, Gauge
from starlette.applications import Starlette

from ostiary.alerts import engine as alerts
from ostiary.alerts.heard import DEMANDED, ENDED, ENDED_SECONDS, operator_ends
from ostiary.api.app import Deps, create_app, server
from ostiary.api.devices import TOPIC as DEVICES
from ostiary.api.devices import Devices
from ostiary.api.events import TokenEvent
from ostiary.api.ssh import SshAuthority
from ostiary.app.alerting import Controls
from ostiary.app.common import AUDIENCE, no_core_dumps, on_signals, open_own_log, verifier
from ostiary.app.orders import Post
from ostiary.approvals import tables
from ostiary.approvals.words import TOPIC
from ostiary.audit.log import Log
from ostiary.config.types import Config, Scim, SshListener, split_address
from ostiary.driver.spawn import spawn
from ostiary.identity import records, ssh
from ostiary.identity.aws import AwsLogin
from ostiary.identity.aws_keys import load_or_create as load_aws_keys
from ostiary.identity.clients import Client, Clients
from ostiary.identity.gateway import TokenSigner
from ostiary.identity.issuers import Issuer, issuer_configured
from ostiary.identity.jobs import MIN_SECRET, Hook
from ostiary.identity.keys import load_or_create_token_key, older_keys
from ostiary.identity.oidc import Login
from ostiary.identity.overage import GroupSource
from ostiary.identity.records import Records
from ostiary.identity.saml import SamlLogin
from ostiary.identity.standing import ENDED_JOBS, REVOKED, Standing, actor_key, job_body, stop_body
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
from ostiary.vault.references import parse_ref, resolve
from ostiary.vault.ring import load_ring

WRITER: Final = "control"
MIN_SCIM_TOKEN: Final = 32
AREAS: Final = (news.AREA, records.AREA, tables.AREA, alerts.AREA)
"""What is kept between two starts."""


def _connections(config: Config, state: Path) -> dict[str, Any]:
    """Which connections there are, which of them are AWS accounts, and what makes the keys for those."""
    names = frozenset(name for name, each in config.connections.items() if isinstance(each, AwsConnection))
    keys = load_aws_keys(state / "keys" / "aws.key") if names else None
    return {"connections": frozenset(config.connections), "aws_accounts": names, "aws_keys": keys}


async def run(config: Config, post: Post, stop: asyncio.Event) -> None:
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
    believes = verifier(config, standing, group_sources(config))
    found = logins(config, issuers, believes)
    vouching = Vouching(kept, asked_again(config, found), load_ring(state, config.recordings.keys), partial(_told, record))
    app = create_app(
        Deps(
            verifier=believes,
            signer=TokenSigner(
                key, issuer=own, audience=AUDIENCE, minutes=config.tokens.minutes, older=older_keys(key_path)
            ),
            revoke=revoke, end_session=partial(end_session, board),
            **_connections(config, state),
            record=record,
            registry=metrics(config, link), actor_keys=(load_or_create_token_key(state / "keys" / "actor.key").public_jwk(),),
            records=kept, saw=controls.office.saw,
            clients=Clients(
                [Client(section, f"clients[{n}]") for n, section in enumerate(config.clients)],
                issuer=own,
                audiences=audiences, since=int(time.time()),
            ),
            base_url=own, mtls_url=config.api.mtls_base_url,
            logins=found, returned=vouching.returned, aws=aws_login(config),
            end_job=partial(end_job, board, config.misuse.ended_job in ("refuse", "stop")), job_hooks=job_hooks(config),
            admin_groups=frozenset(config.admin.groups),
            admin_issuer=config.admin.issuer,
            scim_token=None if config.scim is None else scim_token(config.scim),
            scim_issuer="" if config.scim is None else config.scim.issuer,
            scim_subject="externalId" if config.scim is None else config.scim.subject,
        ),
        controls.routes(believes, record),
        None if config.listen.ssh is None else ssh_authority(config.listen.ssh, state / "keys"),
        devices,
    )
    doors = listening(config, app)
    watching = spawn(vouching.watch(), "vouching")
    await serve(doors, post.ready, stop)
    watching.cancel()
    await controls.close()
    await link.close()
    await database.close()
    await sealing.close()


def metrics(config: Config, link: LinkServer) -> CollectorRegistry:
    """What is told of the gateway itself: that a worker is missing, for one."""
    registry = CollectorRegistry()
    Gauge("ostiary_workers", "Workers that hear the control process.", registry=registry).set_function(lambda: link.heard_by)
    Gauge("ostiary_workers_wanted", "Workers that there should be.", registry=registry).set(config.gateway.workers)
    return registry


async def end_session(board: NewsBoard, session: str, why: str, now: int) -> None:
    """Tell the workers to end a session."""
    await board.tell(ENDED, session, operator_ends(why), now + ENDED_SECONDS)


async def record_token(log: Log, event: TokenEvent) -> None:
    """Make what became of a token durable. Raises `LogFailed`."""
    entry = log.encoder.login(
        log.ids.next(), time.time_ns(), time.monotonic_ns(),
        said=event.said, connection=" ".join(event.connections), who=event.who,
        reason="" if event.reason is None else event.reason.name, detail=f"{event.action} {event.detail}".strip(),
    )  # fmt: skip
    await log.writer.wait_durable(log.writer.append(entry))


def listening(config: Config, app: Starlette) -> dict[str, tuple[uvicorn.Server, socket.socket]]:
    """Return the API's servers, with the socket that each is to serve: that for everybody, and that for clients with a certificate."""
    tls = config.api
    places: dict[str, tuple[tuple[str, int], str | None]] = {"api": (split_address(tls.address), None)}
    if tls.mtls_address is not None:
        places["api_mtls"] = (split_address(tls.mtls_address), tls.client_ca)
    found = {}
    for name, ((host, port), authorities) in places.items():
        http = server(app, host=host, port=port, tls_cert=tls.tls_cert, tls_key=tls.tls_key, client_ca=authorities)
        http.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # ours are set when it serves
        found[name] = (http, bind(host, port, shared=False))
    return found


async def serve(doors: Mapping[str, tuple[uvicorn.Server, socket.socket]], ready: Callable[[Mapping[str, str]], None], stop: asyncio.Event) -> None:
    """Serve until `stop`; ends too where one of them cannot."""
    serving = [spawn(http.serve(sockets=[sock]), name) for name, (http, sock) in doors.items()]
    on_signals(stop)
    while not all(http.started for http, _ in doors.values()) and not any(each.done() for each in serving):  # noqa: ASYNC110 - flags, no event
        await asyncio.sleep(0.01)
    if not any(each.done() for each in serving):
        ready({name: "{}:{}".format(*sock.getsockname()[:2]) for name, (_, sock) in doors.items()})
        await stop.wait()
    for http, _ in doors.values():
        http.should_exit = True
    await asyncio.gather(*serving)


def answers(controls: Controls, board: NewsBoard, devices: Devices) -> dict[str, Answer]:
    """Who answers which of the workers' questions."""
    return {TOPIC: controls.office.hear, "revoke": partial(revoke_misused, board), "demand": partial(demand_approval, board), DEVICES: devices.hear}


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


async def demand_approval(board: NewsBoard, body: dict[str, Any]) -> dict[str, Any]:
    """Answer a worker that has people approve of what is done with a credential."""
    said = {"rule": str(body["rule"]), "groups": [str(each) for each in body["groups"]]}
    await board.tell(DEMANDED, str(body["key"]), said, int(body["until"]))
    return {}


async def end_job(board: NewsBoard, ends: bool, issuer: str, task: str, at: float, by: str) -> None:
    """Tell everybody that a job has ended. No token that was made for it is good for longer than this is remembered.

    What is told of an end before the last one that was told is known already.
    """
    key = actor_key(issuer, task)

    def work(connection: sqlite3.Connection) -> list[news.Piece]:
        known = news.held(connection, ENDED_JOBS, key)
        if known is not None and float(known.get("at", 0)) >= at:
            return []
        return [(ENDED_JOBS, key, job_body(at, by, ends=ends), int(time.time()) + 2 * 86_400)]

    await board.change(work)


def group_sources(config: Config) -> dict[str, GroupSource]:
    """Who asks for groups that issuers leave out of their tokens: this process alone, so no worker holds what that takes."""
    found = {}
    for index, issuer in enumerate(config.issuers):
        if (settings := issuer.groups_source) is not None:
            key = f"issuers[{index}].groups_source"
            found[issuer.issuer] = GroupSource(settings, key, partial(resolve, parse_ref(settings.client_secret, f"{key}.client_secret")))
    return found


def job_hooks(config: Config) -> tuple[Hook, ...]:
    """Who tells that jobs have ended."""
    found = []
    for index, each in enumerate(config.job_webhooks):
        secret = resolve(parse_ref(each.secret, f"job_webhooks[{index}].secret"))
        if len(secret.reveal()) < MIN_SECRET:
            raise ConfigError(f"job_webhooks[{index}].secret", f"is shorter than {MIN_SECRET} characters: it could be guessed")
        found.append(Hook(each.kind, each.issuer, secret))
    return tuple(found)


def scim_token(settings: Scim) -> str:
    """Hex SHA-256 of the identity provider's bearer token: the API holds no more of it."""
    token = resolve(parse_ref(settings.token, "scim.token")).reveal()
    if len(token) < MIN_SCIM_TOKEN:
        raise ConfigError("scim.token", f"is shorter than {MIN_SCIM_TOKEN} characters: it could be guessed")
    return hashlib.sha256(token.encode()).hexdigest()
