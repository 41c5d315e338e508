"""How to say no as an AWS service would: its format, its codes, and the gateway's own sentence."""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

import msgspec

from ostiary.model.errors import NotAdmitted, PeerMisbehaved, Reason, Unsupported
from ostiary.model.results import ReplyHead
from ostiary.protocols.http.messages import RequestHead, values
from ostiary.protocols.http.refusals import STATUSES, Said

CODES: Final = {
    Reason.NO_TOKEN: "InvalidClientTokenId",
    Reason.BAD_TOKEN: "InvalidClientTokenId",
    Reason.EXPIRED_TOKEN: "ExpiredToken",
    Reason.REVOKED_TOKEN: "InvalidClientTokenId",
    Reason.STOPPED_ACTOR: "InvalidClientTokenId",
    Reason.LOST_OWNER: "InvalidClientTokenId",
    Reason.MISUSED_TOKEN: "InvalidClientTokenId",
    Reason.LOG_UNAVAILABLE: "ServiceUnavailable",
    Reason.RECORDINGS_FULL: "ServiceUnavailable",
    Reason.CONTROL_UNREACHABLE: "ServiceUnavailable",
    Reason.TARGET_UNREACHABLE: "ServiceUnavailable",
    Reason.TOO_MANY_SESSIONS: "SlowDown",
    Reason.TOO_MUCH_AT_ONCE: "SlowDown",
    Reason.ISSUER_UNREACHABLE: "ServiceUnavailable",
}
"""AWS's names for why nobody is let in; `AccessDenied` for the rest."""
RETRIED: Final = frozenset({"ServiceUnavailable", "SlowDown"})
"""Answered with 503, so that an SDK tries again by itself."""
RETRY_SECONDS: Final = 1
"""When an SDK should try again: in another second, the same call has another signature."""
_STATUSES: Final = {"401": "AccessDenied", "403": "AccessDenied", "413": "RequestEntityTooLarge", "500": "InternalFailure", "501": "NotImplemented"}


def format_of(head: RequestHead) -> str:
    """Which protocol a request speaks, for an error that comes before its service is known."""
    if values(head.headers, b"smithy-protocol"):
        return "cbor"
    if values(head.headers, b"x-amz-target"):
        return "json"
    kind = (values(head.headers, b"content-type") or [b""])[0].lower()
    if b"x-www-form-urlencoded" in kind:
        return "query"
    return "rest-json" if b"json" in kind else "s3"


def answer(protocol: str, status: int, code: str, message: str, operation: str = "") -> Said:
    """A whole error answer. `operation`: the denial's id in the log, which stands where AWS names the request."""
    headers = [(b"Cache-Control", b"no-store"), (b"x-amzn-RequestId", operation.encode() or b"-")]
    if status == 503:
        headers += [(b"x-amz-retry-after", b"%d" % (RETRY_SECONDS * 1000)), (b"Retry-After", b"%d" % RETRY_SECONDS)]
    match protocol:
        case "json" | "rest-json":
            kind = b"application/x-amz-json-1.0" if protocol == "json" else b"application/json"
            named = code if code.endswith(("Exception", "Error")) or protocol != "json" else code + "Exception"
            headers += [(b"Content-Type", kind), (b"x-amzn-ErrorType", named.encode())]
            body = msgspec.json.encode({"__type": named, "message": message, "Message": message})
        case "cbor":
            headers += [(b"Content-Type", b"application/cbor"), (b"smithy-protocol", b"rpc-v2-cbor")]
            body = b"\xa2" + b"".join(_cbor(each) for each in ("__type", code, "message", message))
        case _:
            headers += [(b"Content-Type", b"text/xml"), (b"x-amz-request-id", operation.encode() or b"-")]
            body = _xml(protocol, code, message, operation or "-").encode()
    return Said(ReplyHead(status, tuple(headers), has_body=True, length=len(body), of_read=False), body)


def _xml(protocol: str, code: str, message: str, request: str) -> str:
    said = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    if protocol == "ec2":
        return f"{head}<Response><Errors><Error>{said}</Error></Errors><RequestID>{request}</RequestID></Response>"
    if protocol == "s3":
        return f"{head}<Error>{said}<RequestId>{request}</RequestId><HostId>ostiary</HostId></Error>"
    return f"{head}<ErrorResponse><Error><Type>Sender</Type>{said}</Error><RequestId>{request}</RequestId></ErrorResponse>"


def _cbor(text: str) -> bytes:
    """A text in pieces (RFC 8949, 3.2.3), no length of which holds a NUL: masking reads it as the text that it is."""
    pieces = (text[at : at + 60].encode() for at in range(0, len(text), 60))
    return b"\x7f" + b"".join(bytes((0x78, len(each))) + each for each in pieces) + b"\xff"


def code_of(written: str) -> tuple[int, str]:
    """(status, code) of an objection's `status code`, or of a bare status."""
    status, _, code = written.partition(" ")
    return int(status), code or _STATUSES.get(status, "InvalidRequest")


def withheld(protocol: str, status: int, error: NotAdmitted, *, content: bool) -> Said:
    """The call has run, and its answer, of that status, does not leave. It is no fault that may pass, or an SDK would make the call again."""
    hint = error.hint if content else "Policy can show its classes in clear."
    code = "ServiceUnavailable" if status >= 500 else "AccessDenied"
    return answer(protocol, status if status >= 400 else 403, code, f"{error}. {hint}")


def failed(protocol: str, error: Exception) -> Said:
    """Something could not go on. The caller hears what is their business."""
    match error:
        case NotAdmitted():
            code = CODES.get(error.reason, "AccessDenied")
            status = 503 if code in RETRIED else 403 if STATUSES[error.reason] in (401, 403, 421) else STATUSES[error.reason]
            return answer(protocol, status, code, ". ".join(each for each in (str(error), error.hint) if each))
        case PeerMisbehaved():
            return answer(protocol, 400, "InvalidRequest", f"the request is malformed: {error}")
        case Unsupported():
            return answer(protocol, 501, "NotImplemented", str(error))
        case _:
            return answer(protocol, 503, "ServiceUnavailable", "the gateway cannot go on with this; nothing goes on unrecorded")
