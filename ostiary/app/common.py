"""What the processes of a gateway set up alike: their log, their verifier, what they share."""

from __future__ import annotations

import asyncio
import ctypes
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import structlog

from ostiary.alerts import till
from ostiary.app.sealing import Sealing
from ostiary.audit.log import Log, open_log
from ostiary.audit.writer import UNSIGNED_SECONDS
from ostiary.config.types import Config, Listener
from ostiary.identity import habits
from ostiary.identity.dpop import KeyProofs
from ostiary.identity.gateway import GatewayTokens
from ostiary.identity.issuers import issuer_configured
from ostiary.identity.keys import load_token_ring
from ostiary.identity.overage import GroupSource
from ostiary.identity.standing import Standing
from ostiary.identity.verifier import Verifier
from ostiary.masking import scrub
from ostiary.model.connections import HttpConnection, PostgresConnection
from ostiary.model.errors import LogFailed
from ostiary.store import numbers, once
from ostiary.store.commons import Commons

AUDIENCE: Final = "ostiary"
"""`aud` of gateway tokens."""

PURSES: Final = "purses"
USED: Final = "used"
HABITS: Final = "habits"
NUMBERS: Final = "numbers"
TABLES: Final = {
    PURSES: (till.BODY, till.RECORDS), USED: (once.BODY, once.RECORDS), HABITS: (habits.BODY, habits.RECORDS),
    NUMBERS: (numbers.BODY, numbers.RECORDS),
}  # fmt: skip
"""What workers keep in the memory that they share."""

_diagnostics = structlog.get_logger("ostiary")


def open_own_log(config: Config, writer: str) -> tuple[Log, Sealing]:
    """Open this process's log, recovered, with a sealer process beside it, and say what recovery found."""
    state = Path(config.gateway.state_dir)
    log = open_log(
        state, config.gateway.name, writer, scrub=scrub, loop=asyncio.get_running_loop(),
        tail_dir=Path(config.audit.tail_dir), tail_bytes=config.audit.tail_bytes,
        patience=config.audit.stall_ms / 1000, unsigned=UNSIGNED_SECONDS,
    )  # fmt: skip
    sealing = Sealing(log, config.audit.unsigned_seconds, witness_file(config), config.audit.witness_lag_seconds)
    report = log.report
    if not report.clean:
        _diagnostics.warning(
            "the log was recovered", log=report.origin, intents_unknown=report.intents, sessions_closed=report.sessions,
            merged=report.merged, cut=report.cut, gap=report.gap,
        )  # fmt: skip
    return log, sealing


def witness_file(config: Config) -> Path | None:
    """The policy with the witnesses to ask, if there are any."""
    return None if config.audit.witness_policy is None else Path(config.audit.witness_policy)


async def record(log: Log, kind: str, members: dict[str, Any]) -> None:
    """Make an entry of the gateway's own durable. Raises `LogFailed`.

    No operation waits for it, so a slow disk has more patience here than `stall_ms`: a start at a bad moment is no reason to stay down.
    """
    entry = log.encoder.entry(kind, log.ids.next(), time.time_ns(), time.monotonic_ns(), members)
    log.writer.append(entry)
    try:
        await log.writer.flush()
    except TimeoutError:
        raise LogFailed(log.writer.why or "the record could not be made durable in time") from None


def verifier(
    config: Config, standing: Standing, groups: Mapping[str, GroupSource] = MappingProxyType({}), proofs: KeyProofs | None = None
) -> Verifier:
    """Whose tokens are believed. `groups`, `proofs`: see `Verifier`."""
    ring = load_token_ring(Path(config.gateway.state_dir) / "keys" / "token.key")
    own = GatewayTokens(ring, issuer=config.api.base_url, audience=AUDIENCE)
    issuers = [issuer_configured(section, f"issuers[{n}]") for n, section in enumerate(config.issuers)]
    remembered = KeyProofs(since=int(time.time())) if proofs is None else proofs
    return Verifier(issuers, gateway=own, standing=standing, groups=groups, proofs=remembered)


def writer_of(worker: int) -> str:
    """Whose log a worker's is, as its origin names it."""
    return f"worker-{worker}"


def listeners(config: Config) -> dict[str, Listener]:
    """What there is to listen on, by protocol."""
    listen = config.listen
    return {name: each for name in listen.__struct_fields__ if (each := getattr(listen, name)) is not None}


def commons_of(config: Config, fd: int, worker: int) -> Commons:
    """What this process shares with the workers: `fd` is of the memory, -1 where there is one worker. `worker`: which it is; 0: none."""
    names = [f"generation {name}" for name, each in config.connections.items() if isinstance(each, PostgresConnection)]
    names += [f"sessions {name}" for name in config.connections]
    names += [f"{what} {protocol}" for protocol in listeners(config) for what in ("waiting", "open")]
    if fd < 0:
        return Commons.alone(names)
    told = [name for name, each in config.connections.items() if isinstance(each, HttpConnection)]
    return Commons(fd, config.gateway.workers, worker, names, TABLES, told)


def on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT end this process in good order. SIGHUP is the supervisor's to heed."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)


def no_core_dumps() -> None:
    """Keep secrets in memory out of core dumps, and other processes of this user out of this memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pr_set_dumpable = 4  # prctl(2)
    ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
