"""What a target says of a result before its rows: the ground on which a masking plan is made."""

from __future__ import annotations

from typing import Final, Self

import msgspec

from ostiary.model.nouns import Noun


class ColumnDescription(msgspec.Struct, frozen=True):
    """One field of a RowDescription: PostgreSQL 18, 54.7 (`RowDescription`)."""

    name: str
    table_oid: int
    """The table it is a plain column of, or 0: then nothing is known of where it comes from."""
    column: int
    """pg_attribute.attnum in that table, or 0."""
    type_oid: int
    typlen: int
    typmod: int
    format: int
    """0 text, 1 binary. Of a described statement always 0: the formats that Bind asks for hold, not this."""


class CopyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How COPY ... TO STDOUT writes its rows: text, CSV or binary, from the statement's options.

    COPY has no RowDescription, so who makes the plan names the columns in their order.
    """

    csv: bool
    delimiter: bytes
    """One byte: a tab by default, in CSV a comma."""
    quote: bytes
    """CSV: one byte, `"` by default. Text: unused, empty."""
    escape: bytes
    """CSV: one byte, the quote by default. Text: unused, empty."""
    null: bytes
    r"""What stands for NULL: `\N` by default, in CSV nothing."""
    header: bool
    """The first line holds column names."""
    names: tuple[str, ...] = ()
    """The columns' names, to know that line by; `ostiary.masking.plan_copy` fills them in."""
    encoding: str
    """Of the data: `UTF8` and what is a superset of ASCII byte by byte can be masked; anything else is refused."""


TEXT_COPY = CopyPlan(csv=False, delimiter=b"\t", quote=b"", escape=b"", null=b"\\N", header=False, encoding="UTF8")
"""COPY ... TO STDOUT without options."""

CSV_COPY = CopyPlan(csv=True, delimiter=b",", quote=b'"', escape=b'"', null=b"", header=False, encoding="UTF8")
"""COPY ... TO STDOUT (FORMAT csv)."""


class ReplyHead(Noun):
    """What an HTTP service says before a body: status and header fields, without those of one hop and of framing."""

    __slots__ = ("has_body", "headers", "length", "of_read", "status")

    def __init__(
        self, status: int, headers: tuple[tuple[bytes, bytes], ...], has_body: bool, length: int | None, of_read: bool
    ) -> None:
        self.status: Final = status
        self.headers: Final = headers
        self.has_body: Final = has_body
        self.length: Final = length
        """Bytes of the body, where that is known beforehand."""
        self.of_read: Final = of_read
        """It answers GET or HEAD."""

    def with_headers(self, headers: tuple[tuple[bytes, bytes], ...]) -> Self:
        """The same with other fields."""
        return type(self)(self.status, headers, self.has_body, self.length, self.of_read)


class SocketMessage(msgspec.Struct, frozen=True):
    """One whole message of a WebSocket, or a control frame: RFC 6455, 5.2."""

    opcode: int
    data: bytes


class ReplyEnd(msgspec.Struct, frozen=True):
    """The body is whole."""
