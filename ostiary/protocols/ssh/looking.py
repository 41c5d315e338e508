"""What stands in front of a piece of a file, and must be seen with it: where a private key or a token began that is longer than what is read beside.

A file is read in any order. `files.py` asks for `LOOK` bytes more on either side; that is enough for all but keys and JWTs, which may have begun long before. They have no breaks
in them: where there is one in front of the piece, nothing is open there. Where there is none, what is open is known from the piece before, if this is the next one;
if it is not, the piece has to be read again, with more in front.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.protocols.ssh.results import MAX_CONTEXT, open_from

LOOK: Final = 1024
"""Bytes on either side of what is read that the detectors see: see `results.MAX_HELD`."""
FAR: Final = MAX_CONTEXT
"""In front, where something may be open."""
_HEAD: Final = 200
"""Bytes that the lines in front of a key's own may have: RFC 7468, and what RFC 1421 and PGP put there."""
_BREAK: Final = re.compile(rb"[^A-Za-z0-9+/=_.\\\s-]|\S[ \t]+\S")
"""What neither has: other characters, and blanks in the middle of a line."""


class Looking:
    """What is known of one file."""

    __slots__ = ("_at", "_open")

    def __init__(self) -> None:
        self._at = 0
        self._open = b""
        """What is open there, from its beginning on."""

    def in_front(self, at: int, data: bytes, start: int) -> bytes | None:
        """Return what is to be seen in front of `data`, of which the part from `start` on leaves; None: that is not known. `at`: where in the file it stands."""
        if at == 0 or start > LOOK or _BREAK.search(data, min(_HEAD, start), start) is not None:
            return b""
        return self._open if at == self._at else None

    def saw(self, at: int, seen: bytes) -> None:
        """All up to `at` of the file has been looked at; `seen` is the end of that."""
        begin = open_from(seen, len(seen))
        self._at, self._open = at, seen[begin:] if len(seen) - begin <= MAX_CONTEXT else b""
