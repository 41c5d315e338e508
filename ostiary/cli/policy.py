"""`ostiary policy`: whether policies are valid, and what they would say."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ostiary.cli.codes import ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, complete_connection, connection_named, load
from ostiary.cli.output import Output, emit_json, emit_lines, say, table, working

if TYPE_CHECKING:
    from collections.abc import Callable

    from ostiary.config.types import Config
    from ostiary.model.connections import Connection
    from ostiary.model.decisions import Decision
    from ostiary.model.identity import Kind, Said, VerifiedIdentity
    from ostiary.model.operations import Operation
    from ostiary.policy.decide import Opinion
    from ostiary.policy.policies import Policies
    from ostiary.policy.replaying import Simulation
    from ostiary.policy.suppose import SupposedActor
    from ostiary.policy.trials import Suite

app = typer.Typer(no_args_is_help=True, help="Check policies, and ask what they would say.", rich_markup_mode=None)


def load_policies(settings: Config) -> Policies:
    """Read and check the policies of a configuration."""
    from ostiary.app.policies import read_policies
    from ostiary.config.load import policy_texts

    return read_policies(policy_texts(settings))


def strangers(policies: Policies, settings: Config) -> list[str]:
    """Say which connections, labels and issuers policies name that the configuration does not hold: likely misspelt."""
    labels = {label for connection in settings.connections.values() for label in connection.labels}
    known = {
        "Ostiary::Connection": set(settings.connections),
        "Ostiary::Label": labels,
        "Ostiary::Issuer": {issuer.issuer for issuer in settings.issuers},
    }
    found = []
    for (kind, name), policy in sorted(policies.mentions().items()):
        if kind in known and name not in known[kind]:
            found.append(f"policy {policy} names {kind.rpartition(':')[2].lower()} {name!r}, which is not configured")
        elif kind not in known and kind.startswith("Ostiary::") and "/" in name:
            connection = name.partition("/")[0]
            if (
                kind not in {"Ostiary::Group", "Ostiary::Identity", "Ostiary::Action"}
                and connection not in settings.connections
            ):
                found.append(f"policy {policy} names {name!r}, of a connection that is not configured")
    return found


@app.command("check")
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Policy files; those of the configuration if none is named.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Check policies against the schema: syntax, names, annotations. Names file, line and policy of a fault."""
    from ostiary.app.policies import read_policies

    warnings: list[str] = []
    if files:
        policies = read_policies({str(path): path.read_text() for path in files})
    else:
        settings = load(config)
        policies = load_policies(settings)
        warnings = strangers(policies, settings)
    if output is Output.JSON:
        rows = [
            {"id": each.id, "effect": "permit" if each.permits else "forbid", "place": each.place}
            for each in policies.by_id.values()
        ]
        emit_json({"ok": True, "digest": policies.digest, "policies": rows, "warnings": warnings})
        return
    emit_lines([f"{len(policies)} policies are fine, digest {policies.digest}"])
    for warning in warnings:
        say(f"warning: {warning}")


