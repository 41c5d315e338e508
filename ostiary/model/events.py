"""What the log's entries say of the payloads that stand beside it: references that give nothing away."""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class PayloadKind(enum.IntEnum):
    """What a record of a payload stream holds. The numbers are the file format; never reuse one."""

    STATEMENT = 1
    PARAMS = 2
    RESULT = 3
    """Backend frames as they went to the client, after masking: a byte stream, cut anywhere."""
    COPY_IN = 4
    """CopyData, CopyDone and CopyFail frames as they came from the client: a byte stream, cut anywhere."""
    NOTE = 5
    AGAIN = 6
    """The operation's statement was stored before: the bytes are that record's number, u64le."""
    ASKED = 7
    """What the caller sent, where the gateway rewrote it: the STATEMENT before it is what was sent on."""

    TERMINAL = 8
    """SSH: what a client's terminal said, as messages: its size, and what was typed there, as far as it was echoed."""


class PayloadRef(msgspec.Struct, frozen=True):
    """Where a payload is, and what it was, without telling. Stands in an entry as `{len, commit, blob}`."""

    blob: str
    """Hex SHA-256 over the ciphertext that holds it: a stranger can check it without a key."""
    commit: str
    """Hex HMAC-SHA-256(salt, bytes); the salt is inside the ciphertext, so guessing needs the key."""
    length: int
    """Of the bytes in clear."""


class Kept(msgspec.Struct, frozen=True):
    """Where the payloads of one operation are; None: not kept, or there is none."""

    statement: PayloadRef | None
    parameters: PayloadRef | None = None
    asked: PayloadRef | None = None
    """What the caller sent, of a statement that was rewritten."""


NOTHING_KEPT: Final = Kept(None)


class StreamHead(msgspec.Struct, frozen=True):
    """How far a payload stream has come. Stands in an entry as `{chunks, bytes, head}` under `recording`."""

    chunks: int
    bytes: int
    """Length of the file up to here, header included."""
    head: str
    """Hex: the chain over every chunk so far (`ostiary.vault.payloads`)."""
