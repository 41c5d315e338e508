"""What goes over a channel, in the words of RFC 4254, 5.2 and 6, without the channel's number: one channel is one relay.

asyncssh carries the transport, authentication and channel windows (RFC 4253, 4252, and 5 of 4254). What it hands over is written
down in these messages, so a channel is bytes to the path as any other protocol's session is, and a recording is made of them.

    byte 94   string data                          SSH_MSG_CHANNEL_DATA
    byte 95   uint32 code, string data             SSH_MSG_CHANNEL_EXTENDED_DATA (code 1: stderr)
    byte 96                                        SSH_MSG_CHANNEL_EOF
    byte 97                                        SSH_MSG_CHANNEL_CLOSE
    byte 98   string type, boolean FALSE, …        SSH_MSG_CHANNEL_REQUEST
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from ostiary.model.errors import Misdeed, PeerMisbehaved

DATA, EXTENDED, EOF, CLOSE, REQUEST = 94, 95, 96, 97, 98
STDERR: Final = 1
MAX_STRING: Final = 1 << 20
"""Bytes of one string: above any packet (asyncssh takes 256 KiB)."""
_DATA_HEAD: Final = 5
_SHORT: Final = 4096
_U32: Final = struct.Struct("!I")


class Data(msgspec.Struct, frozen=True):
    """Bytes on the channel; `code` 0 is the stream itself, 1 stderr."""

    data: bytes
    code: int = 0


class Eof(msgspec.Struct, frozen=True):
    """Nothing more will come from that side."""


class Close(msgspec.Struct, frozen=True):
    """The channel is over."""


class Request(msgspec.Struct, frozen=True):
    """A channel request: `exec`, `pty-req`, `exit-status`, …; `body` is what its type defines."""

    name: str
    body: bytes


Message = Data | Eof | Close | Request


def string(value: bytes) -> bytes:
    """RFC 4251, 5: `string`."""
    return _U32.pack(len(value)) + value


def u32(value: int) -> bytes:
    """RFC 4251, 5: `uint32`."""
    return _U32.pack(value & 0xFFFFFFFF)


def data_head(length: int, code: int) -> bytes:
    """All of a data message that stands before its bytes."""
    return (bytes([DATA]) if not code else bytes([EXTENDED]) + u32(code)) + u32(length)


def encode(message: Message) -> bytes:
    """Write a message."""
    match message:
        case Data(data, code):
            return data_head(len(data), code) + data
        case Eof():
            return bytes([EOF])
        case Close():
            return bytes([CLOSE])
        case Request(name, body):
            return request_head(name, len(body)) + body


def request_head(name: str, length: int) -> bytes:
    """All of a request that stands before its body."""
    return bytes([REQUEST]) + string(name.encode()) + b"\0" + u32(length)


def request(name: str, *parts: bytes) -> bytes:
    """Write a request whose body is these strings."""
    return encode(Request(name, b"".join(string(part) for part in parts)))


def decode(wire: bytes) -> Iterator[Message]:
    """Read whole messages, to the last byte. Raises `PeerMisbehaved` for anything else."""
    whole = alone(wire)
    return _decode(wire) if whole is None else iter((Data(bytes(whole)),))


def alone(wire: bytes) -> bytes | memoryview | None:
    """The bytes of a data message, where nothing else is there: what flows is little else, so much of it is not copied."""
    if len(wire) >= _DATA_HEAD and wire[0] == DATA and int.from_bytes(wire[1:_DATA_HEAD], "big") == len(wire) - _DATA_HEAD <= MAX_STRING:
        return memoryview(wire)[_DATA_HEAD:] if len(wire) > _SHORT else wire[_DATA_HEAD:]
    return None


def _decode(wire: bytes) -> Iterator[Message]:
    reader = Reader(wire)
    while not reader.is_done:
        kind = reader.byte()
        match kind:
            case 94:
                yield Data(reader.string())
            case 95:
                code = reader.u32()
                if code != STDERR:
                    raise PeerMisbehaved(Misdeed.BAD_FIELD, "extended data")
                yield Data(reader.string(), code)
            case 96:
                yield Eof()
            case 97:
                yield Close()
            case 98:
                name = reader.text()
                if reader.byte():
                    raise PeerMisbehaved(Misdeed.BAD_FIELD, "want reply")
                yield Request(name, reader.string())
            case _:
                raise PeerMisbehaved(Misdeed.UNKNOWN_TAG, str(kind))


class Reader:
    """Fields of RFC 4251, 5, one after another; what is not there is the peer's misdeed."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    @property
    def is_done(self) -> bool:
        """Whether every byte was read."""
        return self.at == len(self._data)

    def take(self, size: int) -> bytes:
        """Read so many bytes."""
        end = self.at + size
        if size < 0 or end > len(self._data):
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a field is cut")
        found = self._data[self.at : end]
        self.at = end
        return found

    def byte(self) -> int:
        """`byte`."""
        return self.take(1)[0]

    def u32(self) -> int:
        """`uint32`."""
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        """`uint64`."""
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        """`string`."""
        size = self.u32()
        if size > MAX_STRING:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a string")
        return self.take(size)

    def text(self) -> str:
        """`string` of UTF-8."""
        try:
            return self.string().decode()
        except UnicodeDecodeError:
            raise PeerMisbehaved(Misdeed.BAD_TEXT, "a string") from None

    def rest(self) -> bytes:
        """Whatever is left."""
        return self.take(len(self._data) - self.at)

    def end(self) -> None:
        """Nothing may be left."""
        if not self.is_done:
            raise PeerMisbehaved(Misdeed.TRAILING_BYTES)
