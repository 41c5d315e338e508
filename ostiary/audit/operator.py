"""What an operator does to the log from the command line, on record: looking at recordings, destroying them, new keys for them.

It goes into a log of its own, the writer `operator`, which is opened for one entry and closed again: so it works while a gateway runs,
and while none does. The entry is durable before the thing is done. Who did it is as far as the kernel knows: the user of the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Final

from ostiary.audit.entries import Scrub
from ostiary.audit.jcs import Json
from ostiary.audit.keys import Origin, ensure_origin
from ostiary.audit.log import DEFAULT_TAIL_DIR, open_log
from ostiary.audit.sealer import seal_once
from ostiary.model.errors import LogFailed

WRITER: Final = "operator"
PATIENCE_SECONDS: Final = 10.0
_TAIL_BYTES: Final = 1 << 16
_log = logging.getLogger(__name__)


def record(
    state_dir: Path,
    gateway: str,
    scrub: Scrub,
    kind: str,
    members: dict[str, Json],
    *,
    tail_dir: Path = DEFAULT_TAIL_DIR,
    witnesses: Path | None = None,
) -> str:
    """Make one entry durable and have it signed; returns its id. Raises `LogFailed`, and then nothing may be done."""
    origin = ensure_origin(state_dir, gateway, WRITER)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            made, finished = asyncio.run(_record(state_dir, gateway, scrub, kind, members, tail_dir))
        except LogFailed as problem:
            # Somebody else's command has the log open for its own entry.
            if "another writer" not in str(problem) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            for earlier in finished:
                if seal_once(earlier, witnesses):
                    _log.error("the end of %s could not be signed", earlier.name)
            if seal_once(origin, witnesses):
                raise LogFailed(f"entry {made} is durable but could not be signed, so nothing is done")
            return made


async def _record(
    state_dir: Path, gateway: str, scrub: Scrub, kind: str, members: dict[str, Json], tail_dir: Path
) -> tuple[str, tuple[Origin, ...]]:
    log = open_log(
        state_dir, gateway, WRITER, scrub=scrub, loop=asyncio.get_running_loop(), tail_dir=tail_dir,
        tail_bytes=_TAIL_BYTES, patience=PATIENCE_SECONDS,
    )  # fmt: skip
    try:
        entry_id = log.ids.next()
        client: Json = {"user": _user(), "uid": os.getuid()}
        entry = log.encoder.entry(kind, entry_id, time.time_ns(), time.monotonic_ns(), {"client": client, **members})
        await log.writer.wait_durable(log.writer.append(entry))
    finally:
        await log.writer.close()
    return entry_id, log.finished


def _user() -> str:
    import pwd  # noqa: PLC0415 - only here

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
