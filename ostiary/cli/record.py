"""What commands do to recordings, on record before it is done."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ostiary.audit.jcs import Json
    from ostiary.config.types import Config


def witnesses_of(config: Config) -> Path | None:
    """Return the policy with the witnesses to ask, if there are any."""
    return None if config.audit.witness_policy is None else Path(config.audit.witness_policy)


def on_record(config: Config, kind: str, members: dict[str, Json]) -> str:
    """Make an entry in the operator's log; returns its id. Raises `LogFailed`, and then nothing may be done."""
    from ostiary.audit.operator import record
    from ostiary.masking import scrub

    state = Path(config.gateway.state_dir)
    tail = Path(config.audit.tail_dir)
    return record(state, config.gateway.name, scrub, kind, members, tail_dir=tail, witnesses=witnesses_of(config))
