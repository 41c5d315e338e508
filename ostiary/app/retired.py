"""The logs of workers that are no more, because fewer were asked for: brought into order like any other, and written no more.

A worker that was killed leaves operations open and sessions without an end, and the next start of the same worker closes them
(`ostiary.audit.recovery`). Where there is no such worker any more, this process does it, before the others start.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from ostiary.app.common import on_signals, open_own_log
from ostiary.app.orders import Post
from ostiary.audit.keys import ABANDONED, Origin, origins
from ostiary.audit.recovery import is_unsigned
from ostiary.audit.wal import Damaged
from ostiary.config.types import Config
from ostiary.model.errors import LogFailed

_WRITER: Final = re.compile(r"worker-([1-9][0-9]*)")


def writers(config: Config) -> list[str]:
    """Those that have a log, and are no more."""
    found = []
    for folder in (Path(config.gateway.state_dir) / "audit").glob("worker-*"):
        match = _WRITER.fullmatch(folder.name)
        if match is not None and int(match[1]) > config.gateway.workers:
            found.append((int(match[1]), folder.name))
    return [name for _, name in sorted(found)]


def unfinished(config: Config) -> list[str]:
    """Those among them with a log that was not closed in good order, or is not signed to its end."""
    state, name = Path(config.gateway.state_dir), config.gateway.name
    return [writer for writer in writers(config) if any(map(_is_unfinished, origins(state, name, writer)))]


def _is_unfinished(origin: Origin) -> bool:
    if (origin.folder / ABANDONED).exists():
        return False
    if (origin.folder / "open").exists():
        return True
    try:
        return is_unsigned(origin)
    except (Damaged, OSError):
        return False  # closed, and damaged since: its verifier says so


async def run(config: Config, post: Post, stop: asyncio.Event) -> None:
    """Bring them into order, and end."""
    on_signals(stop)
    for writer in unfinished(config):
        try:
            _, sealing = open_own_log(config, writer)
        except LogFailed as problem:
            raise LogFailed(f"the log of {writer}, a worker that is no more: {problem}") from None
        await sealing.finished()
        await sealing.close()
    post.ready({})
