"""Values whose bytes are not their text: what the detectors would see in them if they were.

Used for columns in binary format and for `bytea`. A hit here makes the whole value NULL, since no star can be put into a
binary value and leave it valid for its type. These are the rare columns: no tight loop runs here but the scanner's own.

Arrays, rows, ranges and hstores are taken apart, so that a length byte that looks like a digit cannot hide the start of
an element; what is no such structure is looked at as it is. Bytes from 0x80 are blanked for the scan: in binary data they
are noise that would make addresses out of nothing.
"""

from __future__ import annotations

import binascii
import re
import struct
from typing import Final

from ostiary.kernel.detect import Scanner, is_card_number
from ostiary.kernel.nets import Wanted, bits_of, names_of

# Families: how the bytes of a column are to be read. One byte a column in RowPlan.families.
OPAQUE: Final = 0
"""Anything in binary format that is none of the others."""
TEXT: Final = 1
"""The bytes are the text: text, varchar, name, ... in either format."""
BPCHAR: Final = 2
"""As TEXT, padded with blanks."""
JSON: Final = 3
"""The bytes are a JSON text: json in either format, jsonb in text format."""
JSONB: Final = 4
"""jsonb in binary format: a version byte, then a JSON text."""
LITERAL: Final = 5
"""The text form of any other type: arrays, rows, ranges, types of extensions."""
NUMBER: Final = 6
"""The text form of int8 or numeric."""
INT8: Final = 7
NUMERIC: Final = 8
"""int8 and numeric in binary format."""
BYTEA: Final = 9
r"""The text form of bytea: `\x` and hex digits, or the escape format."""
HEXED: Final = 10
r"""For `hits` alone: what the `\x3037...` and the JSON inside a LITERAL stand for (arrays and rows with bytea or json in them)."""

_HEX_RUN: Final = re.compile(rb"\\x((?:[0-9a-f]{2}){5,})")

Region = tuple[int, int, int]
"""Start, stop and type OID (0: not known) of a part of a value."""

_ASCII_ONLY: Final = bytes(range(128)) + bytes(128)
_INT8_OID: Final = 20
_NUMERIC_OID: Final = 1700
_MAX_DEPTH: Final = 8
_MAX_DIMENSIONS: Final = 6  # MAXDIM, src/include/utils/array.h
_MAX_FIELDS: Final = 1664  # MaxTupleAttributeNumber, src/include/access/htup_details.h
_SMALLEST_CARD: Final = 10**12
_LARGEST_CARD: Final = 10**19
_MAX_WEIGHT: Final = 256
"""Groups of four digits: of larger numbers nobody looks at the digits."""


def hits(value: bytes, family: int, wanted: int | Wanted) -> list[int]:
    """What the detectors find in one value: a number for each of `names_of(wanted)`. `family` says how to read the value."""
    bits = bits_of(wanted)
    if family in (INT8, NUMERIC):
        found = [0] * len(names_of(wanted))
        _count_number(value, _INT8_OID if family == INT8 else _NUMERIC_OID, wanted, found)
        return found
    if family == BYTEA:
        value = decode_bytea(value)
    elif family in (JSON, JSONB):
        value = unescape_json(value)
    elif family in (LITERAL, HEXED):
        stands_for = [binascii.unhexlify(run) for run in _HEX_RUN.findall(value)]
        if b"\\" in value:  # an array of json has its backslashes doubled
            stands_for.append(unescape_json(value.replace(b"\\\\", b"\\")))
        value = b"\n".join([value, *stands_for] if family == LITERAL else stands_for)
    parts: list[Region] = []
    _regions(value, (0, len(value), 0), parts, 0)
    # What an operator looks for may hold any letter: nothing is blanked for it.
    others = None if isinstance(wanted, int) else Scanner(value, bytearray(), wanted.alone)
    scanner = Scanner(value if value.isascii() else value.translate(_ASCII_ONLY), bytearray(), bits)
    scanner.dry = True
    found = [0] * len(names_of(wanted))
    for start, stop, said in parts:
        oid = said or _likely(value, start, stop, family)
        if oid in (_INT8_OID, _NUMERIC_OID):
            _count_number(value[start:stop], oid, wanted, found)
            continue
        scanner.scan(start, stop, 0)
        if others is not None:
            others.dry = True
            others.scan(start, stop, 0)
    for scanned in (scanner, others):
        for kind, number in enumerate([] if scanned is None else scanned.counts):
            found[kind] += number
    return found


