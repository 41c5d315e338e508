"""The service's own credential, in what the service says: whatever echoes it, the caller does not learn it.

A service that shows what it was sent (a debugging page, an error, a redirect) would hand out what the gateway keeps from its callers.
So wherever the credential stands as it was shown, it is replaced, length for length, in heads, bodies and messages, masking or not.
A compressed body is unpacked for it; of a part of a body (`Range`) what stands at its edges is looked at too, and a part that is too small to tell
anything by is withheld. **Not covered**: other spellings than those of `spellings`, up to three bytes at each edge of a part, and bodies whose
media type the operator lets through as they are.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote_from_bytes

from ostiary.masking.documents import Unmaskable

MIN_SECRET: Final = 8
"""Bytes: what is shorter would be found everywhere."""
MIN_EDGE: Final = 4
"""Bytes of a secret at the edge of a part of a body that are taken for what they seem: fewer would be found by chance."""
_PERCENT: Final = re.compile(rb"%[0-9A-F]{2}")
_ESCAPED: Final = ("<>&", "<>&='", "<>&'+`")
"""What libraries for JSON write as `\\u00XX` beside what they must, lest it be read as HTML."""


def spellings(secret: bytes) -> frozenset[bytes]:
    """A secret as services write it: as it is, in URLs, in JSON, in HTML."""
    percents = quote_from_bytes(secret, safe="").encode()
    found = {secret, percents, _PERCENT.sub(lambda code: code[0].lower(), percents), quote_from_bytes(secret, safe="/").encode()}
    text = secret.decode("latin-1")
    found |= {html.escape(text).encode("latin-1"), html.escape(text, quote=False).encode("latin-1"), html.escape(text).replace("&#x27;", "&#39;").encode("latin-1")}
    inside = text.replace("\\", "\\\\").replace('"', '\\"')
    for escaped in ("", *_ESCAPED):
        for digits in ("{:04x}", "{:04X}"):
            told = "".join("\\u" + digits.format(ord(char)) if char in escaped else char for char in inside)
            found |= {told.encode("latin-1"), told.replace("/", "\\/").encode("latin-1")}
    return frozenset(found)


class Concealer:
    """Replaces secrets in bytes as they come; it holds back what may be the beginning of one."""

    __slots__ = ("_found", "_held", "_needles", "_opens", "_part")

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._needles = _needles(secrets)
        self._held = b""
        self._found = 0
        self._part = self._opens = False
        """What comes is a part of something larger; and nothing of it has left yet."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._needles)

    def taken(self) -> tuple[tuple[str, int], ...]:
        """How many were replaced since the last call, as a count of masking's."""
        found, self._found = self._found, 0
        return (("credential", found),) if found else ()

    def whole(self, data: bytes) -> bytes:
        """Of data that nothing follows."""
        for needle in self._needles:
            if needle in data:
                self._found += data.count(needle)
                data = data.replace(needle, b"*" * len(needle))
        return data

    def cut(self, first: int, length: int | None) -> None:
        """What comes is a part, of `length` bytes (None: nobody says), that begins at byte `first`. Raises `Unmaskable` if too small to be judged."""
        if first and (length is None or length < MIN_EDGE):
            raise Unmaskable("so small a part of an answer that nobody can tell what it is of")
        self._part = self._opens = True

    def feed(self, data: bytes, *, final: bool) -> bytes:
        """Of data that goes on, until `final`."""
        if not self._needles:
            return data
        data = self.whole(self._held + data if self._held else data)
        if self._opens:
            if not final and len(data) < len(self._needles[0]):
                self._held = data
                return b""
            self._opens, data = False, self._begun(data)
        if self._part and final:
            data = self._ended(data)
        keep = 0 if final else max(_overlap(data, needle) for needle in self._needles)
        self._held = data[len(data) - keep :] if keep else b""
        return data[: len(data) - keep] if keep else data

    def _begun(self, data: bytes) -> bytes:
        """`data`, in which a secret may have begun before it."""
        for needle in self._needles:
            if len(data) < len(needle) and len(data) >= MIN_EDGE and data in needle:
                known = len(data)
            else:
                known = next((size for size in range(len(needle) - 1, MIN_EDGE - 1, -1) if data.startswith(needle[-size:])), 0)
            if known:
                self._found += 1
                data = b"*" * known + data[known:]
        return data

    def _ended(self, data: bytes) -> bytes:
        """`data`, the last of a part, in which a secret may begin that goes on behind it."""
        known = max((_overlap(data, needle) for needle in self._needles), default=0)
        if known < MIN_EDGE:
            return data
        self._found += 1
        return data[:-known] + b"*" * known


@lru_cache(maxsize=64)
def _needles(secrets: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """What is looked for, the longest first. Secrets are the same from answer to answer."""
    spelled = {spelling for each in secrets for spelling in spellings(each)}
    return tuple(sorted((each for each in spelled if len(each) >= MIN_SECRET), key=len, reverse=True))


def _overlap(data: bytes, needle: bytes) -> int:
    """How many bytes at the end of `data` begin `needle`; the most."""
    end = len(data)
    at = data.find(needle[:1], max(0, end - len(needle) + 1))
    while at >= 0:
        if needle.startswith(data[at:]):
            return end - at
        at = data.find(needle[:1], at + 1)
    return 0
