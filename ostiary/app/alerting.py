"""Assembly of approvals and alerts: what they need of the rest of the control process."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.routing import Route

from ostiary.alerts.engine import Engine, Notify, Place
from ostiary.api.approvals import Approving
from ostiary.api.events import Record
from ostiary.api.slack import SlackDoor
from ostiary.app.approving import open_office, slack_door, sweep
from ostiary.app.common import record, writer_of
from ostiary.approvals.office import Office
from ostiary.approvals.outlets import Outlets
from ostiary.audit import walreader
from ostiary.audit.log import Log
from ostiary.config.types import Config
from ostiary.driver.spawn import spawn
from ostiary.identity.records import Records
from ostiary.identity.standing import Standing
from ostiary.identity.verifier import Verifier
from ostiary.masking import scrub
from ostiary.model.errors import Reason
from ostiary.store.database import Database
from ostiary.store.news import NewsBoard

FREE: Final = frozenset({"why", "who", "iss", "sub"})
"""What an alarm says that came from outside: past the detectors, on its way into the log."""


AT_ONCE: Final = 5_000
"""Entries looked at in one go, before anything else of the process gets its turn."""


def read_logs(state: Path, places: dict[str, Place]) -> tuple[list[dict[str, Any]], dict[str, Place]]:
    """Read what is new in the write-ahead files of this gateway's logs, by its time: rules tell what comes in a row, whichever worker has it."""
    entries: list[dict[str, Any]] = []
    following: dict[str, Place] = {}
    logs = (_read_log(folder, folder.relative_to(state / "audit").as_posix(), places) for folder in walreader.origins(state))
    for origin, entry, place in heapq.merge(*logs, key=lambda each: str(each[1]["t"])):
        entries.append(entry)
        following[origin] = place
        if len(entries) >= AT_ONCE:
            break
    return entries, following


def _read_log(folder: Path, origin: str, places: dict[str, Place]) -> Iterator[tuple[str, dict[str, Any], Place]]:
    """(origin, entry, the place after it) of what is new in one log."""
    start = walreader.resumed(folder, walreader.Place(*places[origin])) if origin in places else None
    for place, data in walreader.read_from(folder, start):
        after = walreader.after(place, data)
        yield origin, msgspec.json.decode(data), (after.segment, after.offset, after.index)


async def watch(
    config: Config, database: Database, board: NewsBoard, records: Records, log: Log, notify: Notify
) -> None:
    """Watch over this gateway's logs, for ever."""

    async def on_record(said: dict[str, Any]) -> None:
        shaped = {name: log.encoder.free(value) if name in FREE else value for name, value in said.items()}
        await record(log, "config", {"config": shaped})

    async def isolate(iss: str, sub: str, why: str) -> None:
        await records.stop(iss, sub, Reason.STOPPED_ACTOR, why, int(time.time()))

    engine = Engine(
        config.alerts, read=partial(read_logs, Path(config.gateway.state_dir)), database=database, board=board, record=on_record, isolate=isolate,
        notify=notify, clock=time.time,
    )  # fmt: skip
    await engine.run()


class Controls:
    """Approvals and alerts of the control process, under way."""

    def __init__(self, office: Office, outlets: Outlets, slack: SlackDoor | None, tasks: list[asyncio.Task[Any]]) -> None:
        self.office = office
        self._outlets = outlets
        self._slack = slack
        self._tasks = tasks

    @classmethod
    async def open(
        cls, config: Config, database: Database, board: NewsBoard, records: Records, log: Log, standing: Standing
    ) -> Controls:
        """Take up where the process before left off, and begin to watch."""
        outlets = Outlets(config.approvals, scrub=scrub, spawn=spawn, page=config.api.base_url)
        office = open_office(config, database, board, log, standing, outlets.tell)
        await office.load()
        await office.dismiss(map(writer_of, range(1, config.gateway.workers + 1)))
        tasks = [spawn(sweep(office), "approvals")]
        if config.alerts:
            tasks.append(spawn(watch(config, database, board, records, log, outlets.tell), "alerts"))
        return cls(office, outlets, slack_door(config), tasks)

    def routes(self, believes: Verifier, refused: Record) -> list[Route]:
        """Return what the API serves of them. `refused`: puts a token that was not accepted on record."""
        return Approving(self.office, believes, self._slack, refused).routes()

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await self._outlets.close()
