"""`ostiary policy`: whether policies are valid, and what they would say."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostiary.cli.codes import ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, complete_connection, connection_named, load
from ostiary.cli.output import Output, emit_json, emit_lines, say

if TYPE_CHECKING:
    from ostiary.config.types import Config
    from ostiary.model.connections import Connection
    from ostiary.model.decisions import Decision
    from ostiary.model.identity import Actor, VerifiedIdentity
    from ostiary.model.operations import Operation, Resource
    from ostiary.policy.decide import Opinion
    from ostiary.policy.policies import Policies

app = typer.Typer(no_args_is_help=True, help="Check policies, and ask what they would say.", rich_markup_mode=None)


def load_policies(settings: Config) -> Policies:
    """Read and check the policies of a configuration."""
    from ostiary.config.load import policy_texts
    from ostiary.policy.policies import Policies

    return Policies.load(policy_texts(settings))


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
    from ostiary.policy.policies import Policies

    warnings: list[str] = []
    if files:
        policies = Policies.load({str(path): path.read_text() for path in files})
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
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> int:
    """Say what policy would decide, which policies decide it, and why. Runs nothing on the target."""
    from ostiary.model.decisions import Permit
    from ostiary.policy import decide as policy

    settings = load(config)
    target = connection_named(settings, connection)
    policies = load_policies(settings)
    who = _identity(subject, issuer or _first_issuer(settings), kind, group or [], actor or [])
    if sql is not None:
        asked = _understood(target, sql)
    else:
        asked = _operation(target, action, resource or [], has_where=not no_where)
    now = int(time.time())
    decision = policy.decide(policies, who, asked, target, now=now)
    opinions = [] if asked.facts.objection else policy.explain(policies, who, asked, target, now=now)
    found = _report(policies, asked, decision, opinions)
    if output is Output.JSON:
        emit_json(found)
    else:
        _print(found)
    return ExitCode.OK if isinstance(decision, Permit) else ExitCode.NO


def _first_issuer(settings: Config) -> str:
    return settings.issuers[0].issuer if settings.issuers else "https://nobody.invalid"


def _identity(subject: str, issuer: str, kind: str, groups: list[str], actors: list[str]) -> VerifiedIdentity:
    """Make up an identity to ask about. It is shown to policy in this process alone, and opens nothing."""
    from ostiary.identity.tokens import prove
    from ostiary.model.identity import Authentication

    return prove(
        issuer=issuer,
        subject=subject,
        kind=_kind(kind),
        name=subject,
        email=None,
        groups=frozenset(groups),
        acting=tuple(_actor(issuer, each) for each in actors),
        initiator=None,
        task=None,
        mandate=None,
        auth=Authentication(method="supposed", token="", key=None, at=0),
        expires=0,
        audience=frozenset(),
    )


def _kind(text: str) -> Any:
    from ostiary.model.identity import Kind

    try:
        return Kind(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not human, workload or agent") from None


def _actor(issuer: str, text: str) -> Actor:
    from ostiary.model.identity import Actor

    kind, colon, name = text.partition(":")
    if not colon or not name:
        raise typer.BadParameter(f"write an actor as KIND:NAME, for example agent:coder, not {text!r}")
    return Actor(issuer, name, _kind(kind), name)


def _action(text: str) -> Any:
    from ostiary.model.operations import Action

    try:
        return Action(text)
    except ValueError:
        known = ", ".join(each.value for each in Action if each is not Action.UNMASK)
        raise typer.BadParameter(f"there is no action {text!r}; there are {known}") from None


def _resource(text: str, action: str) -> Resource:
    from ostiary.model.operations import Action, Resource
    from ostiary.policy.entities import KINDS

    parts = text.split(":", 2)
    if len(parts) == 3 and parts[0] in {each.value for each in Action}:
        action, kind, name = parts
    else:
        kind, _, name = text.partition(":")
    if kind not in KINDS or not name:
        raise typer.BadParameter(
            f"write a resource as KIND:NAME with a kind of {', '.join(sorted(KINDS))}, not {text!r}"
        )
    return Resource(kind, name, _action(action), (), ())


def _operation(target: Connection, action: str, resources: list[str], *, has_where: bool) -> Operation:
    import msgspec

    from ostiary.model.operations import facts_digest
    from ostiary.policy.decide import connect_operation

    asked = connect_operation(target)
    if action == "connect" and not resources:
        return asked
    touched = tuple(_resource(text, action) for text in resources)
    graver = _action(action) if not touched else touched[0].action
    digest = facts_digest(graver, action, touched, (has_where,))
    facts = msgspec.structs.replace(
        asked.facts, action=graver, name=action, resources=touched, has_where=has_where, digest=digest
    )
    return msgspec.structs.replace(asked, facts=facts)


def _understood(target: Connection, sql: str) -> Operation:
    import asyncio

    from ostiary.cli.probe import understand
    from ostiary.model.connections import PostgresConnection
    from ostiary.model.errors import ConfigError

    if not isinstance(target, PostgresConnection):
        raise ConfigError("--sql", f"means nothing on {target.name}, which is {target.type}; name --action and --resource")
    return asyncio.run(understand(target, sql))


def _report(policies: Policies, asked: Operation, decision: Decision, opinions: list[Opinion]) -> dict[str, Any]:
    from ostiary.model.decisions import NeedsApproval, Permit

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
    lines += [f"  {found[key]}" for key in ("message", "hint") if found[key]]
    if found["row_limit"] is not None:
        lines.append(f"  at most {found['row_limit']} rows")
    if found["clear"]:
        lines.append(f"  in clear: {', '.join(found['clear'])}")
    emit_lines(lines)
    sys.stdout.flush()
