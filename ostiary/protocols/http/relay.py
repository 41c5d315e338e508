"""One exchange: a request, what is decided about it, and its answer. Sans-io; it never decides, sends or records anything itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ostiary.model.approvals import Ticket
from ostiary.model.commands import Order
from ostiary.model.connections import HttpConnection
from ostiary.model.decisions import NeedsApproval, Permit
from ostiary.model.duties import Duties
from ostiary.model.errors import Misdeed, NotAdmitted, OstiaryError, PeerMisbehaved
from ostiary.model.operations import Facts, Objection, Operation, Unjudgeable
from ostiary.model.proofs import HTTP_HEAD, SOCKET, Denied, Intended, Masked, Outcome, Recorded
from ostiary.model.results import ReplyEnd, ReplyHead
from ostiary.protocols.http import encode, refusals
from ostiary.protocols.http.decode import BodyReader, request_framing
from ostiary.protocols.http.encode import length_line
from ostiary.protocols.http.login import recorded_head, without_secrets
from ostiary.protocols.http.messages import EMPTY, PASSING, Framing, RequestHead
from ostiary.protocols.http.operations import (
    MAX_JUDGED,
    Judged,
    Understanding,
    is_grpc,
    lines_passed_on,
    named_hop_by_hop,
    not_grpc,
    objected,
    passed_on,
    with_body,
)
from ostiary.protocols.http.paths import Ambiguous
from ostiary.protocols.http.places import placed
from ostiary.protocols.http.results import Part, ReplyReader
from ostiary.protocols.http.states import ANSWERED, BODY, END, HEAD, JUDGING, SEND, Event, Phase, turn
from ostiary.protocols.http.upgrade import Socket, socket_of
from ostiary.protocols.relay import as_it_stands

MAX_SMALL: Final = 64 * 1024
"""Bytes of a body that stand in the record's statement; the rest of a larger one is recorded as it streams in."""
_CODES: Final = ("", *map(str, range(1, 1000)))
"""Status codes as the log writes them; none of one that did not come."""
_KEY: Final = re.compile(rb"Sec-WebSocket-Key: [^\r]*\r\n")
"""New in each handshake, so no approval is bound to it."""


class Asked(msgspec.Struct, frozen=True):
    """A request that people are asked about."""

    shown: Operation
    """As they see it, without the caller's secrets."""
    state: bytes
    """Stands for all of it, secrets too."""
    operation: Operation
    """As it runs after a yes."""