def _likely(value: bytes, start: int, stop: int, family: int) -> int:
    """The type of a binary value of which nobody said it: int8 or numeric, where it may be one; else 0.

    Eight bytes are more often a double or a time: of these, only what has as many digits as most card numbers have, and what an operator's
    own detectors may want, is taken for an int8. Doubles are larger, times of this century have 15 digits.
    """
    if family != OPAQUE:
        return 0
    if stop - start == 8:
        size = abs(int.from_bytes(value[start:stop], "big", signed=True))
        return _INT8_OID if size < 10**14 or 10**15 <= size < 10**17 else 0
    return _NUMERIC_OID if stop - start > 8 and number_text(value[start:stop], _NUMERIC_OID) else 0


def _count_number(value: bytes, oid: int, wanted: int | Wanted, found: list[int]) -> None:
    """Add what the detectors find in a binary int8 or numeric."""
    if bits_of(wanted) & 1 and _is_card(value, oid):
        found[0] += 1
    if not isinstance(wanted, int):
        for kind, _, _ in wanted.find(number_text(value, oid)):
            found[kind] += 1


def _is_card(value: bytes, oid: int) -> bool:
    """Whether a binary int8 or numeric is a card number."""
    number = int.from_bytes(value, "big", signed=True) if oid == _INT8_OID else numeric(value)
    return _SMALLEST_CARD <= abs(number) < _LARGEST_CARD and is_card_number(str(abs(number)).encode())


def numeric(value: bytes) -> int:
    """The whole part of a binary numeric (numeric_send, src/backend/utils/adt/numeric.c); 0 of what is none."""
    if len(value) < 8:
        return 0
    count, weight, sign, _scale = struct.unpack_from("!HhHH", value)
    if len(value) != 8 + 2 * count or sign not in (0, 0x4000) or weight > 5:
        return 0
    whole: int = 0
    for i, digit in enumerate(struct.unpack_from(f"!{count}H", value, 8)):
        if i <= weight:
            whole = whole * 10_000 + digit
    return whole * int(10_000 ** max(0, weight + 1 - count))


def decode_bytea(value: bytes) -> bytes:
    r"""The bytes that a text form stands for: `\x3037` or `07\\\001`. What is neither comes back as it is."""
    if value[:2] == b"\\x":
        try:
            return binascii.unhexlify(memoryview(value)[2:])
        except binascii.Error:
            return value
    if b"\\" not in value:
        return value
    out = bytearray()
    at = 0
    while (slash := value.find(b"\\", at)) >= 0:
        out += value[at:slash]
        octal = value[slash + 1 : slash + 4]
        if len(octal) == 3 and octal.isdigit() and octal <= b"377":
            out.append(int(octal, 8) if b"8" not in octal and b"9" not in octal else 0)
            at = slash + 4
        else:
            out += value[slash + 1 : slash + 2]
            at = slash + 2
    return bytes(out + value[at:])


def unescape_json(value: bytes) -> bytes:
    r"""What the strings of a JSON text stand for: json keeps ``\uXXXX``, ``\/`` and the like as they were written."""
    return _SPELT.sub(_said, value) if b"\\" in value else value


def _said(spelt: re.Match[bytes]) -> bytes:
    high, low, code, sign = spelt.groups()
    if sign is not None:
        return _SIGNS.get(sign, sign)
    if code is None:
        return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)).encode()
    return chr(int(code, 16)).encode(errors="replace")


