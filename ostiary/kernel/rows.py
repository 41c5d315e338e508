"""DataRow and binary COPY rows, masked in one pass over the bytes (PostgreSQL 18, 54.7 `DataRow`; COPY, "Binary Format").

Theory of operation. `dst` starts as a copy of `src`, because most bytes stay. `take` is where the next byte is read and
`put` where the next one goes. As long as nothing became shorter the two are equal, kept bytes are already in place and
stars are written over them; from the first shorter value on, what is kept is moved down and the lengths that changed are
written anew. No treatment makes a value longer, so `put <= take` always, and every write lies inside the copy. A batch in
which nothing changed comes back as the very object that came in.

Every length of the target's is checked against what is left before it is used; every access is bounds-checked besides.
`move` is the only place where bytes are copied. Typed in `rows.pxd`; runs uncompiled as it stands, with the same tests.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ostiary.kernel.detect import Scanner
from ostiary.kernel.substitutes import GROWTH, Substitute
from ostiary.kernel.values import BPCHAR, HEXED, INT8, JSON, JSONB, LITERAL, NUMBER, NUMERIC, hits
from ostiary.model.errors import Misdeed, PeerMisbehaved

if TYPE_CHECKING:
    from ostiary.kernel.nets import Wanted

# The values of model.proofs.Treatment, as C integers.
_KEEP = 0
_SCAN = 1
_REDACT = 2
_LAST4 = 3
_NULL = 4
_SUBSTITUTE = 5

_STAR = 42
_QUOTE = 34
_CHUNK = 65536
_SHORT = 64
_STARS = memoryview(b"*" * _CHUNK)
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"

_BPCHAR = BPCHAR
_JSON = JSON
_JSONB = JSONB
_LITERAL = LITERAL
_NUMBER = NUMBER
_HEXED = HEXED
_INT8 = INT8
_NUMERIC = NUMERIC


def mask_rows(
    frames: bytes,
    treatments: bytes,
    families: bytes,
    wanted: int | Wanted,
    substitutes: tuple[Substitute | None, ...] = (),
) -> tuple[bytes, tuple[int, ...]]:
    """Mask a batch of whole DataRow frames.

    `treatments` and `families` hold one byte a column (`Treatment`; `ostiary.kernel.values`); `wanted` has the bits of the
    detectors that look at SCAN columns; `substitutes` one a column, if any is treated with one. Returns the frames (the same object if nothing changed) and counts of masked
    values: one for each column treated whole, then one for each of `detect.NAMES`
    (of a `Wanted`: of its `names`).

    Raises PeerMisbehaved, and nothing else, whatever the frames are.
    """
    masker = RowMasker(frames, treatments, families, wanted, _room(frames, substitutes))
    masker.substitutes = substitutes
    masker.data_rows()
    return masker.result(), tuple(masker.counts) + tuple(masker.scanner.counts)


def mask_copy_rows(
    frames: bytes,
    treatments: bytes,
    families: bytes,
    wanted: int | Wanted,
    substitutes: tuple[Substitute | None, ...] = (),
) -> tuple[bytes, tuple[int, ...]]:
    """As `mask_rows`, for whole CopyData frames of COPY in binary format, each of which holds whole rows.

    The file header is known by its signature and may only stand at the front of a frame; the trailer only at the end.
    """
    masker = RowMasker(frames, treatments, families, wanted, _room(frames, substitutes))
    masker.substitutes = substitutes
    masker.copy_rows()
    return masker.result(), tuple(masker.counts) + tuple(masker.scanner.counts)


def _room(frames: bytes, substitutes: tuple[Substitute | None, ...]) -> int:
    """How much longer substitutes can make a batch: a row has two bytes, and four for each column, at least."""
    if not substitutes:
        return 0
    rows = len(frames) // (2 + 4 * len(substitutes)) + 1
    return rows * GROWTH * (len(substitutes) - substitutes.count(None))


class RowMasker:
    """One batch on its way from `src` to `dst`."""

    def __init__(self, frames: bytes, treatments: bytes, families: bytes, wanted: int | Wanted, room: int = 0) -> None:
        if len(families) != len(treatments):
            raise ValueError("a plan needs one family a column")
        self.frames = frames
        self.copy = bytearray(frames)
        if room:
            self.copy.extend(bytes(room))
        self.src = memoryview(frames)
        self.dst = memoryview(self.copy)
        self.treatments = memoryview(treatments)
        self.families = memoryview(families)
        self.columns = len(treatments)
        self.scanner = Scanner(frames, self.copy, wanted)
        self.counts = array("q", bytes(8 * len(treatments)))
        self.tally = memoryview(self.counts)
        self.substitutes: tuple[Substitute | None, ...] = ()
        self.take = 0
        self.put = 0
        self.changed = False

    def result(self) -> bytes:
        """The masked frames; what came in, if nothing changed."""
        if not self.changed:
            return self.frames
        if self.put == len(self.copy):
            return bytes(self.copy)
        return bytes(memoryview(self.copy)[: self.put])

    def data_rows(self) -> None:
        """Walk DataRow frames: `D`, a length that counts itself, then the columns."""
        size = len(self.src)
        while self.take < size:
            begin = self.put
            end = self.frame(68)
            self.row(self.u16(end), end)
            self.close_frame(begin, end)

    def copy_rows(self) -> None:
        """Walk CopyData frames: `d`, a length, then the file header, rows or the trailer."""
        size = len(self.src)
        while self.take < size:
            begin = self.put
            end = self.frame(100)
            if self.frames.startswith(_SIGNATURE, self.take):
                self.file_header(end)
            while self.take < end:
                columns = self.u16(end)
                if columns == 0xFFFF:
                    if self.take != end:
                        raise PeerMisbehaved(Misdeed.TRAILING_BYTES, "CopyData")
                else:
                    self.row(columns, end)
            self.close_frame(begin, end)

    def file_header(self, end: int) -> None:
        """Signature, flags, and an extension area: kept, though none is defined."""
        if end - self.take < 19:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "CopyData")
        extension = self.i32(self.take + 15)
        if extension < 0 or extension > end - self.take - 19:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "CopyData")
        self.keep(19 + extension)

    def frame(self, tag: int) -> int:
        """Take one frame's header; returns where the frame ends."""
        left = len(self.src) - self.take
        if left < 5:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "frame")
        if self.src[self.take] != tag:
            raise PeerMisbehaved(Misdeed.UNKNOWN_TAG, "a batch of rows holds another message")
        length = self.i32(self.take + 1)
        if length < 4 or length > left - 1:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "frame")
        end = self.take + 1 + length
        self.keep(5)
        return end

    def close_frame(self, begin: int, end: int) -> None:
        """The frame must be used up; write its length anew if anything was changed."""
        if self.take != end:
            raise PeerMisbehaved(Misdeed.TRAILING_BYTES, "row")
        if self.changed:
            self.set_i32(begin + 1, self.put - begin - 1)

    def row(self, columns: int, end: int) -> None:
        """One row: as many columns as the plan has, each a length (-1: NULL) and that many bytes.

        `take` runs ahead in a local; while nothing moved, what is kept is not even looked at.
        """
        if columns != self.columns:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a row with another number of columns than was described")
        take = self.take
        moved = self.put != take
        for column in range(columns):
            if end - take < 4:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "column")
            length = self.i32(take)
            if length < -1 or length > end - take - 4:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "column")
            # An empty text is a value: where all become NULL, it does, too.
            if self.treatments[column] != _KEEP and (length > 0 or (length == 0 and self.treatments[column] == _NULL)):
                if not moved:
                    self.put = take
                self.take = take
                self.value(column, length)
                take = self.take
                moved = self.put != take
                continue
            if length < 0:
                # Where all become NULL, a NULL counts as masked: else the count told it from a value.
                if self.treatments[column] == _NULL:
                    self.tally[column] += 1
                length = 0
            if moved:
                self.move(take, 4 + length)
            take += 4 + length
        self.take = take
        if not moved:
            self.put = take

    def value(self, column: int, length: int) -> None:
        """One value that is not simply kept. `take` stands at its length."""
        begin = self.put
        treatment = self.treatments[column]
        family = self.families[column]
        at = self.take + 4
        self.take = at + length
        self.put = begin + 4
        if treatment == _SCAN:
            if not self.scan(family, at, length):
                self.put = begin
                self.write_null()
                return
        else:
            self.tally[column] += 1
            self.changed = True
            if treatment == _SUBSTITUTE:
                if not self.substitute(column, at, length):
                    self.put = begin
                    self.write_null()
                    return
            elif treatment >= _NULL or family == 0 or family > _JSONB:
                self.put = begin
                self.write_null()
                return
            elif family == _JSONB:
                self.move(at, 1)
                self.redact_json(at + 1, length - 1, treatment == _LAST4)
            elif family == _JSON:
                self.redact_json(at, length, treatment == _LAST4)
            else:
                self.redact(at, length, treatment == _LAST4, family == _BPCHAR)
        if self.put != self.take or begin + 4 != at:
            self.set_i32(begin, self.put - begin - 4)

    def substitute(self, column: int, at: int, length: int) -> bool:
        """Write what stands in for one value; False: NULL."""
        one = self.substitutes[column]
        made = None if one is None else one.of(self.frames[at : at + length])
        if made is None or len(made) > length + GROWTH:
            return False
        put = self.put
        for i in range(len(made)):
            self.dst[put + i] = made[i]
        self.put = put + len(made)
        return True

    def scan(self, family: int, at: int, length: int) -> bool:
        """Let the detectors look at one value; False: it must become NULL. Stars take the place of matches in text."""
        if family == _NUMBER:
            if length >= 13 or self.scanner.candidates is not None:
                self.scanner.dry = True
                found = self.scanner.scan(at, at + length, 0)
                self.scanner.dry = False
                if found:
                    return False
            self.move(at, length)
            return True
        if family == 0 or family > _NUMBER:
            if (self.scanner.broad or not self.is_small(family, at, length)) and self.is_hidden(family, self.frames[at : at + length]):
                return False
            self.move(at, length)
            return True
        shift = self.put - at
        self.move(at, length)
        if self.scanner.scan(at, at + length, shift):
            self.changed = True
            if family in (_JSON, _JSONB):
                self.mend_json(at, length, shift)
        if family in (_JSON, _JSONB, _LITERAL) and length > 3 and self.frames.find(b"\\", at, at + length) >= 0:
            return not self.is_spelt(family, at, length, shift)
        return True

    def is_spelt(self, family: int, at: int, length: int, shift: int) -> bool:
        """Whether something is found in what a value's escapes stand for that is not seen, and starred, where it stands."""
        value = self.frames[at : at + length]
        if family == _LITERAL:
            # A star among hexadecimal digits would hide what they stand for.
            return self.is_hidden(_HEXED, value if b"\\x" in value else bytes(self.dst[at + shift : at + shift + length]))
        if not self.scanner.broad and b"\\u00" not in value and b"\\/" not in value:
            return False  # what the built-in detectors look for is written in no other way
        return self.is_hidden(family, bytes(self.dst[at + shift : at + shift + length]))

    def is_small(self, family: int, at: int, length: int) -> bool:
        """Whether a binary int8 or numeric plainly has fewer digits than a card number: most have, and nothing more is done."""
        if family == _INT8 and length == 8:
            high = self.i32(at) | 0x7F  # 25 bits, all the sign: less than 2^39 either way
            return high in (0x7F, -1)
        if family == _NUMERIC and length >= 8:
            # The second word is the weight of the first group of four digits, signed: 13 digits have one of 3.
            weight = (self.src[at + 2] << 8) | self.src[at + 3]
            return weight < 3 or weight >= 0x8000
        return False

    def is_hidden(self, family: int, value: bytes) -> bool:
        """Whether the detectors find something in what a value's bytes stand for. Counts it."""
        if len(value) < 4 and not self.scanner.broad:
            return False
        found = False
        for kind, number in enumerate(hits(value, family, self.scanner.given)):
            if number:
                self.scanner.counts[kind] += number
                found = True
        return found

    def mend_json(self, at: int, length: int, shift: int) -> None:
        """Put quotes round the stars that took the place of bare numbers: they would be no JSON."""
        stop = at + length
        quoted = False
        while at < stop:
            c = self.src[at]
            at += 1
            if c == 92:
                at += 1
            elif c == _QUOTE:
                quoted = not quoted
            elif not quoted and 45 <= c <= 57:
                begin = at - 1
                starred = self.dst[begin + shift] == _STAR
                while at < stop and self.src[at] not in (32, 9, 10, 13, 44, 93, 125):
                    starred = starred or self.dst[at + shift] == _STAR
                    at += 1
                if starred:
                    for i in range(begin + 1, at - 1):
                        self.dst[i + shift] = _STAR
                    self.dst[begin + shift] = _QUOTE
                    self.dst[at - 1 + shift] = _QUOTE

    # --- treatments ------------------------------------------------------------

    def redact(self, at: int, length: int, last4: bool, padded: bool) -> None:
        """Write one `*` a character; with `last4` keep the last four of more than four, and a bpchar's padding."""
        stop = at + length
        if not last4 and length <= _SHORT:
            put = self.put
            for i in range(at, stop):
                if self.src[i] & 0xC0 != 0x80:
                    self.dst[put] = _STAR
                    put += 1
            self.put = put
            return
        if last4 and padded:
            while stop > at and self.src[stop - 1] == 32:
                stop -= 1
        chars = self.characters(at, stop)
        if not last4 or chars <= 4:
            self.stars(chars)
        else:
            tail = stop
            for _ in range(4):
                tail -= 1
                while self.src[tail] & 0xC0 == 0x80:
                    tail -= 1
            self.stars(chars - 4)
            self.move(tail, stop - tail)
        self.move(stop, at + length - stop)

    def redact_json(self, at: int, length: int, last4: bool) -> None:
        """Write a JSON string of stars, as long as the JSON text was; of strings and numbers the last four can stay.

        One character (`7`) becomes `0`: a string is no shorter than two.
        """
        if length < 2:
            if length == 1:
                self.byte(48)
            return
        self.byte(_QUOTE)
        chars = self.characters(at, at + length) - 2
        keep = 0
        if last4 and chars > 4:
            if self.src[at] == _QUOTE and self.src[at + length - 1] == _QUOTE:
                if self.frames.find(b"\\", at, at + length) < 0:
                    self.redact(at + 1, length - 2, True, False)
                    self.byte(_QUOTE)
                    return
            elif self.is_number(at, length):
                keep = 4
        self.stars(chars - keep)
        self.move(at + length - keep, keep)
        self.byte(_QUOTE)

    def is_number(self, at: int, length: int) -> bool:
        """Whether a JSON text holds digits only."""
        while length > 0 and 48 <= self.src[at] <= 57:
            at += 1
            length -= 1
        return length == 0

    def characters(self, at: int, stop: int) -> int:
        """How many UTF-8 characters: bytes that are no continuation. Of other encodings, an estimate from above or below."""
        count = 0
        if stop - at > _SHORT:
            while at < stop:
                end = min(at + _CHUNK, stop)
                count += len(self.frames[at:end].translate(None, _CONTINUATIONS))
                at = end
            return count
        for i in range(at, stop):
            if self.src[i] & 0xC0 != 0x80:
                count += 1
        return count

    # --- bytes -------------------------------------------------------------------

    def move(self, start: int, count: int) -> None:
        """Copy `src[start:start + count]` to `put`, unless it is there already: the one place where bytes are copied."""
        put = self.put
        if count < 0 or start < 0 or count > len(self.src) - start or count > len(self.dst) - put:
            raise IndexError("copy outside the batch")
        if put != start:
            self.changed = True
            if count > _SHORT:
                self.move_many(put, start, count)
            else:
                for i in range(count):
                    self.dst[put + i] = self.src[start + i]
        self.put = put + count

    def move_many(self, put: int, start: int, count: int) -> None:
        """`move` for many bytes; apart, since slices make a function dear to enter."""
        self.dst[put : put + count] = self.src[start : start + count]

    def keep(self, count: int) -> None:
        """Take `count` bytes as they are."""
        self.move(self.take, count)
        self.take += count

    def stars(self, count: int) -> None:
        """Write `count` stars."""
        if count > _SHORT:
            self.many_stars(count)
            return
        for i in range(count):
            self.dst[self.put + i] = _STAR
        self.put += max(count, 0)

    def many_stars(self, count: int) -> None:
        """`stars` for many."""
        while count > 0:
            some = min(count, _CHUNK)
            self.dst[self.put : self.put + some] = _STARS[:some]
            self.put += some
            count -= some

    def byte(self, value: int) -> None:
        """Write one byte."""
        self.dst[self.put] = value
        self.put += 1

    def write_null(self) -> None:
        """Write a NULL in place of a value."""
        self.changed = True
        self.put += 4
        self.set_i32(self.put - 4, -1)

    def i32(self, at: int) -> int:
        """A signed 32-bit integer in network order."""
        high = (self.src[at] ^ 128) - 128
        return high * 16777216 + self.src[at + 1] * 65536 + self.src[at + 2] * 256 + self.src[at + 3]

    def u16(self, end: int) -> int:
        """Take an unsigned 16-bit integer in network order."""
        if end - self.take < 2:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "row")
        value = (self.src[self.take] << 8) | self.src[self.take + 1]
        self.keep(2)
        return value

    def set_i32(self, at: int, value: int) -> None:
        """Write a 32-bit integer in network order."""
        self.dst[at] = (value >> 24) & 0xFF
        self.dst[at + 1] = (value >> 16) & 0xFF
        self.dst[at + 2] = (value >> 8) & 0xFF
        self.dst[at + 3] = value & 0xFF
        self.changed = True
