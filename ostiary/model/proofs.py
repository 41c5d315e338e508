"""Proofs that later hops demand, and the batches that travel under them.

A test (`tests/house/test_proofs.py`) holds that each is built in one package only.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from ostiary.model.decisions import Permit, Refusal
from ostiary.model.results import CopyPlan


class Intended(msgspec.Struct, frozen=True):
    """A permit whose intent is durable. Minted only in `ostiary.audit`."""

    permit: Permit
    entry: str
    """The intent entry's id (UUIDv7)."""
    began: int
    """Monotonic clock when it was written, in nanoseconds."""


class Denied(msgspec.Struct, frozen=True):
    """A refusal that is durable. Minted only in `ostiary.audit`."""

    refusal: Refusal
    entry: str


class Content(enum.Enum):
    """What the frames of a batch are, which says how masking looks at them."""

    ROWS = "rows"
    COPY_TEXT = "copy text"
    """CopyData of COPY TO in text or CSV format."""
    COPY_BINARY = "copy binary"
    MESSAGE = "message"
    """One ErrorResponse, NoticeResponse, NotificationResponse or ParameterStatus: text fields in clear."""
    HTTP_HEAD = "http head"
    """A status line and header fields, without framing and blank line."""
    HTTP_BODY = "http body"
    """A piece of a body, without framing."""
    SOCKET = "websocket"
    """A WebSocket's frame, as a server sends it: one whole message."""
    CONTROL = "control"
    """Frames without values: completions, descriptions, readiness."""
    STRETCH = "stretch"
    """A stretch of bytes with what stands beside it, for the detectors: `Batch.cut` of it leaves, behind `Batch.head`."""
    FILE = "file"
    """Content of a file that a connection lets pass as it is."""
    WITHHELD = "withheld"
    """A stretch that was read from something protected: all of it is starred, but for line ends."""


class Treatment(enum.IntEnum):
    """What masking does with one column."""

    KEEP = 0
    """Cannot hold anything sensitive, or policy shows it in clear."""
    SCAN = 1
    """Text: the detectors look at it."""
    REDACT = 2
    LAST4 = 3
    NULL = 4
    SUBSTITUTE = 5
    """What the column's `Substitute` makes of it."""


class RowPlan(msgspec.Struct, frozen=True):
    """How to mask the rows of one result: made once for each description, used for every batch."""

    treatments: bytes
    """One `Treatment` a column."""
    classes: tuple[str | None, ...]
    """The data class that a column is protected as; None: not protected."""
    active: bool
    """False: no row of this result needs a look."""
    families: bytes
    """How the bytes of each column are to be read: one of `ostiary.kernel.values`' families a column."""
    substitutes: tuple[Any, ...] = ()
    """One a column (`ostiary.kernel.substitutes`), None where it has none; empty: no column has one."""
    copy: CopyPlan | None = None
    """Of COPY in text or CSV format: how its rows are written."""


class Batch(msgspec.Struct, frozen=True):
    """Whole wire frames as the target sent them: bytes, never one Python object a row."""

    frames: bytes
    content: Content
    plan: RowPlan | None
    rows: int
    strip: bool
    """Errors and notices lose DETAIL, HINT, CONTEXT and internal query: the statement touched a protected column."""
    head: bytes = b""
    """Of a stretch: framing that goes in front of what leaves; it holds no value."""
    cut: tuple[int, int] | None = None
    """Of a stretch: which part of `frames` leaves. What stands beside it is looked at, and stays."""
    data_class: str = ""
    """Of what is withheld: the class that it is protected as."""


class Masked(msgspec.Struct, frozen=True):
    """A batch that went through `ostiary.masking`. Minted only there."""

    frames: bytes
    content: Content
    rows: int
    counts: tuple[tuple[str, int], ...]
    """(data class or detector, values masked), sorted by name; empty: nothing."""


class Recorded(msgspec.Struct, frozen=True):
    """A batch that is in the recording, if its connection keeps one. Minted only in `ostiary.recording`."""

    frames: bytes


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an intended operation ended: closes its intent in the log."""

    intended: Intended
    status: str
    """`ok`; `error`; `skipped` (after an error in its pipeline: never run); `rolled back` (a later error undid it);
    `closed` (bound, never executed); `unknown` (the session ended before the target answered)."""
    tag: str
    """The target's command tags, joined with `; `: `SELECT 5`."""
    rows: int
    bytes: int
    """Of result that went to the client, before framing by TLS."""
    error: str
    """SQLSTATE, if it failed."""
    error_text: str
    """The target's message after masking."""
    masked: tuple[tuple[str, int], ...]
    columns: tuple[tuple[str, int], ...]
    """(name, type OID) of the result's columns."""
