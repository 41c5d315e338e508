"""`ostiary sessions`: who was on which connection, what they did there, and what it looked like."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, complete_connection, connection_named, load
from ostiary.cli.output import Output, emit_json, emit_lines, emit_safe, say, table, working
from ostiary.cli.record import on_record
from ostiary.cli.recordings import records
from ostiary.cli.tokens import SUBJECT_TOKEN, CaFile, SubjectToken, exchanged, listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ostiary.cli.again import Ran
    from ostiary.config.types import Config
    from ostiary.model.events import StreamHead
    from ostiary.recording.transcript import Event
    from ostiary.vault.payload_reading import Gap, Record

app = typer.Typer(no_args_is_help=True, help="Sessions on record: list, show, replay.", rich_markup_mode=None)

SessionId = Annotated[str, typer.Argument(help="The session's id, or its beginning if that is enough to tell.")]
MAX_ENTRIES = 1_000_000


@app.command("list")
def list_(
    person: Annotated[str | None, typer.Option(help="Only of this person: id or name.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only through this actor.")] = None,
    connection: Annotated[str | None, typer.Option(help="Only on this connection.")] = None,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    since: Annotated[str | None, typer.Option(help="From this time on, UTC: 2026-11-21 or 2026-11-21T08:01.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_ENTRIES, help="At most this many, the newest.")] = 50,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List sessions, newest first."""
    from ostiary.audit.search import Query, outcome_of, search

    state = load(config).gateway.state_dir
    query = Query(
        kind="session.start",
        person=person,
        actor=actor,
        connection=connection,
        task=task,
        since=since,
        until=until,
        limit=limit,
    )
    with working("searching"):
        rows = []
        for start in search(state, query):
            end = outcome_of(state, start["id"])
            rows.append(_row(start, None if end is None else end.entry))
    if output is Output.JSON:
        emit_json(rows)
        return
    table(rows, ["session", "began", "who", "connection", "operations", "status"], empty="no sessions")


def _row(start: dict[str, Any], end: dict[str, Any] | None) -> dict[str, Any]:
    from ostiary.audit.index import text_of

    who = start.get("who", {})
    chain = [who, *reversed(who.get("act", []))]
    result = {} if end is None else end.get("result", {})
    return {
        "session": start.get("session", ""),
        "began": start.get("t", ""),
        "ended": "" if end is None else end.get("t", ""),
        "who": " → ".join(text_of(each.get("name")) or text_of(each.get("sub")) for each in chain),
        "connection": text_of(start.get("target", {}).get("connection")),
        "operations": result.get("operations", ""),
        "status": result.get("status", "open"),
    }


@app.command("show")
def show(session: SessionId, config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT) -> int:
    """Show every entry of a session, oldest first."""
    from ostiary.audit.search import summary

    state = load(config).gateway.state_dir
    found = list(_entries(state, _full(state, session)))
    if not found:
        say(f"ostiary: no session {session}")
        return ExitCode.NO
    if output is Output.JSON:
        emit_json(found)
    else:
        emit_safe(summary(entry) for entry in found)
    return ExitCode.OK


def _entries(state: str, session: str) -> Iterator[dict[str, Any]]:
    """Every entry of a session, oldest first."""
    from ostiary.audit.search import Query, search

    return iter(search(state, Query(session=session, newest_first=False, limit=MAX_ENTRIES)))


def _full(state: str, session: str) -> str:
    """Return the whole id that begins with `session`; itself where none, or more than one, does."""
    from ostiary.audit.search import Query, search

    begun = search(state, Query(kind="session.start", session=f"{session}*", limit=2))
    found = {entry.get("session", "") for entry in begun}
    return str(found.pop()) if len(found) == 1 else session


