"""Exit codes: what a script can tell apart. Documented in `docs/cli.md`; never reuse one.

Above 63 they are those of sysexits.h, so 1 and 2 keep the meaning that `audit verify` gives them.
"""

from __future__ import annotations

import enum
from typing import Self

from ostiary.model.errors import ConfigError, LogFailed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason, Unsupported


class ExitCode(enum.IntEnum):
    """What a command ends with. `connect` ends with the code of the command that it ran."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """Make a member that carries its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "Done; for a check: all is well."
    NO = 1, "The answer is no: tampered with, refused by policy, a target that does not answer, something not found."
    INCOMPLETE = 2, "`audit verify` only: nothing is wrong with what is there, but something is missing."
    USAGE = 64, "The command line is not understood."
    UNAVAILABLE = 69, "The gateway or a target cannot be reached."
    BUG = 70, "A fault of Ostiary: run it again with `ostiary --debug` and report what it prints."
    STORAGE = 74, "A file or the log cannot be read or written."
    PROTOCOL = 76, "A peer broke its protocol, or speaks one that is not spoken here."
    NOT_ADMITTED = 77, "The token is not accepted, or is not good for this."
    CONFIG = 78, "The configuration or a policy is wrong; the message names the key."
    INTERRUPTED = 130, "Interrupted (Ctrl-C)."
    PIPE = 141, "Whoever read the output stopped reading."


class CommandFailed(OstiaryError):
    """A command cannot do what was asked; carries the exit code that says why."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


_UNREACHABLE = frozenset({
    Reason.TARGET_UNREACHABLE,
    Reason.CATALOGUE_UNAVAILABLE,
    Reason.ISSUER_UNREACHABLE,
    Reason.TOO_MANY_SESSIONS,
})  # fmt: skip


def code_for(error: BaseException) -> ExitCode:
    """Return the exit code that says whose fault `error` is."""
    match error:
        case CommandFailed(code=code):
            return code
        case ConfigError():
            return ExitCode.CONFIG
        case NotAdmitted(reason=reason) if reason in _UNREACHABLE:
            return ExitCode.UNAVAILABLE
        case NotAdmitted():
            return ExitCode.NOT_ADMITTED
        case LogFailed():
            return ExitCode.STORAGE
        case PeerMisbehaved() | Unsupported():
            return ExitCode.PROTOCOL
        case OstiaryError():
            return ExitCode.NO
        case OSError():
            return ExitCode.STORAGE
        case _:
            return ExitCode.BUG
