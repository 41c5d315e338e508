"""An entry in the making: pieces and numbers, laid one behind the other into one room of memory."""

from __future__ import annotations

from typing import Final

from ostiary.audit import inline

ROOM: Final = 16 * 1024
"""Bytes of the longest entry; `drafts.pxd` says it too."""
_ROOM: Final = ROOM


class Draft:
    """Used again for each entry. What finds no room is only counted: whoever takes the draft looks at `size` first."""

    def __init__(self) -> None:
        self._room = bytearray(ROOM)
        self.size = 0

    def begin(self, piece: bytes) -> None:
        """Forget what was laid, and lay the first piece."""
        self.size = 0
        self.lay(piece)

    def lay(self, piece: bytes) -> None:
        """Lay a piece behind what is there."""
        at = self.size
        end = at + len(piece)
        self.size = end
        if end <= _ROOM:
            self._room[at:end] = piece

    def number(self, value: int) -> None:
        """Lay a number, in decimal."""
        if value < 0:
            self.lay(b"-")
            value = -value
        count, rest = 1, value
        while rest >= 10:
            rest //= 10
            count += 1
        self.digits(value, count)

    def digits(self, value: int, count: int) -> None:
        """Lay the last `count` decimal digits of a number that is not negative."""
        at = self.size + count
        self.size = at
        if at > _ROOM:
            return
        for _ in range(count):
            at -= 1
            self._room[at] = 48 + value % 10
            value //= 10

    def taken(self) -> bytes:
        """Take what was laid; `size` says that it found room."""
        return inline.taken(self._room, min(self.size, _ROOM))
