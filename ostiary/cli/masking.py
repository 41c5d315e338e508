"""`ostiary masking`: what would be masked, before anybody relies on it."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, complete_connection, connection_named, load
from ostiary.cli.output import Output, emit_json, emit_lines, say, working

if TYPE_CHECKING:
    from ostiary.audit.jcs import Json

app = typer.Typer(no_args_is_help=True, help="What is masked of what comes back, and why.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """What is masked of what comes back, and why."""


@app.command("preview")
def preview(
    connection: Annotated[str, typer.Argument(help="The connection to look at.", autocompletion=complete_connection)],
    table: Annotated[
        list[str] | None, typer.Option(help="A table or view, SCHEMA.NAME; all of somebody's own if none is named.")
    ] = None,
    rows: Annotated[
        int, typer.Option(min=0, max=200, help="Rows of each to try; what is left of them is shown. 0: only what the catalogue says.")
    ] = 20,
    most: Annotated[int, typer.Option(min=1, max=1000, help="Tables to look at, if none is named; protected ones come first.")] = 50,
    subject: Annotated[str, typer.Option(help="The subject (`sub`) for whom it is shown.")] = "someone",
    issuer: Annotated[str, typer.Option(help="Its issuer; the first of the configuration if not given.")] = "",
    kind: Annotated[str, typer.Option(help="human, workload or agent.")] = "human",
    group: Annotated[list[str] | None, typer.Option(help="A group that it is in; may be repeated.")] = None,
    actor: Annotated[
        list[str] | None,
        typer.Option(help="Somebody who acts for it, KIND:NAME, the one at the keyboard first; may be repeated."),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Show which columns are masked for an identity, why and how, with rows as they would come. Reading rows is on record first."""
    import asyncio

    from ostiary.audit.entries import proved
    from ostiary.cli import policy
    from ostiary.cli.previewing import Preview
    from ostiary.cli.previewing import preview as look
    from ostiary.cli.record import on_record
    from ostiary.model.connections import PostgresConnection

    settings = load(config)
    target = connection_named(settings, connection)
    if not isinstance(target, PostgresConnection):
        raise CommandFailed(ExitCode.NO, f"{connection} is of type {target.type}: only PostgreSQL has columns to look at")
    who = policy.supposed(subject, issuer or policy.first_issuer(settings), kind, group or [], actor or [])
    made = Preview(target, policy.load_policies(settings), who)

    def record(names: list[str]) -> str:
        said: dict[str, Json] = {"action": "preview", "connection": connection, "for": proved(made.who)["who"], "relations": [*names], "rows": rows}
        return on_record(settings, "config", {"config": said})

    with working("asking the target"):
        found = asyncio.run(look(made, table or [], most, rows, record))
    if output is Output.JSON:
        emit_json(found)
    else:
        _print(found)
    return ExitCode.NO if found["unknown"] or found["missing"] else ExitCode.OK


def _print(found: dict[str, Any]) -> None:
    for each in found["relations"]:
        lines = [each["relation"]]
        lines += [f"  {_line(column)}" for column in each["columns"]]
        if each.get("problem"):
            lines.append(f"  ({each['problem']})")
        lines += ["  | " + " | ".join("NULL" if cell is None else str(cell) for cell in row.values()) for row in each["sample"]]
        emit_lines([*lines, ""])
    for name in found["missing"]:
        say(f"protected column {name} is not there: nothing protects it")
    for name in found["unknown"]:
        say(f"there is no table or view {name}")
    if found["left_out"]:
        say(f"{found['left_out']} more tables and views were not looked at: name them, or raise --most")
    for entry in found["entries"]:
        say(f"on record as {entry}")


def _line(column: dict[str, Any]) -> str:
    said = []
    if column["classes"]:
        shown = "shown in clear" if column["clear"] else f"masked, {column['mask']}"
        said.append(f"{'+'.join(column['classes'])}: {shown}, by {column['because']}")
    said += [f"{name} found {count}x" for name, count in column["detected"].items()]
    return f"{column['column']}: {'; '.join(said) or 'as it is'}"
