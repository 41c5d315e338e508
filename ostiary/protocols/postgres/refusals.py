"""How to say no so that a PostgreSQL client understands: an ErrorResponse, and the statement that breaks a transaction.

Source: PostgreSQL documentation, "Error and Notice Message Fields" and "PostgreSQL Error Codes". Everything that goes
into a field is escaped first: control characters, and characters that turn the direction of text round, would let
whoever wrote a statement or a policy write to the terminal of whoever reads the error.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from ostiary.model.decisions import NeedsApproval, Refusal
from ostiary.model.errors import NotAdmitted, OstiaryError, PeerMisbehaved, Reason, Unsupported
from ostiary.model.operations import Objection
from ostiary.protocols.postgres import encode
from ostiary.protocols.postgres import messages as m

MAX_TEXT: Final = 4096
"""Characters of one field; a client has to show it to a person."""

INSUFFICIENT_PRIVILEGE: Final = "42501"
PROTOCOL_VIOLATION: Final = "08P01"
FEATURE_NOT_SUPPORTED: Final = "0A000"
INTERNAL_ERROR: Final = "XX000"

SQLSTATES: Final[dict[Reason, str]] = {
    Reason.NO_TOKEN: "28P01",
    Reason.BAD_TOKEN: "28P01",
    Reason.EXPIRED_TOKEN: "28P01",
    Reason.REVOKED_TOKEN: "28P01",
    Reason.WRONG_AUDIENCE: "28000",
    Reason.UNKNOWN_ISSUER: "28000",
    Reason.ISSUER_UNREACHABLE: "58000",
    Reason.NO_SUCH_CONNECTION: "3D000",
    Reason.NEEDS_TLS: "28000",
    Reason.LOG_UNAVAILABLE: "58030",
    Reason.RECORDINGS_FULL: "53400",
    Reason.TARGET_UNREACHABLE: "08001",
    Reason.TARGET_REFUSED: "08004",
    Reason.CATALOGUE_UNAVAILABLE: "58000",
    Reason.TOO_MANY_SESSIONS: "53300",
    Reason.TOO_MANY_ROWS: "54000",
    Reason.IDLE: "57P05",
    Reason.UNSUPPORTED: "0A000",
    Reason.MALFORMED: "08P01",
    Reason.UNMASKABLE: "42501",
    Reason.NOT_PERMITTED: "42501",
    Reason.GRANT_OVER: "42501",
    Reason.GRANT_REVOKED: "42501",
    Reason.BUDGET_SPENT: "53400",
    Reason.ENDED_BY_ALERT: "57P01",
    Reason.ENDED_BY_OPERATOR: "57P01",
    Reason.STOPPED_ACTOR: "57P01",
    Reason.MISUSED_TOKEN: "28P01",
    Reason.LOST_OWNER: "57P01",
    Reason.CONTROL_UNREACHABLE: "58000",
    Reason.TOO_MUCH_AT_ONCE: "53400",
}
"""invalid_password, invalid_authorization, invalid_catalog_name, io_error, too_many_connections and their like."""

POISON_TEXT: Final = b"ostiary refused a statement of this transaction"
"""Parses in no version of PostgreSQL (no statement begins with that word), so it fails before it can do anything, and
says in the target's own log what happened."""
POISON_NAME: Final = b"ostiary_refused"
"""A named statement: a Parse of the unnamed one would first drop the client's own."""
POISON_QUERY: Final = encode.encode(m.Query(POISON_TEXT))
"""Sent in a transaction in place of a refused simple Query; its ErrorResponse and ReadyForQuery are swallowed."""
POISON_PARSE: Final = encode.encode(m.Parse(POISON_NAME, POISON_TEXT, ()))
"""Sent in place of a refused message of the extended protocol: the target then skips until Sync, as it should."""

_ESCAPED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def plain(text: str) -> str:
    """`text` with everything that is not plainly visible escaped, at most MAX_TEXT characters."""
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _ESCAPED_CATEGORIES else c for c in text
    )


def _fields(severity: str, sqlstate: str, rest: tuple[tuple[str, str], ...]) -> tuple[tuple[str, bytes], ...]:
    """`S` may be translated, `V` never is; both and `C` and `M` are always there."""
    head = (("S", severity.encode()), ("V", severity.encode()), ("C", sqlstate.encode()))
    return head + tuple((code, plain(text).encode()) for code, text in rest if text or code == "M")


def error_response(
    message: str,
    *,
    sqlstate: str = INSUFFICIENT_PRIVILEGE,
    severity: str = "ERROR",
    detail: str = "",
    hint: str = "",
    position: int | None = None,
) -> bytes:
    """An ErrorResponse. `severity` FATAL: the connection ends after it. `position`: 1-based, in characters."""
    rest = (("M", message), ("D", detail), ("H", hint), ("P", "" if position is None else str(position)))
    return encode.encode(m.ErrorResponse(_fields(severity, sqlstate, rest)))


def notice_response(message: str, *, sqlstate: str = "00000", detail: str = "", hint: str = "") -> bytes:
    """A NoticeResponse of severity NOTICE."""
    return encode.encode(m.NoticeResponse(_fields("NOTICE", sqlstate, (("M", message), ("D", detail), ("H", hint)))))


def refusal(decision: Refusal | NeedsApproval) -> bytes:
    """No to one operation: ERROR, the session goes on. DETAIL names the policies, HINT says what to do."""
    objection_ = decision.operation.facts.objection
    if objection_ is not None:
        return objection(objection_)
    grounds = decision.grounds
    message = grounds.message or "permission denied by the gateway's policy"
    match decision:
        case Refusal():
            return error_response(message, detail=_policies(grounds.because), hint=grounds.hint)
        case NeedsApproval():
            groups = ", ".join(f"{count} of {group}" for group, count in decision.approvers)
            detail = f"{_policies(grounds.because)} Approval needed: {groups}."
            return error_response(message, detail=detail, hint=grounds.hint)


def _policies(because: tuple[str, ...]) -> str:
    if not because:
        return "No policy permits this operation."
    return f"Refused by policy {', '.join(because)}."


def objection(why: Objection) -> bytes:
    """No before policy was asked: the statement cannot be judged. ERROR, the session goes on."""
    return error_response(why.message, sqlstate=why.code, hint=why.hint, position=why.position)


def not_admitted(error: NotAdmitted, severity: str = "FATAL") -> bytes:
    """No to a login, or to going on. Its sentence is fit for the caller."""
    return error_response(str(error), sqlstate=SQLSTATES[error.reason], severity=severity, hint=error.hint)


def goodbye(error: Exception) -> bytes:
    """The last words on a connection that ends for `error`. What is not ours to explain is not explained."""
    match error:
        case NotAdmitted():
            return not_admitted(error)
        case PeerMisbehaved():
            return error_response(str(error), sqlstate=PROTOCOL_VIOLATION, severity="FATAL")
        case Unsupported():
            return error_response(str(error), sqlstate=FEATURE_NOT_SUPPORTED, severity="FATAL", hint=error.hint)
        case OstiaryError():
            return error_response(
                "the gateway ended this session",
                sqlstate="57P01",
                severity="FATAL",
                detail=type(error).__name__,
            )
        case _:
            return error_response("internal error of the gateway", sqlstate=INTERNAL_ERROR, severity="FATAL")