class HttpRelay:
    """One request and its answer."""

    def __init__(self, head: RequestHead, understanding: Understanding, fault: str = "") -> None:
        """`fault`: why the head is no request that can be passed on, where that was seen before."""
        self.head = head
        self.connection: HttpConnection = understanding.connection
        self.phase: Phase = JUDGING
        self.under: Intended | None = None
        self.reader = ReplyReader(self.head.method)
        self.rest = b""
        """What the client sent behind this request."""
        self.closes = not self.head.persists
        """The client's connection ends with this exchange."""
        self._judged: Judged
        self._framing = EMPTY
        self._named: frozenset[bytes] = frozenset()
        self._held: list[bytes] = []
        """Of the body: heard, and not sent."""
        self._ticket: Ticket | None = None
        self._socket: Socket | None = None
        self._messages = 0
        self._counts: dict[str, int] | None = None
        self._sent = 0
        self._chunked = False
        self._room: int | None = None
        """Bytes of a body that the head which went out has room for; None: it is chunked."""
        self.bug: Exception | None = None
        """What went wrong in the gateway itself while it judged the request: it is refused."""
        self.is_answered = False
        """The answer is whole."""
        try:
            if fault:
                raise Ambiguous(fault)  # noqa: TRY301 - the same way out as for the faults that are found here
            self._socket = self._read(head, understanding)
        except (PeerMisbehaved, Ambiguous) as exc:
            self._judged = _unreadable(head, str(exc))
            self._framing, self.closes, self._socket = EMPTY, True, None
        except Exception as exc:  # noqa: BLE001 - whatever it is, the request is refused and on record
            self._judged = self._unjudged(exc)
            self._framing, self._socket = EMPTY, None
        self.reader.socket = self._socket
        if self._socket is not None:
            self.closes = True  # whatever came behind the handshake is of a WebSocket, or nothing
        self.body = BodyReader(self._framing)
        if self._framing.length is not None and self._framing.length > self.connection.max_request_bytes:
            self._too_large()

    def _read(self, head: RequestHead, understanding: Understanding) -> Socket | None:
        """What the head says, and the WebSocket that it asks for. Of the very head that was read last, by the same understanding, that is known.

        Raises `PeerMisbehaved` and `Ambiguous`.
        """
        fields = head.fields
        kept = fields.judged
        if kept is not None and kept[0] is head.raw and kept[1] is understanding:
            self._framing, self._named, self._judged = kept[2], kept[3], kept[4]
            return None
        self._framing = request_framing(head)
        self._named = named_hop_by_hop(fields)
        socket = socket_of(head, self._framing, self.connection.max_message_bytes)
        self._judged = understanding.judge(head, socket is not None)
        if socket is None and isinstance(understanding, Understanding):
            if not self._framing.is_empty and is_grpc(head):
                self._judged = not_grpc(head)
            fields.judged = head.raw, understanding, self._framing, self._named, self._judged
        return socket

    def _goes(self, event: Event) -> None:
        """It is at its next phase. Raises `PeerMisbehaved` where it is not the time for that."""
        self.phase = turn(self.phase, event)
        self.is_answered = self.phase is ANSWERED

    def _unjudged(self, bug: Exception) -> Judged:
        """Judging failed: the request is refused on record, as one that nobody could read."""
        self.bug, self.closes = bug, True
        said = "the gateway cannot judge this request"
        facts = objected(self.head.method.decode("ascii", "replace"), Unjudgeable.UNSUPPORTED, said, "500")
        return Judged(None, facts, wants_body=False)

    def give_up(self, why: Exception) -> None:
        """It cannot be decided, for a misdeed of the client's or a fault of ours: it is refused as one that nobody could read."""
        if isinstance(why, PeerMisbehaved):
            self._judged, self.closes = _unreadable(self.head, str(why)), True
        elif isinstance(why, OstiaryError):
            said = str(why) if isinstance(why, NotAdmitted) else "nothing could be decided"
            facts = objected(self.head.method.decode("ascii", "replace"), Unjudgeable.UNSUPPORTED, said, "503")
            self._judged, self.closes = Judged(None, facts, wants_body=False), True
        else:
            self._judged = self._unjudged(why)

    def _too_large(self) -> None:
        said = f"the body is larger than {self.connection.max_request_bytes} bytes"
        facts = objected(self.head.method.decode("ascii"), Unjudgeable.OVERSIZE, said, "413")
        self._judged, self.closes = Judged(self._judged.target, facts, wants_body=False), True

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body; one of HTTP/1.0 does not: RFC 9110, 10.1.1."""
        return self.head.minor > 0 and any(value.lower() == b"100-continue" for value in self.head.fields.all(b"expect"))

    # --- the request ---

    def heard(self, data: bytes) -> None:
        """Take in more of the request's body. Raises `PeerMisbehaved`, but not before it is decided: then that is a refusal."""
        try:
            self._hear(data)
        except PeerMisbehaved as exc:
            if self.phase is not JUDGING:
                raise
            self._judged, self.closes = _unreadable(self.head, str(exc)), True
            self._held.append(data[:MAX_SMALL])
        except Exception as exc:
            if self.phase is not JUDGING:
                raise
            self._judged = self._unjudged(exc)

    def _hear(self, data: bytes) -> None:
        self._held += self.body.take(data)
        self.rest = self.body.rest
        limit = self.connection.max_request_bytes
        if self.body.size > limit:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"a body of more than {limit} bytes")

    @property
    def is_whole(self) -> bool:
        """Whether all of the request is here."""
        return self.body.is_done

    @property
    def is_long(self) -> bool:
        """Whether so much of it is here that nobody is shown it any more."""
        return self.body.size > MAX_SMALL

    def is_ready(self) -> bool:
        """Whether enough of the request is here to decide it."""
        return not self._judged.wants_body or self.body.is_done or self.body.size > MAX_JUDGED

    def operation(self) -> Operation:
        """The request, as policy sees it: head, and body as far as it is here. Whatever goes wrong here is a refusal."""
        try:
            return self._operation()
        except Exception as exc:  # noqa: BLE001 - as above
            self._judged = self._unjudged(exc)
            return Operation(self._judged.facts, recorded_head(self.head), None, b"")

    def _operation(self) -> Operation:
        fields, judged = self.head.fields, self._judged
        kept = fields.operation
        plain = self._framing.is_empty and self._socket is None and not self._held
        if plain and kept is not None and kept[0] is self.head.raw and kept[1] is judged:
            self._room = 0
            return kept[2]
        facts = self._facts()
        wire = b""
        body = b"".join(self._held)
        if facts.objection is None:
            wire = self._wire(body)
        small = body if len(body) <= MAX_SMALL or self.body.is_done else body[:MAX_SMALL]
        made = Operation(facts, recorded_head(self.head) + small, None, wire)
        if plain and wire:
            fields.operation = self.head.raw, judged, made
        return made

    def _facts(self) -> Facts:
        if not self._judged.wants_body or self._framing.is_empty:
            return self._judged.facts
        return with_body(self._judged, self.head, b"".join(self._held) if self.body.is_done else None)

    def lesser(self, operation: Operation) -> Operation | None:
        """What an operation would be without something that policy can have taken out of it; None: it stands or falls whole."""
        del operation
        return None

    def obey(self, permit: Permit | NeedsApproval, duties: Duties) -> Operation | Objection:
        """The operation as `duties` demand it; the permit's own, if it is so already."""
        return as_it_stands(permit, duties)

    def asked(self, operation: Operation) -> Asked:
        """What people are asked of a request that is here whole: what the service would be sent, but for what is new each time."""
        wire = self._wire(b"".join(self._held), lasting=True)
        bound = _KEY.sub(b"", wire, count=1) if self._socket is not None else wire
        head, _, body = bound.partition(b"\r\n\r\n")
        shown = without_secrets(head.replace(b"\r\n", b"\n")) + b"\n\n" + body
        return Asked(
            Operation(operation.facts, shown, None, wire),
            hashlib.sha256(bound).digest(),
            Operation(operation.facts, operation.statement, None, wire),
        )

    def waits_for(self, ticket: Ticket) -> None:
        """The refusal that follows names a question: the request can be repeated."""
        self._ticket = ticket

    def _wire(self, body: bytes, lasting: bool = False) -> bytes:
        """What goes to the service: written from what was judged. `lasting`: without what a client writes anew each time."""
        head = self.head
        if not self._judged.place:
            raise AssertionError("a request without a target is objected to")
        reading = head.method in (b"GET", b"HEAD")
        if lasting:
            kept = [each for each in passed_on(head, self.connection, self._named, reading=reading) if each[0].lower() not in PASSING]
            fields = encode.field_lines([(b"Host", self.connection.upstream.host_header.encode()), *kept])
        else:
            fields = lines_passed_on(head, self.connection, self._named, reading)
        if self._socket is not None:
            fields += encode.field_lines(self._socket.headers)
        framing = self._framing
        if self.body.is_done and not framing.is_empty:
            framing = Framing(self.body.size, chunked=False, until_close=False)
        made = encode.request_head(head.method, self._judged.place, fields, framing)
        self._room = None if framing.chunked else (framing.length or 0) - len(body)
        return made + (encode.chunk(body) if framing.chunked and body else body)

    def order(self, proof: Intended) -> Order:
        """What goes to the service under that proof: the very bytes that were judged."""
        self._goes(SEND)
        self.under = proof
        self._held.clear()
        return Order((proof,), proof.permit.operation.wire)

    def refuse(self, proof: Denied) -> Iterator[Part]:
        """The gateway's own answer to what was refused."""
        self._goes(Event.REFUSE)
        self.closes = self.closes or not self.body.is_done
        said = refusals.refused(proof.refusal, proof.entry, self._ticket)
        yield said.head
        if self.head.method != b"HEAD":
            yield said.body
        self._goes(END)
        yield ReplyEnd()

    def failed(self, error: Exception) -> refusals.Said:
        """The gateway's own answer where something could not go on."""
        return refusals.failed(error)

    def is_sent(self) -> bool:
        """Whether all of the request went to the service. Of a WebSocket there is always more to come."""
        return self.body.is_done and not self._held and (self._socket is None or self._socket.is_refused)

    def is_open(self) -> bool:
        """Whether it is a WebSocket that both agreed to."""
        return self._socket is not None and self._socket.is_open

    def takes_more(self) -> bool:
        """Whether what the client sends now belongs to this exchange."""
        return not self.body.is_done or self.is_open()

    def goodbye(self, failure: BaseException) -> tuple[bytes, bytes]:
        """What ends an open WebSocket at once: (to the client, to the service)."""
        return (b"", b"") if self._socket is None else self._socket.goodbye(failure)

    def streamed(self, data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
        """More of the body, under the intent of its head: (what is recorded, what is sent, whether the body ends with it)."""
        if self._socket is not None:
            self._goes(Event.STREAM)
            for said, wire in self._socket.from_client(data):
                yield said, wire, False
            return
        self.heard(data)
        self._goes(Event.STREAM)
        held, self._held = self._held, []
        chunked = self._framing.chunked
        for number, piece in enumerate(held, 1):
            wire = encode.chunk(piece) if chunked else self._within(piece)
            yield piece, wire, self.body.is_done and not chunked and number == len(held)
        if chunked and self.body.is_done:
            yield b"", encode.LAST_CHUNK, True

    def _within(self, wire: bytes) -> bytes:
        """`wire`, as long as the length that went out has room for it: what is longer would be another request. Raises `PeerMisbehaved`."""
        if self._room is not None:
            self._room -= len(wire)
            if self._room < 0:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "the content is longer than it says")
        return wire

    # --- the answer ---

    def results(self, data: bytes) -> Iterable[Part]:
        """Take in what the service sends. Raises `PeerMisbehaved`."""
        return self._turned(self.reader.feed(data))

    def closed(self) -> Iterable[Part]:
        """The service has closed its end. Raises `PeerMisbehaved` if the answer is not whole."""
        return self._turned(self.reader.close())

    def _turned(self, parts: Iterable[Part]) -> Iterable[Part]:
        """What is said in a WebSocket comes one by one: behind a message that must not leave, nothing is heard any more."""
        if self._socket is not None:
            return map(self._turn, parts)
        turned: list[Part] = []
        for part in parts:
            turned.append(self._turn(part))  # noqa: PERF401 - no closure: it is typed where it is compiled
        return turned

    def _turn(self, part: Part) -> Part:
        if isinstance(part, ReplyHead):
            self._goes(HEAD)
            return self._placed(part)
        self._goes(END if type(part) is ReplyEnd else BODY)
        return part

    def _placed(self, part: ReplyHead) -> ReplyHead:
        """The head, with things where the client finds them; kept with the fields, as it hangs on nothing that is new in each answer."""
        below, upstream, fields = self._judged.below, self.connection.upstream, self.reader.fields
        if not below:
            return part
        if fields is None or fields.end_to_end is not part.headers:
            return placed(part, below, upstream)
        kept = fields.placed
        if kept is not None and kept[2] is part and kept[0] == below and kept[1] is upstream:
            return kept[3]
        found = placed(part, below, upstream)
        fields.placed = below, upstream, part, found
        return found

    def masked(self, masked: Masked) -> None:
        """Count what masking did."""
        if masked.counts:
            if self._counts is None:
                self._counts = {}
            for name, number in masked.counts:
                self._counts[name] = self._counts.get(name, 0) + number
        if masked.content is SOCKET:
            self._messages += 1
        if masked.content is not HTTP_HEAD:
            self._sent += len(masked.frames)

    def framed(self, recorded: Recorded, length: int | None, is_head: bool, has_body: bool) -> bytes:
        """What the client's connection carries: framing is this hop's own, so it comes last. RFC 9112, 6 and 9.3."""
        if not is_head:
            return encode.chunk(recorded.frames) if self._chunked and recorded.frames else recorded.frames
        head: bytes = recorded.frames
        if self.is_open():
            return head + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        if has_body and length is None:
            if self.head.minor and self.head.method != b"HEAD":
                self._chunked = True
                head += b"Transfer-Encoding: chunked\r\n"
            else:
                self.closes = True
        elif length is not None:
            head += length_line(length)
        if self.closes or (self.is_answered and not self.body.is_done):
            head += b"Connection: close\r\n"
        elif not self.head.minor:
            head += b"Connection: keep-alive\r\n"
        return head + b"\r\n"

    def ending(self) -> bytes:
        """What ends the body on the client's connection."""
        return encode.LAST_CHUNK if self._chunked else b""

    def outcome(self, status: str = "", error: str = "") -> Outcome | None:
        """How it ended; None where nothing was intended."""
        if self.under is None:
            return None
        code = self.reader.status
        failed = code >= 400
        said = _CODES[code]
        masked = tuple(sorted(self._counts.items())) if self._counts else ()
        status = status or ("error" if failed else "ok")
        error = error or (said if failed else "")
        return Outcome(self.under, status, said, self._messages, self._sent, error, "", masked, ())


def _unreadable(head: RequestHead, why: str) -> Judged:
    return Judged(None, objected(head.method.decode("ascii"), Unjudgeable.UNPARSABLE, why, "400"), wants_body=False)

