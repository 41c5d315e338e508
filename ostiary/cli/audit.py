"""`ostiary audit`: find what happened, and prove it."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, emit_lines, emit_safe, safe, say, working

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ostiary.audit.search import Query

app = typer.Typer(no_args_is_help=True, help="The log: search, follow, verify, prove, export.", rich_markup_mode=None)

index = typer.Typer(no_args_is_help=True, help="The search index.", rich_markup_mode=None)
app.add_typer(index, name="index")

Person = Annotated[str | None, typer.Option(help="Subject or proved initiator: id or name.")]
Actor = Annotated[str | None, typer.Option(help="Anyone who acts for the subject: id or name.")]
Task = Annotated[str | None, typer.Option(help="Id of a run, delegation or mandate.")]
Connection = Annotated[str | None, typer.Option(help="Name of a connection.")]
Action = Annotated[str | None, typer.Option(help="What was done: read, write, delete, …")]
Verdict = Annotated[str | None, typer.Option(help="permit or deny.")]
Kind = Annotated[str | None, typer.Option(help="Kind of entry: intent, outcome, deny, login, …")]
Session = Annotated[str | None, typer.Option(help="Id of a session.")]
PolicyId = Annotated[str | None, typer.Option("--by", help="Id of a policy that decided.")]
Since = Annotated[str | None, typer.Option(help="From this time on, UTC: 2026-11-21 or 2026-11-21T08:01.")]
Until = Annotated[str | None, typer.Option(help="Before this time.")]


def _query(**given: Any) -> Query:
    from ostiary.audit.search import Query

    return Query(**given)


def _print(entry: dict[str, Any], output: Output) -> None:
    from ostiary.audit.search import summary

    if output is Output.JSON:
        emit_json(entry)
    else:
        emit_safe([f"{summary(entry)}  {safe(entry.get('id', ''))}"])


@app.command("search")
def search(
    text: Annotated[
        list[str] | None, typer.Argument(help="Words that all occur in statements, names or messages.")
    ] = None,
    person: Person = None,
    actor: Actor = None,
    task: Task = None,
    connection: Connection = None,
    action: Action = None,
    object_: Annotated[
        str | None,
        typer.Option("--object", help="A relation, function, …: public.orders, or public.* for a beginning."),
    ] = None,
    verdict: Verdict = None,
    kind: Kind = None,
    session: Session = None,
    by: PolicyId = None,
    since: Since = None,
    until: Until = None,
    value: Annotated[
        str | None, typer.Option(help="A whole value that was sent to a PostgreSQL, or shown: by whom, and when. Goes on record.")
    ] = None,
    screen: Annotated[
        str | None, typer.Option(help="Words that all were on the screen, or in the output, of one command or shell of SSH. Goes on record.")
    ] = None,
    row: Annotated[str | None, typer.Option(help="A table and a key, as in orders/4711: who touched that row. Goes on record.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most this many, the newest.")] = 100,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Find entries, newest first. With `--output json`, one entry a line. Ends with 1 if there are none.

    `--value`, `--screen` and `--row` look into recordings, which takes their key: with 2 if some could not be read.
    """
    from ostiary.audit.search import search as find
    from ostiary.cli.record import on_record
    from ostiary.cli.recordings import touched

    settings = load(config)

    query = _query(
        text=" ".join(text) if text else None,
        person=person,
        actor=actor,
        task=task,
        connection=connection,
        action=action,
        object=object_,
        verdict=verdict,
        kind=kind,
        session=session,
        policy=by,
        since=since,
        until=until,
        value=value,
        screen=screen,
        row=row,
        limit=limit,
    )
    values = None if value is None and row is None and screen is None else touched(settings)
    if values is not None:
        on_record(settings, "replay", {"replay": {"how": "searched"}})
    count = 0
    for entry in find(settings.gateway.state_dir, query, values):
        _print(entry, output)
        count += 1
    if not count:
        say("nothing found")
    if values is not None and values.closed:
        session, why = values.closed[0]
        say(f"{len(values.closed)} recordings could not be read, and were not looked into: {session}: {why}")
        return ExitCode.INCOMPLETE
    return ExitCode.OK if count else ExitCode.NO


