"""`ostiary sessions`: who was on which connection, what they did there, and what it looked like."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, complete_connection, connection_named, load
from ostiary.cli.output import Output, emit_json, emit_lines, emit_safe, say, table, working
from ostiary.cli.record import on_record
from ostiary.cli.recordings import records
from ostiary.cli.replaying import (
    File,
    IdleLimit,
    ReplayOutput,
    Speed,
    Start,
    Stop,
    Transcript,
    Which,
    find_terminal,
    play,
    write_asciicast,
)
from ostiary.cli.tokens import SUBJECT_TOKEN, Api, CaFile, SubjectToken, exchanged, listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ostiary.cli.again import Ran
    from ostiary.config.types import Config
    from ostiary.model.events import StreamHead
    from ostiary.recording.transcript import Event
    from ostiary.vault.payload_reading import Gap, Record

app = typer.Typer(no_args_is_help=True, help="Sessions: list, show, replay; watch and end those that run.", rich_markup_mode=None)

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
    screen: Annotated[
        str | None, typer.Option(help="Only where these words were on the screen, or in the output, of one command or shell. Goes on record.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_ENTRIES, help="At most this many, the newest.")] = 50,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """List sessions, newest first. With `--screen`, ends with 2 if a recording could not be read."""
    from ostiary.audit.search import Query, outcome_of, search

    settings = load(config)
    state = settings.gateway.state_dir
    status = ExitCode.OK
    shown: set[str] | None = None
    query = Query(
        kind="session.start",
        person=person,
        actor=actor,
        connection=connection,
        task=task,
        since=since,
        until=until,
        limit=limit if screen is None else MAX_ENTRIES,
    )
    with working("searching"):
        if screen is not None:
            shown, status = _shown_on(settings, screen)
        rows: list[dict[str, Any]] = []
        for start in search(state, query):
            if len(rows) == limit:
                break
            if shown is not None and start.get("session") not in shown:
                continue
            end = outcome_of(state, start["id"])
            rows.append(_row(start, None if end is None else end.entry))
    if output is Output.JSON:
        emit_json(rows)
    else:
        table(rows, ["session", "began", "who", "connection", "operations", "status"], empty="no sessions")
    return status


def _shown_on(settings: Config, screen: str) -> tuple[set[str], ExitCode]:
    """Return the sessions in which words were shown, on record; and whether every recording could be looked into."""
    from ostiary.audit.search import MAX_LIMIT, Query, search
    from ostiary.cli.recordings import touched

    values = touched(settings)
    on_record(settings, "replay", {"replay": {"how": "searched"}})
    found = {str(entry.get("session")) for entry in search(settings.gateway.state_dir, Query(screen=screen, limit=MAX_LIMIT), values)}
    if values.closed:
        session, why = values.closed[0]
        say(f"{len(values.closed)} recordings could not be read, and were not looked into: {session}: {why}")
    return found, ExitCode.INCOMPLETE if values.closed else ExitCode.OK


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
    speed: Speed = None,
    idle_limit: IdleLimit = None,
    start: Start = None,
    stop: Stop = None,
    number: Which = 1,
    transcript: Transcript = False,
    file: File = None,
    output: Annotated[
        ReplayOutput, typer.Option("-o", "--output", envvar="OSTIARY_OUTPUT", help="How to write the recording.")
    ] = ReplayOutput.TEXT,
) -> int:
    """Show a session as recorded and masked: play its terminal, or print what was asked and answered. Needs the key-encryption key.

    A session with a terminal is played where this is one, or where an option says how; any other, and with `--transcript`, is printed. Keys:
    space pauses, `.` goes one step, left and right 10 seconds, + and - change the speed, 0 begins anew, q ends. What is played can draw, and do
    nothing else to this terminal.

    That somebody looked is an entry of the log (`replay`), made before anything is shown. With `--against`, a session of PostgreSQL is
    run again through the gateway, as you and under policy, statement by statement with its parameters. Ends with 1 if a result differs.
    """
    settings = load(config)
    state = str(settings.gateway.state_dir)
    whole = _full(state, session)
    if against is not None:
        if output is ReplayOutput.ASCIICAST:
            raise CommandFailed(ExitCode.USAGE, "what is run again has no terminal")
        return _run_again(settings, config, whole, against, subject, ca_file, Output(output.value))
    head = _head(state, whole)
    opened = partial(records, settings, whole, head)
    opened()  # so that what cannot be opened is said before it is on record that somebody looked
    how = "exported" if output is ReplayOutput.ASCIICAST else "shown"
    on_record(settings, "replay", {"replay": {"how": how, "session": whole}})
    wants = any(each is not None for each in (speed, idle_limit, start, stop))
    plays = output is ReplayOutput.TEXT and not transcript and (wants or sys.stdout.isatty())
    is_ssh = _start(state, whole).get("target", {}).get("type") == "ssh"
    terminal = find_terminal(opened, number) if is_ssh and (plays or output is ReplayOutput.ASCIICAST) else None
    if output is ReplayOutput.ASCIICAST:
        if terminal is None:
            raise CommandFailed(ExitCode.NO, f"session {whole} had no terminal: there is only its transcript")
        began = str(_start(state, whole).get("t", ""))
        write_asciicast(opened, terminal, began=began, title=whole, idle_limit=idle_limit, file=file)
    elif terminal is not None:
        play(opened, terminal, speed=speed, idle_limit=idle_limit, start=start, stop=stop)
    else:
        _print(_happened(state, whole, opened()), Output(output.value))
    return ExitCode.OK


def _print(happened: Iterator[Event], output: Output) -> None:
    from ostiary.recording.transcript import lines

    if output is Output.JSON:
        for event in happened:
            emit_json(event)
            sys.stdout.flush()
        return
    for line in lines(happened):
        emit_safe([line.text])
        sys.stdout.flush()


@app.command("watch")
def watch(
    session: SessionId,
    transcript: Transcript = False,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Look on while a session runs: its terminal as it is used, or its transcript as it grows. Ends with the session, or with Ctrl-C.

    What was before is shown first, at once. Needs a connection that records in full, and the key-encryption key. That somebody looks on is
    an entry of the log (`replay`). Whoever is watched is not slowed down by it, and not told.
    """
    from contextlib import suppress

    from ostiary.cli.watching import draw, recording

    settings = load(config)
    state = str(settings.gateway.state_dir)
    whole = _full(state, session)
    followed = recording(settings, whole)
    on_record(settings, "replay", {"replay": {"how": "watched", "session": whole}})
    with suppress(KeyboardInterrupt):
        if output is Output.TEXT and not transcript and sys.stdout.isatty() and _type(state, whole) == "ssh":
            draw(followed)
        else:
            _print(_happened(state, whole, followed, live=True), output)
        say(f"session {whole} has ended")
    return ExitCode.OK


