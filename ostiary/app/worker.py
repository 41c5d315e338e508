"""A data-plane worker: the process that parses what clients and targets send. It holds no signing key."""

from __future__ import annotations

import asyncio
import ctypes
import resource
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from ostiary.app.common import on_signals, open_own_log, policies, record, revocations, verifier
from ostiary.audit.log import Log
from ostiary.config.types import Config, Listener
from ostiary.driver.gate import ALPN, Gate
from ostiary.driver.spawn import spawn
from ostiary.driver.targets import Destinations
from ostiary.listener.accept import bind
from ostiary.model.connections import Connection
from ostiary.model.errors import ConfigError, OstiaryError
from ostiary.model.secrets import Secret
from ostiary.vault.keys import load_key_file
from ostiary.vault.payloads import PayloadStream
from ostiary.vault.references import resolve

WRITER: Final = "worker-1"
REVOCATION_SECONDS: Final = 0.5
"""How often the list of revoked tokens is looked at: sessions end within a second of a revocation."""

_log = structlog.get_logger("ostiary")


async def run(config: Config, ready: Callable[[Mapping[str, str]], None], stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises `OstiaryError` when it cannot start or cannot go on."""
    no_core_dumps()
    settings = config.listen.postgresql
    if settings is None:
        raise ConfigError("listen.postgresql", "is missing: there is nothing to listen on")
    in_force = policies(config)
    kek = load_key_file(Path(config.gateway.state_dir) / "keys" / "kek-1.key")
    log, sealing = open_own_log(config, WRITER)
    folder = log.origin.folder / "payloads"
    revoked = revocations(config)

    def reads_catalogue(connection: str) -> None:
        members = {"config": {"action": "catalogue", "connection": connection}}
        log.writer.append(log.encoder.entry("config", log.ids.next(), time.time_ns(), time.monotonic_ns(), members))

    destinations = Destinations(config.connections, credential, reads_catalogue)
    gate = Gate(
        settings=settings,
        tls=server_tls(settings),
        verifier=verifier(config, revoked),
        targets=destinations,
        policies=in_force,
        writer=log.writer,
        encoder=log.encoder,
        ids=log.ids,
        open_stream=lambda session: PayloadStream.create(folder / f"{session}.osp", session, kek),
    )
    await record(log, "config", {"config": {
        "action": "start", "digest": config.digest, "policy": in_force.digest, "dangers": list(config.dangers()),
    }})  # fmt: skip
    for danger in config.dangers():
        _log.warning("a safety is off", key=danger)
    sock = bind(settings.host, settings.port, shared=False)
    host, port = sock.getsockname()[:2]
    serving = spawn(gate.serve(sock), "accept")

    async def watch_revocations() -> None:
        while True:
            await asyncio.sleep(REVOCATION_SECONDS)
            gate.revoke(revoked.poll(time.time()))

    watching = spawn(watch_revocations(), "revocations")

    def reload() -> None:
        spawn(_reload(config, gate, log), "reload")

    on_signals(stop, reload)
    ready({"postgresql": f"{host}:{port}"})
    await stop.wait()
    serving.cancel()
    watching.cancel()
    sock.close()
    gate.close()
    await destinations.close()
    await sealing.close()


async def _reload(config: Config, gate: Gate, log: Log) -> None:
    """Load the policies anew. What does not load changes nothing, and says so."""
    try:
        fresh = policies(config)
        await record(log, "config", {"config": {"action": "reload", "policy": fresh.digest}})
    except OstiaryError as exc:
        _log.error("policies were not loaded; the old ones stay in force", error=str(exc))
        return
    gate.use(fresh)
    _log.info("policies loaded", digest=fresh.digest)


def credential(connection: Connection) -> Secret | None:
    """The target's credential, read anew each time."""
    reference = connection.upstream.password
    return None if reference is None else resolve(reference)


def server_tls(settings: Listener) -> ssl.SSLContext | None:
    """TLS towards clients, if the listener has a certificate."""
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError("listen.postgresql.tls_cert", f"cannot be used: {exc}") from None
    context.set_alpn_protocols([ALPN])
    return context


def no_core_dumps() -> None:
    """Keep secrets in memory out of core dumps, and other processes of this user out of this memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pr_set_dumpable = 4  # prctl(2)
    ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
