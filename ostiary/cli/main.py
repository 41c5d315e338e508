"""`ostiary`: every command, and the promise that no traceback reaches a person.

A command module imports what it needs when it runs, so that `ostiary --help` is quick. A command returns its exit code, or
None for 0. What it raises becomes one line on stderr and the code in `ostiary.cli.codes`.
"""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ostiary.cli import (
    access,
    admin,
    approvals,
    audit,
    aws,
    connections,
    delegate,
    gateway,
    keeping,
    login,
    masking,
    policy,
    retention,
    sessions,
    ssh,
    timeline,
    tokens,
    witness,
)
from ostiary.cli.codes import ExitCode, code_for
from ostiary.cli.output import safe
from ostiary.model.errors import NotAdmitted, OstiaryError, Unsupported

# Typer vendors click from 0.21 on: its classes are reached through typer's own names, which hold for both.
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]


def build() -> typer.Typer:
    """Return the whole command."""
    app = typer.Typer(
        name="ostiary",
        help="An identity-aware access gateway: who did what, for whom, and the proof.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command("init")(gateway.init)
    app.command("serve")(gateway.serve)
    app.command("check-config")(gateway.check_config)
    app.add_typer(connections.app, name="connections")
    app.command("login")(login.login)
    app.command("logout")(login.logout)
    app.command("whoami")(login.whoami)
    app.command("token")(tokens.token)
    app.command("connect")(tokens.connect)
    app.command("end-job")(tokens.end_job)
    app.command("ssh-cert")(ssh.ssh_cert)
    app.command("ssh-config")(ssh.ssh_config)
    app.command("aws")(aws.aws)
    app.command("env")(aws.env)
    app.add_typer(delegate.app, name="delegate")
    app.add_typer(admin.accounts, name="accounts")
    app.command("isolate")(admin.isolate)
    app.command("rotate-token-key")(admin.rotate_token_key)
    app.add_typer(sessions.app, name="sessions")
    audit.app.command("timeline")(timeline.timeline)
    audit.app.command("redact")(keeping.redact)
    audit.app.command("keys")(keeping.keys)
    audit.app.command("rewrap")(keeping.rewrap)
    audit.app.command("prune")(retention.prune)
    audit.app.add_typer(retention.hold, name="hold")
    app.add_typer(audit.app, name="audit")
    app.add_typer(policy.app, name="policy")
    app.add_typer(masking.app, name="masking")
    app.add_typer(approvals.app, name="approvals")
    app.add_typer(access.app, name="access")
    app.add_typer(witness.app, name="witness")
    app.command("completion")(gateway.completion)
    return app


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            sys.stdout.write(f"ostiary {version('ostiary')}\n")
        except PackageNotFoundError:
            sys.stdout.write("ostiary (not installed)\n")
        raise typer.Exit


def _root(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="OSTIARY_DEBUG", help="Show where a fault comes from.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    if debug:
        os.environ["OSTIARY_DEBUG"] = "1"


def main(argv: list[str] | None = None) -> int:
    """Run a command line (`sys.argv` if none is given); returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        typer.completion.completion_init()  # type: ignore[attr-defined]  # not in its list of exports
        code = typer.main.get_command(build()).main(args=arguments, prog_name="ostiary", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except _ClickError as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # Nobody reads any more: the one thing for which the library exits by itself here. The interpreter's own flush at
        # exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE
    except Exception as error:  # noqa: BLE001 - no traceback reaches a person
        return _fault(error)


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    message = str(getattr(error, "format_message", error.__str__)())
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(message + "\n")
        return ExitCode.USAGE
    command = context.command_path if context is not None else "ostiary"
    sys.stderr.write(f"ostiary: {safe(message)} (see: {command} --help)\n")
    return ExitCode.USAGE


def _fault(error: Exception) -> int:
    code = code_for(error)
    if os.environ.get("OSTIARY_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if code is ExitCode.BUG:
        what = f"an unexpected {type(error).__name__}; run it again with `ostiary --debug` and report what it prints"
        sys.stderr.write(f"ostiary: {what}\n")
        return code
    sys.stderr.write(f"ostiary: {safe(_sentence(error))}\n")
    if isinstance(error, NotAdmitted | Unsupported) and error.hint:
        sys.stderr.write(f"hint: {safe(error.hint)}\n")
    return code


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, OstiaryError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