@app.command("end")
def end(
    session: SessionId,
    reason: Annotated[str, typer.Option(help="Why; recorded.")],
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """End a running session at once, as a person of an [admin] group. Ends with 1 if it is not known to have ended.

    Its token stays good: `ostiary revoke` and `ostiary isolate` keep somebody out.
    """
    from ostiary.cli.login import asked
    from ostiary.cli.watching import is_over, wait_end

    settings = load(config)
    state = str(settings.gateway.state_dir)
    whole = _full(state, session)
    if is_over(state, whole):
        raise CommandFailed(ExitCode.NO, f"session {whole} has ended already")
    asked(api, config, ca_file, "POST", "/v1/sessions/end", body={"session": whole, "reason": reason})
    ended = wait_end(settings, whole)
    if output is Output.JSON:
        emit_json({"session": whole, "ended": ended})
    say(f"session {whole} has ended" if ended else f"the gateway was told to end session {whole}; the log does not say yet that it has")
    return ExitCode.OK if ended else ExitCode.NO


def _happened(state: str, session: str, recording: Iterator[Record | Gap], *, live: bool = False) -> Iterator[Event]:
    """Read a recording by the protocol that the session speaks. `live`: its log is not complete, and is left out."""
    from ostiary.recording.http_transcript import http_events
    from ostiary.recording.ssh_transcript import ssh_events
    from ostiary.recording.transcript import events

    match _type(state, session):
        case "http" | "aws":
            return http_events(recording)
        case "ssh":
            return ssh_events(recording, () if live else _entries(state, session))
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
    return str(_start(state, session).get("target", {}).get("type", ""))


def _start(state: str, session: str) -> dict[str, Any]:
    """Return the entry that began a session; nothing where there is none."""
    from ostiary.audit.search import Query, search

    return next(iter(search(state, Query(kind="session.start", session=session, limit=1))), {})


def _head(state: str, session: str) -> StreamHead | None:
    """Return how far the log knows the recording to go: what is replayed is checked against it on the way."""
    import msgspec

    from ostiary.audit.search import Query, search
    from ostiary.model.events import StreamHead

    for entry in search(state, Query(session=session, limit=MAX_ENTRIES)):
        if "head" in entry.get("recording", {}):
            return msgspec.convert(entry["recording"], StreamHead)
    return None
