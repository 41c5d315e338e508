"""WebSocket frames (RFC 6455, 5), read strictly; a message is handed out once it is whole.

Nothing is negotiated, so the reserved bits are zero, and whatever two readers could take for two things is no frame: lengths that are not
written in the shortest way, control frames that are fragmented or long, a message begun inside another, text that is not UTF-8, a close
that says half of a code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.results import SocketMessage

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_KNOWN: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
MAX_CONTROL: Final = 125
"""Bytes of a control frame: RFC 6455, 5.5."""
MAX_FRAGMENTS: Final = 4096
"""Frames that one message may come in."""


class FrameReader:
    """Reads what one side sends. `masked`: it is the client, whose frames are masked (5.3)."""

    def __init__(self, *, masked: bool, most: int) -> None:
        """`most`: bytes of a message."""
        self._masked = masked
        self._most = most
        self._held = bytearray()
        self._kind = CONTINUATION
        """Of the message that is begun; CONTINUATION: none is."""
        self._pieces: list[bytes] = []
        self._size = 0
        self.is_closed = False
        """It has said goodbye: what follows is not looked at."""

    def feed(self, data: bytes) -> Iterator[SocketMessage]:
        """Take bytes in. Raises `PeerMisbehaved`."""
        if self.is_closed:
            return
        self._held += data
        while not self.is_closed and (found := self._frame()) is not None:
            message = self._take(*found)
            if message is not None:
                self.is_closed = message.opcode == CLOSE
                yield message

    def _frame(self) -> tuple[int, bool, bytes] | None:
        """The next frame: (opcode, whether it ends its message, payload); None: more is to come."""
        held = self._held
        if len(held) < 2:
            return None
        first, second = held[0], held[1]
        opcode, ends, short = first & 0x0F, bool(first & 0x80), second & 0x7F
        if first & 0x70 or opcode not in _KNOWN:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a WebSocket frame with a reserved bit or opcode")
        if bool(second & 0x80) is not self._masked:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a WebSocket frame that is not masked" if self._masked else "a masked WebSocket frame")
        if opcode >= CLOSE and (not ends or short > MAX_CONTROL):
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a WebSocket control frame that is long or fragmented")
        wide = {126: 2, 127: 8}.get(short, 0)
        start = 2 + wide + (4 if self._masked else 0)
        if len(held) < 2 + wide:
            return None
        length = int.from_bytes(held[2 : 2 + wide], "big") if wide else short
        if wide and length < (126 if wide == 2 else 65_536):
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a WebSocket frame whose length is not written shortly")
        if opcode < CLOSE and self._size + length > self._most:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"a WebSocket message of more than {self._most} bytes")
        if len(held) < start + length:
            return None
        payload = bytes(held[start : start + length])
        if self._masked:
            payload = unmasked(payload, bytes(held[start - 4 : start]))
        del held[: start + length]
        return opcode, ends, payload

    def _take(self, opcode: int, ends: bool, payload: bytes) -> SocketMessage | None:
        if opcode >= CLOSE:
            if opcode == CLOSE:
                check_close(payload)
            return SocketMessage(opcode, payload)
        if (opcode == CONTINUATION) is (self._kind == CONTINUATION):
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "a WebSocket frame that belongs to no message, or begins one inside another")
        self._kind = opcode or self._kind
        self._pieces.append(payload)
        self._size += len(payload)
        if len(self._pieces) > MAX_FRAGMENTS:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"a WebSocket message in more than {MAX_FRAGMENTS} frames")
        if not ends:
            return None
        whole, kind = b"".join(self._pieces), self._kind
        self._pieces, self._size, self._kind = [], 0, CONTINUATION
        if kind == TEXT:
            check_text(whole)
        return SocketMessage(kind, whole)


def check_text(data: bytes) -> None:
    """Raise `PeerMisbehaved` where it is not UTF-8: RFC 6455, 8.1."""
    try:
        data.decode()
    except UnicodeDecodeError:
        raise PeerMisbehaved(Misdeed.BAD_TEXT, "a WebSocket message") from None


def check_close(payload: bytes) -> None:
    """Raise `PeerMisbehaved` for a close that says half of a code, one that nobody may send (7.4), or a reason that is no text."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    is_known = code in range(1000, 1004) or code in range(1007, 1015) or code in range(3000, 5000)
    if len(payload) == 1 or not is_known:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "a WebSocket close with a code that nobody may send")
    check_text(payload[2:])


def unmasked(payload: bytes, key: bytes) -> bytes:
    """Payload and masking key laid over each other, which is its own inverse: RFC 6455, 5.3."""
    size = len(payload)
    laid = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(laid, "little")).to_bytes(size, "little")


def frame(opcode: int, payload: bytes, key: bytes = b"") -> bytes:
    """One whole message in one frame. `key`: it goes to a server, masked with these four bytes."""
    size, bit = len(payload), 0x80 if key else 0
    if size < 126:
        head = bytes((0x80 | opcode, bit | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, bit | 127)) + size.to_bytes(8, "big")
    return head + key + unmasked(payload, key) if key else head + payload


def close(code: int) -> bytes:
    """The payload of a close."""
    return code.to_bytes(2, "big")