_SPELT: Final = re.compile(
    rb"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\([^u])", re.DOTALL
)
_SIGNS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def number_text(value: bytes, oid: int) -> bytes:
    """How a binary int8 or numeric is written; empty of what is none."""
    if oid == _INT8_OID:
        return str(int.from_bytes(value, "big", signed=True)).encode()
    if len(value) < 8:
        return b""
    count, weight, sign, scale = struct.unpack_from("!HhHH", value)
    if len(value) != 8 + 2 * count or sign not in (0, 0x4000) or abs(weight) > _MAX_WEIGHT:
        return b""
    digits = list(struct.unpack_from(f"!{count}H", value, 8))
    if any(digit >= 10_000 for digit in digits):
        return b""
    whole = digits[: weight + 1] + [0] * (weight + 1 - count) if weight >= 0 else []
    rest = [0] * (-1 - weight) + digits[max(0, weight + 1) :]
    written = "".join(f"{each:04d}" for each in whole).lstrip("0") or "0"
    fraction = "".join(f"{each:04d}" for each in rest).ljust(scale, "0")[:scale]
    return f"{'-' if sign else ''}{written}{'.' if scale else ''}{fraction}".encode()


# --- structures ----------------------------------------------------------------


def _regions(value: bytes, whole: Region, parts: list[Region], depth: int) -> None:
    """Add to `parts` the parts of `value[start:stop]` that are looked at one by one: the whole, if it is no structure."""
    start, stop, oid = whole
    if depth < _MAX_DEPTH and oid not in (_INT8_OID, _NUMERIC_OID):
        for parse in (_array, _record, _counted, _range):
            inner = parse(value, start, stop)
            if inner:
                for part in inner:
                    _regions(value, part, parts, depth + 1)
                return
    parts.append(whole)


def _array(value: bytes, start: int, stop: int) -> list[Region]:
    """array_send: dimensions, a flag, the element type, (size, lower bound) each, then (length, element) each."""
    if stop - start < 20:
        return []
    dimensions, flags, oid = struct.unpack_from("!iiI", value, start)
    if not 1 <= dimensions <= _MAX_DIMENSIONS or flags not in (0, 1) or stop - start < 12 + 8 * dimensions:
        return []
    return _lengths(value, start + 12 + 8 * dimensions, stop, oid)


def _record(value: bytes, start: int, stop: int) -> list[Region]:
    """record_send: a count, then (type, length, field) each."""
    if stop - start < 12:
        return []
    (count,) = struct.unpack_from("!i", value, start)
    if not 1 <= count <= _MAX_FIELDS:
        return []
    out: list[Region] = []
    at = start + 4
    for _ in range(count):
        if stop - at < 8:
            return []
        oid, length = struct.unpack_from("!Ii", value, at)
        at += 8
        if length > 0:
            out.append((at, at + length, oid))
        at += max(length, 0)
        if length < -1 or at > stop:
            return []
    return out if at == stop else []


def _counted(value: bytes, start: int, stop: int) -> list[Region]:
    """hstore_send, multirange_send: a count, then (length, bytes) each."""
    if stop - start < 8 or not 1 <= int.from_bytes(value[start : start + 4], "big") <= (stop - start) // 4:
        return []
    return _lengths(value, start + 4, stop, 0)


def _range(value: bytes, start: int, stop: int) -> list[Region]:
    """range_send: flags, then (length, bound) once or twice."""
    return _lengths(value, start + 1, stop, 0) if stop - start > 5 else []


def _lengths(value: bytes, at: int, stop: int, oid: int) -> list[Region]:
    """A row of (length, bytes) that fills the rest exactly, or nothing."""
    out: list[Region] = []
    while at < stop:
        if stop - at < 4:
            return []
        length = int.from_bytes(value[at : at + 4], "big", signed=True)
        at += 4
        if length < -1 or length > stop - at:
            return []
        if length > 0:
            out.append((at, at + length, oid))
            at += length
    return out
