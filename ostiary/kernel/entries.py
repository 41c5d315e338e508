# cython: language_level=3, annotation_typing=False, boundscheck=True, wraparound=False
"""What the sealer does with every entry, many at a time: cut it out of the write-ahead file, bundle it, see what it opens or closes.

A frame is `u32le length | u32le crc32c(entry) | entry` (docs/log-format.md, 2). What an entry opens or closes is read off its bytes
without parsing them: quotes inside JSON strings are escaped, so `"id":"…","kind":"…","mono":` matches members of the entry itself and
nothing that a caller wrote. `entries.pxd` gives the types when this file is
compiled; uncompiled it is plain Python, and the same tests run on both.
"""

from __future__ import annotations

from typing import Final

import google_crc32c

_checksum = google_crc32c.value

_ID: Final = b'"id":"'
_AFTER_ID: Final = b'","kind":"'
_INTENT: Final = b'intent","mono":'
_OUTCOME: Final = b'outcome","mono":'
_START: Final = b'session.start","mono":'
_END: Final = b'session.end","mono":'
_REF: Final = b'"ref":"'
_AFTER_REF: Final = b'","result":'
_SESSION: Final = b'"session":"'
_AFTER_SESSION: Final = b'",'
_UUID: Final = 36
_LONGEST: Final = 0xFFFF


def cut(buf: bytes, at: int, count: int, largest: int) -> tuple[list[bytes], int]:
    """Up to `count` entries from offset `at` on, and the offset behind the last of them.

    Stops before a frame that is not all there, whose length is 0 or over `largest`, or whose checksum fails: the caller knows
    whether there must be more.
    """
    found: list[bytes] = []
    end = len(buf)
    while count > 0 and end - at >= 8:
        b0, b1, b2, b3 = buf[at], buf[at + 1], buf[at + 2], buf[at + 3]
        length = b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)
        if length == 0 or length > largest or length > end - at - 8:
            break
        b0, b1, b2, b3 = buf[at + 4], buf[at + 5], buf[at + 6], buf[at + 7]
        said = b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)
        entry = buf[at + 8 : at + 8 + length]
        if _checksum(entry) != said:
            break
        found.append(entry)
        at += 8 + length
        count -= 1
    return found, at


def bundle(entries: list[bytes]) -> bytes:
    """Pack entries as C2SP tlog-tiles, "Log entries" says: each behind its length, u16be."""
    pieces: list[bytes] = []
    for entry in entries:
        length = len(entry)
        if length > _LONGEST:
            raise ValueError(f"an entry of {length} bytes fits in no bundle")
        pieces.append(_PAIRS[length >> 8])
        pieces.append(_PAIRS[length & 0xFF])
        pieces.append(entry)
    return b"".join(pieces)


_PAIRS: Final = tuple(bytes((byte,)) for byte in range(256))


def see(entry: bytes, intents: dict[str, str], sessions: dict[str, str]) -> None:
    """Take account of one entry: an intent (its id to its session) or a session (to the id of its start) opens, or is closed."""
    at = entry.find(_AFTER_ID)
    while at >= 0:
        kind = at + len(_AFTER_ID)
        name = _uuid(entry, at - _UUID, _ID)
        if name is not None:
            if entry.startswith(_OUTCOME, kind):
                ref = _named(entry, kind, _REF, _AFTER_REF)
                if ref is not None:
                    intents.pop(ref, None)
                return
            if entry.startswith(_INTENT, kind):
                session = _named(entry, kind, _SESSION, _AFTER_SESSION)
                if session is not None:
                    intents[name] = session
                return
            is_start = entry.startswith(_START, kind)
            if is_start or entry.startswith(_END, kind):
                session = _named(entry, kind, _SESSION, _AFTER_SESSION)
                if session is not None and is_start:
                    sessions[session] = name
                elif session is not None:
                    sessions.pop(session, None)
                return
        at = entry.find(_AFTER_ID, kind)


def _uuid(entry: bytes, at: int, before: bytes) -> str | None:
    """The UUID at `at`, if it is one and `before` stands before it."""
    if at < len(before) or at + _UUID > len(entry) or not entry.startswith(before, at - len(before)):
        return None
    for i in range(at, at + _UUID):
        byte = entry[i]
        if not (48 <= byte <= 57 or 97 <= byte <= 102 or byte == 45):
            return None
    return entry[at : at + _UUID].decode("ascii")


def _named(entry: bytes, at: int, before: bytes, after: bytes) -> str | None:
    """The first UUID behind `at` that stands between `before` and `after`."""
    at = entry.find(before, at)
    while at >= 0:
        at += len(before)
        if entry.startswith(after, at + _UUID):
            name = _uuid(entry, at, before)
            if name is not None:
                return name
        at = entry.find(before, at)
    return None
