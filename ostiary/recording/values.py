"""Values of PostgreSQL as people read them: text as it is, the common binary types spelled out, the rest in hex.

Types by OID: src/include/catalog/pg_type.dat. Binary forms: the `*send` functions of src/backend/utils/adt.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable
from typing import Final

_EPOCH: Final = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - timestamp without time zone has none
_DAY_ZERO: Final = _EPOCH.date()
_TEXTS: Final = frozenset({18, 19, 25, 114, 142, 1042, 1043, 3614})
"""char name text json xml bpchar varchar tsvector (the last only in text form)."""


def shown(value: bytes | None, type_oid: int, form: int | None) -> str | None:
    """One value as text; None is NULL. `form`: 0 text, 1 binary, None where nobody said. Never raises."""
    if value is None:
        return None
    if form == 1:
        decode = _BINARY.get(type_oid)
        if decode is not None:
            try:
                return decode(value)
            except (struct.error, OverflowError, ValueError):
                return _hex(value)
        if type_oid not in _TEXTS:
            return _hex(value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _hex(value)
    return _hex(value) if form is None and not text.isprintable() else text


def _hex(value: bytes) -> str:
    return "\\x" + value.hex()


def _packed(shape: str) -> Callable[[bytes], str]:
    unpack = struct.Struct(shape).unpack
    return lambda value: str(unpack(value)[0])


def _timestamp(value: bytes) -> str:
    micros = struct.unpack("!q", value)[0]
    if micros in {2**63 - 1, -(2**63)}:
        return "infinity" if micros > 0 else "-infinity"
    return (_EPOCH + dt.timedelta(microseconds=micros)).isoformat(" ")


def _date(value: bytes) -> str:
    return (_DAY_ZERO + dt.timedelta(days=struct.unpack("!i", value)[0])).isoformat()


def _numeric(value: bytes) -> str:
    """numeric_send: digits of base 10,000, weight of the first, sign, digits after the point."""
    count, weight, sign, scale = struct.unpack_from("!hhHh", value)
    if sign in {0xC000, 0xD000, 0xF000}:
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}[sign]
    digits = struct.unpack(f"!{count}h", value[8:])
    if not (0 <= scale <= 16383 and -16384 <= weight <= 16383):  # numeric's own limits: NUMERIC_DSCALE_MAX
        raise ValueError("no such numeric")
    whole = "".join(f"{digits[i] if i < count else 0:04d}" for i in range(weight + 1)).lstrip("0") or "0"
    places = range(weight + 1, weight + 1 + (scale + 3) // 4)
    part = "".join(f"{digits[i] if 0 <= i < count else 0:04d}" for i in places)[:scale]
    return ("-" if sign == 0x4000 else "") + whole + (f".{part}" if scale else "")


def _jsonb(value: bytes) -> str:
    if value[:1] != b"\x01":
        raise ValueError("no such jsonb version")
    return value[1:].decode()


_BINARY: Final[dict[int, Callable[[bytes], str]]] = {
    16: lambda value: {b"\x00": "f", b"\x01": "t"}.get(value) or _hex(value),
    17: _hex,
    20: _packed("!q"),
    21: _packed("!h"),
    23: _packed("!i"),
    26: _packed("!I"),
    700: _packed("!f"),
    701: _packed("!d"),
    1082: _date,
    1114: _timestamp,
    1184: lambda value: _timestamp(value) + "+00",
    1700: _numeric,
    2950: lambda value: str(uuid.UUID(bytes=value)),
    3802: _jsonb,
}
