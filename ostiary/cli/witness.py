"""`ostiary witness`: cosign other gateways' logs, on another machine or as another user."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ostiary.cli.output import emit_lines, say

app = typer.Typer(no_args_is_help=True, help="Watch over logs: cosign what only ever grew.", rich_markup_mode=None)

Folder = Annotated[Path, typer.Option("--state", help="The witness's own folder: its key, and what it cosigned.")]


@app.command("init")
def init(
    name: Annotated[str, typer.Argument(help="The witness's name in cosignatures, such as witness.example.com.")],
    state: Folder = Path("witness-state"),
) -> None:
    """Make a witness's folder and key. Prints the key that goes into policies."""
    from ostiary.audit.witness import make_witness

    emit_lines([make_witness(state, name)])
    say("Write this key into the policy that gateways (audit.witness_policy) and verifiers (--policy) are given.")


@app.command("serve")
def serve(
    logs: Annotated[Path, typer.Option(help="tlog-policy file with the logs' keys; read again when it changes.")],
    state: Folder = Path("witness-state"),
    listen: Annotated[str, typer.Option(help="Address and port to listen on.")] = "127.0.0.1:8099",
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file with a certificate, for HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with its key.")] = None,
) -> int:
    """Answer `add-checkpoint` (C2SP tlog-witness) until told to stop."""
    import asyncio

    from ostiary.api.app import server
    from ostiary.api.witness import witness_app
    from ostiary.audit.witness import Witness
    from ostiary.listener.accept import bind
    from ostiary.model.errors import ConfigError

    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError("--listen", "expected ADDRESS:PORT")
    if (tls_cert is None) != (tls_key is None):
        raise ConfigError("--tls-cert", "and --tls-key go together")
    witness = Witness(state, logs)
    try:
        sock = bind(host.strip("[]"), int(port), shared=False)
        http = server(
            witness_app(witness),
            host=host,
            port=int(port),
            tls_cert=None if tls_cert is None else str(tls_cert),
            tls_key=None if tls_key is None else str(tls_key),
        )
        bound = sock.getsockname()
        emit_lines([f"ready: witness {witness.vkey.split('+', 1)[0]} on {bound[0]}:{bound[1]}"])
        sys.stdout.flush()  # whoever started it waits for this line, in a file perhaps
        asyncio.run(http.serve(sockets=[sock]))
    finally:
        witness.close()
    return 0