@app.command("tail")
def tail(
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, max=100_000, help="How many of the newest to begin with.")
    ] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new entries as they come.")] = False,
    person: Person = None,
    connection: Connection = None,
    kind: Kind = None,
    verdict: Verdict = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Print the newest entries, oldest first. With `--output json`, one entry a line."""
    from ostiary.audit import search as reader

    state = load(config).gateway.state_dir
    query = _query(person=person, connection=connection, kind=kind, verdict=verdict)
    entries = reader.follow(state, query, count) if follow else iter(reader.tail(state, count, query))
    for entry in entries:
        _print(entry, output)
        sys.stdout.flush()


@app.command("show")
def show(
    entry: Annotated[str, typer.Argument(help="Id of the entry.")],
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Show one entry whole, where it stands, and what closed it."""
    from ostiary.audit.search import outcome_of
    from ostiary.audit.search import show as find

    state = load(config).gateway.state_dir
    found = find(state, entry)
    if found is None:
        say(f"ostiary: no entry {entry}")
        return ExitCode.NO
    closed = outcome_of(state, found.entry["id"])
    if output is Output.JSON:
        closing = None if closed is None else closed.entry
        emit_json({"origin": found.origin, "index": found.index, "entry": found.entry, "closed_by": closing})
        return ExitCode.OK
    emit_lines([f"entry {found.index} of {found.origin}", *_indented(found.entry)])
    if closed is not None:
        emit_lines([f"closed by entry {closed.index} of {closed.origin}", *_indented(closed.entry)])
    return ExitCode.OK


def _indented(entry: dict[str, Any], depth: int = 1) -> list[str]:
    lines = []
    for name, value in entry.items():
        if isinstance(value, dict) and value:
            lines += [f"{'  ' * depth}{name}:", *_indented(value, depth + 1)]
        else:
            shown = value if isinstance(value, str) else _compact(value)
            lines.append(f"{'  ' * depth}{name}: {shown}")
    return lines


