r"""The payload stream: one encrypted file a session, which a stranger can check and only a key can open.

Theory of operation
-------------------
All integers are little-endian.

    file    := header chunk*
    header  := magic "OSTIARYP" | u16 version = 1 | session (16) | key id (8) | wrapped data key (60)
    chunk   := u32 word | ciphertext | tag (16)
    word    := length of ciphertext and tag; bit 31: the group goes on in the next chunk
    record  := u8 kind | entry (16) | u64 t_us | salt (16) | u64 length | bytes

The header is 94 bytes. The data key is wrapped under the key-encryption key (12-byte nonce, AES-256-GCM) with the
first 34 bytes of the header as additional data. Re-wrapping for a new key touches those 60 bytes and the key's id,
and nothing that was ever hashed.

A *group* is one chunk, or several where a record is larger than `MAX_PLAIN`. The plaintexts of a group's chunks, put
together, are a whole number of records; so nothing is ever cut, and neither side holds more than one chunk beside
the record itself. Chunk i (from 0) is sealed with nonce i (12 bytes) and additional data `session | u64 i | u8 goes-on`:
a chunk moved, repeated, relabelled or taken from another session does not open. The data key is fresh for each file
and a file is never written by two processes, so no nonce comes twice.

    blob(group)  = SHA-256(all ciphertexts with their tags, in order)
    head(0)      = SHA-256("ostiary payloads v1\n" | session)
    head(n + 1)  = SHA-256(head(n) | the words of the group's chunks | blob)
    commit       = HMAC-SHA-256(salt, bytes)

Blob and head need no key. One hash pass over the data serves both. A leaf in the log that names a blob and a commit
gives nothing to guess with: the salt is inside the ciphertext.

What a killed process leaves is whole groups and at most one torn one; what a power cut leaves may also end in zeros.
Readers report either as a gap, never as the end.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from ostiary.model.errors import OstiaryError

MAGIC: Final = b"OSTIARYP"
VERSION: Final = 1
HEADER: Final = struct.Struct("<8sH16s8s60s")
BOUND: Final = 34
"""How much of the header the wrapped key is bound to: all that stands before it."""
WORD: Final = struct.Struct("<I")
GOES_ON: Final = 1 << 31
RECORD: Final = struct.Struct("<B16sQ16sQ")
AAD: Final = struct.Struct("<16sQB")
NONCE: Final = struct.Struct("<QI")
"""A chunk's index, 12 bytes: the last four are zeros."""
TAG_BYTES: Final = 16
MAX_PLAIN: Final = 64 * 1024
"""Bytes in clear a chunk: `audit-log.md`, "Payloads"."""
MAX_SEALED: Final = MAX_PLAIN + TAG_BYTES
MAX_RECORD: Final = 1 << 30
"""PostgreSQL's own largest message and field: src/include/common/string.h, `MaxAllocSize`."""
NO_ENTRY: Final = bytes(16)
SUFFIX: Final = ".osp"


class PayloadError(OstiaryError):
    """A payload stream cannot be written or read."""


class PayloadTampered(PayloadError):
    """The stream is not what was written. `chunk` is the first bad one, counted from 0; -1 is the header."""

    def __init__(self, chunk: int, problem: str) -> None:
        super().__init__(f"{'header' if chunk < 0 else f'chunk {chunk}'}: {problem}")
        self.chunk = chunk


class StreamFailed(PayloadError):
    """The stream can take nothing more, so its session must end."""


class DiskFull(StreamFailed):
    """There is no room: ENOSPC, EDQUOT or EFBIG."""


class QuotaReached(PayloadError):
    """The session's recording is as large as it may get, so the session must end."""


def first_head(session: bytes) -> bytes:
    """head(0) of a session, from its 16-byte id."""
    return hashlib.sha256(b"ostiary payloads v1\n" + session).digest()


def next_head(head: bytes, words: bytes, blob: bytes) -> bytes:
    """head(n + 1) from head(n), the length words of the group's chunks and its blob."""
    return hashlib.sha256(head + words + blob).digest()


def nonce(chunk: int) -> bytes:
    """The nonce of a chunk: its index. Never repeated under one data key."""
    return NONCE.pack(chunk, 0)


def uuid_bytes(text: str) -> bytes:
    """16 bytes of a UUID; empty text is the nil UUID. Raises `ValueError` on anything else."""
    if not text:
        return NO_ENTRY
    raw = bytes.fromhex(text.replace("-", ""))
    if len(raw) != 16:  # RFC 9562, 4
        raise ValueError("not a UUID")
    return raw


def uuid_text(raw: bytes) -> str:
    """The RFC 9562 text form; of the nil UUID, nothing."""
    if raw == NO_ENTRY:
        return ""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
