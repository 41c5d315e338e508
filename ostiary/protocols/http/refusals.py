"""How to say no in HTTP: a status, and RFC 9457 problem details that a person can act on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from ostiary.model.approvals import Ticket
from ostiary.model.decisions import Refusal
from ostiary.model.errors import NotAdmitted, OstiaryError, PeerMisbehaved, Reason, Unsupported
from ostiary.model.results import ReplyHead
from ostiary.protocols.http.encode import REASONS

STATUSES = {
    Reason.NO_TOKEN: 401,
    Reason.BAD_TOKEN: 401,
    Reason.EXPIRED_TOKEN: 401,
    Reason.REVOKED_TOKEN: 401,
    Reason.UNKNOWN_ISSUER: 401,
    Reason.ISSUER_UNREACHABLE: 503,
    Reason.WRONG_AUDIENCE: 403,
    Reason.NOT_PERMITTED: 403,
    Reason.NO_SUCH_CONNECTION: 421,
    Reason.NEEDS_TLS: 400,
    Reason.LOG_UNAVAILABLE: 503,
    Reason.RECORDINGS_FULL: 503,
    Reason.TARGET_UNREACHABLE: 502,
    Reason.TARGET_REFUSED: 502,
    Reason.CATALOGUE_UNAVAILABLE: 502,
    Reason.TOO_MANY_SESSIONS: 503,
    Reason.TOO_MUCH_AT_ONCE: 503,
    Reason.TOO_MANY_ROWS: 403,
    Reason.IDLE: 408,
    Reason.UNSUPPORTED: 501,
    Reason.MALFORMED: 400,
    Reason.UNMASKABLE: 502,
    Reason.CONTROL_UNREACHABLE: 503,
    Reason.STOPPED_ACTOR: 401,
    Reason.LOST_OWNER: 401,
    Reason.MISUSED_TOKEN: 401,
    Reason.ENDED_BY_ALERT: 403,
    Reason.ENDED_BY_OPERATOR: 403,
    Reason.GRANT_OVER: 403,
    Reason.GRANT_REVOKED: 403,
    Reason.BUDGET_SPENT: 403,
}


RETRY_SECONDS: Final = 10
"""When to repeat a request that waits for people."""


class Said(msgspec.Struct, frozen=True):
    """A whole answer of the gateway's own."""

    head: ReplyHead
    body: bytes


def answer(status: int, detail: str, hint: str = "", **more: str) -> Said:
    """A problem document; `more`: members of our own."""
    problem = {"type": "about:blank", "title": REASONS.get(status, b"").decode(), "status": status, "detail": detail}
    problem |= {name: value for name, value in (("hint", hint), *more.items()) if value}
    body = msgspec.json.encode(problem) + b"\n"
    headers = [(b"Content-Type", b"application/problem+json"), (b"Cache-Control", b"no-store")]
    if status == 401:
        # Basic, too: git, pip and wget show a password only where it is asked for.
        headers += [(b"WWW-Authenticate", b'Bearer realm="ostiary"'), (b"WWW-Authenticate", b'Basic realm="ostiary"')]
    return Said(ReplyHead(status, tuple(headers), has_body=True, length=len(body), of_read=False), body)


def refused(refusal: Refusal, operation: str, ticket: Ticket | None = None) -> Said:
    """Policy, or the judge, said no; `operation` is the denial's id in the log. With a ticket: not yet, and ask again."""
    objection = refusal.operation.facts.objection
    status = 403 if objection is None else int(objection.code)
    if ticket is None:
        return answer(status, refusal.grounds.message, refusal.grounds.hint, operation=operation)
    expires = datetime.fromtimestamp(ticket.expires, UTC).isoformat()
    said = answer(
        status, refusal.grounds.message, refusal.grounds.hint, operation=operation, approval=ticket.id,
        approval_url=ticket.link, approval_expires=expires,
    )  # fmt: skip
    again = (b"Retry-After", b"%d" % RETRY_SECONDS)
    return msgspec.structs.replace(said, head=said.head.with_headers((*said.head.headers, again)))


def failed(error: Exception) -> Said:
    """Something could not go on. The caller hears what is their business."""
    match error:
        case NotAdmitted():
            return answer(STATUSES[error.reason], str(error), error.hint)
        case PeerMisbehaved():
            return answer(400, f"the request is malformed: {error}")
        case Unsupported():
            return answer(501, str(error), error.hint)
        case OstiaryError():
            return answer(503, str(error), "Nothing goes on unrecorded. Try again later.")
        case _:
            return answer(500, "internal error of the gateway")
