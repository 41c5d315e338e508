"""`ostiary audit prune` and `ostiary audit hold`: what is old enough goes, what somebody needs stays."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ostiary.cli.audit import Actor, Connection, Person, Session, Since, Task, Until
from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, emit_lines, say, table, working
from ostiary.cli.record import on_record

if TYPE_CHECKING:
    from ostiary.audit.cosignature import WitnessPolicy
    from ostiary.audit.jcs import Json
    from ostiary.audit.keys import Origin
    from ostiary.audit.retention import Hold, Prune
    from ostiary.config.types import Config

hold = typer.Typer(no_args_is_help=True, help="Legal holds: what must be kept, however old.", rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The hold's name: letters, digits, dots and dashes.")]


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Remove what is older than `audit.keep_days` and on no hold: entries from the front of each log, and their recordings.

    It is on record before it is done, and what is kept verifies as before. The search index is built again at the next search. A gateway may run.
    """
    from ostiary.audit import index
    from ostiary.audit.cosignature import WitnessPolicy
    from ostiary.audit.operator import WRITER
    from ostiary.audit.retention import locked, plan
    from ostiary.cli.record import witnesses_of
    from ostiary.model.errors import ConfigError

    settings = load(config)
    days, state = settings.audit.keep_days, Path(settings.gateway.state_dir)
    if days is None:
        raise ConfigError("audit.keep_days", "is not set, so everything is kept: say how many days entries have to be kept")
    asked = witnesses_of(settings)
    policy = None if asked is None else WitnessPolicy.read(asked)
    done: list[dict[str, Json]] = []
    with locked(state):  # no hold comes or goes from the plan to its end
        with working("looking for what is old enough"):
            origins = [origin for origin in _origins(state, settings.gateway.name) if origin.writer != WRITER]
            found = [(origin, plan(state, origin, days, witnesses=policy)) for origin in origins]
        done = [
            made
            for origin, first in found
            if (made := _would_go(first, days) if dry_run else _gone(settings, state, origin, days, policy)) is not None
        ]
        if done and not dry_run:
            index.drop(state)
    if output is Output.JSON:
        emit_json(done)
    else:
        verb = "would go" if dry_run else "went"
        emit_lines(f"{each['origin']}: entries below {each['below']} {verb}, {each['recordings']} recordings" for each in done)
        if not done:
            say(f"nothing is older than {days} days, by whole segments of the log, and on no hold")
    return ExitCode.OK


def _would_go(found: Prune | None, days: int) -> dict[str, Json] | None:
    return None if found is None else {**_said(found, days), "recordings": 0}


def _gone(settings: Config, state: Path, origin: Origin, days: int, policy: WitnessPolicy | None) -> dict[str, Json] | None:
    """Remove from one log what may go, on record first; what went."""
    from ostiary.audit.retention import carry_out, finish, has_unsigned_end, plan
    from ostiary.audit.sealer import seal_once
    from ostiary.cli.record import witnesses_of

    finish(origin.folder)  # what a crash interrupted
    if has_unsigned_end(origin, policy):
        seal_once(origin, witnesses_of(settings))  # where it fails, the plan finds nothing
    found = plan(state, origin, days, witnesses=policy)
    if found is None:
        return None
    on_record(settings, "redact", {"redact": {**_said(found, days), "what": "entries", "why": "retention"}})
    return {**_said(found, days), "recordings": carry_out(found)}


def _said(found: Prune, days: int) -> dict[str, Json]:
    return {"origin": found.origin.name, "below": found.below, "keep_days": days, "kept_from": found.kept_from}


def _origins(state: Path, gateway: str) -> list[Origin]:
    from ostiary.audit.keys import origins

    writers = sorted({path.parent.parent.name for path in (state / "audit").glob("*/*/origin")})
    return [origin for writer in writers for origin in origins(state, gateway, writer)]


@hold.command("set")
def set_(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; it stands in the log.")],
    person: Person = None,
    actor: Actor = None,
    task: Task = None,
    connection: Connection = None,
    session: Session = None,
    since: Since = None,
    until: Until = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Keep what a search for these finds, now and later, until the hold is released. With no option: everything."""
    from ostiary.audit.retention import Hold, check_room, holds, keep_holds, locked
    from ostiary.audit.search import check

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise CommandFailed(ExitCode.USAGE, "a hold's name has letters, digits, dots and dashes, at most 64")
    if not reason.strip():
        raise CommandFailed(ExitCode.USAGE, "--reason is empty: the log has to say why")
    settings = load(config)
    state = Path(settings.gateway.state_dir)
    made = Hold(
        reason.strip()[:512], person=person, actor=actor, task=task, connection=connection, session=session, since=since, until=until
    )
    check(made.query())
    what: dict[str, Json] = {"action": "hold", "name": name, **_terms(made)}
    with locked(state):
        known = holds(state)
        if name in known:
            raise CommandFailed(ExitCode.NO, f"there is a hold {name} already: release it first")
        check_room(known)
        entry = on_record(settings, "config", {"config": what})
        keep_holds(state, known | {name: made})
    return _told("held", name, entry, output)


@hold.command("release")
def release(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; it stands in the log.")],
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Let go of a hold: what is old enough may be removed again."""
    from ostiary.audit.retention import holds, keep_holds, locked

    settings = load(config)
    state = Path(settings.gateway.state_dir)
    if not reason.strip():
        raise CommandFailed(ExitCode.USAGE, "--reason is empty: the log has to say why")
    with locked(state):
        known = holds(state)
        if name not in known:
            raise CommandFailed(ExitCode.NO, f"there is no hold {name}")
        entry = on_record(settings, "config", {"config": {"action": "release", "name": name, "reason": reason.strip()[:512]}})
        keep_holds(state, {other: kept for other, kept in known.items() if other != name})
    return _told("released", name, entry, output)


def _told(what: str, name: str, entry: str, output: Output) -> int:
    if output is Output.JSON:
        emit_json({"name": name, "entry": entry})
    else:
        emit_lines([f"{what}: {name}; on record as {entry}"])
    return ExitCode.OK


@hold.command("list")
def list_(config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT) -> None:
    """List the holds."""
    from ostiary.audit.retention import holds

    rows = [{"name": name, **_terms(kept)} for name, kept in holds(Path(load(config).gateway.state_dir)).items()]
    if output is Output.JSON:
        emit_json(rows)
        return
    shown = [
        {"name": row["name"], "reason": row["reason"], "holds": ", ".join(f"{key} {row[key]}" for key in row if key not in {"name", "reason"}) or "everything"}
        for row in rows
    ]
    table(shown, ["name", "holds", "reason"], empty="no holds")


def _terms(held: Hold) -> dict[str, Json]:
    import msgspec

    found: dict[str, Json] = msgspec.to_builtins(held)
    return found
