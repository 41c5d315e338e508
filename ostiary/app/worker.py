"""A data-plane worker: the process that parses what clients and targets send. It holds no signing key."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Final, cast

import msgspec
import structlog

from ostiary.alerts.budgets import KEEP_SECONDS, Budgets
from ostiary.alerts.heard import DEMANDED, ENDED, Demands, credential_key, ending_of
from ostiary.alerts.mandates import Ledger
from ostiary.alerts.till import Till
from ostiary.app.common import (
    HABITS,
    NUMBERS,
    PURSES,
    USED,
    listeners,
    no_core_dumps,
    on_signals,
    open_own_log,
    record,
    verifier,
    writer_of,
)
from ostiary.app.orders import Post
from ostiary.app.policies import read_policies
from ostiary.app.reloading import Reloading
from ostiary.approvals.desk import Desk
from ostiary.audit.log import Log
from ostiary.config.types import AwsListener, Config, HttpListener, Listener, Misuse, SshListener
from ostiary.driver.admission import Alertable, Gate, Reception
from ostiary.driver.devices import Devices
from ostiary.driver.http_gate import HttpGate
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.neighbours import Neighbours
from ostiary.driver.postgres_gate import PostgresGate
from ostiary.driver.spawn import spawn
from ostiary.driver.targets import Destination, Destinations, PostgresDestination
from ostiary.identity.aws_keys import is_first
from ostiary.identity.aws_keys import load_or_create as load_aws_keys
from ostiary.identity.dpop import KeyProofs
from ostiary.identity.habits import Habits, SharedMemory, credential
from ostiary.identity.keys import load_or_create_token_key
from ostiary.identity.standing import Standing
from ostiary.listener.accept import bind
from ostiary.masking import scrub
from ostiary.model.commands import Count, Hold, Take
from ostiary.model.connections import AwsConnection, Connection, HttpConnection, PostgresConnection, SshConnection
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.store.commons import Commons
from ostiary.store.link import Link, LinkDown
from ostiary.store.news import News
from ostiary.store.numbers import forget
from ostiary.store.once import SharedOnce
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.payloads import PayloadStream
from ostiary.vault.quotas import Limits, Quotas
from ostiary.vault.references import resolve
from ostiary.vault.ring import load_ring

LINK_SECONDS: Final = 10.0
"""How long the start waits for the control process, which starts beside it. Without it nobody is let in yet."""
LONGEST_TOKEN: Final = 31 * 24 * 3600
"""Seconds after which nothing that a credential was made into can still be good."""
FORGET_SECONDS: Final = 60.0
RECOUNT_SECONDS: Final = 60.0
"""How often recordings are counted anew."""

_log = structlog.get_logger("ostiary")


async def run(config: Config, post: Post, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises `OstiaryError` when it cannot start or cannot go on."""
    no_core_dumps()
    if not listeners(config):
        raise ConfigError("listen", "is empty: there is nothing to listen on; write [listen.postgresql], for example")
    in_force = read_policies(post.orders.policies)
    state, commons = Path(config.gateway.state_dir), post.commons
    writer = writer_of(post.orders.worker)
    log, sealing = open_own_log(config, writer)
    _takes_over(commons)
    link = Link(state, spawn)
    standing = Standing(lambda: link.is_current)

    quotas = await _quotas(config)
    known = [destination(c, partial(_reads_catalogue, log), commons) for c in config.connections.values()]
    destinations = Destinations(known)
    ring = load_ring(state, config.recordings.keys)
    desk = Desk(
        link, keys=ring, worker=f"{writer} {log.encoder.boot}", new_id=log.ids.next, scrub=scrub, spawn=spawn,
        page=config.api.base_url,
    )  # fmt: skip
    link.listen(desk.heard)
    till = Till(commons.table(PURSES)) if commons.is_shared else None
    budgets, demands = Budgets(config.budgets, state / "budgets.json", till, post.orders.worker), Demands()
    ledger = Ledger(state / "mandates.db")
    neighbours = Neighbours(state, post.orders.worker, commons.workers)
    reception = Reception(
        devices=Devices(link.ask),
        habits=Habits(
            msgspec.structs.asdict(config.misuse), standing.after_its_job, SharedMemory(commons.table(HABITS)) if commons.is_shared else None
        ),
        stop=partial(_end_credential, link),
        demand=partial(_demand_approval, link, demands, config.misuse),
        verifier=verifier(config, standing, proofs=KeyProofs(SharedOnce(commons.table(USED)), since=int(time.time())) if commons.is_shared else None),
        targets=destinations,
        policies=in_force,
        writer=log.writer,
        encoder=log.encoder,
        ids=log.ids,
        open_stream=partial(_recorded, log.origin.folder / "payloads", ring.current, quotas),
        desk=desk,
        budgets=budgets,
        demands=demands,
        counting={Count: ledger.count} | ({} if till is None else {Hold: till.hold, Take: till.take}),
        waits_inside=config.approvals.in_transaction_seconds,
        commons=commons,
        neighbours=neighbours,
    )
    gates = {name: gate(name, settings, reception, state / "keys", known) for name, settings in listeners(config).items()}
    await record(log, "config", {"config": {
        "action": "start", "digest": config.digest, "policy": in_force.digest, "dangers": list(config.dangers()),
    }})  # fmt: skip
    for danger in config.dangers():
        _log.warning("a safety is off", key=danger)
    await neighbours.start()
    socks = {name: bind(each.host, each.port, shared=commons.is_shared) for name, each in listeners(config).items()}
    serving = [spawn(gates[name].serve(sock), f"accept {name}") for name, sock in socks.items()]

    link.listen(partial(_heard, standing, demands, reception, gates))
    await link.start(LINK_SECONDS)
    beside = [spawn(_forget(standing), "forget"), spawn(_keep(budgets), "budgets"), spawn(_recount(quotas), "recordings")]
    spawn(_begin(desk), "approvals")

    reloading = Reloading(reception, gates.values(), log)
    post.reloads(read_policies, reloading.take, reloading.leave)
    on_signals(stop)
    post.ready({name: "{}:{}".format(*sock.getsockname()[:2]) for name, sock in socks.items()})
    await stop.wait()
    budgets.keep()
    for task in (*serving, *beside):
        task.cancel()
    link.close()
    for sock in socks.values():
        sock.close()
    for each in gates.values():
        each.close()
    await neighbours.close()
    await destinations.close()
    ledger.close()
    await sealing.close()


