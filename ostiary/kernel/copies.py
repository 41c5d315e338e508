r"""COPY ... TO STDOUT in text and CSV format, masked in one pass (PostgreSQL 18, COPY, "Text Format" and "CSV Format").

Theory of operation. As in `rows.py`, of which this is a second walker: `dst` starts as a copy of `src`. A NULL can be longer
here than the value whose place it takes (`\N`), so `dst` has room for one NULL string a field, and `put` may run ahead of
`take`: that is safe, since reading goes by `src`.

The target writes one row a CopyData message, and a row that does not end with its message cannot be masked by position:
it is refused. So is a row with another number of fields than the plan has. What a field's escapes and doubled quotes stand
for is looked at, too: a delimiter or quote may have been chosen so as to cut a value into pieces.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ostiary.kernel.rows import RowMasker
from ostiary.kernel.substitutes import GROWTH, Substitute
from ostiary.kernel.values import BPCHAR, BYTEA, HEXED, JSON, JSONB, LITERAL, NUMBER, TEXT, hits
from ostiary.model.errors import Misdeed, PeerMisbehaved

if TYPE_CHECKING:
    from ostiary.kernel.nets import Wanted

_KEEP = 0
_SCAN = 1
_LAST4 = 3
_NULL = 4
_SUBSTITUTE = 5

_BACKSLASH = 92
_NEWLINE = 10

_TEXT = TEXT
_BPCHAR = BPCHAR
_JSON = JSON
_JSONB = JSONB
_LITERAL = LITERAL
_HEXED = HEXED
_NUMBER = NUMBER
_BYTEA = BYTEA

_ESCAPES = {98: b"\b", 102: b"\f", 110: b"\n", 114: b"\r", 116: b"\t", 118: b"\v"}


def mask_copy_text(
    frames: bytes,
    treatments: bytes,
    families: bytes,
    wanted: int | Wanted,
    *,
    delimiter: bytes,
    null: bytes,
    header: bytes,
    substitutes: tuple[Substitute | None, ...] = (),
) -> tuple[bytes, tuple[int, ...]]:
    """Mask whole CopyData frames in text format; see `rows.mask_rows` for the rest.

    A frame that is `header`, byte for byte (empty: there is none), stays.
    """
    return _mask(frames, treatments, families, wanted, (delimiter, b"", b"", null, header), substitutes)


def mask_copy_csv(
    frames: bytes,
    treatments: bytes,
    families: bytes,
    wanted: int | Wanted,
    *,
    delimiter: bytes,
    quote: bytes,
    escape: bytes,
    null: bytes,
    header: bytes,
    substitutes: tuple[Substitute | None, ...] = (),
) -> tuple[bytes, tuple[int, ...]]:
    """Mask whole CopyData frames in CSV format; see `rows.mask_rows` for the rest."""
    return _mask(frames, treatments, families, wanted, (delimiter, quote, escape, null, header), substitutes)


def _mask(
    frames: bytes,
    treatments: bytes,
    families: bytes,
    wanted: int | Wanted,
    form: tuple[bytes, bytes, bytes, bytes, bytes],
    substitutes: tuple[Substitute | None, ...],
) -> tuple[bytes, tuple[int, ...]]:
    masker = CopyMasker(frames, treatments, families, wanted, _room(frames, treatments, families, wanted, form[3]))
    masker.substitutes = substitutes
    masker.set_form(form)
    masker.text_rows()
    return masker.result(), tuple(masker.counts) + tuple(masker.scanner.counts)


def _room(frames: bytes, treatments: bytes, families: bytes, wanted: int | Wanted, null: bytes) -> int:
    """How much longer a batch can become: by a NULL string or a substitute for each field that can be shorter than it.

    No row but the last of a malformed batch is without its newline. Counting them is dear, and most plans have no field that can grow.
    """
    room = 0
    for treatment, family in zip(bytearray(treatments), bytearray(families), strict=False):
        if treatment >= _SUBSTITUTE:
            room += len(null) + GROWTH
        elif treatment == _SCAN:
            # What is found is no shorter than this: `is_found`.
            room += len(null) if (family == 0 or family >= _NUMBER) and not (len(null) <= 5 and isinstance(wanted, int)) else 0
        elif treatment != _KEEP and (treatment == _NULL or family == 0 or family > _JSONB):
            room += len(null)
    return room * (frames.count(b"\n") + 1) if room else 0


class CopyMasker(RowMasker):
    """One batch of COPY text on its way from `src` to `dst`."""

    def set_form(self, form: tuple[bytes, bytes, bytes, bytes, bytes]) -> None:
        """Set delimiter, quote and escape (empty: text format), NULL string and header line."""
        self.delimiter = form[0][0]
        self.csv = form[1] != b""
        self.quote = form[1][0] if self.csv else -1
        self.escape = form[2][0] if self.csv else _BACKSLASH
        self.null = form[3]
        self.header = form[4]
        # In text format a value can look like any NULL string but the usual one: a field that does may be a value.
        self.null_is_known = self.csv or self.null == b"\\N"

    def text_rows(self) -> None:
        """Walk CopyData frames: `d`, a length, then whole lines."""
        size = len(self.src)
        while self.take < size:
            begin = self.put
            end = self.frame(100)
            if len(self.header) == end - self.take and self.frames.startswith(self.header, self.take):
                self.keep(end - self.take)
            while self.take < end:
                self.line(end)
            self.close_frame(begin, end)

    def line(self, end: int) -> None:
        """One row, with its newline. A row of no columns is an empty line.

        What is kept is moved as one run: `kept` is where it began.
        """
        column = 0
        last = False
        kept = at = self.take
        while not last:
            start = at
            at = self.csv_end(start, end) if self.csv else self.text_end(start, end)
            if at >= end:
                raise PeerMisbehaved(Misdeed.BAD_FIELD, "a COPY row that does not end with its message")
            last = self.src[at] == _NEWLINE
            if column < self.columns:
                treatment = self.treatments[column]
                # An empty text is a value: where all become NULL, it does, too.
                if treatment != _KEEP and (start != at or treatment == _NULL):
                    self.move(kept, start - kept)
                    self.field(column, start, at)
                    kept = at
            elif not (last and self.columns == 0 and at == start):
                raise PeerMisbehaved(Misdeed.BAD_FIELD, "a COPY row with other columns than were planned")
            column += 1
            at += 1
        if column < self.columns:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a COPY row with other columns than were planned")
        self.move(kept, at - kept)
        self.take = at

    def text_end(self, at: int, end: int) -> int:
        """Where the field at `at` ends in text format; past `end`: it does not."""
        self.quoted = False
        self.escaped = False
        while at < end and self.src[at] != self.delimiter and self.src[at] != _NEWLINE:
            if self.src[at] == _BACKSLASH:
                self.escaped = True
                at += 1
            at += 1
        return at

    def csv_end(self, at: int, end: int) -> int:
        """Where the field at `at` ends in CSV format, after its closing quote if it has one."""
        self.quoted = at < end and self.src[at] == self.quote
        self.escaped = False
        if self.quoted:
            at = self.after_quote(at + 1, end)
            if at < end and self.src[at] != self.delimiter and self.src[at] != _NEWLINE:
                raise PeerMisbehaved(Misdeed.BAD_FIELD, "CSV")
            return at
        while at < end and self.src[at] != self.delimiter and self.src[at] != _NEWLINE:
            if self.src[at] == self.quote:
                raise PeerMisbehaved(Misdeed.BAD_FIELD, "CSV")
            at += 1
        return at

    def after_quote(self, at: int, end: int) -> int:
        """Where a quoted field ends that began before `at`. Inside, an escape stands before a quote or an escape only."""
        while at < end:
            c = self.src[at]
            at += 1
            if c == self.escape and at < end and (self.src[at] == self.quote or self.src[at] == self.escape):
                self.escaped = True
                at += 1
            elif c == self.quote:
                return at
        return end

    def field(self, column: int, start: int, stop: int) -> None:
        """One field that is not simply kept, with its quotes."""
        treatment = self.treatments[column]
        family = self.families[column]
        if self.null_is_known and not self.quoted and self.is_null(start, stop):
            self.tally[column] += treatment == _NULL  # as in RowMasker.row
            self.move(start, stop - start)
        elif treatment == _SCAN:
            self.look(family, start, stop)
        else:
            self.tally[column] += 1
            self.changed = True
            if treatment >= _NULL or family == 0 or family > _JSONB or self.escaped:
                self.replaced(column, start, stop)
            elif self.quoted:
                self.byte(self.quote)
                self.redact(start + 1, stop - start - 2, treatment == _LAST4, family == _BPCHAR)
                self.byte(self.quote)
            elif family >= _JSON and not self.csv:
                self.redact_json(start, stop - start, treatment == _LAST4)
            else:
                self.redact(start, stop - start, treatment == _LAST4, family == _BPCHAR)

    def replaced(self, column: int, start: int, stop: int) -> None:
        """What a treatment makes of a field that is not starred where it stands: a substitute, the NULL string, or stars."""
        treatment = self.treatments[column]
        family = self.families[column]
        quoted = self.quoted
        if treatment == _SUBSTITUTE:
            self.text(self.substitute_for(column, self.value_of(start, stop, quoted)))
        elif treatment >= _NULL or family == 0 or family > _JSONB:
            self.text(self.null)
        else:
            self.stars(len(self.value_of(start, stop, quoted).decode("utf-8", "replace")))

    def look(self, family: int, start: int, stop: int) -> None:
        """Let the detectors look at one field."""
        if family == _NUMBER and stop - start < 13 and not self.scanner.broad:
            self.move(start, stop - start)  # fewer digits than a card number has; see RowMasker.scan
        elif family == 0 or family >= _NUMBER:
            if self.is_found(self.value_of(start, stop, self.quoted), family):
                self.text(self.null)
            else:
                self.move(start, stop - start)
        else:
            put = self.put
            self.move(start, stop - start)
            edge = 1 if self.quoted else 0  # a quote may be any character: it must not join with the value
            if self.scanner.scan(start + edge, stop - edge, put - start):
                self.changed = True
            if self.escaped:
                self.look_behind(family, start, stop, put)

    def look_behind(self, family: int, start: int, stop: int, put: int) -> None:
        """Let the detectors look at what a field's escapes stand for; it was written at `put`."""
        # What is starred is found no second time; but a star among hexadecimal digits would hide what they stand for.
        hexed = family == _LITERAL and self.frames.find(b"\\x", start, stop) >= 0
        field = self.frames[start:stop] if hexed else bytes(self.dst[put : put + stop - start])
        if self.is_found(self.meant(field, self.quoted), _HEXED if hexed else family):
            self.put = put
            self.stars(stop - start)

    def substitute_for(self, column: int, value: bytes) -> bytes:
        """What stands in for a value, without a character that would need an escape or quotes; or the NULL string."""
        one = self.substitutes[column]
        made = None if one is None else one.of(value)
        if made is None or self.families[column] == _JSON:
            return self.null
        special = (self.delimiter, self.quote, self.escape, _BACKSLASH, _NEWLINE, 8, 9, 11, 12, 13)
        plain = bytes(95 if byte in special else byte for byte in bytearray(made))
        return self.null if self.delimiter == 95 or self.quote == 95 or self.escape == 95 else plain

    def is_null(self, start: int, stop: int) -> bool:
        """Whether a field is the NULL string."""
        return stop - start == len(self.null) and self.frames.startswith(self.null, start)

    def is_found(self, value: bytes, family: int) -> bool:
        """Whether the detectors find something in what a field stands for. Counts it."""
        found = hits(value, family, self.scanner.given) if len(value) >= 5 or self.scanner.broad else []
        if not sum(found):
            return False
        self.changed = True
        for kind, number in enumerate(found):
            if number:
                self.scanner.counts[kind] += 1
        return True

    def value_of(self, start: int, stop: int, quoted: bool) -> bytes:
        """The bytes that a field stands for."""
        return self.meant(self.frames[start:stop], quoted)

    def meant(self, field: bytes, quoted: bool) -> bytes:
        """The bytes that these, with their quotes, stand for."""
        if not self.csv:
            return unescape_text(field)
        return unescape_csv(field[1 : len(field) - 1], self.quote, self.escape) if quoted else field

    def text(self, value: bytes) -> None:
        """Write a few bytes of our own."""
        for byte in bytearray(value):
            self.byte(byte)


def unescape_text(field: bytes) -> bytes:
    r"""What a field in text format stands for: `\t`, `\n`, ... and any other character after a backslash is itself."""
    if b"\\" not in field:
        return field
    out = bytearray()
    at = 0
    while (slash := field.find(b"\\", at)) >= 0:
        after = field[slash + 1 : slash + 2]
        out += field[at:slash]
        out += _ESCAPES.get(after[0], after) if after else b""
        at = slash + 2
    return bytes(out + field[at:])


def unescape_csv(field: bytes, quote: int, escape: int) -> bytes:
    """What stands between the quotes of a field in CSV format."""
    return re.sub(re.escape(bytes([escape])) + b"([" + re.escape(bytes([quote, escape])) + b"])", rb"\1", field)
