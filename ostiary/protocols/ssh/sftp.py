"""SFTP version 3 packets: draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL, 4 (its extensions).

Requests are decoded into one shape, `Asking`, and written anew from it, so what goes to the target is what was judged. A decoder
has three outcomes: a packet, "more, please" (`cut` leaves the rest), or `PeerMisbehaved`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.protocols.ssh.messages import Reader, string, u32

VERSION: Final = 3
MAX_PACKET: Final = 256 * 1024
"""Bytes after the length: OpenSSH, sftp-common.h, SFTP_MAX_MSG_LENGTH."""
MAX_HANDLE: Final = 256
"""Draft, 6.2: a handle is at most 256 bytes."""
MAX_PATH: Final = 4096


class Kind(enum.IntEnum):
    """Packet types: draft, 3."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


READ_FLAG, WRITE_FLAG, APPEND_FLAG, CREAT_FLAG, TRUNC_FLAG, EXCL_FLAG = 1, 2, 4, 8, 16, 32
"""Draft, 6.3: pflags."""
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, _, _, OP_UNSUPPORTED = range(9)
"""Draft, 7: status codes."""

_OPENING: Final = (
    (READ_FLAG, "read"), (WRITE_FLAG, "write"), (APPEND_FLAG, "append"), (CREAT_FLAG, "create"), (TRUNC_FLAG, "truncate"), (EXCL_FLAG, "exclusive"),
)  # fmt: skip
PATH_EXTENSIONS: Final = {
    "posix-rename@openssh.com": 2,
    "hardlink@openssh.com": 2,
    "statvfs@openssh.com": 1,
    "lsetstat@openssh.com": 1,
}
"""Extended requests that name paths, and how many."""
HANDLE_EXTENSIONS: Final = frozenset({"fstatvfs@openssh.com", "fsync@openssh.com"})
_EXTENDED: Final = 0x80000000
"""Draft, 5: SSH_FILEXFER_ATTR_EXTENDED."""
_DATA_HEAD: Final = 9
"""Of DATA: type, id, length."""
_VERSION: Final = re.compile(rb"[0-9]{1,8}")
LIMITS: Final = "limits@openssh.com"
EXTENSIONS: Final = frozenset({*PATH_EXTENSIONS, *HANDLE_EXTENSIONS, LIMITS})
"""What of the target's extensions is offered on. `copy-data` is not: it would move content that nobody looked at."""

_ONE_PATH: Final = frozenset(
    {
        Kind.OPEN,
        Kind.LSTAT,
        Kind.SETSTAT,
        Kind.OPENDIR,
        Kind.REMOVE,
        Kind.MKDIR,
        Kind.RMDIR,
        Kind.REALPATH,
        Kind.STAT,
        Kind.READLINK,
    }
)
_TWO_PATHS: Final = frozenset({Kind.RENAME, Kind.SYMLINK})
_HANDLED: Final = frozenset({Kind.CLOSE, Kind.READ, Kind.WRITE, Kind.FSTAT, Kind.FSETSTAT, Kind.READDIR})


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the client's."""

    kind: Kind
    id: int
    extension: str = ""
    paths: tuple[bytes, ...] = ()
    handle: bytes = b""
    offset: int = 0
    length: int = 0
    flags: int = 0
    tail: bytes = b""
    """Attributes, or data to write: the rest of the packet, checked."""


class Response(msgspec.Struct, frozen=True):
    """One reply of the target's, its body not read yet."""

    kind: Kind
    id: int
    body: bytes
    """Of DATA, nothing: what was read is in `content`."""
    content: memoryview | None = None
    """Of DATA: what was read, not copied."""


def cut(buffer: bytearray) -> Iterator[bytes]:
    """Take whole packets off the front of `buffer`: type and what follows. Raises `PeerMisbehaved` for a length out of range."""
    while len(buffer) >= 4:
        size = _size(buffer)
        if len(buffer) < 4 + size:
            return
        with memoryview(buffer) as view:
            packet = bytes(view[4 : 4 + size])
        del buffer[: 4 + size]
        yield packet


