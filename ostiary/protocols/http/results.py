"""What a service sends back, as masking sees it: a head, pieces of a body, its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.results import ReplyEnd, ReplyHead, SocketMessage
from ostiary.protocols.http.decode import BodyReader, read_response, response_framing
from ostiary.protocols.http.messages import HOP_BY_HOP, Fields, Framing, Header, Heads, ResponseHead
from ostiary.protocols.http.upgrade import Socket

Part = ReplyHead | bytes | SocketMessage | ReplyEnd
WHOLE: Final = ReplyEnd()
MAX_INTERIM: Final = 16
"""Heads of 1xx before the answer."""


class ReplyReader:
    """Reads one answer, from the first byte behind the request that it belongs to."""

    __slots__ = ("_body", "_held", "_interim", "_method", "fields", "heads", "is_done", "keeps", "socket", "status")

    def __init__(self, method: bytes) -> None:
        self._method = method
        self.socket: Socket | None = None
        """What was asked for, if a WebSocket was."""
        self.heads: Heads | None = None
        """Heads that this service has sent before, if they are kept."""
        self.fields: Fields | None = None
        """Of the answer's head."""
        self._held = b""
        self._body: BodyReader | None = None
        self._interim = 0
        self.is_done = False
        self.keeps = False
        """Once it is done: the connection can be used again, and nothing lies in it."""
        self.status = 0

    def feed(self, data: bytes) -> Iterable[Part]:
        """Take bytes in. Raises `PeerMisbehaved`."""
        if self.socket is not None and self.socket.is_open:
            return self._socket(self.socket, data)
        parts: list[Part] = []
        body = self._body
        while body is None:
            data = self._held + data if self._held else data
            self._held = b""
            head = read_response(data, self.heads)
            if head is None:
                self._held = data
                return parts
            data = data[head.size :]
            if head.status == 101:
                return self._switched(head, data)
            if head.status < 200:
                self._interim += 1
                if self._interim > MAX_INTERIM:
                    raise PeerMisbehaved(Misdeed.TOO_COSTLY, "interim responses without end")
                continue
            framing = response_framing(head, self._method)
            self._body = body = BodyReader(framing)
            parts.append(self._begin(head, framing))
        if not body.is_done:
            parts += body.take(data)
            data = body.rest
        if body.is_done:
            self.keeps = self.keeps and not data
            self.is_done = True
            parts.append(WHOLE)
        return parts

    @property
    def is_in_head(self) -> bool:
        """Whether a part of a head is here, and the rest is to come."""
        return bool(self._held)

    def _switched(self, head: ResponseHead, data: bytes) -> Iterator[Part]:
        if self.socket is None:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "it switches to a protocol that nobody asked for")
        self.status = head.status
        ours = self.socket.answered(head)
        kept = [header for header in end_to_end(head) if not header[0].lower().startswith(b"sec-websocket-")]
        yield ReplyHead(head.status, (*kept, *ours), has_body=False, length=None, of_read=False)
        yield from self._socket(self.socket, data)

    def _socket(self, socket: Socket, data: bytes) -> Iterator[Part]:
        yield from socket.from_service(data)
        if socket.is_over and not self.is_done:
            self.is_done = True
            yield WHOLE

    def _begin(self, head: ResponseHead, framing: Framing) -> ReplyHead:
        if self.socket is not None:
            self.socket.is_refused = True
        self.status = head.status
        self.fields = head.fields
        self.keeps = head.persists and not framing.until_close
        kept = self.fields.reply
        if kept is not None and kept[0] == self._method and kept[1] is framing:
            found: ReplyHead = kept[2]
            if found.status == head.status:
                return found
        made = ReplyHead(
            head.status,
            end_to_end(head),
            not framing.is_empty,
            self._length(head, framing),
            self._method in (b"GET", b"HEAD"),
        )
        self.fields.reply = self._method, framing, made
        return made

    def _length(self, head: ResponseHead, framing: Framing) -> int | None:
        """What the client may be told of the body's length: nothing of one that cannot be there (RFC 9110, 8.6)."""
        if self._method == b"HEAD":
            return declared_length(head)
        return None if head.status in (204, 304) else framing.length

    def close(self) -> Iterable[Part]:
        """The service has closed its end. Raises `PeerMisbehaved` if the answer is not whole."""
        self.keeps = False
        if self.socket is not None and self.socket.is_open:
            self.is_done = True
            return (*self.socket.lost(), WHOLE)
        if self._body is None:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "it closed the connection without an answer")
        self._body.close()
        if self.is_done:
            return ()
        self.is_done = True
        return (WHOLE,)


def declared_length(head: ResponseHead) -> int | None:
    """What an answer to HEAD says that the one to GET would hold; it was read strictly before."""
    found = head.fields.all(b"content-length")
    return int(found[0]) if found else None


def end_to_end(head: ResponseHead) -> tuple[Header, ...]:
    """The header fields that are not of one hop, nor of framing."""
    fields = head.fields
    if fields.end_to_end is not None:
        return fields.end_to_end
    named = fields.options
    kept: list[Header] = []
    for header in fields.headers:
        name = header[0].lower()
        if name not in _OURS and name not in named:
            kept.append(header)
    fields.end_to_end = tuple(kept)
    return fields.end_to_end


_OURS: Final = HOP_BY_HOP | {b"content-length", b"alt-svc"}
"""Of one hop, or of framing, or an address that is not ours."""