@app.command("explain")
def explain(
    connection: Annotated[str, typer.Argument(help="The connection asked about.", autocompletion=complete_connection)],
    subject: Annotated[str, typer.Option(help="The subject (`sub`) for whom it would be done.")] = "someone",
    issuer: Annotated[str, typer.Option(help="Its issuer; the first of the configuration if not given.")] = "",
    kind: Annotated[str, typer.Option(help="human, workload or agent.")] = "human",
    group: Annotated[list[str] | None, typer.Option(help="A group that it is in; may be repeated.")] = None,
    actor: Annotated[
        list[str] | None,
        typer.Option(help="Somebody who acts for it, KIND:NAME, the one at the keyboard first; may be repeated."),
    ] = None,
    action: Annotated[str, typer.Option(help="The action asked for.")] = "connect",
    resource: Annotated[
        list[str] | None,
        typer.Option(help="What is touched, [ACTION:]KIND:NAME, for example relation:public.orders; may be repeated."),
    ] = None,
    sql: Annotated[
        str | None, typer.Option(help="A statement instead of action and resources; asks the target for its catalogue.")
    ] = None,
    no_where: Annotated[bool, typer.Option("--no-where", help="As if an UPDATE or DELETE had no WHERE.")] = False,
    at: Annotated[str, typer.Option(help="As if it were this time, RFC 3339: 2026-11-28T09:30:00Z.")] = "",
    address: Annotated[str, typer.Option(help="As if the client came from this address.")] = "",
    ticket: Annotated[str, typer.Option(help="As if the client had said this ticket.")] = "",
    approved_by: Annotated[
        list[str] | None, typer.Option(help="As if a group had approved it; may be repeated.")
    ] = None,
    policy: Annotated[
        list[Path] | None, typer.Option(help="Policy files to ask instead of the configuration's; may be repeated.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Say what policy would decide, which policies decide it, and what keeps others from applying. Runs nothing."""
    from ostiary.model.decisions import Permit
    from ostiary.policy import decide as deciding

    settings = load(config)
    target = connection_named(settings, connection)
    policies = _policies_of(policy, settings)
    who = supposed(subject, issuer or first_issuer(settings), kind, group or [], actor or [])
    asked = (
        _understood(target, sql)
        if sql is not None
        else _operation(target, action, resource or [], has_where=not no_where)
    )
    circumstances: dict[str, Any] = {
        "approved_by": frozenset(approved_by or ()), "now": _time(at), "said": _said(address, ticket),
    }  # fmt: skip
    decision = deciding.decide(policies, who, asked, target, **circumstances)
    opinions = [] if asked.facts.objection else deciding.explain(policies, who, asked, target, **circumstances)
    found = _report(policies, asked, decision, opinions, lambda each: _near(policies, who, target, each))
    if output is Output.JSON:
        emit_json(found)
    else:
        _print(found)
    return ExitCode.OK if isinstance(decision, Permit) else ExitCode.NO


@app.command("test")
def run_tests(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Test files (.toml, .json); the shipped library's own if none is named.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Run unit tests of policies. A file names the policies that it tests, else those of the configuration are meant."""
    from ostiary.cli.supposing import believe, template
    from ostiary.policy.trials import run

    results = []
    for path in files or sorted(LIBRARY.glob("*.test.toml")):
        suite = _suite(path)
        named = [path.parent / each for each in suite.policies]
        policies = _policies_of(named, None) if named else load_policies(load(config))
        results += run(suite, policies, template(), believe)
    failed = [each for each in results if each.faults]
    if output is Output.JSON:
        emit_json({"ok": not failed, "run": len(results), "failed": failed})
    else:
        for each in failed:
            emit_lines([f"FAILED {each.place}: {each.name}", *(f"  {fault}" for fault in each.faults)])
        emit_lines([f"{len(results) - len(failed)} of {len(results)} hold"])
    return ExitCode.NO if failed else ExitCode.OK


@app.command("simulate")
def simulate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="The changed policy files; those of the configuration if none is named.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only what was asked from this time on, UTC: 2026-11-21.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was asked before this time.")] = None,
    person: Annotated[str | None, typer.Option(help="Only of this person: id or name.")] = None,
    connection: Annotated[str | None, typer.Option(help="Only on this connection.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="At most this many operations, and refusals, the newest.")
    ] = 10_000,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Put recorded operations to changed policies, and show what would come out otherwise. Exit code 1: something would."""
    from ostiary.cli.supposing import believe, recorded
    from ostiary.policy.replaying import simulate as replay

    settings = load(config)
    policies = _policies_of(files, settings)
    entries = recorded(
        settings.gateway.state_dir, since=since, until=until, person=person, connection=connection, limit=limit
    )
    with working("replaying"):
        done = replay(entries, policies, settings.connections, believe)
    report = _simulated(done, policies)
    if output is Output.JSON:
        emit_json(report)
    else:
        table(report["differences"], ["who", "connection", "operation", "was", "now", "policies", "times"], empty="")
        emit_lines([f"{report['replayed']} operations replayed, {report['differ']} would come out otherwise"])
        emit_lines(f"left out: {count}: {why}" for why, count in report["left_out"].items())
    return ExitCode.NO if done.differences else ExitCode.OK


@app.command("tighten")
def tighten(
    write: Annotated[Path | None, typer.Option(help="Write the proposal to this file, which must not exist yet.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what was done from this time on, UTC: 2026-11-21.")] = None,
    connection: Annotated[str | None, typer.Option(help="Only what was done on this connection.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Look at so many operations, the newest.")] = 10_000,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Propose the policies that would have done for what is on record, and simulate them on it. Exit code 1: something would differ."""
    from ostiary.cli.supposing import believe, recorded
    from ostiary.policy.policies import Policies
    from ostiary.policy.replaying import recall_all
    from ostiary.policy.replaying import simulate as replay
    from ostiary.policy.tightening import propose, used

    settings = load(config)
    policies = load_policies(settings)
    with working("reading the record"):
        entries = list(recorded(settings.gateway.state_dir, since=since, connection=connection, limit=limit))
        text = propose(policies, used(recall_all(entries, {}), policies, settings.connections, believe))
        narrower = Policies.load({"proposal.cedar": text})
        report = _simulated(replay(entries, narrower, settings.connections, believe), narrower)
    if write is not None:
        with write.open("x", encoding="utf-8") as file:
            file.write(text)
    if output is Output.JSON:
        emit_json({"policies": text} | report)
    elif write is None:
        emit_lines(text.splitlines())
    differing = [row for row in report["differences"] if row["was"].startswith("permit")]
    for row in differing:
        say(f"would be {row['now']}: {row['who']}: {row['operation']}, {row['times']} times")
    say(f"{len(policies)} policies become {len(narrower)}; of {report['replayed']} operations {len(differing)} would come out otherwise")
    return ExitCode.NO if differing else ExitCode.OK


LIBRARY: Final = Path(__file__).resolve().parent.parent / "policy" / "library"
"""The policies that are shipped, each with its tests."""


@app.command("library")
def library(output: OutputFormat = Output.TEXT) -> None:
    """List the policies that are shipped: copy one beside your configuration, and name it in `policy.files`."""
    rows = [
        {"name": path.stem, "about": path.read_text().split("\n", 1)[0].lstrip("/ "), "file": str(path)}
        for path in sorted(LIBRARY.glob("*.cedar"))
    ]
    if output is Output.JSON:
        emit_json(rows)
    else:
        table(rows, ["name", "about", "file"], empty="none")


def _policies_of(files: list[Path] | None, settings: Config | None) -> Policies:
    """Read these files, else the configuration's."""
    from ostiary.app.policies import read_policies
    from ostiary.model.errors import ConfigError

    if not files and settings is not None:
        return load_policies(settings)
    texts = {}
    for path in files or ():
        try:
            texts[str(path)] = path.read_text(encoding="utf-8")
        except OSError as exc:
            raise ConfigError(str(path), f"cannot be read ({exc.strerror})") from None
        except UnicodeDecodeError:
            raise ConfigError(str(path), "is not UTF-8 text") from None
    return read_policies(texts)


def _suite(path: Path) -> Suite:
    """Read a test file."""
    import json
    import tomllib

    from ostiary.model.errors import ConfigError
    from ostiary.policy.trials import read_suite

    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as exc:
        raise ConfigError(str(path), f"cannot be read ({exc.strerror})") from None
    except (ValueError, RecursionError) as exc:
        raise ConfigError(str(path), f"is not valid: {exc}") from None
    if not isinstance(document, dict):
        raise ConfigError(str(path), "must be an object with `test`, a list")
    return read_suite(str(path), document)


def _simulated(done: Simulation, policies: Policies) -> dict[str, Any]:
    """Say of a simulation what differs, alike differences counted together, the most frequent first."""
    counted: dict[tuple[str, ...], int] = {}
    for each in done.differences:
        was = each.recalled
        who = " → ".join([was.who.name or was.who.subject, *(a.name or a.subject for a in reversed(was.who.acting))])
        touched = ", ".join(sorted({f"{r.action.value} {r.name}" for r in was.touched}))
        because = "" if each.grounds is None else ", ".join(each.grounds.because)
        key = (who, was.connection, f"{was.facts.name} ({touched})", each.was, each.now, because)
        counted[key] = counted.get(key, 0) + 1
    names = ("who", "connection", "operation", "was", "now", "policies")
    rows = [dict(zip(names, key, strict=True)) | {"times": count} for key, count in counted.items()]
    return {
        "digest": policies.digest,
        "replayed": done.replayed,
        "differ": len(done.differences),
        "differences": sorted(rows, key=lambda row: -int(row["times"])),
        "left_out": done.left_out,
    }


def first_issuer(settings: Config) -> str:
    """Return the issuer of those for whom none is named."""
    return settings.issuers[0].issuer if settings.issuers else "https://nobody.invalid"


def supposed(subject: str, issuer: str, kind: str, groups: list[str], actors: list[str]) -> VerifiedIdentity:
    """Make up an identity to ask about."""
    from ostiary.cli.supposing import believe
    from ostiary.policy.suppose import Supposed

    return believe(
        Supposed(
            subject=subject,
            issuer=issuer,
            kind=_kind(kind),
            name=subject,
            groups=tuple(groups),
            acting=tuple(_actor(issuer, each) for each in actors),
        )
    )


def _kind(text: str) -> Kind:
    from ostiary.model.identity import Kind

    try:
        return Kind(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not human, workload or agent") from None


def _actor(issuer: str, text: str) -> SupposedActor:
    from ostiary.policy.suppose import SupposedActor

    kind, colon, name = text.partition(":")
    if not colon or not name:
        raise typer.BadParameter(f"write an actor as KIND:NAME, for example agent:coder, not {text!r}")
    return SupposedActor(name, _kind(kind), issuer, name)


def _time(text: str) -> int:
    import datetime as dt

    if not text:
        return int(time.time())
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"write the time as 2026-11-28T09:30:00Z, not {text!r}") from None
    return int((found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp())


def _said(address: str, ticket: str) -> Said:
    from ostiary.model.identity import Said

    return Said(address=f"{address}:0" if address else "local", ticket=ticket)


def _operation(target: Connection, action: str, resources: list[str], *, has_where: bool) -> Operation:
    from ostiary.policy.suppose import SupposedFacts, Supposition, action_named, resource_named, supposed_operation

    try:
        asked = action_named(action)
        touched = tuple(resource_named(text, otherwise=asked) for text in resources)
    except Supposition as exc:
        raise typer.BadParameter(str(exc)) from None
    if not touched and action == "connect":
        return supposed_operation(target, (), SupposedFacts())
    if not touched:
        touched = (resource_named(f"connection:{target.name}", otherwise=asked),)
    return supposed_operation(target, touched, SupposedFacts(name=action, has_where=has_where))


def _understood(target: Connection, sql: str) -> Operation:
    import asyncio

    from ostiary.cli.probe import understand
    from ostiary.model.connections import PostgresConnection
    from ostiary.model.errors import ConfigError

    if not isinstance(target, PostgresConnection):
        raise ConfigError(
            "--sql", f"means nothing on {target.name}, which is {target.type}; name --action and --resource"
        )
    return asyncio.run(understand(target, sql))


def _near(policies: Policies, who: VerifiedIdentity, target: Connection, opinion: Opinion) -> list[dict[str, str]]:
    """Of a resource that no policy said anything about: which permits came near, and what kept them from applying."""
    from ostiary.policy.near import near

    if opinion.permitted or opinion.policies:
        return []
    found = near(policies, who, target, opinion.resource)
    return [{"id": each.id, "place": each.place, "why": each.why} for each in found]


def _report(
    policies: Policies,
    asked: Operation,
    decision: Decision,
    opinions: list[Opinion],
    near: Callable[[Opinion], list[dict[str, str]]],
) -> dict[str, Any]:
    from ostiary.model.decisions import NeedsApproval, Permit
    from ostiary.policy.obliged import demanded

    match decision:
        case Permit():
            verdict = "permit"
        case NeedsApproval():
            verdict = "needs approval"
        case _:
            verdict = "deny"
    grounds = decision.grounds
    return {
        "verdict": verdict,
        "policies": list(grounds.because),
        "message": grounds.message,
        "hint": grounds.hint,
        "clear": sorted(grounds.clear),
        "row_limit": grounds.row_limit,
        "demands": "" if grounds.duties is None else demanded(grounds.duties),
        "approvers": dict(decision.approvers) if isinstance(decision, NeedsApproval) else {},
        "would": None if grounds.noted is None else grounds.noted,
        "digest": policies.digest,
        "operation": {"name": asked.facts.name, "action": asked.facts.action.value, "opaque": list(asked.facts.opaque)},
        "resources": [
            {
                "action": each.resource.action.value,
                "kind": each.resource.kind,
                "name": each.resource.name,
                "columns": list(each.resource.columns),
                "permitted": each.permitted,
                "policies": [{"id": name, "place": policies.by_id[name].place} for name in each.policies],
                "errors": list(each.errors),
                "near": near(each),
            }
            for each in opinions
        ],
    }


def _print(found: dict[str, Any]) -> None:
    lines = [f"{found['verdict'].upper()}  {found['operation']['name']}"]
    for each in found["resources"]:
        word = "permitted" if each["permitted"] else "denied"
        by = (
            ", ".join(f"{policy['id']} ({policy['place']})" for policy in each["policies"]) or "no policy says anything"
        )
        lines.append(f"  {word}  {each['action']} {each['kind']} {each['name']}: {by}")
        lines += [f"    error: {error}" for error in each["errors"]]
        lines += [f"    not by {every['id']} ({every['place']}): {every['why']}" for every in each["near"]]
    lines += [f"  {found[key]}" for key in ("message", "hint") if found[key]]
    if found["row_limit"] is not None:
        lines.append(f"  at most {found['row_limit']} rows")
    if found["demands"]:
        lines.append(f"  demands: {found['demands']}")
    if found["approvers"]:
        asked = ", ".join(f"{count} of {group}" for group, count in found["approvers"].items())
        lines.append(f"  asks for: {asked}")
    if found["would"] is not None:
        lines.append(f"  only observed; else it would be: {found['would'].verdict} {found['would'].message}")
    if found["clear"]:
        lines.append(f"  in clear: {', '.join(found['clear'])}")
    emit_lines(lines)
    sys.stdout.flush()
