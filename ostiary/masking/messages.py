"""Text that the target says in passing: ErrorResponse, NoticeResponse, NotificationResponse, ParameterStatus.

PostgreSQL 18, 54.7 and 54.8. The detectors look at every text field. Of a statement that touched a protected column more is
done (`strip`): DETAIL, HINT, CONTEXT and internal query go, and what the message quotes is replaced, since PostgreSQL quotes
values there (`invalid input syntax for type integer: "..."`), now and then without quotes (`0xe4`, `12345`). Names stay
where the error's own fields hold them. What a function raised (SQLSTATE class P0, notices without a condition, anything that
comes from a procedural language's own source file) is free text and is withheld. So is the payload of a notification, where code that is
given protected values may send one (`strip` again).
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.kernel.detect import Scanner
from ostiary.kernel.nets import Wanted, names_of
from ostiary.model.errors import Misdeed, PeerMisbehaved

_ERROR, _NOTICE, _NOTIFICATION, _PARAMETER_STATUS = b"ENAS"
_FIXED: Final = frozenset(b"SVCPpFLR")
"""Fields that PostgreSQL itself fills from closed lists: severity, code, positions, file, line, routine."""
_STRIPPED: Final = frozenset(b"DHWqp")
_NAMES: Final = frozenset(b"stcdn")
_RAISED: Final = (b"pl_", b"plpy", b"plperl", b"pltcl", b"plv8")
"""How the source files of procedural languages begin, in an error's field F."""
_PAYLOAD: Final = b"(payload withheld: it may hold a protected value)"
_WITHHELD: Final = b"(message withheld: the statement touches a protected column)"
_QUOTE_MARKS: Final = tuple(
    mark.encode() for mark in "\"'`\u00ab\u00bb\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u300c\u300d"
)
"""What any language's translation of PostgreSQL quotes with."""
_NUMBER: Final = re.compile(rb"[0-9]{2,}|(?<=0x)[0-9A-Fa-f]{2,}")


def mask_message(frame: bytes, bits: int | Wanted, *, strip: bool) -> tuple[bytes, list[int], bool]:
    """One whole frame; returns it masked (the same object if nothing changed), counts by detector, and whether text went.

    Raises PeerMisbehaved for a frame that is none of the four, or not well formed.
    """
    if len(frame) < 6 or int.from_bytes(frame[1:5], "big") != len(frame) - 1:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "message")
    tag = frame[0]
    if tag in (_ERROR, _NOTICE):
        return _report(frame, bits, strip=strip)
    if tag == _NOTIFICATION:
        return _without_payload(frame, bits) if strip else _texts(frame, 9, 2, bits)
    if tag == _PARAMETER_STATUS:
        return _texts(frame, 5, 2, bits)
    raise PeerMisbehaved(Misdeed.UNKNOWN_TAG, "message")


def _texts(frame: bytes, start: int, count: int, bits: int | Wanted) -> tuple[bytes, list[int], bool]:
    """A frame whose body is `count` strings from `start`: channel and payload, or name and value."""
    if len(frame) < start or frame.count(b"\0", start) != count or frame[-1]:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "message")
    out = bytearray(frame)
    scanner = Scanner(frame, out, bits)
    found = 0
    at = start
    while at < len(frame):
        end = frame.index(b"\0", at)
        found += scanner.scan(at, end, 0)
        at = end + 1
    return bytes(out) if found else frame, list(scanner.counts), False


def _without_payload(frame: bytes, bits: int | Wanted) -> tuple[bytes, list[int], bool]:
    """A NotificationResponse that says no more than that there was one."""
    end = frame.find(b"\0", 9)
    if end < 0 or frame.count(b"\0", 9) != 2 or frame[-1]:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "message")
    if end == len(frame) - 2:
        return frame, [0] * len(names_of(bits)), False
    body = frame[5 : end + 1] + _PAYLOAD + b"\0"
    return frame[:1] + (len(body) + 4).to_bytes(4, "big") + body, [0] * len(names_of(bits)), True


def _report(frame: bytes, bits: int | Wanted, *, strip: bool) -> tuple[bytes, list[int], bool]:
    fields = _fields(frame)
    stripped = False
    if strip:
        kept = [(code, text) for code, text in fields if code not in _STRIPPED]
        values = dict(kept)
        if values.get(ord("F"), b"").startswith(_RAISED):
            # Whoever raises it gives the names, too.
            kept = [(code, _WITHHELD if code == ord("M") else text) for code, text in kept if code not in _NAMES]
        names = {text for code, text in kept if code in _NAMES}
        shown = [
            (code, _unquoted(text, names, values.get(ord("C"), b"")) if code == ord("M") else text)
            for code, text in kept
        ]
        stripped = shown != fields
        fields = shown
    counts = [0] * len(names_of(bits))
    out = [(code, text if code in _FIXED else _scanned(text, bits, counts)) for code, text in fields]
    if not stripped and not any(counts):
        return frame, counts, False
    body = b"".join(bytes([code]) + text + b"\0" for code, text in out) + b"\0"
    return frame[:1] + (len(body) + 4).to_bytes(4, "big") + body, counts, stripped


def _fields(frame: bytes) -> list[tuple[int, bytes]]:
    fields: list[tuple[int, bytes]] = []
    at = 5
    while at < len(frame) and frame[at]:
        end = frame.find(b"\0", at + 1)
        if end < 0:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "message")
        fields.append((frame[at], frame[at + 1 : end]))
        at = end + 1
    if at != len(frame) - 1:
        raise PeerMisbehaved(Misdeed.TRAILING_BYTES, "message")
    return fields


def _scanned(text: bytes, bits: int | Wanted, counts: list[int]) -> bytes:
    out = bytearray(text)
    scanner = Scanner(text, out, bits)
    if not scanner.scan(0, len(text), 0):
        return text
    for kind, number in enumerate(scanner.counts):
        counts[kind] += number
    return bytes(out)


def _unquoted(text: bytes, names: set[bytes], code: bytes) -> bytes:
    """A message without what it quotes, and without numbers; names that the error's other fields hold stay.

    From the first quotation mark to the last, since a quoted value may hold marks of its own.
    """
    if code[:2] == b"P0" or code[:5] == b"00000":
        return _WITHHELD
    pieces = text.split(b'"')
    if len(pieces) > 1 and len(pieces) % 2 and all(piece in names for piece in pieces[1::2]):
        rest = b"".join(pieces[::2])
        if not any(mark in rest for mark in _QUOTE_MARKS):
            kept = [piece if i % 2 else _NUMBER.sub(_stars, piece) for i, piece in enumerate(pieces)]
            return b'"'.join(kept)
    places = [(text.find(mark), text.rfind(mark) + len(mark)) for mark in _QUOTE_MARKS if mark in text]
    if places:
        first = min(place[0] for place in places)
        last = max(place[1] for place in places)
        text = text[:first] + b'"***"' + text[last:]
    return _NUMBER.sub(_stars, text)


def _stars(match: re.Match[bytes]) -> bytes:
    return b"*" * len(match[0])
