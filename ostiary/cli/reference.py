"""`docs/cli.md`, made from the commands: `python -m ostiary.cli.reference > docs/cli.md`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any, Final

import typer

from ostiary.cli.codes import ExitCode
from ostiary.cli.main import build

HEAD: Final = """\
# The command line

This page is made from the commands (`python -m ostiary.cli.reference`).

* `-o json` (or `OSTIARY_OUTPUT=json`) writes one JSON document; `audit search`, `audit tail` and `sessions replay` write
  one a line.
* Results go to standard output, everything else to standard error. A failure is one line that says what to do.
* `-c FILE` (or `OSTIARY_CONFIG`) names the configuration; without it, `ostiary.toml` in the current folder.
* No option takes a token or a password itself: every process on the machine can read a command line.
* Shell completion: `ostiary completion bash > /etc/bash_completion.d/ostiary`; `zsh` and `fish` likewise.
"""


def commands(command: Any = None, path: str = "ostiary") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something: (how it is written, the command)."""
    found = typer.main.get_command(build()) if command is None else command
    inner = getattr(found, "commands", None)
    if inner is None:
        yield path, found
        return
    for name, each in inner.items():
        yield from commands(each, f"{path} {name}")


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## Exit codes\n", "| code | meaning |\n|---|---|"]
    parts += [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    for path, command in commands():
        parts.append(_section(path, command))
    return "\n".join(parts) + "\n"


def _section(path: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    context = typer.Context(command, info_name=path)
    # (how it is written, what it does), as `--help` says it
    options = [each.get_help_record(context) for each in command.params if each.param_type_name == "option"]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *(_metavar(each) for each in arguments)])
    lines = [f"\n## `{path}`\n", f"```\n{usage}\n```\n", inspect.cleandoc(command.help or ""), ""]
    if arguments or options:
        lines += ["| | |", "|---|---|"]
    lines += [f"| `{_metavar(each)}` | {_cell(each.help)} |" for each in arguments]
    lines += [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in filter(None, options)]
    return "\n".join(lines)


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    if argument.metavar:
        return str(name)
    shown = name if argument.required else f"[{name}]"
    return f"{shown}..." if argument.nargs == -1 else str(shown)


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
