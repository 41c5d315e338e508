"""`ostiary accounts` and `ostiary isolate`: what an administrator does, logged in as a person of an [admin] group."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ostiary.cli.login import asked
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, say, table
from ostiary.cli.tokens import Api, CaFile

accounts = typer.Typer(no_args_is_help=True, help="Service accounts: each has an owner and an end.")


@accounts.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name: lower case, and never used before.")],
    owner: Annotated[str, typer.Option(help="Whose it is: the subject of a person's tokens.")],
    owner_issuer: Annotated[str, typer.Option(help="The issuer of that person.")],
    issuer: Annotated[str, typer.Option(help="The issuer of the workloads that may use it.")],
    require: Annotated[
        list[str],
        typer.Option(
            metavar="CLAIM=VALUE", help="What the token of such a workload must say; several times for several."
        ),
    ],
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it holds.")],
    connection: Annotated[
        list[str] | None, typer.Option(help="A connection that it is for; several times for several.")
    ] = None,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Make a service account that the workloads described may use: they stay themselves, and wear it."""
    conditions: dict[str, Any] = {}
    for each in require:
        claim, equals, value = each.partition("=")
        if not claim or not equals:
            raise typer.BadParameter(f"--require {each}: write CLAIM=VALUE, for example repository=shop/deploy")
        try:
            conditions[claim] = json.loads(value) if value in ("true", "false") or value.isdigit() else value
        except ValueError:
            conditions[claim] = value
    body = {
        "name": name,
        "owner": owner,
        "owner_issuer": owner_issuer,
        "issuer": issuer,
        "conditions": conditions,
        "days": days,
        "connections": connection or [],
    }
    found = asked(api, config, ca_file, "POST", "/v1/accounts", body=body)
    if output is Output.JSON:
        emit_json(found)
    say(f"{found['name']} may be used until {found['expires']}")


@accounts.command("list")
def list_(
    api: Api = None, ca_file: CaFile = None, config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT
) -> None:
    """Show all service accounts."""
    found = asked(api, config, ca_file, "GET", "/v1/accounts")["accounts"]
    if output is Output.JSON:
        emit_json(found)
        return
    rows = [
        one
        | {
            "owner": one["owner_sub"],
            "until": one["expires"],
            "for": [f"{claim}={value}" for claim, value in one["conditions"].items()],
        }
        for one in found
    ]
    table(rows, ["name", "state", "owner", "until", "issuer", "for", "why"], empty="there are no service accounts")


@accounts.command()
def end(
    name: Annotated[str, typer.Argument(help="The account.")],
    reason: Annotated[str, typer.Option(help="Why; recorded.")],
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """End a service account, and every session under it, at once."""
    found = asked(api, config, ca_file, "POST", "/v1/accounts/end", body={"name": name, "reason": reason})
    if output is Output.JSON:
        emit_json(found)
    say(f"{name} has ended")


def rotate_token_key(config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT) -> None:
    """Sign gateway tokens with a fresh key from the next start on. Tokens of the last three keys stay good until they expire."""
    from pathlib import Path

    from ostiary.identity.keys import rotate_token_key as rotate

    key = rotate(Path(load(config).gateway.state_dir) / "keys" / "token.key")
    if output is Output.JSON:
        emit_json({"kid": key.kid})
    say(f"the new key is {key.kid}; restart the gateway to sign with it")


def isolate(
    actor: Annotated[str, typer.Argument(help="Who: the subject of a person's, an agent's or a workload's tokens.")],
    issuer: Annotated[
        str | None, typer.Option(help="The issuer of those tokens; needed where several are configured.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; recorded, and told to whoever is stopped.")] = "",
    release: Annotated[bool, typer.Option("--release", help="Let them in again, instead.")] = False,
    since: Annotated[str, typer.Option(help="List what they touched since then: a time, or 1h, 7d.")] = "24h",
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Stop anybody, everywhere, at once: end their sessions, refuse their logins, and list what they touched."""
    where = issuer or _only_issuer(config, actor)
    if release:
        found = asked(api, config, ca_file, "POST", "/v1/stops/release", body={"issuer": where, "subject": actor})
        if output is Output.JSON:
            emit_json(found["released"])
        say(f"{actor} may come in again; delegations and accounts that ended with them stay ended")
        return
    if not reason:
        raise typer.BadParameter("say why: --reason TEXT")
    body = {"issuer": where, "subject": actor, "reason": reason}
    found = asked(api, config, ca_file, "POST", "/v1/stops", body=body)["stopped"]
    touched = _touched(config, actor, where, since)
    if output is Output.JSON:
        emit_json(found | {"touched": touched})
        return
    say(
        f"{actor} is stopped; with them ended {len(found['delegations'])} delegations and"
        f" {len(found['accounts'])} service accounts"
    )
    table(
        touched,
        ["connection", "object", "actions", "operations", "first", "last"],
        empty=f"they touched nothing since {since}",
    )


def _only_issuer(config: Any, actor: str) -> str:
    """Whose tokens name them, if it can be nobody else's: an isolation of somebody whom there is not stops nobody."""
    settings = load(config)
    if actor in {client.id for client in settings.clients}:
        return str(settings.api.base_url)
    issuers = [*(each.issuer for each in settings.issuers), *(each.issuer for each in settings.saml)]
    if len(issuers) != 1 or settings.aws_identities is not None:
        raise typer.BadParameter("say which issuer's tokens name them: --issuer URL")
    return issuers[0]


def _touched(config: Any, actor: str, issuer: str, since: str) -> list[dict[str, Any]]:
    """What this actor touched, from the log on this machine."""
    from ostiary.cli.timeline import intents_since

    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in intents_since(config, since):
        who = entry.get("who", {})
        names = {(who.get("iss"), who.get("sub")), *((act.get("iss"), act.get("sub")) for act in who.get("act", []))}
        if (issuer, actor) not in names:
            continue
        connection = entry.get("target", {}).get("connection", "")
        for thing in entry.get("op", {}).get("objects", []) or [
            {"name": "", "action": entry.get("op", {}).get("action")}
        ]:
            one = found.setdefault(
                (connection, str(thing.get("name"))),
                {
                    "connection": connection,
                    "object": str(thing.get("name")),
                    "actions": [],
                    "operations": 0,
                    "first": entry.get("t"),
                },
            )
            if thing.get("action") not in one["actions"]:
                one["actions"].append(thing.get("action"))
            one["operations"] += 1
            one["last"] = entry.get("t")
    return [found[key] for key in sorted(found)]
