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

from ostiary.kernel.detect import NAMES, Scanner, is_card_number

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
r"""For `hits` alone: what the `\x3037...` inside a LITERAL stand for (arrays and rows with bytea in them)."""

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


def hits(value: bytes, family: int, wanted: int) -> list[int]:
    """What the detectors find in one value: a number for each of `NAMES`. `family` says how to read the value."""
    if family in (INT8, NUMERIC):
        found = [0] * len(NAMES)
        found[0] = int(bool(wanted & 1) and _is_card(value, _INT8_OID if family == INT8 else _NUMERIC_OID))
        return found
    if family == BYTEA:
        value = decode_bytea(value)
    elif family == JSON:
        value = unescape_json(value)
    elif family in (LITERAL, HEXED):
        hexed = [binascii.unhexlify(run) for run in _HEX_RUN.findall(value)]
        value = b"\n".join([value, *hexed] if family == LITERAL else hexed)
    parts: list[Region] = []
    _regions(value, (0, len(value), 0), parts, 0)
    scanner = Scanner(value if value.isascii() else value.translate(_ASCII_ONLY), bytearray(), wanted)
    scanner.dry = True
    numbers = 0
    for start, stop, oid in parts:
        if oid in (_INT8_OID, _NUMERIC_OID):
            numbers += int(bool(wanted & 1) and _is_card(value[start:stop], oid))
        else:
            scanner.scan(start, stop, 0)
    found = list(scanner.counts)
    found[0] += numbers
    return found


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
    r"""A JSON text with its ``\uXXXX`` escapes of ASCII characters resolved: json keeps them as they were written."""
    if b"\\u00" not in value:
        return value
    out = bytearray()
    at = 0
    while (slash := value.find(b"\\", at)) >= 0:
        out += value[at:slash]
        code = value[slash + 2 : slash + 6]
        if value[slash + 1 : slash + 4] == b"u00" and len(code) == 4 and _is_hex(code) and int(code, 16) < 128:
            out.append(int(code, 16))
            at = slash + 6
        else:
            out += value[slash : slash + 2]
            at = slash + 2
    return bytes(out + value[at:])


def _is_hex(code: bytes) -> bool:
    return all(byte in b"0123456789abcdefABCDEF" for byte in code)


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
