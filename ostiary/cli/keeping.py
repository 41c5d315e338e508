"""`ostiary audit redact` and `rewrap`: what is done to recordings after the fact."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, emit_lines, emit_safe
from ostiary.cli.recordings import files_of, keys_of

if TYPE_CHECKING:
    from ostiary.audit.jcs import Json


def redact(
    session: Annotated[str, typer.Argument(help="Id of the session whose recording is to be erased.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the log.")],
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Destroy the key of a session's recording: statements, parameters and results can never be read again.

    Every proof still holds, and an entry says what was erased, by whom and why. There is no way back.
    """
    from contextlib import closing

    from ostiary.audit import index
    from ostiary.audit.retention import is_held
    from ostiary.audit.search import Query
    from ostiary.audit.search import search as find
    from ostiary.cli.record import on_record
    from ostiary.vault.keeping import destroy, is_destroyed

    settings = load(config)
    state = Path(settings.gateway.state_dir)
    found = files_of(state, session)
    if not found:
        raise CommandFailed(ExitCode.NO, f"there is no recording of session {session}")
    if not reason.strip():
        raise CommandFailed(ExitCode.USAGE, "--reason is empty: the log has to say why")
    if not list(find(str(state), Query(kind="session.end", session=session, limit=1))):
        raise CommandFailed(ExitCode.NO, f"session {session} has not ended: its recording is being written")
    if held := is_held(state, session):
        raise CommandFailed(ExitCode.NO, f"session {session} is on the legal hold {held}: release it first")
    if all(map(is_destroyed, found)):
        raise CommandFailed(ExitCode.NO, f"the recording of session {session} was erased before")
    size = sum(path.stat().st_size for path in found)
    what: dict[str, Json] = {"bytes": size, "session": session, "what": "recording", "why": reason.strip()[:512]}
    entry = on_record(settings, "redact", {"redact": what})
    for path in found:
        destroy(path)
    with closing(index.open_index(state)) as db:
        index.catch_up(db, state)
        index.leave_nothing(db)
    if output is Output.JSON:
        emit_json({"session": session, "bytes": size, "entry": entry})
    else:
        emit_lines([f"erased the recording of session {session}; on record as {entry}"])
    return ExitCode.OK


def rewrap(config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT) -> int:
    """Make a new key-encryption key, and wrap every recording's key under it. Ends with 1 if a recording was left out.

    A gateway that runs takes the new key at its next start. The old key's file can go once nothing needs it, backups included.
    """
    from ostiary.cli.record import on_record
    from ostiary.vault.keeping import newest_key, next_key_file
    from ostiary.vault.keeping import rewrap as wrap_anew
    from ostiary.vault.keys import create_key_file

    settings = load(config)
    state = Path(settings.gateway.state_dir)
    newest_key(state / "keys")
    keys = keys_of(settings)
    path = next_key_file(state / "keys")
    fresh = create_key_file(path)
    on_record(settings, "key", {"key": {"action": "rewrap", "id": fresh.id}})
    done = [made for folder in sorted(state.glob("audit/*/*/payloads")) for made in wrap_anew(folder, keys, fresh)]
    left = [(file, what) for file, what in done if what not in {"wrapped anew", "destroyed"}]
    count = sum(what == "wrapped anew" for _, what in done)
    if output is Output.JSON:
        emit_json({"key": fresh.id, "file": str(path), "wrapped": count, "left": [file.stem for file, _ in left]})
    else:
        emit_lines([f"{count} recordings are under the key {fresh.id} now ({path})"])
        emit_safe([f"left: {file.name} {what}" for file, what in left])
    return ExitCode.NO if left else ExitCode.OK
