"""`ostiary audit redact`, `rewrap` and `keys`: what is done to recordings after the fact, and which keys are needed."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, emit_lines, emit_safe
from ostiary.cli.recordings import files_of, keys_of

if TYPE_CHECKING:
    from ostiary.audit.jcs import Json
    from ostiary.vault.ring import KeyRing


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
    from ostiary.audit.retention import is_held, locked
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
    with locked(state):
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


def rewrap(
    new_only: Annotated[
        bool, typer.Option("--new-only", help="Make a key for new recordings, and leave those that are there under theirs.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Make a new key-encryption key, and wrap every recording's key under it. Ends with 1 if a recording was left out.

    With `recordings.keys` none is made: put the new one at the end of that list, and recordings are wrapped under it. A gateway that
    runs takes it at its next start. The old key can go once `ostiary audit keys` shows nothing under it, and no backup needs it.
    """
    from ostiary.audit.retention import locked
    from ostiary.cli.record import on_record
    from ostiary.vault.keeping import rewrap as wrap_anew
    from ostiary.vault.keys import create_key_file
    from ostiary.vault.ring import next_key_file

    settings = load(config)
    state = Path(settings.gateway.state_dir)
    if new_only and settings.recordings.keys:
        raise CommandFailed(ExitCode.USAGE, "recordings.keys is set: put the new key at the end of it, and new recordings are under it")
    with locked(state):  # a key that is destroyed meanwhile must not be written anew
        ring = keys_of(settings)  # before a key is made: one that cannot be read is told first
        if not settings.recordings.keys:
            create_key_file(next_key_file(state / "keys"))
            ring = keys_of(settings)
        fresh, place = ring.current, ring.places[ring.current.id]
        event = "created" if new_only else "rewrapped"
        on_record(settings, "key", {"key": {"event": event, "id": fresh.id, "purpose": "recordings"}})
        folders = [] if new_only else sorted(state.glob("audit/*/*/payloads"))
        done = [made for folder in folders for made in wrap_anew(folder, ring.by_id, fresh)]
    left = [(file, what) for file, what in done if what not in {"wrapped anew", "destroyed"}]
    count = sum(what == "wrapped anew" for _, what in done)
    if output is Output.JSON:
        emit_json({"key": fresh.id, "place": place, "wrapped": count, "left": [file.stem for file, _ in left]})
    else:
        emit_lines([f"{count} recordings were wrapped under the key {fresh.id} ({place})"])
        emit_safe([f"left: {file.name} {what}" for file, what in left])
    return ExitCode.NO if left else ExitCode.OK


def keys(config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT) -> int:
    """Show the key-encryption keys: which one is in use for what is new, and what needs each. Ends with 1 if one is missing.

    Recordings need them, logins whose issuer is asked again, and questions that wait for approval. Keys themselves are never shown. A
    recording whose key was destroyed (`ostiary audit redact`) needs none.
    """
    from ostiary.cli.output import table
    from ostiary.vault.keeping import needed

    settings = load(config)
    state = Path(settings.gateway.state_dir)
    ring = keys_of(settings, only_reads=True)
    recordings: Counter[str] = Counter()
    odd: list[str] = []
    for path in sorted(state.glob("audit/*/*/payloads/*.osp")):
        key, problem = needed(path)
        if problem:
            odd.append(f"{path.stem}: {problem}")
        elif key:
            recordings[key] += 1
    counts = {"recordings": recordings} | _needed_by_state(state / "control.db", ring)
    unknown = counts["questions"].pop("", 0)
    odd += [f"{unknown} questions that wait for approval can be read with none of these keys"] * bool(unknown)
    missing = sorted({key for each in counts.values() for key in each} - ring.by_id.keys())
    uses = {id_: "new recordings" if id_ == ring.current.id else "reading" for id_ in ring.places} | dict.fromkeys(missing, "MISSING")
    rows = [
        {"key": id_, "for": use} | {what: each[id_] for what, each in counts.items()} | {"place": ring.places.get(id_, "")}
        for id_, use in uses.items()
    ]
    if output is Output.JSON:
        emit_json({"keys": rows, "odd": odd})
    else:
        table(rows, ("key", "for", *counts, "place"), empty="no keys")
        emit_lines(odd)
    return ExitCode.NO if missing or odd else ExitCode.OK


def _needed_by_state(database: Path, ring: KeyRing) -> dict[str, Counter[str]]:
    """How much of what the control process keeps needs each key, by its id; of a question that none of these opens, an empty one."""
    from ostiary.approvals.tables import sealed
    from ostiary.identity.vouching import keys_needed
    from ostiary.store.database import read

    questions = [ring.opens(held, digest.encode()) for digest, held in read(database, sealed) or ()]
    return {"logins": Counter(read(database, keys_needed) or {}), "questions": Counter(questions)}
