"""Commands for whoever runs a gateway: `init`, `serve`, `check-config`, `completion`."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, emit_lines, say

if TYPE_CHECKING:
    from ostiary.config.types import Config


class Shell(enum.StrEnum):
    """Shells that completion is written for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def init(config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT) -> None:
    """Make the state folder, its keys and its instance id. Run it once; keys are never overwritten."""
    from pathlib import Path

    from ostiary.audit.keys import init_state
    from ostiary.identity.keys import load_or_create_token_key

    settings = load(config)
    state = Path(settings.gateway.state_dir)
    instance = init_state(state, settings.gateway.name)
    load_or_create_token_key(state / "keys" / "token.key")
    root = (state / "keys" / "root.vkey").read_text().strip()
    made = {"state_dir": str(state), "instance": instance, "root_key": root}
    if output is Output.JSON:
        emit_json(made)
        return
    emit_lines([f"initialised {state}, instance {instance}", f"root key: {root}"])
    say(
        "Keep a copy of the root key's line elsewhere: with it, anybody can verify the log without trusting this machine."
    )
    say(f"Back up {state / 'keys'}: without kek-1.key no recording can ever be read again.")


def serve(config: ConfigFile = DEFAULT_CONFIG) -> int:
    """Run the gateway until it is told to stop (SIGTERM, or Ctrl-C)."""
    from ostiary.app import serve as run

    settings = load(config)
    for danger in settings.dangers():
        say(f"danger: {danger} is on")
    return run(settings)


def check_config(config: ConfigFile = DEFAULT_CONFIG, output: OutputFormat = Output.TEXT) -> None:
    """Check the configuration, its policies, its issuers, its witnesses and its secrets' references, without starting anything."""
    settings = load(config)
    found = _checked(settings)
    if output is Output.JSON:
        emit_json(found)
        return
    emit_lines([
        f"{settings.path} is fine",
        f"  gateway {settings.gateway.name}, state in {settings.gateway.state_dir}",
        f"  {len(found['connections'])} connections: {', '.join(found['connections']) or 'none'}",
        f"  {found['policies']} policies, digest {found['policy_digest']}",
        f"  {len(found['issuers'])} issuers: {', '.join(found['issuers']) or 'none'}",
    ])  # fmt: skip
    for warning in found["warnings"]:
        say(f"warning: {warning}")


def _checked(settings: Config) -> dict[str, Any]:
    from ostiary.app.common import witness_file
    from ostiary.app.worker import check_account
    from ostiary.audit.cosignature import WitnessPolicy
    from ostiary.cli.policy import load_policies, strangers
    from ostiary.identity.issuers import check_issuers, issuer_configured
    from ostiary.model.connections import AwsConnection
    from ostiary.vault.references import resolve

    policies = load_policies(settings)
    issuers = tuple(issuer_configured(issuer, f"issuers[{at}]") for at, issuer in enumerate(settings.issuers))
    check_issuers(issuers, settings.api.base_url)
    witnesses = witness_file(settings)
    if witnesses is not None:
        WitnessPolicy.read(witnesses)
    for connection in settings.connections.values():
        for reference in connection.secrets:
            resolve(reference)
        if isinstance(connection, AwsConnection):
            check_account(connection)
    warnings = [f"{danger} is on" for danger in settings.dangers()] + strangers(policies, settings)
    if not settings.issuers:
        warnings.append("no [[issuers]]: nobody can log in")
    listen = settings.listen
    if all(getattr(listen, protocol) is None for protocol in listen.__struct_fields__):
        warnings.append("no [listen.postgresql], nor any other protocol's: no client can connect")
    return {
        "config": settings.path,
        "digest": settings.digest,
        "connections": sorted(settings.connections),
        "issuers": [issuer.issuer for issuer in settings.issuers],
        "policies": len(policies),
        "policy_digest": policies.digest,
        "warnings": warnings,
    }


def completion(shell: Annotated[Shell, typer.Argument(help="The shell to complete in.")]) -> None:
    """Print a completion script: `ostiary completion bash > /etc/bash_completion.d/ostiary`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # not in its list of exports

    script = get_completion_script(prog_name="ostiary", complete_var="_OSTIARY_COMPLETE", shell=shell.value)
    sys.stdout.write(script + "\n")
