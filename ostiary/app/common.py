"""What the worker and the control process set up alike: their log, their verifier, their policies."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog

from ostiary.app.sealing import Sealing
from ostiary.audit.log import Log, open_log
from ostiary.audit.writer import UNSIGNED_SECONDS
from ostiary.config.types import Config
from ostiary.identity.gateway import GatewayTokens
from ostiary.identity.issuers import issuer_configured
from ostiary.identity.keys import load_token_ring
from ostiary.identity.revocations import Revocations
from ostiary.identity.verifier import Verifier
from ostiary.masking import scrub
from ostiary.model.errors import ConfigError
from ostiary.policy.policies import Policies

AUDIENCE: Final = "ostiary"
"""`aud` of gateway tokens."""

_diagnostics = structlog.get_logger("ostiary")


def open_own_log(config: Config, writer: str) -> tuple[Log, Sealing]:
    """Open this process's log, recovered, with a sealer process beside it, and say what recovery found."""
    state = Path(config.gateway.state_dir)
    log = open_log(
        state, config.gateway.name, writer, scrub=scrub, loop=asyncio.get_running_loop(),
        tail_dir=Path(config.audit.tail_dir), tail_bytes=config.audit.tail_bytes, unsigned=UNSIGNED_SECONDS,
    )  # fmt: skip
    sealing = Sealing(log, config.audit.unsigned_seconds)
    report = log.report
    if not report.clean:
        _diagnostics.warning(
            "the log was recovered", log=report.origin, intents_unknown=report.intents, sessions_closed=report.sessions,
            merged=report.merged, cut=report.cut, gap=report.gap,
        )  # fmt: skip
    return log, sealing


async def record(log: Log, kind: str, members: dict[str, Any]) -> None:
    """Make an entry of the gateway's own durable. Raises `LogFailed`."""
    entry = log.encoder.entry(kind, log.ids.next(), time.time_ns(), time.monotonic_ns(), members)
    await log.writer.wait_durable(log.writer.append(entry))


def token_issuer(config: Config) -> str:
    """`iss` of this gateway's own tokens: where its API is."""
    return config.api.url or f"http://{config.api.address}"


def verifier(config: Config) -> Verifier:
    """Whose tokens are believed."""
    state = Path(config.gateway.state_dir)
    revocations = Revocations(state / "revoked")
    own = GatewayTokens(
        load_token_ring(state / "keys" / "token.key"), issuer=token_issuer(config), audience=AUDIENCE, revocations=revocations
    )
    issuers = [issuer_configured(section, f"issuers[{n}]") for n, section in enumerate(config.issuers)]
    return Verifier(issuers, gateway=own, revocations=revocations)


def policies(config: Config) -> Policies:
    """Read the policy files. Raises `ConfigError`."""
    texts: dict[str, str] = {}
    for path in config.policy.files:
        try:
            texts[str(path)] = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError("policy.files", f"{path} cannot be read: {exc}") from None
    return Policies.load(texts)


def on_signals(stop: asyncio.Event, reload: Callable[[], None]) -> None:
    """SIGTERM and SIGINT end this process in good order; SIGHUP loads the policies anew."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
