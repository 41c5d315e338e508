"""What a command does when the gateway's API says no, or nothing: one place, so that a script can tell the same things apart everywhere."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ostiary.cli.codes import CommandFailed, ExitCode

if TYPE_CHECKING:
    from ostiary.api.client import ApiRefused


@contextmanager
def answers(url: str, *, more: str = "") -> Iterator[None]:
    """End the command with what the API at `url` said; `more` is said behind it."""
    from ostiary.api.client import ApiRefused

    try:
        yield
    except ApiRefused as exc:
        raise CommandFailed(code_of(exc), f"{url}: {exc}{more}") from None


def code_of(refused: ApiRefused) -> ExitCode:
    """Tell whose fault it is.

    Without an error no gateway answered, and from 500 on one that cannot now. What is wrong with a token is said with 401 or 403, or by OAuth's
    own errors (RFC 6749, 5.2). Everything else is a no to what was asked.
    """
    if not refused.error or refused.status >= 500:
        return ExitCode.UNAVAILABLE
    if refused.status in (401, 403) or refused.is_oauth:
        return ExitCode.NOT_ADMITTED
    return ExitCode.NO
