"""`ostiary connections`: which targets there are, and whether they answer."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostiary.cli.codes import ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, complete_connection, connection_named, load
from ostiary.cli.output import Output, emit_json, say, table, working

if TYPE_CHECKING:
    from ostiary.model.connections import Connection

app = typer.Typer(no_args_is_help=True, help="The targets that callers may reach by name.", rich_markup_mode=None)


@app.command("list")
def list_(config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT) -> None:
    """List the connections of the configuration."""
    rows = [_row(connection) for connection in load(config).connections.values()]
    if output is Output.JSON:
        emit_json(rows)
        return
    table(
        rows,
        ["name", "type", "address", "database", "tls", "labels", "durability", "recording"],
        empty="no connections",
    )


def _row(connection: Connection) -> dict[str, Any]:
    upstream = connection.upstream
    return {
        "name": connection.name,
        "type": connection.type,
        "address": f"{upstream.host}:{upstream.port}",
        "database": connection.place,
        "user": connection.account,
        "tls": upstream.tls,
        "labels": list(connection.labels),
        "durability": connection.durability.value,
        "recording": connection.recording.value,
        "classes": sorted(connection.classes),
    }


@app.command("test")
def try_out(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Connections to try; all if none is named.", autocompletion=complete_connection),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Log in to targets as the gateway would, ask each a question, and say what is wrong where that fails."""
    settings = load(config)
    wanted = [connection_named(settings, name) for name in names or sorted(settings.connections)]
    with working("asking the targets"):
        rows = [_try(connection) for connection in wanted]
    if output is Output.JSON:
        emit_json(rows)
    else:
        shown = [
            row | {"result": "ok" if row["ok"] else "FAILED", "says": row["problem"] or row["server"]} for row in rows
        ]
        table(shown, ["name", "result", "ms", "says"], empty="no connections")
        for row in rows:
            for warning in row["warnings"]:
                say(f"warning: {row['name']}: {warning}")
            if row["hint"]:
                say(f"hint: {row['name']}: {row['hint']}")
    return ExitCode.OK if all(row["ok"] for row in rows) else ExitCode.NO


def _try(connection: Connection) -> dict[str, Any]:
    import asyncio

    from ostiary.cli.probe import look, probe
    from ostiary.model.errors import OstiaryError

    began = time.monotonic()
    found: dict[str, Any] = {"name": connection.name, "ok": False, "server": "", "role": "", "problem": "", "hint": ""}
    found["warnings"] = []
    try:
        found["server"] = asyncio.run(probe(connection))
        found["role"], found["warnings"] = asyncio.run(look(connection))
        found["ok"] = True
    except OstiaryError as exc:
        found |= {"problem": str(exc), "hint": getattr(exc, "hint", "")}
    return found | {"ms": round((time.monotonic() - began) * 1000)}
