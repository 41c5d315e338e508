"""WebSockets: how one is asked for and answered (RFC 6455, 4), and what each side says in it.

The handshake is judged as an operation like any request. It offers no extension, so no message is compressed or otherwise disguised; the
answer is a WebSocket only if it says so in every way that it must, else it is an ordinary answer, and nothing that the client
sends is ever taken for frames. Each message is read whole, and goes on in one frame of our own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from typing import Final

from ostiary.kernel.websocket import CLOSE, FrameReader, close, frame
from ostiary.model.errors import Misdeed, NotAdmitted, PeerMisbehaved, Reason
from ostiary.model.results import SocketMessage
from ostiary.protocols.http.messages import Framing, Header, RequestHead, ResponseHead, sole, values
from ostiary.protocols.http.paths import Ambiguous

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PROTOCOLS: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+){0,15}")
_CODES: Final = {Misdeed.BAD_TEXT: 1007, Misdeed.TOO_COSTLY: 1009}
"""How a misdeed is told to whoever did it; any other is 1002, a protocol error."""
GOING: Final = 1001
NOT_ALLOWED: Final = 1008
FAILED: Final = 1011


def socket_of(head: RequestHead, framing: Framing, most: int) -> Socket | None:
    """The WebSocket that a request asks for; None: it asks for none. Raises `Ambiguous` where it asks in another way than one."""
    fields = head.fields
    if fields.asks_no_socket:
        return None
    upgrades = [name.strip().lower() for value in fields.all(b"upgrade") for name in value.split(b",")]
    if b"websocket" not in upgrades and not fields.names(b"sec-websocket-"):
        fields.asks_no_socket = True
        return None
    options = [name.strip().lower() for value in values(head.headers, b"connection") for name in value.split(b",")]
    key = sole(head.headers, b"sec-websocket-key")
    asks = upgrades == [b"websocket"] and b"upgrade" in options and head.method == b"GET" and head.minor == 1
    if not asks or not framing.is_empty or key is None or sole(head.headers, b"sec-websocket-version") != b"13":
        raise Ambiguous("WebSockets are asked for as RFC 6455 says, in version 13, or not at all")
    try:
        is_key = len(base64.b64decode(key, validate=True)) == 16 and len(key) == 24
    except binascii.Error:
        is_key = False
    offered = b", ".join(values(head.headers, b"sec-websocket-protocol"))
    if not is_key or (offered and _PROTOCOLS.fullmatch(offered) is None):
        raise Ambiguous("a WebSocket's key or protocol cannot be read")
    return Socket(key, tuple(name.strip() for name in offered.split(b",")) if offered else (), most)


class Socket:
    """One WebSocket, from its handshake on."""

    def __init__(self, key: bytes, protocols: tuple[bytes, ...], most: int) -> None:
        self._key = key
        self._protocols = protocols
        self._client = FrameReader(masked=True, most=most)
        self._service = FrameReader(masked=False, most=most)
        self._sent = 0
        self.salt = b""
        """Secret bytes that the driver gives it: masking keys towards the service are made from them."""
        self._at_fault = GOING, GOING
        """What client and service are told if it ends now."""
        self.is_open = False
        self.is_refused = False
        """The service's answer was an ordinary one."""

    @property
    def headers(self) -> list[Header]:
        """What asks the service for it."""
        asked = [
            (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13"), (b"Sec-WebSocket-Key", self._key),
        ]  # fmt: skip
        return [*asked, (b"Sec-WebSocket-Protocol", b", ".join(self._protocols))] if self._protocols else asked

    def answered(self, head: ResponseHead) -> tuple[Header, ...]:
        """Open it; what the client is told of the handshake. Raises `PeerMisbehaved` unless the service agreed to just this."""
        upgrades = [value.lower() for value in values(head.headers, b"upgrade")]
        options = [name.strip().lower() for value in values(head.headers, b"connection") for name in value.split(b",")]
        accept = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest())
        agreed = upgrades == [b"websocket"] and b"upgrade" in options and sole(head.headers, b"sec-websocket-accept") == accept
        if not agreed or values(head.headers, b"sec-websocket-extensions"):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "an answer that agrees to another WebSocket than was asked for")
        chosen = values(head.headers, b"sec-websocket-protocol")
        if len(chosen) > 1 or (chosen and chosen[0] not in self._protocols):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a WebSocket protocol that was not offered")
        self.is_open = True
        return ((b"Sec-WebSocket-Accept", accept), *((b"Sec-WebSocket-Protocol", each) for each in chosen))

    @property
    def is_over(self) -> bool:
        """Whether both have said goodbye."""
        return self._client.is_closed and self._service.is_closed

    def from_client(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What the client says: (as it is recorded, as it is sent). Raises `PeerMisbehaved`."""
        try:
            for message in self._client.feed(data):
                yield frame(message.opcode, message.data), frame(message.opcode, message.data, self._mask())
        except PeerMisbehaved as exc:
            self._at_fault = _CODES.get(exc.why, 1002), GOING
            raise

    def from_service(self, data: bytes) -> Iterator[SocketMessage]:
        """What the service says. Raises `PeerMisbehaved`."""
        try:
            yield from self._service.feed(data)
        except PeerMisbehaved as exc:
            self._at_fault = FAILED, _CODES.get(exc.why, 1002)
            raise

    def lost(self) -> Iterator[SocketMessage]:
        """The service has closed its end; if it did not say goodbye, we say it for it."""
        if not self._service.is_closed:
            self._service.is_closed = True
            yield SocketMessage(CLOSE, close(FAILED))

    def goodbye(self, failure: BaseException) -> tuple[bytes, bytes]:
        """What ends it at once: (to the client, to the service); empty to whom heard a goodbye already."""
        told, asked = self._at_fault
        if isinstance(failure, NotAdmitted) and failure.reason in (Reason.UNMASKABLE, Reason.BUDGET_SPENT):
            told = NOT_ALLOWED
        ours = b"" if self._service.is_closed else frame(CLOSE, close(told))
        theirs = b"" if self._client.is_closed else frame(CLOSE, close(asked), self._mask())
        return ours, theirs

    def _mask(self) -> bytes:
        """A new masking key for each frame, which the client cannot foresee: what it says must not look like a request on the way (RFC 6455, 10.3)."""
        if not self.salt:
            raise AssertionError("a frame without a secret to mask it with")
        self._sent += 1
        return hashlib.sha256(self.salt + self._sent.to_bytes(8, "big")).digest()[:4]