@app.command("replay")
def replay(
    session: SessionId,
    against: Annotated[
        str | None,
        typer.Option(
            help="Run it again on this connection, which must have the label sandbox=true; show where results differ.",
            autocompletion=complete_connection,
        ),
    ] = None,
    subject: SubjectToken = SUBJECT_TOKEN,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Print what was asked and answered in a session, as recorded and masked. Needs the key-encryption key.

    That somebody looked is an entry of the log (`replay`), made before anything is shown. With `--against`, a session of PostgreSQL is
    run again through the gateway, as you and under policy, statement by statement with its parameters. Ends with 1 if a result differs.
    """
    settings = load(config)
    state = str(settings.gateway.state_dir)
    whole = _full(state, session)
    if against is not None:
        return _run_again(settings, config, whole, against, subject, ca_file, output)
    recording = records(settings, whole, _head(state, whole))
    on_record(settings, "replay", {"replay": {"how": "shown", "session": whole}})
    happened = _happened(state, whole, recording)
    if output is Output.JSON:
        for event in happened:
            emit_json(event)
    else:
        from ostiary.recording.transcript import lines

        emit_safe(line.text for line in lines(happened))
    return ExitCode.OK


def _happened(state: str, session: str, recording: Iterator[Record | Gap]) -> Iterator[Event]:
    """Read a recording by the protocol that the session speaks."""
    from ostiary.recording.http_transcript import http_events
    from ostiary.recording.ssh_transcript import ssh_events
    from ostiary.recording.transcript import events

    match _type(state, session):
        case "http":
            return http_events(recording)
        case "ssh":
            return ssh_events(recording, _entries(state, session))
        case _:
            return events(recording)


def _run_again(
    settings: Config, config: Path, session: str, name: str, subject: str, ca_file: Path | None, output: Output
) -> int:
    """Run a session again on a sandbox, on record before anything is asked."""
    import asyncio

    from ostiary.cli.again import SANDBOX, is_sandbox, run_again, through
    from ostiary.model.connections import PostgresConnection
    from ostiary.recording.asked import asked

    state = str(settings.gateway.state_dir)
    target = connection_named(settings, name)
    if not is_sandbox(target) or not isinstance(target, PostgresConnection):
        label = SANDBOX.replace("=", " = ")
        raise CommandFailed(ExitCode.NO, f"{name} is no sandbox: only a PostgreSQL connection with the label {label} is replayed on")
    if _type(state, session) != PostgresConnection.type:
        raise CommandFailed(ExitCode.NO, f"session {session} is not on record as one of PostgreSQL: only such are run again")
    found = asked(records(settings, session, _head(state, session)))
    operations = [found[entry] for entry in _ran(state, session) if entry in found]
    gateway = through(listener(config, None), None if ca_file is None else str(ca_file.absolute()), target, "replay")
    purpose = f"replay of session {session}"
    granted = exchanged(config, None, subject, None, [name], purpose, "", None, None, ca_file)
    on_record(settings, "replay", {"replay": {"connection": name, "how": "run", "session": session}})

    async def run() -> int:
        differ = count = 0
        async for ran in run_again(gateway, granted.token, operations):
            count += 1
            differ += bool(ran.differences)
            _show(ran, output)
        say(f"{count} operations, {differ} with another result")
        return differ

    return ExitCode.NO if asyncio.run(run()) else ExitCode.OK


def _ran(state: str, session: str) -> Iterator[str]:
    """Return the ids of the intents that ran, in order: not what was refused, and not what was skipped behind an error."""
    intents: list[str] = []
    skipped: set[str] = set()
    for entry in _entries(state, session):
        if entry["kind"] == "intent":
            intents.append(entry["id"])
        elif entry["kind"] == "outcome" and entry.get("result", {}).get("status") == "skipped":
            skipped.add(entry.get("ref", ""))
    return (entry for entry in intents if entry not in skipped)


def _show(ran: Ran, output: Output) -> None:
    statement = ran.asked.statement.decode(errors="backslashreplace")
    if output is Output.JSON:
        emit_json({
            "entry": ran.asked.entry, "statement": statement, "same": not ran.differences, "differences": list(ran.differences),
        })  # fmt: skip
        return
    first, _, more = statement.strip().partition("\n")
    emit_lines([f"{'DIFFERS' if ran.differences else 'same   '}  {first}{' …' if more else ''}"])
    emit_lines(f"         {line}" for line in ran.differences)


def _type(state: str, session: str) -> str:
    """Return which protocol a session speaks, as its start says."""
    from ostiary.audit.search import Query, search

    for entry in search(state, Query(kind="session.start", session=session, limit=1)):
        return str(entry.get("target", {}).get("type", ""))
    return ""


def _head(state: str, session: str) -> StreamHead | None:
    """Return how far the log knows the recording to go: what is replayed is checked against it on the way."""
    import msgspec

    from ostiary.audit.search import Query, search
    from ostiary.model.events import StreamHead

    for entry in search(state, Query(session=session, limit=MAX_ENTRIES)):
        if "head" in entry.get("recording", {}):
            return msgspec.convert(entry["recording"], StreamHead)
    return None
