"""`ostiary access`: what was granted, and what was used of it."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import time
from typing import Annotated

import typer

from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, say, table, working
from ostiary.cli.policy import load_policies

app = typer.Typer(no_args_is_help=True, help="What was granted, and what was used of it.", rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Keep `review` a command of its own."""


@app.command("review")
def review(
    since: Annotated[str | None, typer.Option(help="Only what was used from this time on, UTC: 2026-11-21.")] = None,
    person: Annotated[str | None, typer.Option(help="Only of this person: id or name.")] = None,
    connection: Annotated[str | None, typer.Option(help="Only on this connection.")] = None,
    unused: Annotated[bool, typer.Option("--unused", help="Only what was granted and never used.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Look at so many operations, the newest.")] = 100_000,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Set the permits in force against the record, by identity: how often each was used, when last, and on how much."""
    from ostiary.cli.supposing import believe, recorded
    from ostiary.policy.replaying import recall_all
    from ostiary.policy.reviewing import review as set_against

    settings = load(config)
    left_out: dict[str, int] = {}
    with working("reading the record"):
        entries = recorded(settings.gateway.state_dir, since=since, person=person, connection=connection, limit=limit)
        rows = set_against(recall_all(entries, left_out), load_policies(settings), believe)
    if unused:
        rows = [row for row in rows if not row.used]
    if output is Output.JSON:
        emit_json(rows)
        return
    shown = [
        {
            "who": row.who, "policy": row.policy, "grants": row.grants, "used": row.used,
            "last": time.strftime("%Y-%m-%d", time.gmtime(row.last)) if row.last else "never", "things": row.things,
        }
        for row in rows
    ]  # fmt: skip
    table(shown, ["who", "policy", "grants", "used", "last", "things"], empty="nobody is on record")
    for why, count in left_out.items():
        say(f"not looked at: {count}: {why}")
