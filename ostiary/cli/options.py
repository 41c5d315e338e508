"""Options that several commands share."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ostiary.cli.output import Output

if TYPE_CHECKING:
    from ostiary.config.types import Config
    from ostiary.model.connections import Connection


def complete_connection(incomplete: str) -> list[str]:
    """Complete a connection's name from the configuration, if one can be read; a shell must never see an error."""
    import os

    try:
        names = load(Path(os.environ.get("OSTIARY_CONFIG", "ostiary.toml"))).connections
    except Exception:  # noqa: BLE001 - completion has nobody to tell
        return []
    return [name for name in names if name.startswith(incomplete)]


ConfigFile = Annotated[
    Path, typer.Option("-c", "--config", envvar="OSTIARY_CONFIG", help="The configuration file.", show_default=True)
]
OutputFormat = Annotated[
    Output, typer.Option("-o", "--output", envvar="OSTIARY_OUTPUT", help="How to write the result.")
]
DEFAULT_CONFIG = Path("ostiary.toml")


def load(path: Path) -> Config:
    """Read the configuration; `ConfigError` says what is wrong with it."""
    from ostiary.config.load import load as load_config

    return load_config(path)


def connection_named(config: Config, name: str) -> Connection:
    """Return the connection `name` of the configuration; `ConfigError` that suggests the one that was meant."""
    import difflib

    from ostiary.model.errors import ConfigError

    found = config.connections.get(name)
    if found is None:
        near = difflib.get_close_matches(name, config.connections, 1)
        known = ", ".join(sorted(config.connections)) or "none"
        hint = f"did you mean {near[0]}?" if near else f"there is: {known}"
        raise ConfigError(f"connections.{name}", f"there is no such connection; {hint}")
    return found