def cut_through(buffer: bytearray, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """As `cut`, of `buffer` with `data` behind it; `buffer` keeps what is no whole packet. DATA that lies in `data` as a whole is not copied."""
    view = memoryview(data)
    at, end = 0, len(view)
    if buffer:
        at = min(max(0, 4 - len(buffer)), end)
        buffer += view[:at]
        if len(buffer) < 4:
            return
        missing = 4 + _size(buffer) - len(buffer)
        buffer += view[at : at + missing]
        at += missing
        if at > end:
            return
        with memoryview(buffer) as whole:
            packet = bytes(whole[4:])
        buffer.clear()
        yield packet
    while end - at >= 4:
        size = _size(view[at : at + 4])
        if end - at < 4 + size:
            break
        found = view[at + 4 : at + 4 + size]
        at += 4 + size
        yield found if found[0] == Kind.DATA else bytes(found)
    buffer += view[at:]


def _size(head: bytes | bytearray | memoryview) -> int:
    size = int.from_bytes(head[:4], "big")
    if not 1 <= size <= MAX_PACKET:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "an SFTP packet")
    return size


def packet(kind: Kind, *parts: bytes) -> bytes:
    """Put a packet together, its length in front."""
    body = b"".join(parts)
    return u32(len(body) + 1) + bytes([kind]) + body


def read_request(raw: bytes) -> Asking | None:
    """Decode a request; None: a type or extension that is not known. Raises `PeerMisbehaved`."""
    reader = Reader(raw)
    code = reader.byte()
    try:
        kind = Kind(code)
    except ValueError:
        return None
    if kind is Kind.INIT:
        version = reader.u32()
        reader.rest()  # what the client offers; the draft gives it no meaning
        return Asking(kind=kind, id=version)
    number = reader.u32()
    if kind in _HANDLED:
        return _handled(kind, number, reader)
    if kind in _ONE_PATH or kind in _TWO_PATHS:
        paths = tuple(_path(reader) for _ in range(2 if kind in _TWO_PATHS else 1))
        flags = reader.u32() if kind is Kind.OPEN else 0
        tail = _attributes(reader) if kind in {Kind.OPEN, Kind.SETSTAT, Kind.MKDIR} else b""
        reader.end()
        return Asking(kind=kind, id=number, paths=paths, flags=flags, tail=tail)
    return _extended(number, reader) if kind is Kind.EXTENDED else None


def _handled(kind: Kind, number: int, reader: Reader) -> Asking:
    handle = _handle(reader)
    offset = length = 0
    tail = b""
    if kind is Kind.READ:
        offset, length = reader.u64(), reader.u32()
    elif kind is Kind.WRITE:
        offset, tail = reader.u64(), reader.string()
    elif kind is Kind.FSETSTAT:
        tail = _attributes(reader)
    reader.end()
    return Asking(kind=kind, id=number, handle=handle, offset=offset, length=length, tail=tail)


def _extended(number: int, reader: Reader) -> Asking | None:
    name = reader.text()
    if name not in EXTENSIONS:
        return Asking(kind=Kind.EXTENDED, id=number, extension="")
    paths = tuple(_path(reader) for _ in range(PATH_EXTENSIONS.get(name, 0)))
    handle = _handle(reader) if name in HANDLE_EXTENSIONS else b""
    tail = _attributes(reader) if name == "lsetstat@openssh.com" else b""
    reader.end()
    return Asking(kind=Kind.EXTENDED, id=number, extension=name, paths=paths, handle=handle, tail=tail)


def _handle(reader: Reader) -> bytes:
    handle = reader.string()
    if len(handle) > MAX_HANDLE:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a handle")
    return handle


def _path(reader: Reader) -> bytes:
    path = reader.string()
    if len(path) > MAX_PATH:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a path")
    if b"\0" in path:
        raise PeerMisbehaved(Misdeed.BAD_TEXT, "a path with a NUL byte")
    return path


def _attributes(reader: Reader) -> bytes:
    """Draft, 5. Attributes are checked, and go on as they are."""
    start = reader.at
    flags = reader.u32()
    if flags & ~0x8000000F:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "attribute flags")
    reader.take(8 * bool(flags & 1) + 8 * bool(flags & 2) + 4 * bool(flags & 4) + 8 * bool(flags & 8))
    if flags & 0x80000000:
        for _ in range(min(reader.u32(), 64)):
            reader.string()
            reader.string()
    end, reader.at = reader.at, start
    return reader.take(end - start)


def read_attributes(body: bytes) -> bytes:
    """The attributes of an ATTRS, without what a server adds of its own: that is anything, and nobody looks into it. Raises `PeerMisbehaved`."""
    reader = Reader(body)
    found = _plain(reader)
    reader.end()
    return found


