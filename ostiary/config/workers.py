"""What does not go together with several workers: where they cannot count together, the gateway does not start."""

from __future__ import annotations

from typing import Final

from ostiary.config.types import AwsTarget, File, HttpTarget
from ostiary.config.words import split_address
from ostiary.model.errors import ConfigError

WITH: Final = "together with gateway.workers = {}"


def check_workers(written: File) -> None:
    """Refuse what would be counted, or remembered, by each worker for itself."""
    workers = written.gateway.workers
    if workers == 1:
        return
    beside = WITH.format(workers)
    for name in written.listen.__struct_fields__:
        door = getattr(written.listen, name)
        if door is not None and not split_address(door.address)[1]:
            raise ConfigError(f"listen.{name}.address", f"takes whatever port is free, {beside}: each would take another one")
        if name in {"http", "aws"} and door is not None and door.max_sessions < workers:
            raise ConfigError(f"listen.{name}.max_sessions", f"is too small {beside}: each takes its share of it")
    for name, target in written.connections.items():
        for key in ("max_sessions", "max_connections"):
            if isinstance(target, HttpTarget | AwsTarget) and getattr(target, key) < workers:
                raise ConfigError(f"connections.{name}.{key}", f"is too small {beside}: each takes its share of it")
    _counted_apart(written, beside)


def _counted_apart(written: File, beside: str) -> None:
    for at, budget in enumerate(written.budgets):
        if budget.per == "session" and (written.listen.http is not None or written.listen.aws is not None):
            raise ConfigError(f"budgets[{at}].per", f"is a session's, and one token has a session of HTTP in each worker {beside}")
    for key in ("identity_day_bytes", "day_bytes", "store_bytes"):
        if getattr(written.recordings, key) is not None:
            raise ConfigError(f"recordings.{key}", f"is counted by each worker for itself {beside}")
