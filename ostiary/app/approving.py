"""Assembly of the approvals: what the office and Slack's door need of the rest of the control process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import structlog

from ostiary.api.slack import SlackDoor
from ostiary.approvals.office import Notify, Office
from ostiary.approvals.tables import Clock
from ostiary.approvals.words import Party
from ostiary.audit.entries import proved
from ostiary.audit.log import Log
from ostiary.config.types import Config
from ostiary.identity.standing import Standing
from ostiary.identity.tokens import prove
from ostiary.model.errors import OstiaryError
from ostiary.model.identity import Authentication, Kind, VerifiedIdentity
from ostiary.store.database import Database
from ostiary.store.news import NewsBoard
from ostiary.vault.references import parse_ref, resolve
from ostiary.vault.ring import load_ring

SWEEP_SECONDS: Final = 1.0
"""How often what has expired is closed, and whoever waits is told."""

_log = structlog.get_logger("ostiary")


def open_office(
    config: Config, database: Database, board: NewsBoard, log: Log, standing: Standing, notify: Notify
) -> Office:
    """Open the office over this process's store and log."""

    async def record(what: str, said: dict[str, Any], who: VerifiedIdentity | None) -> None:
        shaped = {name: log.encoder.free(value) if isinstance(value, str) else value for name, value in said.items()}
        members: dict[str, Any] = {"approval": {"what": what} | shaped}
        if who is not None:
            members |= proved(who)
        entry = log.encoder.entry("approval", log.ids.next(), time.time_ns(), time.monotonic_ns(), members)
        await log.writer.wait_durable(log.writer.append(entry))

    def stopped(who: Party) -> str:
        why = standing.is_revoked((who.token, *who.family)) or standing.is_stopped([who.key])
        return "" if why is None else str(why)

    return Office(
        database, board, settings=config.approvals, keys=load_ring(Path(config.gateway.state_dir), config.recordings.keys),
        new_id=log.ids.next, record=record, stopped=stopped, notify=notify, connections=frozenset(config.connections),
        clock=Clock(),
    )  # fmt: skip


async def sweep(office: Office) -> None:
    """Close what has expired, for ever. What cannot be written now is closed the next time, and is over all the same."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            await office.sweep()
        except OstiaryError as exc:
            _log.error("questions that expired are not closed", error=str(exc))


def slack_door(config: Config) -> SlackDoor | None:
    """Where Slack's clicks come in, if it is configured."""
    slack = config.approvals.slack
    if slack is None:
        return None
    secret = resolve(parse_ref(slack.signing_secret, "approvals.slack.signing_secret"))

    def person(user: str, at: int) -> VerifiedIdentity | None:
        """Who a user of the signed workspace is, as the operator has written."""
        found = slack.people.get(user)
        if found is None:
            return None
        return prove(
            issuer=found.issuer, subject=found.subject, kind=Kind.HUMAN, name=found.name, email=None,
            groups=frozenset(found.groups), acting=(), initiator=None, task=None, mandate=None,
            auth=Authentication(method="slack", token=f"slack:{user}", key=None, at=at), expires=at + 60, audience=frozenset(),
        )  # fmt: skip

    return SlackDoor(secret, person)
