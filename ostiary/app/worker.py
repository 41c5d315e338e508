"""A data-plane worker: the process that parses what clients and targets send. It holds no signing key."""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Final, cast

import msgspec
import structlog

from ostiary.alerts.budgets import KEEP_SECONDS, Budgets
from ostiary.alerts.heard import ENDED, Demands
from ostiary.alerts.mandates import Ledger
from ostiary.app.common import on_signals, open_own_log, policies, record, verifier
from ostiary.approvals.desk import Desk
from ostiary.audit.log import Log
from ostiary.config.types import AwsListener, Config, HttpListener, Listener, SshListener
from ostiary.driver.admission import Alertable, Gate, Reception
from ostiary.driver.devices import Devices
from ostiary.driver.http_gate import HttpGate
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.postgres_gate import PostgresGate
from ostiary.driver.spawn import spawn
from ostiary.driver.targets import Destination, Destinations, PostgresDestination
from ostiary.identity.aws_keys import load_or_create as load_aws_keys
from ostiary.identity.habits import Habits, credential
from ostiary.identity.keys import load_or_create_token_key
from ostiary.identity.standing import Standing
from ostiary.listener.accept import bind
from ostiary.masking import scrub
from ostiary.model.connections import AwsConnection, Connection, HttpConnection, PostgresConnection, SshConnection
from ostiary.model.errors import ConfigError, LogFailed, NotAdmitted, OstiaryError, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.store.link import Link, LinkDown
from ostiary.store.news import News
from ostiary.vault.keeping import newest_key
from ostiary.vault.payloads import PayloadStream
from ostiary.vault.references import resolve

WRITER: Final = "worker-1"
LINK_SECONDS: Final = 10.0
"""How long the start waits for the control process, which starts beside it. Without it nobody is let in yet."""
LONGEST_TOKEN: Final = 31 * 24 * 3600
"""Seconds after which nothing that a credential was made into can still be good."""
FORGET_SECONDS: Final = 60.0

_log = structlog.get_logger("ostiary")


