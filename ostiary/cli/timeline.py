"""`ostiary audit timeline`: all that one delegation, mandate or run did, in order, over all sessions and connections."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ostiary.cli.codes import ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, emit_safe, safe, say

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def timeline(
    task: Annotated[str, typer.Option(help="Id of a run, delegation or mandate: `task` of any of its entries.")],
    since: Annotated[str | None, typer.Option(help="From this time on: 2026-11-21T08:01 (UTC), or 1h, 7d ago.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most this many, the oldest.")] = 10_000,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Show all that one task did, oldest first, over all its sessions. Ends with 1 if there is nothing."""
    from ostiary.audit.search import Query, search, summary

    query = Query(task=task, since=moment(since), limit=limit, newest_first=False)
    count = 0
    # Logs are several, and each has its own order: the clock is what they share.
    for entry in sorted(search(load(config).gateway.state_dir, query), key=lambda entry: str(entry.get("t"))):
        count += 1
        if output is Output.JSON:
            emit_json(entry)
        else:
            emit_safe([f"{summary(entry)}  {safe(str(entry.get('session', ''))[-12:])}"])
    if not count:
        say("nothing found")
    return ExitCode.OK if count else ExitCode.NO


def moment(text: str | None, now: float | None = None) -> str | None:
    """`1h`, `7d` and the like as a time in UTC; anything else as it is."""
    found = _AGO.fullmatch(text or "")
    if found is None:
        return text
    at = (time.time() if now is None else now) - int(found[1]) * _SECONDS[found[2]]
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def intents_since(config: Path, since: str) -> Iterator[dict[str, Any]]:
    """Every intent of every log since then, oldest first."""
    from ostiary.audit.search import MAX_LIMIT, Query, search

    query = Query(kind="intent", since=moment(since), limit=MAX_LIMIT, newest_first=False)
    yield from search(load(config).gateway.state_dir, query)
