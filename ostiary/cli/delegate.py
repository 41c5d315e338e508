"""`ostiary delegate`: let an agent act for you, within bounds, for a time; see what you gave; end it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ostiary.cli.login import asked
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat
from ostiary.cli.output import Output, emit_json, say, table
from ostiary.cli.tokens import Api, CaFile, Purpose, Ticket, held_at, read_details

app = typer.Typer(no_args_is_help=True, help="Let an agent act for you, within bounds; list that; end it.")

Subject = Annotated[
    str | None,
    typer.Option(
        "--from",
        envvar="OSTIARY_TOKEN_FROM",
        help="Where a gateway token is, of whoever gives it: env:NAME, file:/path, or - for standard input. Yours if not given.",
    ),
]


@app.command()
def create(
    to: Annotated[str, typer.Argument(help="Whom: the agent's client id, or the subject of its tokens.")],
    connection: Annotated[
        list[str] | None, typer.Option(help="A connection that it may use; several times for several.")
    ] = None,
    action: Annotated[
        list[str] | None, typer.Option(help="What it may do: read, write, delete, …; `connect` is added.")
    ] = None,
    resource: Annotated[
        list[str] | None, typer.Option(help="A thing that it may touch, as policy names it: public.orders, or public.*")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=7 * 24 * 60, help="How long it holds.")] = 60,
    details: Annotated[
        Path | None, typer.Option(help="JSON file with authorization_details (RFC 9396), instead of the options above.")
    ] = None,
    to_issuer: Annotated[
        str | None, typer.Option(help="The issuer of the agent's tokens; the gateway itself if not given.")
    ] = None,
    purpose: Purpose = "",
    ticket: Ticket = "",
    subject: Subject = None,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Let an agent act for you. Prints the delegation, which is good only together with the agent's own token."""
    form = {
        "to": to,
        "to_issuer": to_issuer or "",
        "seconds": str(minutes * 60),
        "purpose": purpose,
        "ticket": ticket,
    }
    wanted = read_details(details) if details is not None else _details(connection or [], action or [], resource)
    form["authorization_details"] = json.dumps(wanted)
    token = None if subject is None else held_at("--from", subject)
    found = asked(api, config, ca_file, "POST", "/v1/delegations", form=form, token=token)
    if output is Output.JSON:
        emit_json(found)
        return
    sys.stdout.write(f"{found['delegation']}\n")
    say(f"{to} may act until {found['expires']}; end it with: ostiary delegate revoke {str(found['id'])[:12]}")


def _details(connections: list[str], actions: list[str], resources: list[str] | None) -> list[dict[str, Any]]:
    if not connections or not actions:
        raise typer.BadParameter("say on which --connection and for which --action it holds, or give --details FILE")
    item: dict[str, Any] = {"type": "ostiary", "connections": connections, "actions": sorted({"connect", *actions})}
    if resources is not None:
        item["resources"] = resources
    return [item]


@app.command("list")
def list_(
    subject: Subject = None,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show what you gave, and what was given to you, newest first."""
    token = None if subject is None else held_at("--from", subject)
    found = asked(api, config, ca_file, "GET", "/v1/delegations", token=token)["delegations"]
    if output is Output.JSON:
        emit_json(found)
        return
    rows = [
        {
            "id": one["id"][:12],
            "state": one["state"],
            "for": one["name"],
            "to": one["to_sub"],
            "until": one["expires"],
            "on": [name for item in one["details"] for name in item.get("connections", [])],
            "actions": [name for item in one["details"] for name in item.get("actions", [])],
            "why": one["ticket"] or one["purpose"],
        }
        for one in found
    ]
    table(rows, ["id", "state", "for", "to", "until", "on", "actions", "why"], empty="there are no delegations")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `ostiary delegate list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; recorded.")] = "",
    subject: Subject = None,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """End a delegation, and every session under it, at once."""
    token = None if subject is None else held_at("--from", subject)
    form = {"id": name, "reason": reason}
    found = asked(api, config, ca_file, "POST", "/v1/delegations/revoke", form=form, token=token)
    if output is Output.JSON:
        emit_json(found)
    say(f"revoked {found['revoked'][:12]}")
