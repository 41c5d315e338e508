"""What the worker and the control process set up alike: their log, their verifier, their policies."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog

from ostiary.app.policies import read_policies
from ostiary.app.sealing import Sealing
from ostiary.audit.log import Log, open_log
from ostiary.audit.writer import UNSIGNED_SECONDS
from ostiary.config.load import policy_texts
from ostiary.config.types import Config
from ostiary.identity.gateway import GatewayTokens
from ostiary.identity.issuers import issuer_configured
from ostiary.identity.keys import load_token_ring
from ostiary.identity.standing import Standing
from ostiary.identity.verifier import Verifier
from ostiary.masking import scrub
from ostiary.policy.policies import Policies

AUDIENCE: Final = "ostiary"
"""`aud` of gateway tokens."""

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
    """Make an entry of the gateway's own durable. Raises `LogFailed`."""
    entry = log.encoder.entry(kind, log.ids.next(), time.time_ns(), time.monotonic_ns(), members)
    await log.writer.wait_durable(log.writer.append(entry))


def verifier(config: Config, standing: Standing) -> Verifier:
    """Whose tokens are believed."""
    ring = load_token_ring(Path(config.gateway.state_dir) / "keys" / "token.key")
    own = GatewayTokens(ring, issuer=config.api.base_url, audience=AUDIENCE)
    issuers = [issuer_configured(section, f"issuers[{n}]") for n, section in enumerate(config.issuers)]
    return Verifier(issuers, gateway=own, standing=standing)


def policies(config: Config) -> Policies:
    """Read the policy files. Raises `ConfigError`."""
    return read_policies(policy_texts(config))


def on_signals(stop: asyncio.Event, reload: Callable[[], None]) -> None:
    """SIGTERM and SIGINT end this process in good order; SIGHUP loads the policies anew."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