def _takes_over(commons: Commons) -> None:
    """What the worker before this one counted, and told of its sessions, is over."""
    commons.begin()
    if commons.is_shared:
        forget(commons.table(NUMBERS), commons.number)


async def _quotas(config: Config) -> Quotas:
    """See how much is recorded; in a thread, as there may be very many recordings."""
    limits = config.recordings
    quotas = Quotas(
        Limits(limits.session_bytes, limits.identity_day_bytes, limits.day_bytes, limits.store_bytes), Path(config.gateway.state_dir)
    )
    await asyncio.to_thread(quotas.start, time.time_ns() // 1_000_000)
    return quotas


async def _recount(quotas: Quotas) -> None:
    """Notice what was pruned."""
    while True:
        await asyncio.sleep(RECOUNT_SECONDS)
        without = quotas.begin_look()
        quotas.found(await asyncio.to_thread(quotas.look, without))


def _recorded(folder: Path, key: KeyEncryptionKey, quotas: Quotas, session: str, who: VerifiedIdentity) -> PayloadStream:
    """Begin a session's recording. Raises `PayloadError`."""
    allowance = quotas.allow(session, f"{len(who.issuer)}:{who.issuer}{who.subject}")
    try:
        return PayloadStream.create(folder / f"{session}.osp", session, key, allowance=allowance)
    except BaseException:
        allowance.settle(0)
        raise


async def _end_credential(link: Link, who: VerifiedIdentity, why: str) -> None:
    body = {"token": credential(who), "until": int(time.time()) + LONGEST_TOKEN, "why": why}
    try:
        await link.ask("revoke", body)
    except LinkDown as exc:
        _log.error("a misused credential could not be ended", error=str(exc))


async def _demand_approval(link: Link, demands: Demands, misuse: Misuse, who: VerifiedIdentity, why: str) -> None:
    """Have everything take approval that is done with this credential. Raises `NotAdmitted` where that cannot be told to everybody."""
    key, until = credential_key(credential(who)), int(time.time()) + misuse.approval_minutes * 60
    body = {"rule": why, "groups": list(misuse.approvers)}
    try:
        await link.ask("demand", {"key": key, "until": until} | body)
    except LinkDown as exc:
        raise NotAdmitted(Reason.CONTROL_UNREACHABLE, str(exc), "try again in a moment") from None
    demands.heard(News(0, DEMANDED, key, body, until))  # the session that is about to begin need not wait to hear of it


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
            each.end(news.key, NotAdmitted(ending_of(news.body), str(news.body.get("why", ""))))


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


def destination(connection: Connection, reads_catalogue: Callable[[str], None], commons: Commons) -> Destination:
    """What the sessions on one connection share. `reads_catalogue` puts on record that the gateway looks there itself."""
    made = _destination(connection, reads_catalogue)
    made.share(commons)
    return made


def _destination(connection: Connection, reads_catalogue: Callable[[str], None]) -> Destination:
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


def check_account(connection: AwsConnection) -> None:
    """Raise `ConfigError` for calls that AWS does not have."""
    _aws("aws_models").check_calls(connection)


def gate(protocol: str, settings: Listener, reception: Reception, keys: Path, known: Iterable[Destination]) -> Gate:
    """The listener of one protocol. `keys`: the folder of the gateway's own."""
    if protocol == "postgresql":
        return PostgresGate(reception, settings)
    if isinstance(settings, SshListener):
        return cast(Gate, _ssh().SshGate(reception, settings, keys))
    if isinstance(settings, AwsListener):
        accounts = [each for each in known if isinstance(each.connection, AwsConnection)]
        aws_keys = load_aws_keys(keys / "aws.key")
        return cast(Gate, _aws("aws_gate").AwsGate(reception, settings, accounts, aws_keys, first=is_first(keys / "aws.key")))
    if isinstance(settings, HttpListener):
        signer = load_or_create_token_key(keys / "actor.key")
        return HttpGate(reception, settings, [each for each in known if type(each) is HttpDestination], signer)
    raise ConfigError(f"listen.{protocol}", "has no listener")
