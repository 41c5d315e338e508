"""Proofs that later hops demand, and the batches that travel under them.

A test (`tests/house/test_proofs.py`) holds that each is built in one package only.
"""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from ostiary.model.decisions import Permit, Refusal
from ostiary.model.nouns import number, same, shown
from ostiary.model.results import CopyPlan


class _Value:
    """See `ostiary.model.nouns`."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return number(self)

    def __repr__(self) -> str:
        return shown(self)


class Intended(_Value):
    """A permit whose intent is durable. Minted only in `ostiary.audit`."""

    __slots__ = ("began", "entry", "permit")

    def __init__(self, permit: Permit, entry: str, began: int) -> None:
        self.permit: Final = permit
        self.entry: Final = entry
        """The intent entry's id (UUIDv7)."""
        self.began: Final = began
        """Monotonic clock when it was written, in nanoseconds."""


class Denied(_Value):
    """A refusal that is durable. Minted only in `ostiary.audit`."""

    __slots__ = ("entry", "refusal")

    def __init__(self, refusal: Refusal, entry: str) -> None:
        self.refusal: Final = refusal
        self.entry: Final = entry


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


HTTP_HEAD: Final = Content.HTTP_HEAD
HTTP_BODY: Final = Content.HTTP_BODY
SOCKET: Final = Content.SOCKET
"""Those of each answer: an enum's own attribute is a call of Python."""


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


class Batch(_Value):
    """Whole wire frames as the target sent them: bytes, never one Python object a row."""

    __slots__ = ("content", "cut", "data_class", "frames", "head", "plan", "rows", "strip")

    def __init__(
        self,
        frames: bytes,
        content: Content,
        plan: RowPlan | None,
        rows: int,
        strip: bool,
        head: bytes = b"",
        cut: tuple[int, int] | None = None,
        data_class: str = "",
    ) -> None:
        self.frames: Final = frames
        self.content: Final = content
        self.plan: Final = plan
        self.rows: Final = rows
        self.strip: Final = strip
        """Errors and notices lose DETAIL, HINT, CONTEXT and internal query: the statement touched a protected column."""
        self.head: Final = head
        """Of a stretch: framing that goes in front of what leaves; it holds no value."""
        self.cut: Final = cut
        """Of a stretch: which part of `frames` leaves. What stands beside it is looked at, and stays."""
        self.data_class: Final = data_class
        """Of what is withheld: the class that it is protected as."""


class Masked(_Value):
    """A batch that went through `ostiary.masking`. Minted only there."""

    __slots__ = ("content", "counts", "frames", "rows")

    def __init__(self, frames: bytes, content: Content, rows: int, counts: tuple[tuple[str, int], ...]) -> None:
        self.frames: Final = frames
        self.content: Final = content
        self.rows: Final = rows
        self.counts: Final = counts
        """(data class or detector, values masked), sorted by name; empty: nothing."""


class Recorded(_Value):
    """A batch that is in the recording, if its connection keeps one. Minted only in `ostiary.recording`."""

    __slots__ = ("frames",)

    def __init__(self, frames: bytes) -> None:
        self.frames: Final = frames


class Outcome(_Value):
    """How an intended operation ended: closes its intent in the log."""

    __slots__ = ("bytes", "columns", "error", "error_text", "intended", "masked", "rows", "status", "tag")

    def __init__(
        self,
        intended: Intended,
        status: str,
        tag: str,
        rows: int,
        bytes: int,  # noqa: A002 - the log's own word for it
        error: str,
        error_text: str,
        masked: tuple[tuple[str, int], ...],
        columns: tuple[tuple[str, int], ...],
    ) -> None:
        self.intended: Final = intended
        self.status: Final = status
        """`ok`; `error`; `skipped` (after an error in its pipeline: never run); `rolled back` (a later error undid it);
        `closed` (bound, never executed); `unknown` (the session ended before the target answered)."""
        self.tag: Final = tag
        """The target's command tags, joined with `; `: `SELECT 5`."""
        self.rows: Final = rows
        self.bytes: Final = bytes
        """Of result that went to the client, before framing by TLS."""
        self.error: Final = error
        """SQLSTATE, if it failed."""
        self.error_text: Final = error_text
        """The target's message after masking."""
        self.masked: Final = masked
        self.columns: Final = columns
        """(name, type OID) of the result's columns."""