async def run(config: Config, ready: Callable[[Mapping[str, str]], None], stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises `OstiaryError` when it cannot start or cannot go on."""
    no_core_dumps()
    if not listeners(config):
        raise ConfigError("listen", "is empty: there is nothing to listen on; write [listen.postgresql], for example")
    in_force = policies(config)
    kek = newest_key(Path(config.gateway.state_dir) / "keys")
    log, sealing = open_own_log(config, WRITER)
    folder = log.origin.folder / "payloads"
    link = Link(Path(config.gateway.state_dir), spawn)
    standing = Standing(lambda: link.is_current)

    known = [destination(c, partial(_reads_catalogue, log)) for c in config.connections.values()]
    destinations = Destinations(known)
    desk = Desk(
        link, key=kek, worker=f"{WRITER} {log.encoder.boot}", new_id=log.ids.next, scrub=scrub, spawn=spawn,
        page=config.api.base_url,
    )  # fmt: skip
    link.listen(desk.heard)
    budgets, demands = Budgets(config.budgets, Path(config.gateway.state_dir) / "budgets.json"), Demands()
    ledger = Ledger(Path(config.gateway.state_dir) / "mandates.db")
    reception = Reception(
        devices=Devices(link.ask),
        habits=Habits(msgspec.structs.asdict(config.misuse)),
        stop=partial(_end_credential, link),
        verifier=verifier(config, standing),
        targets=destinations,
        policies=in_force,
        writer=log.writer,
        encoder=log.encoder,
        ids=log.ids,
        open_stream=lambda session: PayloadStream.create(folder / f"{session}.osp", session, kek),
        desk=desk,
        budgets=budgets,
        demands=demands,
        count=ledger.count,
        waits_inside=config.approvals.in_transaction_seconds,
    )
    keys = Path(config.gateway.state_dir) / "keys"
    gates = {protocol: gate(protocol, settings, reception, keys, known) for protocol, settings in listeners(config).items()}
    await record(log, "config", {"config": {
        "action": "start", "digest": config.digest, "policy": in_force.digest, "dangers": list(config.dangers()),
    }})  # fmt: skip
    for danger in config.dangers():
        _log.warning("a safety is off", key=danger)
    socks = {name: bind(each.host, each.port, shared=False) for name, each in listeners(config).items()}
    serving = [spawn(gates[name].serve(sock), f"accept {name}") for name, sock in socks.items()]

    link.listen(partial(_heard, standing, demands, reception, gates))
    await link.start(LINK_SECONDS)
    watching = spawn(_forget(standing), "forget")
    keeping = spawn(_keep(budgets), "budgets")
    spawn(_begin(desk), "approvals")

    def reload() -> None:
        spawn(_reload(config, reception, gates.values(), log), "reload")

    on_signals(stop, reload)
    ready({name: "{}:{}".format(*sock.getsockname()[:2]) for name, sock in socks.items()})
    await stop.wait()
    budgets.keep()
    for task in (*serving, watching, keeping):
        task.cancel()
    link.close()
    for sock in socks.values():
        sock.close()
    for each in gates.values():
        each.close()
    await destinations.close()
    ledger.close()
    await sealing.close()


async def _end_credential(link: Link, who: VerifiedIdentity, why: str) -> None:
    body = {"token": credential(who), "until": int(time.time()) + LONGEST_TOKEN, "why": why}
    try:
        await link.ask("revoke", body)
    except LinkDown as exc:
        _log.error("a misused credential could not be ended", error=str(exc))


def _reads_catalogue(log: Log, connection: str) -> None:
    members = {"config": {"action": "catalogue", "connection": connection}}
    log.writer.append(log.encoder.entry("config", log.ids.next(), time.time_ns(), time.monotonic_ns(), members))


def _heard(
    standing: Standing, demands: Demands, reception: Reception, gates: Mapping[str, Gate], news: News
) -> None:
    """Take a piece of news to the sessions that it is about."""
    if standing.heard(news):
        for each in gates.values():
            each.stop(standing.why_not)
    alerted = [each for each in gates.values() if isinstance(each, Alertable)]
    if demands.heard(news):
        for each in alerted:
            each.restrain(reception.demand)
    elif news.topic == ENDED and news.body is not None:
        for each in alerted:
            each.end(news.key, NotAdmitted(Reason.ENDED_BY_ALERT, str(news.body.get("why", ""))))


async def _keep(budgets: Budgets) -> None:
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        await asyncio.to_thread(budgets.keep)


async def _forget(standing: Standing) -> None:
    while True:
        await asyncio.sleep(FORGET_SECONDS)
        standing.forget(time.time())


async def _begin(desk: Desk) -> None:
    """Say that this worker has begun, as soon as somebody hears it: questions of the one before it are nobody's."""
    while True:
        try:
            await desk.begin()
        except LinkDown:
            await asyncio.sleep(LINK_SECONDS / 10)
        else:
            return


async def _reload(config: Config, reception: Reception, gates: Iterable[Gate], log: Log) -> None:
    """Load the policies anew, all or none: one fault in one file, and the old ones stay whole. Both are on record."""
    in_force = reception.policies.digest
    try:
        fresh = policies(config)
        await record(log, "config", {"config": {"action": "reload", "policy": fresh.digest, "was": in_force}})
    except OstiaryError as exc:
        _log.error("policies were not loaded; the old ones stay in force", error=str(exc))
        if not isinstance(exc, LogFailed):
            refused = {"action": "reload", "policy": in_force, "refused": log.encoder.free(str(exc))}
            await record(log, "config", {"config": refused})
        return
    reception.policies = fresh
    for each in gates:
        each.use(fresh)
    _log.info("policies loaded", digest=fresh.digest)


def listeners(config: Config) -> dict[str, Listener]:
    """What there is to listen on, by protocol."""
    listen = config.listen
    return {name: each for name in listen.__struct_fields__ if (each := getattr(listen, name)) is not None}


def destination(connection: Connection, reads_catalogue: Callable[[str], None]) -> Destination:
    """What the sessions on one connection share. `reads_catalogue` puts on record that the gateway looks there itself."""
    match connection:
        case PostgresConnection():
            return PostgresDestination(connection, resolve, reads_catalogue)
        case SshConnection():
            return cast(Destination, _ssh().SshDestination(connection, resolve))
        case AwsConnection():
            return cast(Destination, _aws("aws_target").AwsDestination(connection, resolve))
        case HttpConnection():
            return HttpDestination(connection, resolve)
        case _:
            raise ConfigError(f"connections.{connection.name}.type", f"no session speaks {connection.type}")


def _ssh() -> ModuleType:
    """What speaks SSH, where the extra is installed."""
    try:
        return importlib.import_module("ostiary.driver.ssh_gate")
    except ModuleNotFoundError as exc:
        raise ConfigError("listen.ssh", f"needs {exc.name}: pip install 'ostiary[ssh]'") from None


def _aws(module: str) -> ModuleType:
    """What speaks to AWS, where the extra is installed."""
    try:
        return importlib.import_module(f"ostiary.driver.{module}")
    except ModuleNotFoundError as exc:
        raise ConfigError("listen.aws", f"needs {exc.name}: pip install 'ostiary[aws]'") from None


def gate(protocol: str, settings: Listener, reception: Reception, keys: Path, known: Iterable[Destination]) -> Gate:
    """The listener of one protocol. `keys`: the folder of the gateway's own."""
    if protocol == "postgresql":
        return PostgresGate(reception, settings)
    if isinstance(settings, SshListener):
        return cast(Gate, _ssh().SshGate(reception, settings, keys))
    if isinstance(settings, AwsListener):
        accounts = [each for each in known if isinstance(each.connection, AwsConnection)]
        return cast(Gate, _aws("aws_gate").AwsGate(reception, settings, accounts, load_aws_keys(keys / "aws.key")))
    if isinstance(settings, HttpListener):
        signer = load_or_create_token_key(keys / "actor.key")
        return HttpGate(reception, settings, [each for each in known if type(each) is HttpDestination], signer)
    raise ConfigError(f"listen.{protocol}", "has no listener")


def no_core_dumps() -> None:
    """Keep secrets in memory out of core dumps, and other processes of this user out of this memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pr_set_dumpable = 4  # prctl(2)
    ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