def _compact(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


@app.command("verify")
def verify(
    log: Annotated[
        str | None,
        typer.Argument(
            help="An origin, a published log or its URL, a folder with origins, or a proof; this gateway's logs if not given."
        ),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="tlog-policy file with the logs' keys.")] = None,
    vkey: Annotated[str | None, typer.Option(help="The log's key itself.")] = None,
    root: Annotated[Path | None, typer.Option(help="File with the key of the root that certified the origins.")] = None,
    trust_on_first_use: Annotated[
        bool, typer.Option("--trust-on-first-use", help="Take the key from the directory itself. Proves less.")
    ] = False,
    min_index: Annotated[int, typer.Option(min=0, help="Entries below it may have been pruned.")] = 0,
    keep_days: Annotated[int, typer.Option(min=0, help="Days that entries have to be kept: nothing younger may have been pruned.")] = 0,
    tree_only: Annotated[
        bool, typer.Option("--tree-only", help="A log of somebody else: its signature, tiles and root, whatever its entries are.")
    ] = False,
    live: Annotated[
        bool | None,
        typer.Option("--live/--closed", help="Whether a gateway is writing; found out by its lock if not given."),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Verify logs offline: signatures, tree, entries, pairs, recordings. 0 whole, 1 tampered, 2 incomplete.

    Without a key option, the root key of the configuration's state folder is trusted.
    """
    from ostiary.audit import verify as verifier

    how = ["--min-index", str(min_index), "--keep-days", str(keep_days), *(["--tree-only"] if tree_only else [])]
    if log is not None and log.startswith(("https://", "http://")):
        return _verify_url(log, policy, vkey, output, how, tree_only=tree_only)
    directory = Path(load(config).gateway.state_dir) / "audit" if log is None else Path(log)
    if directory.is_file():
        return _check_proof(directory, policy, vkey, config, output)
    arguments = [str(directory), "--output", output.value, *how]
    if policy is not None:
        arguments += ["--policy", str(policy)]
    elif vkey is not None:
        arguments += ["--vkey", vkey]
    elif trust_on_first_use:
        arguments += ["--trust-on-first-use"]
    elif (trusted := root or _own_root(config)) is not None:
        arguments += ["--root", str(trusted)]
    if log is None and (listed := directory.parent / "policy").exists():
        arguments += ["--expect", str(listed)]
    if live if live is not None else any(_is_written(origin) for origin in verifier.find_origins(directory)):
        arguments.append("--live")
    with working("verifying"):
        return verifier.main(arguments)


def _verify_url(url: str, policy: Path | None, vkey: str | None, output: Output, how: list[str], *, tree_only: bool) -> int:
    """Fetch a published log and verify it. What cannot be fetched is incomplete (2), a forged checkpoint tampered with (1)."""
    import tempfile

    from ostiary.audit import verify as verifier
    from ostiary.audit.mirror import NotFetched, mirror

    if policy is None and vkey is None:
        raise CommandFailed(ExitCode.USAGE, "verifying a URL needs --policy or --vkey: a key that lies there proves nothing")
    try:
        if vkey is not None:
            key = verifier.Key.parse(vkey)
            trusted = verifier.Policy({key.name: key})
        else:
            trusted = verifier.Policy.parse(Path(str(policy)).read_text(encoding="utf-8"))
    except verifier.Untrusted as problem:
        raise CommandFailed(ExitCode.USAGE, str(problem)) from None
    with tempfile.TemporaryDirectory(prefix="ostiary-verify-") as folder:
        try:
            with working(f"fetching {url}"):
                mirror(url, Path(folder), trusted, tree_only=tree_only)
        except NotFetched as problem:
            say(f"ostiary: {problem}")
            return ExitCode.NO if problem.tampered else ExitCode.INCOMPLETE
        key_option = ["--policy", str(policy)] if vkey is None else ["--vkey", vkey]
        with working("verifying"):
            return verifier.main([folder, "--output", output.value, "--live", *how, *key_option])


def _own_root(config: Path) -> Path | None:
    """Return the root key of this machine's own gateway, if there is a configuration here."""
    if not config.exists():
        return None
    path = Path(load(config).gateway.state_dir) / "keys" / "root.vkey"
    return path if path.exists() else None


def _is_written(origin: Path) -> bool:
    """Whether a writer holds the origin's lock right now."""
    import fcntl

    folder = origin if (origin / "log").is_dir() else origin.parent
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _check_proof(path: Path, policy: Path | None, vkey: str | None, config: Path, output: Output) -> int:
    """Check a proof that stands alone, against the keys given or those of this machine's own gateway."""
    from ostiary.audit.prove import check
    from ostiary.audit.search import summary
    from ostiary.audit.verify import Key, Policy

    if vkey is not None:
        key = Key.parse(vkey)
        trusted = Policy({key.name: key})
    else:
        own = policy or Path(load(config).gateway.state_dir) / "policy"
        trusted = Policy.parse(own.read_text(encoding="utf-8"))
    proved = check(path.read_text(encoding="utf-8"), trusted)
    if output is Output.JSON:
        emit_json({"origin": proved.origin, "index": proved.index, "size": proved.size, "entry": proved.entry})
    else:
        emit_lines([f"PROVED  entry {proved.index} of {proved.origin}, under a signed tree of {proved.size}"])
        emit_safe([f"  {summary(proved.entry)}"])
    return ExitCode.OK


@app.command("prove")
def prove(
    entry: Annotated[str, typer.Argument(help="Id of the entry.")],
    file: Annotated[
        Path | None, typer.Option("--file", help="Where to write the proof; standard output if not given.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> int:
    """Write a proof (C2SP tlog-proof) that an entry is in the log. It stands alone: `audit verify FILE` checks it."""
    from ostiary.audit.prove import prove as make
    from ostiary.audit.search import show as find

    state = load(config).gateway.state_dir
    found = find(state, entry)
    if found is None:
        say(f"ostiary: no entry {entry}")
        return ExitCode.NO
    proof = make(Path(state) / "audit" / found.origin, found.index)
    if file is None:
        sys.stdout.write(proof)
    else:
        file.write_text(proof, encoding="utf-8")
        say(f"written to {file}")
    return ExitCode.OK


@app.command("rotate")
def rotate(
    writer: Annotated[str, typer.Argument(help="Whose log: worker-1 (and so on, one for each worker) or control.")],
    abandon: Annotated[
        str, typer.Option(help="Give the old log up as it is, for this reason: it is damaged, and no copy is left.")
    ] = "",
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Begin a new log, with a new key that the root certifies. It is used from the gateway's next start on."""
    from ostiary.audit.keys import origins
    from ostiary.audit.keys import rotate as begin

    settings = load(config)
    state, name = Path(settings.gateway.state_dir), settings.gateway.name
    if not origins(state, name, writer):
        raise CommandFailed(ExitCode.NO, f"there is no log of a writer {writer}")
    made = begin(state, name, writer, abandon)
    if output is Output.JSON:
        emit_json({"origin": made.name, "key": made.vkey})
        return ExitCode.OK
    emit_lines([f"{made.name} begins at the next start", made.vkey])
    say("Give verifiers and witnesses the new policy file: it names the new log's key.")
    return ExitCode.OK


@index.command("rebuild")
def rebuild(
    values: Annotated[
        bool, typer.Option("--values", help="Read the recordings too, which the first search for a value does otherwise.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Build the search index anew from the log, and say how far it is."""
    from ostiary.audit.index import open_index
    from ostiary.audit.index import rebuild as again
    from ostiary.cli.recordings import touched

    told = -1

    def progress(done: int, total: int) -> None:
        nonlocal told
        if (percent := 100 * done // max(1, total)) >= told + 5:
            told = percent
            say(f"{percent} % of {total} bytes")

    settings = load(config)
    state = Path(settings.gateway.state_dir)
    count = again(state, progress)
    recordings = 0
    if values:
        looked = touched(settings)
        with closing(open_index(state)) as db:
            recordings = looked.catch_up(db, state)
    if output is Output.JSON:
        emit_json({"entries": count} | ({"recordings": recordings} if values else {}))
    else:
        emit_lines([f"{count} entries" + (f", {recordings} recordings" if values else "")])
    return ExitCode.OK


@app.command("export")
def export(
    form: Annotated[
        str, typer.Option("--format", help="jsonl (entries as they stand) or ocsf (OCSF events).")
    ] = "jsonl",
    file: Annotated[
        Path | None, typer.Option("--file", help="File to append to; standard output if not given.")
    ] = None,
    cursor: Annotated[
        Path | None,
        typer.Option(help="File that remembers how far the export came: the next one goes on there."),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> int:
    """Write the whole log, one JSON object a line, in the log's own order."""
    import msgspec

    from ostiary.audit.export import export as lines

    state = load(config).gateway.state_dir
    came: dict[str, int] = {}
    if cursor is not None and cursor.exists():
        try:
            came = msgspec.json.decode(cursor.read_bytes(), type=dict[str, int])
        except msgspec.DecodeError as exc:
            raise CommandFailed(ExitCode.STORAGE, f"{cursor} is not a cursor of an export: {exc}") from None

    def gone(origin: str, first: int, stop: int) -> None:
        say(f"{origin}: entries {first} to {stop - 1} were pruned before they were exported")
        came[origin] = stop

    count = 0
    with working("exporting"), _appending(file) as out:
        for exported in lines(state, form, came, gone):
            out.write(exported.line + b"\n")
            came[exported.origin] = exported.index + 1
            count += 1
        out.flush()
    if cursor is not None:
        # After the lines: a crash in between repeats some, and loses none.
        fresh = cursor.with_name(cursor.name + ".new")
        fresh.write_bytes(msgspec.json.encode(came))
        fresh.replace(cursor)
    say(f"{count} entries")
    return ExitCode.OK


def _appending(file: Path | None) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if file is None else file.open("ab")
