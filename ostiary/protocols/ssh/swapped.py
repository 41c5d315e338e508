"""Whether a path still leads where it was judged to lead, while a request on it is carried out.

Between the question where a path leads and the request, somebody with a second session may put a link in the place of a folder. SFTP 3 has
nothing that opens a file beneath a folder that is held. So a request that moves content or changes something goes out between two
more questions about its paths, all in one piece; its answer is held until they are answered. If one leads elsewhere, nothing of it
reaches the client, and the channel ends. A file that would be emptied as it is opened is emptied only then.
"""

from __future__ import annotations

from typing import Final

from ostiary.protocols.ssh import sftp
from ostiary.protocols.ssh.messages import u32
from ostiary.protocols.ssh.sftp import Asking, Kind, Response

WATCHED: Final = frozenset({Kind.OPEN, Kind.OPENDIR, Kind.REMOVE, Kind.RMDIR, Kind.RENAME, Kind.MKDIR, Kind.SYMLINK, Kind.SETSTAT})
EMPTY: Final = u32(1) + bytes(8)
"""Attributes (draft, 5): a size of nothing."""


class Watch:
    """One request between its questions."""

    __slots__ = ("answer", "asking", "empties", "led", "left")

    def __init__(self, asking: Asking, questions: int) -> None:
        self.asking = asking
        self.left = questions
        """Questions without an answer."""
        self.led = True
        """Every one that was answered led where it was judged to."""
        self.answer: Response | None = None
        self.empties = empties(asking)

    def found(self, where: bytes | None, expected: bytes) -> None:
        """A question was answered. None: there is no such place (any more)."""
        self.left -= 1
        self.led = self.led and where == expected

    @property
    def is_settled(self) -> bool:
        """Whether all that was asked is answered."""
        return self.left == 0 and self.answer is not None


def is_watched(asking: Asking) -> bool:
    """Whether it moves content, or changes something."""
    return asking.kind in WATCHED or (asking.kind is Kind.EXTENDED and asking.extension != "statvfs@openssh.com")


def empties(asking: Asking) -> bool:
    """Whether a file that is there already would be emptied as it is opened."""
    flags = asking.flags
    return asking.kind is Kind.OPEN and bool(flags & sftp.TRUNC_FLAG) and not flags & sftp.EXCL_FLAG