def _plain(reader: Reader) -> bytes:
    attributes = _attributes(reader)
    flags = int.from_bytes(attributes[:4], "big")
    if not flags & _EXTENDED:
        return attributes
    return u32(flags & ~_EXTENDED) + attributes[4 : 4 + 8 * bool(flags & 1) + 8 * bool(flags & 2) + 4 * bool(flags & 4) + 8 * bool(flags & 8)]


def details(asking: Asking) -> tuple[str, ...]:
    """What a request asks for beside its paths, in words: how a file is opened, and the attributes that it sets."""
    found: list[str] = []
    if asking.kind is Kind.OPEN:
        found += [word for flag, word in _OPENING if asking.flags & flag]
    if asking.kind not in {Kind.OPEN, Kind.SETSTAT, Kind.FSETSTAT, Kind.MKDIR} and asking.extension != "lsetstat@openssh.com":
        return ()
    reader = Reader(asking.tail)
    flags = reader.u32()
    if flags & 1:
        found.append(f"size {reader.u64()}")
    if flags & 2:
        found.append(f"owner {reader.u32()}:{reader.u32()}")
    if flags & 4:
        found.append(f"mode {reader.u32():o}")
    if flags & 8:
        found.append(f"times {reader.u32()} {reader.u32()}")
    if rest := reader.rest():
        found.append(f"extended {rest.hex()}")
    return tuple(found)


def write_request(asking: Asking, number: int) -> bytes:
    """Write a request under a number of the gateway's own."""
    parts = [u32(number)]
    match asking.kind:
        case Kind.INIT:
            return packet(Kind.INIT, u32(VERSION))
        case Kind.READ:
            parts += [string(asking.handle), asking.offset.to_bytes(8, "big"), u32(asking.length)]
        case Kind.WRITE:
            parts += [string(asking.handle), asking.offset.to_bytes(8, "big"), string(asking.tail)]
        case Kind.CLOSE | Kind.FSTAT | Kind.FSETSTAT | Kind.READDIR:
            parts += [string(asking.handle), asking.tail]
        case Kind.EXTENDED:
            handle = [string(asking.handle)] if asking.extension in HANDLE_EXTENSIONS else []
            parts += [string(asking.extension.encode()), *map(string, asking.paths), *handle, asking.tail]
        case Kind.OPEN:
            parts += [string(asking.paths[0]), u32(asking.flags), asking.tail]
        case _:
            parts += [*map(string, asking.paths), asking.tail]
    return packet(asking.kind, *parts)


def read_answer(raw: bytes | memoryview) -> Response:
    """Decode the head of a reply. Raises `PeerMisbehaved`."""
    if isinstance(raw, memoryview):  # DATA
        head = bytes(raw[:_DATA_HEAD])
        reader = Reader(head)
    else:
        reader = Reader(raw)
    code = reader.byte()
    if code not in {Kind.VERSION, Kind.STATUS, Kind.HANDLE, Kind.DATA, Kind.NAME, Kind.ATTRS, Kind.EXTENDED_REPLY}:
        raise PeerMisbehaved(Misdeed.UNKNOWN_TAG, f"SFTP {code}")
    if code == Kind.DATA:
        number, size = reader.u32(), reader.u32()
        if size != len(raw) - reader.at:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "what was read")
        return Response(Kind.DATA, number, b"", memoryview(raw)[reader.at :])
    return Response(Kind(code), reader.u32(), reader.rest())


def status(number: int, code: int, text: str) -> bytes:
    """A STATUS of the gateway's own: draft, 7."""
    return packet(Kind.STATUS, u32(number), u32(code), string(text.encode()), string(b"en"))


def read_status(body: bytes) -> tuple[int, bytes]:
    """(code, message) of a STATUS. Version 3 servers always send a message; older ones may leave it out."""
    reader = Reader(body)
    code = reader.u32()
    return code, b"" if reader.is_done else reader.string()


def read_names(body: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(file name, long name, attributes) of a NAME. Raises `PeerMisbehaved`."""
    reader = Reader(body)
    found = [
        (reader.string(), reader.string(), _plain(reader)) for _ in range(min(reader.u32(), MAX_PACKET // 12))
    ]
    reader.end()
    return found


def read_version(body: bytes) -> list[tuple[bytes, bytes]]:
    """Extensions of a VERSION, by name; of a value that is no number of a version, nothing is said on."""
    reader = Reader(body)
    found = []
    while not reader.is_done:
        name, value = reader.string(), reader.string()
        found.append((name, value if _VERSION.fullmatch(value) else b""))
    return found
