"""One exchange with AWS: what differs from any other over HTTP. Sans-io.

A small body is taken whole, and goes out under one hash of our own making. Content that is larger streams: as it was signed, if it
came under one hash; else unsigned over TLS, with the checksum that followed it behind it again, so that S3 checks what the caller made.
The hash, or every chunk, is verified here before the last byte leaves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlencode

from ostiary.model.commands import Order
from ostiary.model.decisions import NeedsApproval, Permit
from ostiary.model.duties import Duties
from ostiary.model.errors import Misdeed, NotAdmitted, PeerMisbehaved, Reason
from ostiary.model.operations import Objection, Operation, Unjudgeable
from ostiary.model.proofs import Denied, Intended
from ostiary.model.results import ReplyEnd, ReplyHead
from ostiary.protocols.aws import errors
from ostiary.protocols.aws.chunks import CHECKSUMS
from ostiary.protocols.aws.masks import reads_as
from ostiary.protocols.aws.models import Unreadable
from ostiary.protocols.aws.operations import Asking, refusal
from ostiary.protocols.aws.rewriting import Impossible
from ostiary.protocols.aws.sigv4 import UNSIGNED, canonical_query, escaped
from ostiary.protocols.http import encode
from ostiary.protocols.http.messages import Framing, Header, RequestHead, sole, values
from ostiary.protocols.http.operations import MAX_JUDGED
from ostiary.protocols.http.refusals import Said
from ostiary.protocols.http.relay import MAX_SMALL, Asked, HttpRelay
from ostiary.protocols.http.results import Part
from ostiary.protocols.http.states import Event
from ostiary.protocols.relay import as_it_stands

_SECRETS: Final = re.compile(
    rb"(?im)^((?:proxy-)?authorization|cookie|x-amz-security-token)([ \t]*:[ \t]*)[^\r\n]*"
    rb"|(X-Amz-(?:Signature|Security-Token))(=)[^&\s]*"
)
_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_DROPPED: Final = frozenset({
    b"x-amz-date", b"x-amz-content-sha256", b"x-amz-security-token", b"x-amz-target", b"x-amz-user-agent", b"x-amz-api-version",
    b"x-amz-decoded-content-length", b"x-amz-trailer", b"content-encoding", b"content-length", b"content-type", b"host", b"expect",
    b"transfer-encoding", b"authorization", b"connection",
})  # fmt: skip
_GENERAL: Final = frozenset({b"x-amz-sdk-checksum-algorithm", b"content-md5"})


class AwsRelay(HttpRelay):
    """One request to AWS and its answer."""

    def __init__(self, head: RequestHead, asking: Asking) -> None:
        self.asking = asking
        self.sent: tuple[bytes, str, str, list[Header], str] | None = None
        """Method, path, query, headers and payload word of what goes out: what the driver signs."""
        self._hash = hashlib.sha256()
        self._tail = ""
        self._asked: bytes | None = None
        """What the caller sent, of a call that was rewritten."""
        super().__init__(head, asking)  # type: ignore[arg-type]  # it judges heads as an Understanding does
        self.head = asking.head or head

    # --- the request ---

    def _hear(self, data: bytes) -> None:
        before = len(self._held)
        super()._hear(data)
        if self.asking.chunks is not None:
            coded, self._held[before:] = self._held[before:], []
            for piece in coded:
                self._held += self.asking.chunks.feed(piece)
            said = self._said_length()
            if said is not None and self.asking.chunks.size > said:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "the content is longer than it says")
            if self.body.is_done:
                self.asking.chunks.close()

    def _operation(self) -> Operation:
        whole = self.body.is_done
        body = b"".join(self._held)
        facts = self._judged.facts
        if facts.objection is None:
            facts = self.asking.finish(self.head, body if whole else None)
        wire = b""
        if facts.objection is None:
            try:
                wire = self._written(body, whole=whole)
            except Unreadable as exc:
                facts = refusal(facts.name, exc)
        small = body if len(body) <= MAX_SMALL or (whole and len(body) <= MAX_JUDGED) else body[:MAX_SMALL]
        if self._asked is None:
            return Operation(facts, without_secrets(self.head.raw) + small, None, wire)
        return Operation(facts, wire.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + small, None, wire, self._asked)

    def obey(self, permit: Permit | NeedsApproval, duties: Duties) -> Operation | Objection:
        """The call as `duties` demand it. Content that streams is as it was; what was judged anew is what goes out."""
        operation, body = permit.operation, b"".join(self._held)
        if not duties.parameters or duties.rows is not None or duties.filters or duties.instead:
            return as_it_stands(permit, duties)
        try:
            made = self.asking.obey(self.head, body if self.body.is_done else None, duties.parameters, permit.who)
            if made is None:
                return operation
            if self._asked is not None:
                raise Impossible("policy demands that the call be rewritten, and it was already")  # noqa: TRY301 - one way out
            self._asked = operation.statement
            self.head, changed = made
            if changed is not None and changed != body:
                self._held, body = [changed], changed
            return self._operation()
        except (Impossible, Unreadable) as exc:
            hint = "Make the call as policy demands it, or ask whoever keeps the policy."
            return Objection(Unjudgeable.NOT_REWRITTEN, str(exc), hint, "403 AccessDenied", None)

    def lesser(self, operation: Operation) -> Operation | None:
        """The call without the ACL or policy that it brings along, whose permits may demand that it loses it."""
        facts = None if operation.facts.objection is not None else self.asking.without_rights(b"".join(self._held))
        return None if facts is None else Operation(facts, operation.statement, None, operation.wire)

    def asked(self, operation: Operation) -> Asked:
        """What people are asked: the call as it would be sent, less its signature, which is new each time."""
        head, _, body = operation.wire.partition(b"\r\n\r\n")
        shown = head.replace(b"\r\n", b"\n") + b"\n\n" + body
        named = f"{self.asking.signed.region}/{self.asking.signed.service}\n".encode()
        state = hashlib.sha256(named + operation.wire).digest()
        return Asked(Operation(operation.facts, shown, None, operation.wire), state, operation)

    def order(self, proof: Intended) -> Order:
        """What goes to the service under that proof."""
        if not self.body.is_done:
            for piece in self._held:
                self._hash.update(piece)
        made = super().order(proof)
        self._held.clear()
        return made

    def _written(self, body: bytes, *, whole: bool) -> bytes:
        """What goes to the service, but for its signature. Raises `Unreadable`."""
        asking = self.asking
        target = asking.target
        path = "/" + "/".join(escaped(part) for part in target.segments)
        query = canonical_query(target.query)
        if whole:
            body = urlencode(asking.form).encode() if asking.form is not None else body
            payload, framing = hashlib.sha256(body).hexdigest(), Framing(len(body), chunked=False, until_close=False)
            headers = self._headers(trailer=False)
            self._room = 0
        else:
            size = self._decoded_length()
            payload, framing, headers, before = self._streaming(size)
            body = before + body
            self._room = (framing.length or 0) - len(body)
            if self._room < 0:
                raise Unreadable("IncompleteBody", "the content is longer than it says")
        self.sent = (self.head.method, path, query, headers, payload)
        place = (path + ("?" + query if query else "")).encode()
        return encode.request_head(self.head.method, place, encode.field_lines(headers), framing) + body

    def _said_length(self) -> int | None:
        text = sole(self.head.headers, b"x-amz-decoded-content-length") if self.asking.chunks is not None else None
        return int(text) if text is not None and text.isdigit() and len(text) <= 15 else None

    def _decoded_length(self) -> int:
        said = self._said_length()
        if said is not None:
            return said
        if self.asking.chunks is None and self._framing.length is not None:
            return self._framing.length
        raise Unreadable("MissingContentLength", "content that streams needs its length said before", 411)

    def _streaming(self, size: int) -> tuple[str, Framing, list[Header], bytes]:
        """How content of `size` bytes goes out: payload word, framing, headers, and what stands before it."""
        chunks, word = self.asking.chunks, self.asking.signed.payload
        trailer = sole(self.head.headers, b"x-amz-trailer") if chunks is not None else None
        headers = self._headers(trailer=trailer is not None)
        if trailer is None:
            payload = word if _HEX.fullmatch(word) is not None else UNSIGNED
            return payload.decode(), Framing(size, chunked=False, until_close=False), headers, b""
        name = trailer.decode()
        before = b"%x\r\n" % size
        self._tail = name
        behind = len(b"\r\n0\r\n") + len(name) + 1 + CHECKSUMS[name] + 4
        headers += [(b"x-amz-trailer", trailer), (b"x-amz-decoded-content-length", b"%d" % size)]
        framing = Framing(len(before) + size + behind, chunked=False, until_close=False)
        return "STREAMING-UNSIGNED-PAYLOAD-TRAILER", framing, headers, before

    def _headers(self, *, trailer: bool) -> list[Header]:
        """What goes on: headers of the operation, each once, lower case; nothing else that a caller sends."""
        call, head = self.asking.call, self.head
        if call is None:
            raise AssertionError("a request that is no call is objected to")
        made: dict[bytes, bytes] = {b"host": self.asking.host.encode()}
        for name, value in head.headers:
            lower = name.lower()
            if lower in _DROPPED or not (lower in call.headers or lower.startswith(call.prefixes) or lower in _GENERAL):
                continue
            if lower in made:
                raise Unreadable("InvalidRequest", "a header of the operation is there twice")
            made[lower] = value
        made |= self._framed_headers(call.protocol, trailer=trailer)
        if self.asking.chunks is not None and self.asking.chunks.trailer is not None:
            made[self.asking.chunks.trailer[0].encode()] = self.asking.chunks.trailer[1].encode()
        made |= self.asking.enforced(made)
        return sorted(made.items())

    def _framed_headers(self, protocol: str, *, trailer: bool) -> dict[bytes, bytes]:
        made: dict[bytes, bytes] = {}
        call = self.asking.call
        kind = sole(self.head.headers, b"content-type")
        if protocol == "json" and call is not None and self.asking.service is not None:
            made[b"x-amz-target"] = f"{self.asking.service.target}.{call.operation}".encode()
            made[b"content-type"] = b"application/x-amz-json-" + call.json_version.encode()
        elif protocol in ("query", "ec2"):
            made[b"content-type"] = b"application/x-www-form-urlencoded; charset=utf-8"
        elif kind is not None:
            made[b"content-type"] = kind
        codings = [
            each.strip() for value in values(self.head.headers, b"content-encoding") for each in value.split(b",")
        ]
        codings = [each for each in codings if each and each.lower() != b"aws-chunked"]
        if trailer:
            codings.insert(0, b"aws-chunked")
        if codings:
            made[b"content-encoding"] = b",".join(codings)
        if sole(self.head.headers, b"x-amzn-query-mode") == b"true":
            made[b"x-amzn-query-mode"] = b"true"
        return made

    def streamed(self, data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
        """More of the content, under the intent of its head."""
        self.heard(data)
        self._goes(Event.STREAM)
        held, self._held = self._held, []
        done = self.body.is_done
        for piece in held:
            self._hash.update(piece)
        if done:
            self._check_whole()
        chunks = self.asking.chunks
        for number, piece in enumerate(held, 1):
            yield piece, self._within(piece), done and number == len(held) and not self._tail
        if done and self._tail and chunks is not None and chunks.trailer is not None:
            yield b"", self._within(f"\r\n0\r\n{self._tail}:{chunks.trailer[1]}\r\n\r\n".encode()), True

    def _check_whole(self) -> None:
        """Before the last of it leaves: it is what was signed, and as long as was said."""
        word = self.asking.signed.payload
        if _HEX.fullmatch(word) is not None and self._hash.hexdigest() != word.decode():
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "the content is not what was signed")
        chunks = self.asking.chunks
        if chunks is not None and chunks.size != self._decoded_length():
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "the content is not as long as it says")

    def results(self, data: bytes) -> Iterable[Part]:
        """See `HttpRelay.results`. Where a redirect leads is not told: an SDK would go there, with a request that it signs for it."""
        return [_unled(part) if isinstance(part, ReplyHead) else part for part in super().results(data)]

    def failed(self, error: Exception) -> Said:
        """The gateway's own answer where something could not go on."""
        if isinstance(error, NotAdmitted) and error.reason is Reason.UNMASKABLE:
            content = reads_as(self.asking.call, self.asking.service) == "content"
            return errors.withheld(_protocol_of(self), self.reader.status, error, content=content)
        return errors.failed(_protocol_of(self), error)

    def refuse(self, proof: Denied) -> Iterator[Any]:
        """The gateway's own answer to what was refused, as the service would write it."""
        self._goes(Event.REFUSE)
        self.closes = self.closes or not self.body.is_done
        refusal = proof.refusal
        objection = refusal.operation.facts.objection
        protocol = _protocol_of(self)
        status, code = (403, "AccessDenied") if objection is None else errors.code_of(objection.code)
        if self._ticket is not None:
            status, code = 503, "ApprovalPending"
        elif objection is None and protocol == "ec2":
            code = "UnauthorizedOperation"
        text = ". ".join(each.rstrip(".") for each in (refusal.grounds.message, refusal.grounds.hint) if each)
        said = errors.answer(protocol, status, code, text, proof.entry)
        yield said.head
        if self.head.method != b"HEAD":
            yield said.body
        self._goes(Event.END)
        yield ReplyEnd()


def _unled(head: ReplyHead) -> ReplyHead:
    """A head that does not say where a redirect leads."""
    if not 300 <= head.status < 400:
        return head
    return head.with_headers(tuple([header for header in head.headers if header[0].lower() != b"location"]))


def _protocol_of(relay: AwsRelay) -> str:
    return relay.asking.protocol or errors.format_of(relay.head)


def without_secrets(raw: bytes) -> bytes:
    """A request's head for the record: every byte of it but the caller's credentials."""
    return _SECRETS.sub(lambda found: (found[1] or found[3]) + (found[2] or found[4]) + b"[credential]", raw)
